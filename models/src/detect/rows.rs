//! The detector that fits a table: of one metric, or of several together.

use serde::{Deserialize, Serialize};

use super::{Detector, Multivariate, Params, RowScore, Univariate};
use crate::series::Timestamp;

/// The detector of the rows of one table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Rows {
    /// Of one metric.
    One(Box<Univariate>),
    /// Of several.
    Many(Box<Multivariate>),
}

impl Rows {
    /// For rows of `width` metrics; it has seen nothing.
    #[must_use]
    pub fn new(width: usize, params: Params) -> Self {
        match width {
            0 | 1 => Self::One(Box::new(Univariate::new(params))),
            _ => Self::Many(Box::new(Multivariate::new(width, params))),
        }
    }

    /// Learns a row of history without scoring it. `row` holds one value a metric; NaN is a gap.
    pub fn train(&mut self, at: Timestamp, row: &[f64]) {
        match self {
            Self::One(detector) => {
                detector.observe(at, row.first().copied().unwrap_or(f64::NAN));
            }
            Self::Many(detector) => detector.train(at, row),
        }
    }

    /// Scores a row by what was seen before, then learns from it.
    pub fn observe(&mut self, at: Timestamp, row: &[f64]) -> RowScore {
        match self {
            Self::One(detector) => {
                let score = detector.observe(at, row.first().copied().unwrap_or(f64::NAN));
                RowScore { surprise: score.surprise, contributions: vec![score.surprise] }
            }
            Self::Many(detector) => detector.observe(at, row),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_metric_is_scored_as_a_series_and_several_as_rows() {
        let (mut one, mut series) = (Rows::new(1, Params::default()), Univariate::default());
        let mut several = Rows::new(2, Params::default());
        for i in 0..200 {
            let (at, value) = (Timestamp::from_secs(i * 60), if i == 190 { 90.0 } else { (i % 7) as f64 });
            let (row, score) = (one.observe(at, &[value]), series.observe(at, value));
            assert_eq!((row.surprise, row.contributions.as_slice()), (score.surprise, [score.surprise].as_slice()));
            assert_eq!(several.observe(at, &[value, 1.0]).contributions.len(), 2);
        }
    }

    #[test]
    fn history_is_learnt_and_a_row_without_values_is_a_gap() {
        let mut rows = Rows::new(1, Params::default());
        (0..200).for_each(|i| rows.train(Timestamp::from_secs(i * 60), &[(i % 7) as f64]));
        assert!(rows.observe(Timestamp::from_secs(12_000), &[500.0]).surprise > 2.0);
        rows.observe(Timestamp::from_secs(12_060), &[]);
    }
}
