//! From scores to anomalies: when one opens, when it began, when it is over.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Anomaly, Detector, Maturity, Score, Univariate};
use crate::series::{Labels, Timestamp};

/// When an anomaly opens and closes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Thresholds {
    /// Surprise (`-log10 p`) from which a sample opens an anomaly. Default 4.
    pub opens: f64,
    /// Surprise from which a sample still belongs to it, as does any whose kind of departure is named. Default 1.7: what
    /// goes on surprises less than what is new.
    pub closes: f64,
    /// How long scores must stay below `closes` before the anomaly is over. Default 5 minutes.
    pub quiet: Duration,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self { opens: 4.0, closes: 1.7, quiet: Duration::from_secs(300) }
    }
}

impl Thresholds {
    /// Whether a sample still belongs to an open anomaly: what is known by now surprises little, yet its kind is named as
    /// long as it lasts.
    #[must_use]
    pub fn belongs(&self, score: &Score) -> bool {
        score.surprise >= self.closes || score.kind.is_some()
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
    open: Option<Anomaly>,
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
        let belongs = thresholds.belongs(&score);
        self.suspect_since = if belongs { self.suspect_since.or(Some(at)) } else { None };
        let change = match &mut self.open {
            Some(open) if belongs => {
                extend(open, at, value, &score);
                self.open.clone().map(Change::Continued)
            }
            Some(open) if at.since(open.last_seen) >= thresholds.quiet => self.open.take().map(Change::Closed),
            None if score.surprise >= thresholds.opens => {
                self.open = Some(self.begin(at, value, &score));
                self.open.clone().map(Change::Opened)
            }
            _ => None,
        };
        (score, change)
    }

    /// The anomaly that is open now.
    #[must_use]
    pub fn anomaly(&self) -> Option<&Anomaly> {
        self.open.as_ref()
    }

    /// How much of the series is known.
    #[must_use]
    pub fn maturity(&self) -> Maturity {
        self.detector.maturity()
    }

    /// The series under watch.
    #[must_use]
    pub fn series(&self) -> &Labels {
        &self.series
    }

    fn begin(&self, at: Timestamp, value: f64, score: &Score) -> Anomaly {
        Anomaly {
            series: self.series.clone(),
            onset: self.suspect_since.unwrap_or(at),
            last_seen: at,
            surprise: score.surprise,
            kind: score.kind,
            observed: value,
            expected: score.expected,
        }
    }
}

fn extend(open: &mut Anomaly, at: Timestamp, value: f64, score: &Score) {
    open.last_seen = open.last_seen.max(at);
    if score.surprise > open.surprise {
        (open.surprise, open.kind) = (score.surprise, score.kind);
        (open.observed, open.expected) = (value, score.expected);
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
    fn a_shift_stays_flagged_until_it_is_accepted_as_the_new_normal() {
        let (mut watch, start, mut noise) = calm();
        let mut open = Vec::new();
        for minute in start..start + 5000 {
            let shift = if minute < start + 4400 { 0.0 } else { 50.0 };
            let at = Timestamp::from_secs(minute * 60);
            watch.feed(at, 100.0 + shift + noise.gaussian(), &Thresholds::default());
            open.push(watch.anomaly().is_some());
        }
        // the new normal is accepted after 300 samples, and its quiet is awaited
        assert!(open[4402..4700].iter().all(|open| *open), "it is told as long as it is not accepted");
        assert!(!open[4720..].iter().any(|open| *open), "what is accepted is normal");
    }

    #[test]
    fn missing_samples_open_an_anomaly_and_its_state_survives_a_restart() {
        let (mut watch, start, _) = calm();
        for minute in start..start + 30 {
            watch.feed(Timestamp::from_secs(minute * 60), f64::NAN, &Thresholds::default());
        }
        let open = watch.anomaly().expect("thirty missing minutes are an anomaly").clone();
        assert_eq!(open.kind, Some(Kind::Missing));
        let restored: Watch = serde_json::from_str(&serde_json::to_string(&watch).unwrap()).unwrap();
        assert_eq!(restored.anomaly().unwrap().onset, open.onset);
    }
}
