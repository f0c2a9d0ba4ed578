//! The Theta method: the mean of a straight line and of a smoothed level.

use serde::{Deserialize, Serialize};

use super::ets::Ets;
use super::point::Path;

/// Simple exponential smoothing that drifts by half the slope of the straight line through the history.
///
/// # Source
/// Assimakopoulos and Nikolopoulos, "The theta model", Int. J. Forecasting 16, 2000, in the form of Hyndman and Billah,
/// "Unmasking the Theta method", Int. J. Forecasting 19, 2003.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Theta {
    smoothed: Ets,
    /// Half the slope of the line.
    drift: f64,
    /// Steps by which smoothing lags behind the line.
    lag: f64,
}

impl Theta {
    /// `y` is finite.
    pub(crate) fn fit(y: &[f64]) -> Self {
        Self::of(Ets::simple(y), y)
    }

    /// Around a level that was smoothed over `y`.
    pub(crate) fn of(smoothed: Ets, y: &[f64]) -> Self {
        let alpha = smoothed.alpha();
        let lag = (1.0 - (1.0 - alpha).powf(y.len() as f64)) / alpha;
        Self { smoothed, drift: 0.5 * slope(y), lag }
    }

    /// Per step.
    #[cfg(test)]
    pub(crate) fn drift(&self) -> f64 {
        self.drift
    }
}

/// Of the least-squares line, per step.
fn slope(y: &[f64]) -> f64 {
    let n = y.len() as f64;
    let middle = (n - 1.0) / 2.0;
    let spread = n * (n * n - 1.0) / 12.0;
    let together: f64 = y.iter().enumerate().map(|(i, v)| (i as f64 - middle) * v).sum();
    if spread > 0.0 { together / spread } else { 0.0 }
}

impl Path for Theta {
    fn path(&self, past: &[f64], horizon: usize) -> Vec<f64> {
        let mut path = self.smoothed.path(past, horizon);
        path.iter_mut().enumerate().for_each(|(k, v)| *v += self.drift * (k as f64 + self.lag));
        path
    }

    fn observe(&mut self, past: &[f64]) {
        self.smoothed.observe(past);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_straight_line_is_carried_on_with_half_its_slope() {
        let y: Vec<f64> = (0..200).map(|i| 5.0 + 2.0 * f64::from(i)).collect();
        let path = Theta::fit(&y).path(&y, 4);
        assert!((path[3] - path[0] - 3.0).abs() < 1e-6, "{path:?}");
        assert!((path[0] - 404.0).abs() < 2.0, "{path:?}");
    }

    #[test]
    fn a_lone_value_has_no_slope() {
        assert_eq!(Theta::fit(&[3.0]).path(&[3.0], 2), [3.0, 3.0]);
    }
}
