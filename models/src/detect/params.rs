//! The one parameter set of detection.

use serde::{Deserialize, Serialize};

/// What detection assumes before it has seen anything. One default serves every series and every sampling interval:
/// spans are given both as time and as a number of samples, and the longer counts.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Params {
    /// Samples before the first score. Default 40.
    pub warmup: u32,
    /// Memory of the slow level and of the scale. Default an hour, at least 200 samples.
    pub memory: Span,
    /// Memory of the tail probabilities. Default two weeks, at least 5000 samples.
    pub history: Span,
    /// How long a departure must last to become the new normal. Default two hours, at least 300 samples.
    pub acceptance: Span,
    /// Smallest scale, as a share of the level's magnitude: below it deviations are hardly told apart. It shrinks with the
    /// fourth root of the history, in the samples of `memory`. Default 0.1.
    pub floor: f64,
    /// Surprise from which a sample is held to be abnormal and not learnt. Default 4.
    pub doubt: f64,
    /// What rows of several metrics are judged by. Default neighbours and law.
    pub rows: RowMethod,
}

/// What a row of several metrics is judged by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RowMethod {
    /// Its distance to the rows most like it, and what a vector autoregression did not foresee.
    #[default]
    NeighboursAndLaw,
    /// How few random cuts set it apart: an isolation forest. For comparison; it is the weaker one on servers.
    Forest,
}

impl Default for Params {
    fn default() -> Self {
        Self {
            warmup: 40,
            memory: Span::new(3600, 200),
            history: Span::new(14 * 86_400, 5000),
            acceptance: Span::new(7200, 300),
            floor: 0.1,
            doubt: 4.0,
            rows: RowMethod::default(),
        }
    }
}

/// A span as time and as a number of samples: the longer counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Span {
    /// Least time, in seconds.
    pub seconds: u32,
    /// Least number of samples, at the series' own interval.
    pub samples: u32,
}

impl Span {
    /// A span of at least `secs` seconds and at least `samples` samples.
    #[must_use]
    pub const fn new(seconds: u32, samples: u32) -> Self {
        Self { seconds, samples }
    }

    /// The span in seconds for a series sampled every `interval` seconds.
    #[must_use]
    pub fn seconds(self, interval: f64) -> f64 {
        f64::from(self.seconds).max(f64::from(self.samples) * interval)
    }
}
