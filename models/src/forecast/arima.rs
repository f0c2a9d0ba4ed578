//! ARIMA without seasonal terms, its order found by AICc; seasons are taken off before (see [`super::adjusted`]).
//!
//! # Source
//! Box and Jenkins, "Time Series Analysis", 1970; order search after Hyndman and Khandakar, "Automatic time series
//! forecasting: the forecast package for R", J. Stat. Software 27, 2008.

pub(crate) mod likelihood;
mod polynomial;
mod search;

use serde::{Deserialize, Serialize};

use super::point::Path;

#[cfg(test)]
pub(crate) use search::kpss as stationarity;

/// Coefficients of `(1 - φ₁B - …)(∇ᵈy - μ) = (1 + θ₁B + …)ε`; `μ` is zero when `d` is not.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Coefficients {
    pub(crate) ar: Vec<f64>,
    pub(crate) ma: Vec<f64>,
    pub(crate) differences: usize,
    pub(crate) mean: f64,
}

/// The model at an instant: its coefficients and what they still refer to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Arima {
    coefficients: Coefficients,
    /// Newest differenced values without their mean, newest first, as many as `ar`.
    values: Vec<f64>,
    /// Newest one-step errors, newest first, as many as `ma`.
    errors: Vec<f64>,
    /// Newest value, if any was seen.
    last: Option<f64>,
}

impl Arima {
    /// Finds differencing by the KPSS test, the order by AICc and the coefficients by exact maximum likelihood.
    /// `y` is finite.
    pub(crate) fn fit(y: &[f64]) -> Self {
        Self::at_end(search::best(y), y)
    }

    /// The model with the same orders and new coefficients.
    pub(crate) fn refit(&self, y: &[f64]) -> Self {
        Self::at_end(search::again(y, &self.coefficients), y)
    }

    /// The model with known coefficients at the end of `y`.
    pub(crate) fn at_end(coefficients: Coefficients, y: &[f64]) -> Self {
        let (p, q) = (coefficients.ar.len(), coefficients.ma.len());
        let mut model = Self { coefficients, values: vec![0.0; p], errors: vec![0.0; q], last: None };
        y.iter().for_each(|value| model.learn(*value));
        model
    }

    /// The most likely coefficients of one order, autoregressive first, for comparison with other implementations.
    #[cfg(test)]
    pub(crate) fn coefficients_of(w: &[f64], orders: (usize, usize)) -> (Vec<f64>, Vec<f64>) {
        search::of_order(w, orders)
    }

    fn learn(&mut self, value: f64) {
        let change = match (self.coefficients.differences, self.last.replace(value)) {
            (0, _) => Some(value - self.coefficients.mean),
            (_, Some(last)) => Some(value - last),
            (_, None) => None,
        };
        if let Some(change) = change {
            let error = change - self.expected(&self.values, &self.errors);
            push(&mut self.values, change);
            push(&mut self.errors, error);
        }
    }

    fn expected(&self, values: &[f64], errors: &[f64]) -> f64 {
        dot(&self.coefficients.ar, values) + dot(&self.coefficients.ma, errors)
    }
}

impl Path for Arima {
    fn path(&self, _past: &[f64], horizon: usize) -> Vec<f64> {
        let (mut values, mut errors) = (self.values.clone(), self.errors.clone());
        let mut level = self.last.unwrap_or(0.0);
        let mut next = || {
            let change = self.expected(&values, &errors);
            push(&mut values, change);
            push(&mut errors, 0.0);
            level = if self.coefficients.differences == 0 { self.coefficients.mean + change } else { level + change };
            level
        };
        (0..horizon).map(|_| next()).collect()
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

/// Puts `value` first and drops the last.
fn push(newest_first: &mut [f64], value: f64) {
    if let Some(end) = newest_first.len().checked_sub(1) {
        newest_first.copy_within(..end, 1);
        newest_first[0] = value;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_of_an_arma_returns_to_its_mean() {
        let coefficients = Coefficients { ar: vec![0.5], ma: vec![0.4], differences: 0, mean: 10.0 };
        let model = Arima { coefficients, values: vec![4.0], errors: vec![1.0], last: Some(14.0) };
        let path = model.path(&[], 3);
        assert_eq!(path, [10.0 + 2.4, 10.0 + 1.2, 10.0 + 0.6]);
    }

    #[test]
    fn a_differenced_path_starts_from_the_last_value() {
        let coefficients = Coefficients { ar: vec![0.5], ma: vec![], differences: 1, mean: 0.0 };
        let model = Arima::at_end(coefficients, &[1.0, 3.0]);
        assert_eq!(model.path(&[], 2), [4.0, 4.5]);
    }

    #[test]
    fn observing_is_the_same_as_starting_with_the_longer_history() {
        let y: Vec<f64> = (0..40).map(|i| f64::from((i * 7) % 13)).collect();
        let coefficients = Coefficients { ar: vec![0.5, -0.2], ma: vec![0.3], differences: 1, mean: 0.0 };
        let mut stepped = Arima::at_end(coefficients.clone(), &y[..30]);
        (31..=40).for_each(|n| stepped.observe(&y[..n]));
        assert_eq!(stepped, Arima::at_end(coefficients, &y));
    }
}
