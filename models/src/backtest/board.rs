//! The scores of one method over many series.

use super::{Plan, known, score};
use crate::accuracy::{Tally, seasonal_scale};
use crate::forecast::{FitError, Forecast, Quantile};
use crate::series::Window;

/// The scores of one method, one number for each series where it can be told.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Board {
    /// Mean absolute error against that of repeating the last season.
    pub mase: Vec<f64>,
    /// Weighted quantile loss.
    pub wql: Vec<f64>,
    /// Mean pinball loss over points and levels, in units of the series.
    pub pinball: Vec<f64>,
    /// Share of points at or below the 95 % quantile.
    pub coverage: Vec<f64>,
    /// How far that quantile lay above what came, as a share of the mean.
    pub margin: Vec<f64>,
    /// Forecasts that were made.
    pub forecasts: usize,
    /// Origins at which none could be made.
    pub refused: usize,
}

/// A board in a few numbers; `None` where no series can tell.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Summary {
    /// Geometric mean of the series' mean absolute scaled errors.
    pub mase: Option<f64>,
    /// Geometric mean of their weighted quantile losses.
    pub wql: Option<f64>,
    /// Mean of their mean pinball losses: of several series, only sensible where they share a unit.
    pub pinball: Option<f64>,
    /// Mean share of points at or below the 95 % quantile.
    pub coverage: Option<f64>,
    /// The least of these shares.
    pub least_coverage: Option<f64>,
    /// Mean margin.
    pub margin: Option<f64>,
}

impl Board {
    /// Replays one series and takes in its scores. `make` forecasts from what was known at an origin, and may add what
    /// else it knows; what it made, or why it did not, is handed to `heard`. `seasons` are periods in steps, the shortest first: the scale of the errors.
    ///
    /// # Errors
    /// Those of `heard`, which ends the replay.
    pub fn play<M, E>(
        &mut self,
        series: &Window,
        seasons: &[usize],
        plan: &Plan,
        mut make: impl FnMut(&Window) -> Result<(Forecast, M), FitError>,
        mut heard: impl FnMut(usize, Result<(Forecast, M), FitError>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut tally = Tally::default();
        for origin in &plan.origins {
            let made = make(&known(series, *origin, plan.context));
            match &made {
                Ok((forecast, _)) => {
                    self.forecasts += 1;
                    score(&mut tally, series, *origin, forecast);
                }
                Err(_) => self.refused += 1,
            }
            heard(*origin, made)?;
        }
        self.take(series, seasons, plan, &tally);
        Ok(())
    }

    fn take(&mut self, series: &Window, seasons: &[usize], plan: &Plan, tally: &Tally) {
        let first = plan.origins.iter().min().copied().unwrap_or(0).min(series.len());
        let period = seasons.first().copied().unwrap_or(1);
        let scale = seasonal_scale(&series.values[..first], period);
        self.mase.extend(tally.mean_absolute_error().zip(scale).map(|(error, scale)| error / scale));
        self.wql.extend(tally.weighted_quantile_loss());
        self.pinball.extend(tally.mean_pinball());
        self.coverage.extend(tally.coverage(Quantile::STANDARD[3]));
        self.margin.extend(tally.margin(Quantile::STANDARD[3]));
    }

    /// All series in a few numbers.
    #[must_use]
    pub fn summary(&self) -> Summary {
        Summary {
            mase: geometric_mean(&self.mase),
            wql: geometric_mean(&self.wql),
            pinball: mean(&self.pinball),
            coverage: mean(&self.coverage),
            least_coverage: self.coverage.iter().copied().reduce(f64::min),
            margin: mean(&self.margin),
        }
    }
}

fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

fn geometric_mean(values: &[f64]) -> Option<f64> {
    let logs: Vec<f64> = values.iter().filter(|v| **v > 0.0).map(|v| v.ln()).collect();
    mean(&logs).map(f64::exp)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forecast::Horizon;
    use crate::series::{Step, Timestamp};

    fn flat(start: Timestamp, step: Step, value: f64) -> Forecast {
        let levels = Quantile::STANDARD.to_vec();
        let quantiles = vec![vec![value; 2]; levels.len()];
        Forecast { start, step, mean: vec![value; 2], levels, quantiles, peaks: vec![] }
    }

    #[test]
    fn what_was_made_is_scored_and_what_was_refused_is_counted() {
        let values = vec![1.0, 2.0, 1.0, 2.0, 1.0, 2.0, 3.0, 3.0];
        let series = Window { start: Timestamp::from_secs(0), step: Step::from_secs(60), values };
        let plan = Plan { origins: vec![4, 6], context: 100, horizon: Horizon::new(2).unwrap() };
        let (mut board, mut heard) = (Board::default(), Vec::new());
        let make = |known: &Window| match known.len() {
            4 => Err(FitError::TooShort { have: 4, need: 5 }),
            _ => Ok((flat(known.end(), known.step, 2.0), ())),
        };
        let hear = |origin, made: Result<(Forecast, ()), FitError>| {
            heard.push((origin, made.is_ok()));
            Ok::<(), ()>(())
        };
        board.play(&series, &[1], &plan, make, hear).unwrap();
        assert_eq!((board.forecasts, board.refused, heard), (1, 1, vec![(4, false), (6, true)]));
        assert_eq!((board.summary().mase, board.summary().pinball), (Some(1.0), Some(0.6125)));
        assert_eq!((board.summary().coverage, board.summary().least_coverage), (Some(0.0), Some(0.0)));
    }

    #[test]
    fn a_board_of_nothing_tells_nothing() {
        let summary = Board::default().summary();
        assert_eq!((summary.mase, summary.wql, summary.least_coverage, summary.margin), (None, None, None, None));
    }
}
