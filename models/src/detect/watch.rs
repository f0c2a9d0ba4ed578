//! From scores to anomalies: when one opens, when it began, when it is over.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Anomaly, Detector, Score, Univariate};
use crate::series::{Labels, Timestamp};

/// When an anomaly opens and closes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Thresholds {
    /// Surprise (`-log10 p`) from which a sample opens an anomaly. Default 5.
    pub opens: f64,
    /// Surprise from which a sample still belongs to it. Default 2.5.
    pub closes: f64,
    /// How long scores must stay below `closes` before the anomaly is over. Default 5 minutes.
    pub quiet: Duration,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self { opens: 5.0, closes: 2.5, quiet: Duration::from_secs(300) }
    }
}

/// What a sample changed.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// An anomaly has opened.
    Opened(Anomaly),
    /// The open anomaly goes on.
    Continued(Anomaly),
    /// It is over.
    Closed(Anomaly),
}

/// One series under watch: its detector, and its open anomaly. Serialise it to restart without a second warm-up.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Watch {
    series: Labels,
    detector: Univariate,
    /// First of the unbroken stretch of samples above the closing threshold, before it is an anomaly.
    suspect_since: Option<Timestamp>,
    open: Option<Open>,
}

/// An [`Anomaly`] while it lasts; JSON has no NaN, so an unknown expectation is `None`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Open {
    onset: Timestamp,
    last_seen: Timestamp,
    surprise: f64,
    kind: Option<super::Kind>,
    observed: Option<f64>,
    expected: Option<f64>,
}

impl Watch {
    /// Watches `series` with `detector`, which may have seen its history already.
    #[must_use]
    pub fn new(series: Labels, detector: Univariate) -> Self {
        Self { series, detector, suspect_since: None, open: None }
    }

    /// Scores a sample and says what it changed. NaN means a gap.
    pub fn feed(&mut self, at: Timestamp, value: f64, thresholds: &Thresholds) -> (Score, Option<Change>) {
        let score = self.detector.observe(at, value);
        let belongs = score.surprise >= thresholds.closes;
        self.suspect_since = if belongs { self.suspect_since.or(Some(at)) } else { None };
        let change = match &mut self.open {
            Some(open) if belongs => {
                open.take(at, value, &score);
                self.anomaly().map(Change::Continued)
            }
            Some(open) if at.since(open.last_seen) >= thresholds.quiet => self.close(),
            None if score.surprise >= thresholds.opens => {
                self.begin(at, value, &score);
                self.anomaly().map(Change::Opened)
            }
            _ => None,
        };
        (score, change)
    }

    /// The anomaly that is open now.
    #[must_use]
    pub fn anomaly(&self) -> Option<Anomaly> {
        self.open.as_ref().map(|open| open.anomaly(&self.series))
    }

    /// The series under watch.
    #[must_use]
    pub fn series(&self) -> &Labels {
        &self.series
    }

    fn begin(&mut self, at: Timestamp, value: f64, score: &Score) {
        let onset = self.suspect_since.unwrap_or(at);
        let mut open = Open { onset, last_seen: at, surprise: -1.0, kind: None, observed: None, expected: None };
        open.take(at, value, score);
        self.open = Some(open);
    }

    fn close(&mut self) -> Option<Change> {
        let closed = self.anomaly();
        self.open = None;
        closed.map(Change::Closed)
    }
}

impl Open {
    fn take(&mut self, at: Timestamp, value: f64, score: &Score) {
        self.last_seen = self.last_seen.max(at);
        if score.surprise > self.surprise {
            let known = |x: f64| x.is_finite().then_some(x);
            (self.surprise, self.kind) = (score.surprise, score.kind);
            (self.observed, self.expected) = (known(value), known(score.expected));
        }
    }

    fn anomaly(&self, series: &Labels) -> Anomaly {
        Anomaly {
            series: series.clone(),
            onset: self.onset,
            last_seen: self.last_seen,
            surprise: self.surprise,
            kind: self.kind,
            observed: self.observed.unwrap_or(f64::NAN),
            expected: self.expected.unwrap_or(f64::NAN),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::Kind;
    use crate::detect::synthetic::Noise;

    /// A watch that has seen 600 quiet minutes, and the minute that follows.
    fn calm() -> (Watch, i64, Noise) {
        let mut watch = Watch::new(Labels::metric("load"), Univariate::default());
        let mut noise = Noise::new(7);
        for minute in 0..600 {
            let (_, change) =
                watch.feed(Timestamp::from_secs(minute * 60), 100.0 + noise.gaussian(), &Thresholds::default());
            assert_eq!(change, None);
        }
        (watch, 600, noise)
    }

    #[test]
    fn an_anomaly_opens_at_its_onset_goes_on_and_closes_after_quiet() {
        let (mut watch, start, mut noise) = calm();
        let mut changes = Vec::new();
        for minute in start..start + 60 {
            let shift = if minute < start + 20 { 30.0 } else { 0.0 };
            let at = Timestamp::from_secs(minute * 60);
            changes.extend(watch.feed(at, 100.0 + shift + noise.gaussian(), &Thresholds::default()).1);
        }
        let Change::Opened(first) = &changes[0] else { panic!("{changes:?}") };
        assert_eq!(first.onset, Timestamp::from_secs(start * 60));
        let Some(Change::Closed(last)) = changes.last() else { panic!("{changes:?}") };
        assert!(last.last_seen >= Timestamp::from_secs((start + 19) * 60), "{last:?}");
        assert!(last.observed > 120.0 && (last.expected - 100.0).abs() < 5.0, "{last:?}");
        assert!(changes.iter().filter(|change| matches!(change, Change::Opened(_))).count() == 1);
    }

    #[test]
    fn missing_samples_open_an_anomaly_and_its_state_survives_a_restart() {
        let (mut watch, start, _) = calm();
        for minute in start..start + 30 {
            watch.feed(Timestamp::from_secs(minute * 60), f64::NAN, &Thresholds::default());
        }
        let open = watch.anomaly().expect("thirty missing minutes are an anomaly");
        assert_eq!(open.kind, Some(Kind::Missing));
        let restored: Watch = serde_json::from_str(&serde_json::to_string(&watch).unwrap()).unwrap();
        assert_eq!(restored.anomaly().unwrap().onset, open.onset);
    }
}
