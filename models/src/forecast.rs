//! What a forecaster is, and what it gives.

mod adjusted;
mod arima;
pub mod auto;
pub mod calendar;
mod choice;
mod clean;
mod combine;
mod course;
mod ets;
mod extent;
mod given;
#[cfg(test)]
mod hardship;
mod held;
mod interval;
mod linear;
mod member;
mod naive;
#[cfg(feature = "neural")]
pub mod neural;
mod newest;
mod point;
mod profile;
mod range;
mod reach;
mod record;
#[cfg(test)]
mod reference;
mod regression;
mod ridge;
pub mod seasonality;
mod simplex;
mod spread;
mod theta;
mod upset;

pub use choice::{Choice, NoSuchChoice};
pub use given::{ArimaOrders, Given, NotOrders};
pub use member::{Kind, NoSuchModel};

use serde::{Deserialize, Serialize};

use crate::series::{Step, Timestamp, Window};

/// How many steps ahead to look: at least one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Horizon(std::num::NonZeroUsize);

impl Horizon {
    /// A horizon of `steps`; `None` for zero.
    #[must_use]
    pub fn new(steps: usize) -> Option<Self> {
        std::num::NonZeroUsize::new(steps).map(Self)
    }

    /// Number of steps, at least one.
    #[must_use]
    pub fn steps(self) -> usize {
        self.0.get()
    }
}

/// A probability strictly between 0 and 1, at which a forecast's distribution is read.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub struct Quantile(f64);

/// The reason why a number is not a [`Quantile`].
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[error("a quantile lies strictly between 0 and 1, not at {0}")]
pub struct NotAQuantile(pub f64);

impl Quantile {
    /// The quantiles every outlook carries: 0.1, 0.5, 0.9, 0.95.
    pub const STANDARD: [Self; 4] = [Self(0.1), Self(0.5), Self(0.9), Self(0.95)];

    /// The probability, strictly between 0 and 1.
    #[must_use]
    pub fn value(self) -> f64 {
        self.0
    }
}

impl TryFrom<f64> for Quantile {
    type Error = NotAQuantile;
    fn try_from(p: f64) -> Result<Self, NotAQuantile> {
        if p > 0.0 && p < 1.0 { Ok(Self(p)) } else { Err(NotAQuantile(p)) }
    }
}

impl From<Quantile> for f64 {
    fn from(q: Quantile) -> Self {
        q.0
    }
}

/// The distribution of a series over the steps to come.
///
/// `mean` has shape `[horizon]`; `quantiles` has shape `[levels.len()][horizon]`. Levels ascend and quantiles of one
/// step never cross. All values are finite.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Forecast {
    /// Time of the first forecast point.
    pub start: Timestamp,
    /// Distance between points.
    pub step: Step,
    /// The one value to reckon with for each step: the middle of its distribution, which errs least in absolute size.
    /// Where the distribution is skewed this is not its arithmetic mean; the name is that of the exchange format.
    pub mean: Vec<f64>,
    /// Probabilities at which the distribution is given, ascending.
    pub levels: Vec<Quantile>,
    /// Value of each level for each step.
    pub quantiles: Vec<Vec<f64>>,
    /// Quantiles of the greatest value from the first step up to each step, of the shape of `quantiles`: what capacity
    /// that takes so long to change must bear. Empty where only the steps are known.
    #[serde(default)]
    pub peaks: Vec<Vec<f64>>,
}

impl Forecast {
    /// Number of steps.
    #[must_use]
    pub fn horizon(&self) -> usize {
        self.mean.len()
    }

    /// Time of step `index` (0 is the first).
    #[must_use]
    pub fn time_of(&self, index: usize) -> Timestamp {
        self.start + self.step.times(index)
    }

    /// The path of one probability, interpolated linearly between the levels at hand and held flat beyond them.
    #[must_use]
    pub fn quantile(&self, q: Quantile) -> Vec<f64> {
        self.between(&self.quantiles, q)
    }

    /// The value that nothing exceeds within the first `steps` steps with probability `q`; where peaks are not known, the
    /// greatest of the steps' own quantiles, which is exceeded more often. `None` for no step or beyond the horizon.
    #[must_use]
    pub fn peak(&self, q: Quantile, steps: usize) -> Option<f64> {
        if self.peaks.is_empty() {
            let path = self.quantile(q);
            return path.get(..steps)?.iter().copied().reduce(f64::max);
        }
        self.between(&self.peaks, q).get(steps.checked_sub(1)?).copied()
    }

    fn between(&self, paths: &[Vec<f64>], q: Quantile) -> Vec<f64> {
        let above = self.levels.partition_point(|l| *l < q);
        let Some(upper) = paths.get(above) else {
            return paths.last().unwrap_or(&self.mean).clone();
        };
        if above == 0 || self.levels[above] == q {
            return upper.clone();
        }
        let (below, lower) = (self.levels[above - 1], &paths[above - 1]);
        let weight = (q.0 - below.0) / (self.levels[above].0 - below.0);
        lower.iter().zip(upper).map(|(lo, hi)| lo + weight * (hi - lo)).collect()
    }
}

/// Why no forecast could be made of a history.
#[derive(Clone, Debug, PartialEq, thiserror::Error, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum FitError {
    /// Fewer observations than the method needs.
    #[error("{have} observations are too few, {need} are needed")]
    TooShort {
        /// Observations at hand.
        have: usize,
        /// Observations needed.
        need: usize,
    },
    /// Too many gaps.
    #[error("{gap_share:.0$} of the history is missing", 2)]
    TooSparse {
        /// Share of points that are gaps, `0.0..=1.0`.
        gap_share: f64,
    },
    /// The method cannot describe this history.
    #[error("the model does not apply: {reason}")]
    NotApplicable {
        /// What stands in the way.
        reason: String,
    },
}

/// A method of forecasting: configuration only, no state.
pub trait Forecaster {
    /// What fitting gives. Another type, so that "not fitted yet" cannot happen.
    type Fitted: Fitted;

    /// The name users see: `seasonal_naive`, `arima`, …
    fn name(&self) -> &'static str;

    /// Learns from `history`, whose gaps are NaN.
    ///
    /// # Errors
    /// [`FitError`] when the history is too short, too sparse or beyond the method.
    fn fit(&self, history: &Window) -> Result<Self::Fitted, FitError>;
}

/// A model that has learnt a history.
pub trait Fitted {
    /// The distribution of the next `horizon` steps at `quantiles` (ascending).
    fn forecast(&self, horizon: Horizon, quantiles: &[Quantile]) -> Forecast;

    /// Takes in the next point of the grid (NaN for a gap) without fitting anew.
    fn update(&mut self, value: f64);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_between_levels_are_interpolated_and_beyond_them_held() {
        let q = |p: f64| Quantile::try_from(p).expect("a probability");
        let forecast = Forecast {
            start: Timestamp::from_secs(0),
            step: Step::from_secs(60),
            mean: vec![2.0],
            levels: vec![q(0.5), q(0.9)],
            quantiles: vec![vec![2.0], vec![6.0]],
            peaks: vec![],
        };
        assert!((forecast.quantile(q(0.7))[0] - 4.0).abs() < 1e-12);
        assert_eq!(forecast.quantile(q(0.1)), [2.0]);
        assert_eq!(forecast.quantile(q(0.99)), [6.0]);
    }

    #[test]
    fn a_peak_is_that_of_its_span_and_without_peaks_the_greatest_quantile() {
        let q = |p: f64| Quantile::try_from(p).expect("a probability");
        let mut forecast = Forecast {
            start: Timestamp::from_secs(0),
            step: Step::from_secs(60),
            mean: vec![2.0, 1.0],
            levels: vec![q(0.5), q(0.9)],
            quantiles: vec![vec![2.0, 1.0], vec![6.0, 5.0]],
            peaks: vec![vec![2.0, 2.5], vec![6.0, 7.0]],
        };
        assert_eq!((forecast.peak(q(0.9), 1), forecast.peak(q(0.9), 2)), (Some(6.0), Some(7.0)));
        assert_eq!((forecast.peak(q(0.9), 0), forecast.peak(q(0.9), 3)), (None, None));
        forecast.peaks.clear();
        assert_eq!(forecast.peak(q(0.9), 2), Some(6.0));
    }

    #[test]
    fn a_quantile_outside_its_range_is_refused() {
        for p in [0.0, 1.0, -0.5, f64::NAN] {
            assert!(Quantile::try_from(p).is_err());
        }
    }
}
