//! What a detector is, and what an anomaly is.

mod autoregression;
mod clusters;
mod departure;
mod forest;
mod habits;
#[cfg(test)]
mod laws;
mod multivariate;
mod neighbours;
mod pace;
mod params;
mod recent;
#[cfg(test)]
mod reference;
mod rows;
mod run;
mod season;
pub mod synthetic;
mod tail;
mod univariate;
mod vigilance;
mod watch;

pub use multivariate::{Multivariate, RowScore};
pub use params::{Params, RowMethod, Span};
pub use rows::Rows;
pub use univariate::Univariate;
pub use vigilance::{Alarms, Ledger, Shadow, Vigilance};
pub use watch::{Change, Thresholds, Watch};

use serde::{Deserialize, Serialize};

use crate::series::{Labels, Timestamp};

/// How unlikely an observation is on its own series' history.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Score {
    /// `-log10` of the tail probability: 3 means "one in a thousand". Never negative, never NaN.
    pub surprise: f64,
    /// What the detector had expected, or the level where a shift or a drift from it is told; NaN while it is still
    /// learning.
    #[serde(with = "crate::series::nan_as_null")]
    pub expected: f64,
    /// Which kind of departure was seen, when one stands out.
    pub kind: Option<Kind>,
}

impl Score {
    /// The score of an observation that tells nothing (warm-up, gap).
    pub const NONE: Self = Self { surprise: 0.0, expected: f64::NAN, kind: None };

    /// The score in `0.0..1.0`, strictly increasing with surprise: `s / (s + 3)`, so one in a thousand is 0.5.
    #[must_use]
    pub fn as_unit(self) -> f64 {
        self.surprise / (self.surprise + 3.0)
    }
}

/// Ways in which a series leaves its normal course.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A short excursion.
    Spike,
    /// A lasting change of level.
    LevelShift,
    /// A slow, steady move away, such as a leak.
    Drift,
    /// A change of spread at the same level.
    Variance,
    /// A series that used to move stands still.
    Stuck,
    /// Samples are missing.
    Missing,
}

/// How much of its series a detector knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Maturity {
    /// Less than an hour: scores say little.
    Learning,
    /// An hour and more: departures from the last hours are seen, seasons not yet.
    Useful,
    /// Two days and two periods of every season found.
    Full,
}

impl Maturity {
    /// Its name, as in JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Learning => "learning",
            Self::Useful => "useful",
            Self::Full => "full",
        }
    }
}

/// What the last sample of a series was measured by.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Why {
    /// The level, without seasons.
    pub level: f64,
    /// Standard deviation about the level lately, as told by the median distance.
    pub spread: f64,
    /// Standard deviation of what the next sample was expected to be.
    pub error: f64,
    /// Periods of the seasons that were taken away.
    pub seasons: Vec<std::time::Duration>,
    /// How much of the series is known.
    pub maturity: Maturity,
    /// How surprising each kind of departure was (`-log10 p`), the strongest first.
    pub kinds: Vec<(Kind, f64)>,
}

/// Scores a stream, one observation at a time, knowing only the past.
pub trait Detector {
    /// Scores `value` at `at` against what was seen before, then learns from it. NaN means a gap.
    fn observe(&mut self, at: Timestamp, value: f64) -> Score;
}

/// A stretch of one series that its detector flags.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Anomaly {
    /// Which series.
    pub series: Labels,
    /// When the first flagged sample was seen.
    pub onset: Timestamp,
    /// When the last flagged sample was seen.
    pub last_seen: Timestamp,
    /// Greatest surprise (`-log10 p`) so far.
    pub surprise: f64,
    /// What kind of departure.
    pub kind: Option<Kind>,
    /// Value at the greatest surprise; NaN when what is wrong is that there is none.
    #[serde(with = "crate::series::nan_as_null")]
    pub observed: f64,
    /// What was expected there; NaN when unknown.
    #[serde(with = "crate::series::nan_as_null")]
    pub expected: f64,
}

impl Anomaly {
    /// How far what was observed lies from what was expected, as a share of that; infinite where nothing was observed or
    /// nothing expected, and 0 where what was to be expected is not known.
    #[must_use]
    pub fn effect(&self) -> f64 {
        match (self.observed - self.expected).abs() / self.expected.abs() {
            _ if self.observed.is_nan() => f64::INFINITY,
            share if share.is_nan() => 0.0,
            share => share,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_effect_is_a_share_of_what_was_expected() {
        let effect = |observed: f64, expected: f64| {
            let (onset, last_seen) = (Timestamp::from_secs(1), Timestamp::from_secs(1));
            let series = Labels::metric("latency");
            Anomaly { series, onset, last_seen, surprise: 4.0, kind: None, observed, expected }.effect()
        };
        assert_eq!([effect(1.5, 1.0), effect(0.0, 2.0), effect(1.0, 0.0)], [0.5, 1.0, f64::INFINITY]);
        assert_eq!([effect(f64::NAN, 1.0), effect(1.0, f64::NAN), effect(0.0, 0.0)], [f64::INFINITY, 0.0, 0.0]);
    }

    #[test]
    fn an_anomaly_without_expectation_survives_json() {
        let anomaly = Anomaly {
            series: Labels::metric("latency"),
            onset: Timestamp::from_secs(1),
            last_seen: Timestamp::from_secs(2),
            surprise: 4.0,
            kind: Some(Kind::Missing),
            observed: f64::NAN,
            expected: f64::NAN,
        };
        let text = serde_json::to_string(&anomaly).unwrap();
        let back: Anomaly = serde_json::from_str(&text).unwrap();
        assert!(text.contains("\"observed\":null") && back.observed.is_nan() && back.series == anomaly.series);
    }
}
