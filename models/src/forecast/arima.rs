//! Seasonal ARIMA with regressors, a constant or drift, and gaps; its orders found by AICc.
//!
//! Seasons too long for seasonal terms are taken off before (see [`super::adjusted`]).
//!
//! # Source
//! Box and Jenkins, "Time Series Analysis", 1970; order search after Hyndman and Khandakar, "Automatic time series
//! forecasting: the forecast package for R", J. Stat. Software 27, 2008.

mod difference;
pub(crate) mod likelihood;
mod polynomial;
mod search;

use serde::{Deserialize, Serialize};

pub(crate) use difference::Differences;
pub(crate) use search::{LONGEST_SEASON, MAX_ORDER, Orders};

use super::clean::fill;
use super::point::Path;
use likelihood::innovations;

#[cfg(test)]
pub(crate) use search::{expanded, kpss as stationarity, of_orders};

/// Coefficients of `(1 - φ₁B - …)(w - μ) = (1 + θ₁B + …)ε`, where `w` is the differenced rest `y - Σ βx`. Seasonal
/// factors are multiplied out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Coefficients {
    pub(crate) orders: Orders,
    pub(crate) differences: Differences,
    pub(crate) ar: Vec<f64>,
    pub(crate) ma: Vec<f64>,
    /// `μ`: the mean of an undifferenced series, the drift of a differenced one.
    pub(crate) constant: f64,
    /// `β`, one for each regressor.
    pub(crate) slopes: Vec<f64>,
}

/// The model at an instant: its coefficients and what they still refer to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Arima {
    coefficients: Coefficients,
    /// The filter's state: its first number is the next differenced value expected, without the constant.
    state: Vec<f64>,
    /// Newest values that differences refer to, oldest first.
    recent: Vec<f64>,
}

impl Arima {
    /// Finds differencing by the KPSS test, the orders by AICc and the coefficients by exact maximum likelihood. Gaps of
    /// `y` are NaN.
    pub(crate) fn fit(y: &[f64]) -> Self {
        Self::at_end(search::best(y, &[], None), y, &[])
    }

    /// As [`fit`](Self::fit), with seasonal terms of a `period` up to [`LONGEST_SEASON`].
    pub(crate) fn seasonal(y: &[f64], period: usize) -> Self {
        Self::at_end(search::best(y, &[], Some(period)), y, &[])
    }

    /// As [`fit`](Self::fit), with orders and differences that are known.
    pub(crate) fn with_orders(y: &[f64], orders: Orders, differences: Differences) -> Self {
        let known = Coefficients { orders, differences, ar: vec![], ma: vec![], constant: 0.0, slopes: vec![] };
        Self::at_end(search::again(y, &[], &known), y, &[])
    }

    /// Its orders and differences.
    pub(crate) fn shape(&self) -> (Orders, Differences) {
        (self.coefficients.orders, self.coefficients.differences)
    }

    /// As [`fit`](Self::fit), on what a regression on `regressors` (each as long as `y`, finite) leaves over; regression
    /// and the rest are estimated together.
    #[cfg(test)]
    pub(crate) fn with_regressors(y: &[f64], regressors: &[Vec<f64>], period: Option<usize>) -> Self {
        Self::at_end(search::best(y, regressors, period), y, regressors)
    }

    /// The model with the same orders and new coefficients.
    pub(crate) fn refit(&self, y: &[f64]) -> Self {
        Self::at_end(search::again(y, &[], &self.coefficients), y, &[])
    }

    /// The model with known coefficients at the end of `y`, through which the exact filter has run.
    pub(crate) fn at_end(coefficients: Coefficients, y: &[f64], regressors: &[Vec<f64>]) -> Self {
        let rest = without(y, regressors, &coefficients.slopes);
        let mut w = coefficients.differences.of(&rest);
        w.iter_mut().for_each(|v| *v -= coefficients.constant);
        let state = innovations(&coefficients.ar, &coefficients.ma, &[&w]).state;
        let whole = fill(&rest, None).unwrap_or_default();
        let recent = whole[whole.len().saturating_sub(coefficients.differences.reach())..].to_vec();
        Self { coefficients, state, recent }
    }

    /// The expected values of the next steps, where `regressors` (shape `[regressors][horizon]`) are known.
    pub(crate) fn path_with(&self, horizon: usize, regressors: &[Vec<f64>]) -> Vec<f64> {
        let mut model = self.clone();
        let mut next = |k: usize| {
            let value = model.expected();
            model.learn(value);
            let explained =
                regressors.iter().zip(&self.coefficients.slopes).map(|(x, slope)| slope * x[k]).sum::<f64>();
            value + explained
        };
        (0..horizon).map(&mut next).collect()
    }

    /// The next value expected, without regressors.
    fn expected(&self) -> f64 {
        let change = self.state.first().copied().unwrap_or(0.0) + self.coefficients.constant;
        change + self.coefficients.differences.carried(&self.recent)
    }

    fn learn(&mut self, value: f64) {
        let error = value - self.expected();
        let Coefficients { ar, ma, .. } = &self.coefficients;
        let head = self.state.first().copied().unwrap_or(0.0);
        for i in 0..self.state.len() {
            let of = |coefficients: &[f64]| coefficients.get(i).copied().unwrap_or(0.0);
            let follows = self.state.get(i + 1).copied().unwrap_or(0.0);
            self.state[i] = follows + of(ar) * (head + error) + of(ma) * error;
        }
        self.recent.push(value);
        let surplus = self.recent.len().saturating_sub(self.coefficients.differences.reach());
        self.recent.drain(..surplus);
    }
}

/// `y` without what the regressors explain.
fn without(y: &[f64], regressors: &[Vec<f64>], slopes: &[f64]) -> Vec<f64> {
    let explained = |i: usize| regressors.iter().zip(slopes).map(|(x, slope)| slope * x[i]).sum::<f64>();
    y.iter().enumerate().map(|(i, v)| v - explained(i)).collect()
}

impl Path for Arima {
    fn path(&self, _past: &[f64], horizon: usize) -> Vec<f64> {
        self.path_with(horizon, &[])
    }

    fn observe(&mut self, past: &[f64]) {
        if let Some(value) = past.last() {
            self.learn(*value);
        }
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::laws::noise;

    fn coefficients(ar: &[f64], ma: &[f64], differences: usize, constant: f64) -> Coefficients {
        Coefficients {
            orders: Orders { ar: ar.len(), ma: ma.len(), ..Orders::default() },
            differences: Differences { ordinary: differences, seasonal: 0, period: 1 },
            ar: ar.to_vec(),
            ma: ma.to_vec(),
            constant,
            slopes: vec![],
        }
    }

    #[test]
    fn the_path_of_an_arma_returns_to_its_mean() {
        let y: Vec<f64> = (0..300).map(|i| 10.0 + noise(i)).collect();
        let path = Arima::at_end(coefficients(&[0.5], &[0.4], 0, 10.0), &y, &[]).path(&[], 3);
        assert!(((path[1] - 10.0) - 0.5 * (path[0] - 10.0)).abs() < 1e-12, "{path:?}");
        assert!(((path[2] - 10.0) - 0.25 * (path[0] - 10.0)).abs() < 1e-12, "{path:?}");
    }

    #[test]
    fn a_differenced_path_starts_from_the_last_value_and_drifts() {
        let path = Arima::at_end(coefficients(&[0.5], &[], 1, 0.0), &[1.0, 3.0], &[]).path(&[], 2);
        assert!((path[0] - 4.0).abs() < 1e-12 && (path[1] - 4.5).abs() < 1e-12, "{path:?}");
        assert_eq!(Arima::at_end(coefficients(&[], &[], 1, 2.0), &[1.0, 3.0], &[]).path(&[], 2), [5.0, 7.0]);
    }

    #[test]
    fn observing_is_the_same_as_starting_with_the_longer_history() {
        let y: Vec<f64> = (0..240).map(|i| f64::from((i * 7) % 13)).collect();
        let known = coefficients(&[0.5, -0.2], &[0.3], 1, 0.0);
        let mut stepped = Arima::at_end(known.clone(), &y[..200], &[]);
        (201..=240).for_each(|n| stepped.observe(&y[..n]));
        let (ours, whole) = (stepped.path(&[], 5), Arima::at_end(known, &y, &[]).path(&[], 5));
        assert!(ours.iter().zip(&whole).all(|(a, b)| (a - b).abs() < 1e-9), "{ours:?} {whole:?}");
    }

    #[test]
    fn a_drift_is_found_and_carried_on() {
        let mut level = 0.0;
        let rising = |i: usize| {
            level += 0.8 + noise(i);
            level
        };
        let y: Vec<f64> = (0..400).map(rising).collect();
        let path = Arima::fit(&y).path(&y, 20);
        assert!((path[19] - path[0] - 19.0 * 0.8).abs() < 3.0, "{path:?}");
    }

    #[test]
    fn a_season_that_wanders_is_followed_by_seasonal_terms() {
        let mut y: Vec<f64> = (0..12).map(|i| 10.0 * noise(i)).collect();
        (12..300).for_each(|i| y.push(y[i - 12] + 0.3 * noise(i)));
        let model = Arima::seasonal(&y[..288], 12);
        assert_eq!(model.coefficients.differences.seasonal, 1);
        let path = model.path(&y[..288], 12);
        assert!(path.iter().zip(&y[288..]).all(|(a, b)| (a - b).abs() < 0.6), "{path:?} {:?}", &y[288..]);
    }

    #[test]
    fn a_regressor_explains_its_share_also_through_gaps() {
        let pulse = |i: usize| f64::from(u8::from(i.is_multiple_of(17)));
        let mut y: Vec<f64> = (0..320).map(|i| 5.0 + 30.0 * pulse(i) + noise(i)).collect();
        y[100..110].fill(f64::NAN);
        let x: Vec<f64> = (0..330).map(pulse).collect();
        let model = Arima::with_regressors(&y[..320], &[x[..320].to_vec()], None);
        let path = model.path_with(10, &[x[320..].to_vec()]);
        assert!((path[3] - 35.0).abs() < 1.0 && (path[2] - 5.0).abs() < 1.0, "{path:?}"); // 323 = 19 × 17
    }

    #[test]
    fn short_flat_and_empty_histories_are_borne() {
        assert_eq!(Arima::seasonal(&[5.0; 60], 12).path(&[], 3), [5.0; 3]);
        assert_eq!(Arima::fit(&[]).path(&[], 2), [0.0; 2]);
        assert_eq!(Arima::fit(&[f64::NAN, 4.0]).path(&[], 1), [4.0]);
    }
}
