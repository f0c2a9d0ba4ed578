//! What is learnt from: a history without gaps and without lone wild values.

use serde::{Deserialize, Serialize};

/// Runs of wild values of at least this length are believed: a level shift, not a slip.
const BELIEVED_RUN: usize = 3;

/// Bounds beyond which a value is not learnt from, unless it stays there.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Fence {
    low: f64,
    high: f64,
    /// How many values in a row have been beyond.
    run: usize,
}

impl Fence {
    /// Beyond the 0.5 % and 99.5 % quantiles by three times their distance; both lie at least one rank inside, so that a
    /// lone value never widens its own fence. `values` are finite.
    pub(crate) fn around(values: &[f64]) -> Self {
        let n = values.len();
        let open = Self { low: f64::MIN, high: f64::MAX, run: 0 };
        if n < 4 {
            return open;
        }
        let inside = (n / 200).max(1);
        let mut values = values.to_vec();
        let low = *values.select_nth_unstable_by(inside, f64::total_cmp).1;
        let high = *values.select_nth_unstable_by(n - 1 - inside, f64::total_cmp).1;
        if high <= low {
            return open;
        }
        let reach = 3.0 * (high - low);
        Self { low: low - reach, high: high + reach, run: 0 }
    }

    /// The value to learn from in place of `value`: itself inside the fence, or once values have stayed beyond.
    pub(crate) fn admit(&mut self, value: f64) -> f64 {
        self.run = if (self.low..=self.high).contains(&value) { 0 } else { self.run + 1 };
        if self.run >= BELIEVED_RUN { value } else { value.clamp(self.low, self.high) }
    }

    /// Clips lone wild values of a history; runs that last are kept whole.
    pub(crate) fn clip(&self, values: &mut [f64]) {
        let inside = |v: f64| (self.low..=self.high).contains(&v);
        let mut from = 0;
        while from < values.len() {
            let len = values[from..].iter().position(|v| inside(*v)).unwrap_or(values.len() - from);
            if len < BELIEVED_RUN {
                values[from..from + len].iter_mut().for_each(|v| *v = v.clamp(self.low, self.high));
            }
            from += len + 1;
        }
    }
}

/// The history from its first finite value on, every gap and infinity filled. A short gap is bridged by a straight
/// line, a long one by the values one `period` earlier, shifted to meet its edges. `None` when nothing is finite.
pub(crate) fn fill(values: &[f64], period: Option<usize>) -> Option<Vec<f64>> {
    let first = values.iter().position(|v| v.is_finite())?;
    let mut filled = values[first..].to_vec();
    let mut from = 0;
    while let Some(gap) = filled[from..].iter().position(|v| !v.is_finite()) {
        let start = from + gap;
        let len = filled[start..].iter().position(|v| v.is_finite()).unwrap_or(filled.len() - start);
        bridge(&mut filled, start, len, period.filter(|p| *p < start && len > 2));
        from = start + len;
    }
    Some(filled)
}

/// Fills `values[start..start + len]`; `start` is at least 1, and greater than `period`.
fn bridge(values: &mut [f64], start: usize, len: usize, period: Option<usize>) {
    let shape = |values: &[f64], i: usize| period.map_or(0.0, |p| values[i - p]);
    let before = values[start - 1] - shape(values, start - 1);
    let after = match values.get(start + len) {
        Some(next) if period.is_none_or(|p| p > len) => next - shape(values, start + len),
        _ => before,
    };
    for k in 0..len {
        let share = (k + 1) as f64 / (len + 1) as f64;
        values[start + k] = before + share * (after - before) + shape(values, start + k);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_gap_becomes_a_straight_line() {
        assert_eq!(fill(&[f64::NAN, 1.0, f64::INFINITY, 3.0], None).expect("finite values"), [1.0, 2.0, 3.0]);
        assert_eq!(fill(&[f64::NAN], None), None);
    }

    #[test]
    fn a_long_gap_repeats_the_last_period() {
        let mut values: Vec<f64> = (0..24).map(|i| f64::from(i % 8)).collect();
        values[17..21].fill(f64::NAN);
        let filled = fill(&values, Some(8)).expect("finite values");
        assert!(filled[17..21].iter().zip([1.0, 2.0, 3.0, 4.0]).all(|(a, b)| (a - b).abs() < 1e-12), "{filled:?}");
    }

    #[test]
    fn a_gap_at_the_end_and_one_longer_than_the_period_are_filled() {
        let mut values: Vec<f64> = (0..40).map(|i| f64::from(i % 4)).collect();
        values[9..22].fill(f64::NAN);
        values[36..].fill(f64::NAN);
        assert!(fill(&values, Some(4)).expect("finite values").iter().all(|v| (0.0..=3.0).contains(v)));
    }

    #[test]
    fn a_lone_spike_is_clipped_and_a_lasting_shift_is_believed() {
        let mut values: Vec<f64> = (0..300).map(|i| 10.0 + f64::from(i % 7)).collect();
        values[100] = 1600.0;
        values[297..].fill(130.0);
        let fence = Fence::around(&values[..297]);
        fence.clip(&mut values);
        assert!(values[100] < 50.0);
        assert_eq!(values[299], 130.0);
        let mut live = fence;
        assert!(live.admit(1600.0) < 50.0);
        assert!(live.admit(1600.0) < 50.0);
        assert_eq!(live.admit(1600.0), 1600.0);
    }
}
