//! The detector that watches the metrics of one node or workload together.

use serde::{Deserialize, Serialize};

use super::{Detector, Params, Score, Univariate};
use crate::series::Timestamp;

/// Scores rows of several metrics: each metric on its own history, the row by its most surprising metrics.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Multivariate {
    metrics: Vec<Univariate>,
}

/// The score of a row, and what each metric gave to it.
#[derive(Clone, Debug, PartialEq)]
pub struct RowScore {
    /// `-log10` of the tail probability of the row, as [`Score::surprise`].
    pub surprise: f64,
    /// One number a metric, in the order of the row: higher says "more of the departure is here". Never negative, never NaN.
    pub contributions: Vec<f64>,
}

impl RowScore {
    /// The score in `0.0..1.0`, as [`Score::as_unit`].
    #[must_use]
    pub fn as_unit(&self) -> f64 {
        Score { surprise: self.surprise, ..Score::NONE }.as_unit()
    }
}

impl Multivariate {
    /// A detector of rows of `width` metrics that has seen nothing.
    #[must_use]
    pub fn new(width: usize, params: Params) -> Self {
        Self { metrics: vec![Univariate::new(params); width] }
    }

    /// Scores the row at `at`, then learns from it. A row that is too short has gaps at its end; what is beyond the
    /// width is not read.
    pub fn observe(&mut self, at: Timestamp, row: &[f64]) -> RowScore {
        let value = |k: usize| row.get(k).copied().unwrap_or(f64::NAN);
        let contributions: Vec<f64> =
            self.metrics.iter_mut().enumerate().map(|(k, metric)| metric.observe(at, value(k)).surprise).collect();
        let strongest = contributions.iter().copied().fold(0.0, f64::max);
        let paid = (contributions.len().max(1) as f64).log10();
        RowScore { surprise: (strongest - paid).max(0.0), contributions }
    }
}
