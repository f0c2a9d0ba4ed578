//! From the rows of a table to a regular grid.

use super::{NotAStep, Step, Timestamp, Window};

/// Most steps of the grid for each row.
const MOST_STEPS_A_ROW: usize = 100;

/// Why rows lie on no regular grid.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum OffGrid {
    /// Nothing tells how far points are apart.
    #[error("it has {rows} rows; at least two are needed to know its step")]
    TooFew {
        /// Rows at hand.
        rows: usize,
    },
    /// Rows are not in order of time.
    #[error("it goes back in time after row {row}; sort it by time")]
    Backwards {
        /// The last row in order, from 1.
        row: usize,
    },
    /// Time stands still.
    #[error("all its rows have the same time")]
    Standstill,
    /// Nearly all points would be gaps.
    #[error("it has {rows} rows over {steps} steps of {step_seconds} s: too sparse for a regular grid")]
    TooSparse {
        /// Rows at hand.
        rows: usize,
        /// Points of the grid.
        steps: usize,
        /// Distance between them.
        step_seconds: f64,
    },
    /// There is not one time for each value.
    #[error("it has {times} times and {values} values")]
    Uneven {
        /// Times at hand.
        times: usize,
        /// Values at hand.
        values: usize,
    },
    /// The step is none.
    #[error(transparent)]
    Step(#[from] NotAStep),
}

impl Window {
    /// The regular grid that the rows of a table lie on: the step is the median distance between rows, a missing row is
    /// a gap, and of several rows in one step the last counts. `times` ascend, each with one of `values`.
    ///
    /// # Errors
    /// [`OffGrid`] when there are fewer than two rows, when time runs backwards or stands still, or when the grid would
    /// be over a hundred times longer than the rows.
    pub fn from_rows(times: &[Timestamp], values: &[f64]) -> Result<Self, OffGrid> {
        if times.len() < 2 {
            return Err(OffGrid::TooFew { rows: times.len() });
        }
        let mut gaps: Vec<i64> = times.windows(2).map(|w| w[1].as_millis().saturating_sub(w[0].as_millis())).collect();
        if let Some(row) = gaps.iter().position(|gap| *gap < 0) {
            return Err(OffGrid::Backwards { row: row + 1 });
        }
        gaps.retain(|gap| *gap > 0);
        gaps.sort_unstable();
        let median = gaps.get(gaps.len() / 2).ok_or(OffGrid::Standstill)?;
        Self::from_rows_every(times, values, Step::from_millis(*median)?)
    }

    /// As [`from_rows`](Self::from_rows), where the step is known.
    ///
    /// # Errors
    /// [`OffGrid`], as there; one row is enough.
    pub fn from_rows_every(times: &[Timestamp], values: &[f64], step: Step) -> Result<Self, OffGrid> {
        let (Some(start), Some(end)) = (times.first().copied(), times.last().copied()) else {
            return Err(OffGrid::TooFew { rows: 0 });
        };
        if times.len() != values.len() {
            return Err(OffGrid::Uneven { times: times.len(), values: values.len() });
        }
        if let Some(row) = times.windows(2).position(|pair| pair[1] < pair[0]) {
            return Err(OffGrid::Backwards { row: row + 1 });
        }
        let every = step.as_millis();
        let index = |at: Timestamp| {
            let passed = at.as_millis().saturating_sub(start.as_millis()).saturating_add(every / 2);
            usize::try_from(passed / every).unwrap_or(usize::MAX)
        };
        let steps = index(end).saturating_add(1);
        if steps > times.len().saturating_mul(MOST_STEPS_A_ROW) {
            return Err(OffGrid::TooSparse { rows: times.len(), steps, step_seconds: step.as_secs_f64() });
        }
        let mut grid = vec![f64::NAN; steps];
        for (at, value) in times.iter().zip(values) {
            grid[index(*at)] = *value;
        }
        Ok(Self { start, step, values: grid })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(seconds: &[i64]) -> Vec<Timestamp> {
        seconds.iter().copied().map(Timestamp::from_secs).collect()
    }

    #[test]
    fn a_missing_row_is_a_gap_and_of_two_in_a_step_the_last_counts() {
        let window = Window::from_rows(&times(&[0, 60, 61, 180, 240]), &[1.0, 2.0, 3.0, 4.0, 5.0]).unwrap();
        assert_eq!((window.step, window.len()), (Step::from_secs(60), 5));
        assert_eq!((window.values[1], window.values[4]), (3.0, 5.0));
        assert!(window.values[2].is_nan());
    }

    #[test]
    fn a_known_step_makes_a_grid_of_a_single_row() {
        let window = Window::from_rows_every(&times(&[60]), &[7.0], Step::from_secs(30)).unwrap();
        assert_eq!((window.start, window.values), (Timestamp::from_secs(60), vec![7.0]));
    }

    #[test]
    fn rows_off_any_grid_are_refused_with_what_to_do() {
        let refused = |seconds: &[i64]| {
            let values = vec![1.0; seconds.len()];
            Window::from_rows(&times(seconds), &values).unwrap_err().to_string()
        };
        assert_eq!(refused(&[1]), "it has 1 rows; at least two are needed to know its step");
        assert_eq!(refused(&[60, 0]), "it goes back in time after row 1; sort it by time");
        assert_eq!(refused(&[60, 60]), "all its rows have the same time");
        assert!(refused(&[0, 1, 2, 1_000_000]).contains("too sparse for a regular grid"));
        let uneven = Window::from_rows(&times(&[0, 60]), &[1.0]).unwrap_err();
        assert_eq!(uneven.to_string(), "it has 2 times and 1 values");
        let far = [Timestamp::MIN, Timestamp::from_secs(0), Timestamp::MAX];
        assert!(Window::from_rows_every(&far, &[1.0; 3], Step::from_secs(1)).is_err());
    }
}
