//! Exponential smoothing with additive errors: a level, and if it helps a damped trend.
//!
//! # Source
//! Hyndman, Koehler, Ord and Snyder, "Forecasting with Exponential Smoothing", Springer 2008: ETS(A,N,N) and ETS(A,Ad,N).

use serde::{Deserialize, Serialize};

use super::point::Path;
use super::simplex;

/// Smoothing parameters. With `beta` zero and no slope this is simple exponential smoothing.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Parameters {
    /// Weight of a new error in the level, `0..1`.
    pub(crate) alpha: f64,
    /// Weight of a new error in the slope, `0..=alpha`.
    pub(crate) beta: f64,
    /// What remains of the slope after a step, `0.8..=0.98`.
    pub(crate) phi: f64,
}

/// The model at an instant.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Ets {
    parameters: Parameters,
    level: f64,
    slope: f64,
}

impl Ets {
    /// Chooses between simple and damped-trend smoothing by AICc. `y` is finite.
    pub(crate) fn fit(y: &[f64]) -> Self {
        let simple = Self::fitted(y, false);
        if y.len() < 10 {
            return simple.1;
        }
        let damped = Self::fitted(y, true);
        if damped.0 < simple.0 { damped.1 } else { simple.1 }
    }

    /// The same form on `y`, its parameters sought near those at hand.
    pub(crate) fn refit(&self, y: &[f64]) -> Self {
        let Parameters { alpha, beta, phi } = self.parameters;
        let spread = |x: f64| (x / (1.0 - x)).clamp(1e-6, 1e6).ln();
        let start = [spread((alpha - 0.0001) / 0.9998), spread(beta / alpha), spread((phi - 0.8) / 0.18)];
        let start = if phi > 0.0 { &start[..] } else { &start[..1] };
        Self::sought(y, start, (0.3, 10 * start.len()))
    }

    /// Simple exponential smoothing.
    pub(crate) fn simple(y: &[f64]) -> Self {
        Self::fitted(y, false).1
    }

    /// Weight of a new error in the level.
    pub(crate) fn alpha(&self) -> f64 {
        self.parameters.alpha
    }

    /// The AICc of the best parameters of one form, and the model at the end of `y`.
    fn fitted(y: &[f64], trend: bool) -> (f64, Self) {
        let start: &[f64] = if trend { &[0.0, -2.0, 1.0] } else { &[0.0] };
        let model = Self::sought(y, start, (1.0, 40 * start.len()));
        let squares = Self::at_start(y, model.parameters).run(y).max(f64::MIN_POSITIVE);
        let (n, k) = (y.len() as f64, if trend { 6.0 } else { 3.0 });
        let penalty = if n > k + 1.0 { 2.0 * k * n / (n - k - 1.0) } else { f64::INFINITY };
        (n * squares.ln() + penalty, model)
    }

    /// The model at the end of `y` with the parameters of least squared error within so many evaluations of `start`.
    fn sought(y: &[f64], start: &[f64], (size, evaluations): (f64, usize)) -> Self {
        let loss = |x: &[f64]| Self::at_start(y, bounded(x)).run(y).max(f64::MIN_POSITIVE).ln();
        let mut model = Self::at_start(y, bounded(&simplex::minimise(start, size, (evaluations, 1e-5), loss)));
        model.run(y);
        model
    }

    /// Before the first value: the level is the mean of the first few values, the slope none.
    fn at_start(y: &[f64], parameters: Parameters) -> Self {
        let few = &y[..y.len().min(10)];
        Self { parameters, level: few.iter().sum::<f64>() / few.len().max(1) as f64, slope: 0.0 }
    }

    /// From a known state, for comparison with other implementations.
    #[cfg(test)]
    pub(crate) fn from_state(parameters: Parameters, level: f64, slope: f64) -> Self {
        Self { parameters, level, slope }
    }

    /// Takes in all of `y`; the sum of squared one-step errors.
    pub(crate) fn run(&mut self, y: &[f64]) -> f64 {
        y.iter().map(|value| self.learn(*value).powi(2)).sum()
    }

    /// Takes in one value; its one-step error.
    fn learn(&mut self, value: f64) -> f64 {
        let Parameters { alpha, beta, phi } = self.parameters;
        let error = value - self.level - phi * self.slope;
        self.level += phi * self.slope + alpha * error;
        self.slope = phi * self.slope + beta * error;
        error
    }
}

impl Path for Ets {
    fn path(&self, _past: &[f64], horizon: usize) -> Vec<f64> {
        let (mut value, mut slope) = (self.level, self.slope);
        let mut next = || {
            slope *= self.parameters.phi;
            value += slope;
            value
        };
        (0..horizon).map(|_| next()).collect()
    }

    fn observe(&mut self, past: &[f64]) {
        if let Some(value) = past.last() {
            self.learn(*value);
        }
    }
}

/// From the whole line to the region where the parameters make sense.
fn bounded(x: &[f64]) -> Parameters {
    let squeeze = |x: f64| 1.0 / (1.0 + (-x).exp());
    let alpha = 0.0001 + 0.9998 * squeeze(x[0]);
    match x {
        [_, beta, phi] => Parameters { alpha, beta: alpha * squeeze(*beta), phi: 0.8 + 0.18 * squeeze(*phi) },
        _ => Parameters { alpha, beta: 0.0, phi: 0.0 },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_straight_rise_is_carried_on_and_damped() {
        let y: Vec<f64> = (0..60).map(|i| 3.0 * f64::from(i)).collect();
        let path = Ets::fit(&y).path(&y, 3);
        assert!(path[0] > 178.0 && path[0] < 182.0 && path[2] > path[0], "{path:?}");
    }

    #[test]
    fn noise_around_a_level_is_averaged() {
        let y: Vec<f64> = (0..200).map(|i| if i % 2 == 0 { 9.0 } else { 11.0 }).collect();
        let path = Ets::fit(&y).path(&y, 5);
        assert!(path.iter().all(|v| (v - 10.0).abs() < 0.3), "{path:?}");
    }

    #[test]
    fn observing_is_the_same_as_running_over_the_history() {
        let y: Vec<f64> = (0..50).map(|i| f64::from(i % 11)).collect();
        let parameters = Parameters { alpha: 0.3, beta: 0.1, phi: 0.9 };
        let mut whole = Ets::from_state(parameters, 1.0, 0.5);
        whole.run(&y);
        let mut stepped = Ets::from_state(parameters, 1.0, 0.5);
        (1..=y.len()).for_each(|n| stepped.observe(&y[..n]));
        assert_eq!(whole, stepped);
    }
}
