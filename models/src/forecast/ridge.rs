//! Direct multi-step linear regression on the recent past and the same hours of earlier cycles.

use ndarray::{Array2, Axis};
use serde::{Deserialize, Serialize};

use super::linear::Cholesky;
use super::point::Path;

/// Recent values looked at.
const RECENT: usize = 36;
/// Penalty on each standardised coefficient, as a share of the number of rows.
const PENALTY: f64 = 0.003;
/// Values on either side of the target's place in an earlier cycle.
const BEFORE: usize = 2;

/// A linear map from features, all relative to the newest value, to each of the coming steps.
///
/// # Source
/// Hoerl and Kennard, "Ridge regression", Technometrics 12, 1970; the newest value as origin after Zeng, Chen, Zhang
/// and Xu, "Are transformers effective for time series forecasting?" (NLinear), AAAI 2023.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Ridge {
    recent: usize,
    lags: Vec<usize>,
    horizon: usize,
    /// Shape `[horizon, features]`, on raw features.
    weights: Box<[f32]>,
}

impl Ridge {
    /// Learns from `y` (finite); `None` when fewer than thirty rows can be formed.
    pub(crate) fn fit(y: &[f64], periods: &[usize], horizon: usize) -> Option<Self> {
        let reach = horizon.max(BEFORE + 1);
        let mut lags: Vec<usize> = periods
            .iter()
            .flat_map(|p| [*p, 2 * p])
            .filter(|lag| *lag >= reach && 2 * lag + 4 * horizon < y.len())
            .collect();
        lags.sort_unstable();
        lags.dedup();
        let recent = RECENT.min(periods.first().copied().unwrap_or(RECENT)).min(y.len() / 8).max(1);
        let mut ridge = Self { recent, lags, horizon, weights: Box::default() };
        let rows: Vec<usize> = (ridge.needs()..(y.len() + 1).checked_sub(horizon)?).collect();
        if rows.len() < 30 {
            return None;
        }
        ridge.weights = ridge.solve(y, &rows)?;
        Some(ridge)
    }

    /// Values of the past that the features need.
    fn needs(&self) -> usize {
        (self.lags.last().map_or(0, |lag| lag + BEFORE + 1)).max(self.recent + 1)
    }

    fn solve(&self, y: &[f64], rows: &[usize]) -> Option<Box<[f32]>> {
        let width = self.width();
        let mut x = Array2::zeros((rows.len(), width));
        let mut targets = Array2::zeros((rows.len(), self.horizon));
        let mut features = Vec::with_capacity(width);
        for (row, t) in rows.iter().enumerate() {
            self.features(&y[..*t], &mut features);
            x.row_mut(row).iter_mut().zip(&features).for_each(|(cell, v)| *cell = *v);
            (0..self.horizon).for_each(|k| targets[[row, k]] = y[t + k] - y[t - 1]);
        }
        let scale = x.map_axis(Axis(0), |column| column.dot(&column) / rows.len() as f64).mapv(f64::sqrt);
        let least = scale.iter().copied().fold(0.0, f64::max) * 1e-6;
        let scale = scale.mapv(|s| if s > least { s } else { 1.0 });
        x /= &scale;
        let mut gram = x.t().dot(&x);
        let penalty = PENALTY * rows.len() as f64;
        (0..width).for_each(|i| gram[[i, i]] += penalty);
        let right = x.t().dot(&targets);
        let factor = Cholesky::of(gram)?;
        let column = |k: usize| {
            let mut w = right.column(k).to_vec();
            factor.solve(&mut w);
            w.into_iter().zip(&scale).map(|(w, s)| (w / s) as f32).collect::<Vec<_>>()
        };
        Some((0..self.horizon).flat_map(column).collect())
    }

    /// Number of features.
    fn width(&self) -> usize {
        self.recent + self.lags.len() * (self.horizon + BEFORE) + 1
    }

    /// Recent changes, then the coming steps as they were in earlier cycles, then a constant.
    fn features(&self, past: &[f64], features: &mut Vec<f64>) {
        let n = past.len();
        let last = past[n - 1];
        features.clear();
        features.extend((2..=self.recent + 1).map(|lag| past[n - lag] - last));
        for lag in &self.lags {
            let from = n - lag - BEFORE;
            features.extend(past[from..from + self.horizon + BEFORE].iter().map(|v| v - last));
        }
        features.push(1.0);
    }

    /// The first `steps` of those it was fitted for.
    fn block(&self, past: &[f64], steps: usize) -> Vec<f64> {
        let last = past.last().copied().unwrap_or(0.0);
        if past.len() < self.needs() {
            return vec![last; steps];
        }
        let mut features = Vec::with_capacity(self.width());
        self.features(past, &mut features);
        let step = |weights: &[f32]| weights.iter().zip(&features).map(|(w, f)| f64::from(*w) * f).sum::<f64>();
        self.weights.chunks_exact(self.width()).take(steps).map(|weights| last + step(weights)).collect()
    }
}

impl Path for Ridge {
    /// Beyond the horizon it was fitted for, the path is fed back as if it had been observed.
    fn path(&self, past: &[f64], horizon: usize) -> Vec<f64> {
        let mut path = self.block(past, horizon.min(self.horizon));
        if path.len() < horizon {
            let mut extended = past[past.len().saturating_sub(self.needs() + horizon)..].to_vec();
            extended.extend(&path);
            while path.len() < horizon {
                let block = self.block(&extended, self.horizon);
                extended.extend(&block);
                path.extend(block);
            }
        }
        path.truncate(horizon);
        path
    }

    fn reach(&self) -> usize {
        self.needs() + self.horizon
    }

    fn observe(&mut self, _past: &[f64]) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wave(n: usize) -> Vec<f64> {
        (0..n).map(|i| (i as f64 / 24.0 * std::f64::consts::TAU).sin() * 10.0 + 50.0).collect()
    }

    #[test]
    fn a_wave_is_continued_also_beyond_the_horizon_it_was_fitted_for() {
        let y = wave(400);
        let ridge = Ridge::fit(&y, &[24], 6).expect("enough rows");
        let path = ridge.path(&y, 20);
        assert!(path.iter().zip(&wave(420)[400..]).all(|(a, b)| (a - b).abs() < 0.5), "{path:?}");
    }

    #[test]
    fn few_rows_make_no_regression_and_a_short_past_repeats_its_last_value() {
        assert_eq!(Ridge::fit(&wave(30), &[24], 6), None);
        let ridge = Ridge::fit(&wave(400), &[24], 2).expect("enough rows");
        assert_eq!(ridge.path(&[3.0], 2), [3.0, 3.0]);
    }
}
