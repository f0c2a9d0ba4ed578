//! How fast a series is sampled, learnt from its timestamps.

use serde::{Deserialize, Serialize};

use crate::series::Timestamp;

/// A sample after a longer pause than this many intervals forgets no more than such a pause.
const LONGEST_PAUSE: f64 = 16.0;

/// Running median of the distance between samples, by stochastic steps of shrinking size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Pace {
    last: Option<Timestamp>,
    interval: f64,
    seen: u32,
}

impl Pace {
    /// Takes a sample's time and returns the seconds by which memories age: the time since the last sample, one
    /// interval when time stands still or runs backwards, and a bounded time after a pause.
    pub(super) fn tick(&mut self, at: Timestamp) -> f64 {
        let Some(last) = self.last.replace(at) else { return 0.0 };
        let dt = at.since(last).as_secs_f64();
        if dt <= 0.0 {
            return self.interval();
        }
        self.learn(dt);
        dt.min(LONGEST_PAUSE * self.interval)
    }

    /// Typical seconds between samples; one second while unknown.
    pub(super) fn interval(&self) -> f64 {
        if self.interval > 0.0 { self.interval } else { 1.0 }
    }

    fn learn(&mut self, dt: f64) {
        self.seen = self.seen.saturating_add(1);
        if self.interval <= 0.0 {
            self.interval = dt;
            return;
        }
        let ratio = dt / self.interval;
        if (0.999..=1.001).contains(&ratio) {
            return;
        }
        let step = (0.7 / f64::from(self.seen)).max(0.002);
        let wanted = if ratio > 1.0 { 1.0 + step } else { 1.0 / (1.0 + step) };
        // a step never passes the observed distance, so regular series settle on it exactly
        self.interval *= if ratio > 1.0 { wanted.min(ratio) } else { wanted.max(ratio) };
    }
}
