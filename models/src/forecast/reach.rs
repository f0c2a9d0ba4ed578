//! How much further than usual the bounds must reach for what falls beyond them to be as rare as promised.

use serde::{Deserialize, Serialize};

/// How fast the reach follows: when everything falls beyond, it doubles in about seventeen steps.
const PACE: f64 = 0.04;
/// Bounds of a reach's logarithm.
const LEAST: f64 = -0.25;
const MOST: f64 = 2.0;

/// Logarithms of the factors by which distances below and above the middle are stretched.
///
/// # Source
/// Gibbs and Candès, "Adaptive conformal inference under distribution shift", NeurIPS 2021; on the scale of the bounds
/// instead of their level, as in Angelopoulos, Candès and Tibshirani, "Conformal PID control for time series
/// prediction", NeurIPS 2023.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Reach {
    below: f64,
    above: f64,
}

impl Reach {
    /// Probabilities of falling below the lower and above the upper of the bounds that are watched.
    pub(crate) const PROMISED: (f64, f64) = (0.1, 0.05);

    /// Takes in which shares of the latest forecasts fell short on either side.
    pub(crate) fn learn(&mut self, (below, above): (f64, f64)) {
        let (low, high) = Self::PROMISED;
        self.below = (self.below + PACE * (below - low)).clamp(LEAST, MOST);
        self.above = (self.above + PACE * (above - high)).clamp(LEAST, MOST);
    }

    /// The distance from the middle in place of `distance`.
    pub(crate) fn stretch(self, distance: f64) -> f64 {
        distance * if distance < 0.0 { self.below.exp() } else { self.above.exp() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_keeps_falling_beyond_doubles_the_reach_on_its_side_only() {
        let mut reach = Reach::default();
        (0..20).for_each(|_| reach.learn((0.1, 1.0)));
        assert!(reach.stretch(1.0) > 2.0);
        assert!((reach.stretch(-1.0) + 1.0).abs() < 1e-9);
    }

    #[test]
    fn the_reach_returns_once_the_promise_holds_too_well() {
        let mut reach = Reach::default();
        (0..40).for_each(|_| reach.learn((1.0, 1.0)));
        (0..2000).for_each(|_| reach.learn((0.0, 0.0)));
        assert!((reach.stretch(1.0) - LEAST.exp()).abs() < 1e-9 && (reach.stretch(-1.0) + LEAST.exp()).abs() < 1e-9);
    }
}
