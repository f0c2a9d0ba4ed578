//! How good a forecast was: scaled error, pinball loss, coverage.
//!
//! All functions take `actual` and `forecast` of equal length and pass over points whose actual value is a gap.

use crate::forecast::{Forecast, Quantile};

/// Pinball (quantile) loss of one value: `p·(y-q)` above the quantile, `(1-p)·(q-y)` below.
///
/// # Source
/// Koenker and Bassett, "Regression quantiles", Econometrica 46, 1978.
#[must_use]
pub fn pinball(level: Quantile, actual: f64, quantile: f64) -> f64 {
    let error = actual - quantile;
    (level.value() * error).max((level.value() - 1.0) * error)
}

/// Mean absolute error over the points that were observed; `None` when there is none.
#[must_use]
pub fn mean_absolute_error(actual: &[f64], forecast: &[f64]) -> Option<f64> {
    mean(observed(actual, forecast).map(|(y, f)| (y - f).abs()))
}

/// Mean absolute error of repeating the value one `period` ago, where both were observed: the scale of MASE. `None` when
/// the history is too short, or never changes from one period to the next.
#[must_use]
pub fn seasonal_scale(history: &[f64], period: usize) -> Option<f64> {
    let later = history.get(period..).filter(|_| period > 0)?;
    let both = observed(later, history).filter(|(_, earlier)| earlier.is_finite());
    mean(both.map(|(later, earlier)| (later - earlier).abs())).filter(|scale| *scale > 0.0)
}

/// Mean absolute scaled error: 1 is as good as repeating the last period did in the history.
///
/// # Source
/// Hyndman and Koehler, "Another look at measures of forecast accuracy", Int. J. Forecasting 22, 2006.
#[must_use]
pub fn mase(actual: &[f64], forecast: &[f64], scale: f64) -> Option<f64> {
    mean_absolute_error(actual, forecast).map(|error| error / scale).filter(|ratio| ratio.is_finite())
}

/// Sums from which the scores of a distributional forecast over many origins are read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tally {
    points: usize,
    absolute_actual: f64,
    absolute_error: f64,
    pinball: f64,
    levels: Vec<Level>,
}

/// What is known of one level of the distribution.
#[derive(Clone, Debug, PartialEq)]
struct Level {
    quantile: Quantile,
    at_or_below: usize,
    above_cost: f64,
}

impl Tally {
    /// Takes in one forecast and what came; points beyond `actual` and gaps are passed over.
    pub fn add(&mut self, forecast: &Forecast, actual: &[f64]) {
        if self.levels.is_empty() {
            let level = |quantile: &Quantile| Level { quantile: *quantile, at_or_below: 0, above_cost: 0.0 };
            self.levels = forecast.levels.iter().map(level).collect();
        }
        let median = Quantile::STANDARD[1];
        for (y, f) in observed(actual, &forecast.quantile(median)) {
            self.points += 1;
            self.absolute_actual += y.abs();
            self.absolute_error += (y - f).abs();
        }
        for (level, path) in self.levels.iter_mut().zip(&forecast.quantiles) {
            for (y, q) in observed(actual, path) {
                self.pinball += pinball(level.quantile, y, q);
                level.at_or_below += usize::from(y <= q);
                level.above_cost += (q - y).max(0.0);
            }
        }
    }

    /// Points scored.
    #[must_use]
    pub fn points(&self) -> usize {
        self.points
    }

    /// Mean absolute error of the median.
    #[must_use]
    pub fn mean_absolute_error(&self) -> Option<f64> {
        ratio(self.absolute_error, self.points as f64)
    }

    /// Mean pinball loss over points and levels, in units of the series.
    #[must_use]
    pub fn mean_pinball(&self) -> Option<f64> {
        ratio(self.pinball, (self.points * self.levels.len()) as f64)
    }

    /// Weighted quantile loss: twice the mean pinball loss over the levels, divided by the sum of `|y|`.
    ///
    /// # Source
    /// Makridakis, Spiliotis and Assimakopoulos, "The M5 uncertainty competition", Int. J. Forecasting 38, 2022.
    #[must_use]
    pub fn weighted_quantile_loss(&self) -> Option<f64> {
        ratio(2.0 * self.pinball, self.levels.len() as f64 * self.absolute_actual)
    }

    /// Share of points at or below the quantile `level`; `None` when the forecasts did not carry it.
    #[must_use]
    pub fn coverage(&self, level: Quantile) -> Option<f64> {
        let found = self.levels.iter().find(|l| l.quantile == level)?;
        ratio(found.at_or_below as f64, self.points as f64)
    }

    /// Mean distance by which the quantile `level` lay above what came, divided by the mean of `|y|`: what a margin
    /// provisioned at that quantile costs.
    #[must_use]
    pub fn margin(&self, level: Quantile) -> Option<f64> {
        let found = self.levels.iter().find(|l| l.quantile == level)?;
        ratio(found.above_cost, self.absolute_actual)
    }
}

fn observed<'a>(actual: &'a [f64], forecast: &'a [f64]) -> impl Iterator<Item = (f64, f64)> + 'a {
    actual.iter().copied().zip(forecast.iter().copied()).filter(|(y, _)| y.is_finite())
}

fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, count) = values.fold((0.0, 0usize), |(sum, count), v| (sum + v, count + 1));
    ratio(sum, count as f64)
}

fn ratio(above: f64, below: f64) -> Option<f64> {
    Some(above / below).filter(|r| r.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::series::{Step, Timestamp};

    fn q(p: f64) -> Quantile {
        Quantile::try_from(p).expect("a probability")
    }

    #[test]
    fn pinball_loss_weighs_the_side_of_the_quantile() {
        assert_eq!(pinball(q(0.9), 10.0, 8.0), 1.8);
        assert!((pinball(q(0.9), 8.0, 10.0) - 0.2).abs() < 1e-12);
    }

    #[test]
    fn mase_of_a_seasonal_naive_forecast_on_a_like_series_is_one() {
        let history = [1.0, 5.0, 2.0, 6.0, 3.0, 7.0];
        let scale = seasonal_scale(&history, 2).expect("it changes");
        assert_eq!(scale, 1.0);
        assert_eq!(mase(&[4.0, 8.0], &[3.0, 7.0], scale), Some(1.0));
    }

    #[test]
    fn a_constant_history_has_no_scale_and_a_gap_is_not_scored() {
        assert_eq!(seasonal_scale(&[2.0; 10], 3), None);
        assert_eq!(seasonal_scale(&[2.0; 10], 0), None);
        assert_eq!(mean_absolute_error(&[f64::NAN, 3.0], &[9.0, 2.0]), Some(1.0));
        assert_eq!(seasonal_scale(&[1.0, f64::NAN, 3.0, 5.0], 1), Some(2.0));
    }

    #[test]
    fn a_tally_counts_coverage_margin_and_loss() {
        let forecast = Forecast {
            start: Timestamp::from_secs(0),
            step: Step::from_secs(60),
            mean: vec![2.0, 2.0],
            levels: vec![q(0.5), q(0.9)],
            quantiles: vec![vec![2.0, 2.0], vec![4.0, 4.0]],
            peaks: vec![],
        };
        let mut tally = Tally::default();
        tally.add(&forecast, &[3.0, 5.0, 99.0]);
        assert_eq!(tally.points(), 2);
        assert_eq!(tally.coverage(q(0.9)), Some(0.5));
        assert_eq!(tally.coverage(q(0.95)), None);
        assert_eq!(tally.margin(q(0.9)), Some(1.0 / 8.0));
        let pinball = 0.5 * 1.0 + 0.5 * 3.0 + 0.1 * 1.0 + 0.9 * 1.0;
        assert!((tally.weighted_quantile_loss().expect("scored") - 2.0 * pinball / 2.0 / 8.0).abs() < 1e-12);
    }
}
