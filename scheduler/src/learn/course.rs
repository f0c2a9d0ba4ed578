//! What a course that nobody ran would have had serving.

use std::collections::VecDeque;
use std::time::Duration;

use bellwether_models::series::Timestamp;
use serde::{Deserialize, Serialize};

/// Changes that are remembered.
const REMEMBERED: usize = 1000;

/// The replicas that one would have asked for, each from an instant on, as far back as replicas take to start.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Course(VecDeque<(Timestamp, u32)>);

impl Course {
    /// The fewest asked for at any time since a start-up time ago: new ones serve a start-up time later, those given up are
    /// gone at once. `None` until the course is that old.
    pub(crate) fn would_serve(&self, now: Timestamp, startup: Duration) -> Option<u32> {
        let begun = self.0.front().is_some_and(|(at, _)| *at + startup <= now);
        let settled = self.0.iter().rev().find(|(at, _)| *at + startup <= now);
        let since = self.0.iter().filter(|(at, _)| *at + startup > now);
        since.chain(settled).map(|(_, replicas)| *replicas).min().filter(|_| begun)
    }

    /// Goes on with `replicas`; unknown ones stay as they are.
    pub(crate) fn follow(&mut self, now: Timestamp, replicas: Option<u32>, startup: Duration) {
        let Some(replicas) = replicas else { return };
        if self.0.back().is_none_or(|(_, last)| *last != replicas) {
            self.0.push_back((now, replicas));
        }
        while self.0.len() > REMEMBERED || self.0.get(1).is_some_and(|(at, _)| *at + startup <= now) {
            self.0.pop_front();
        }
    }

    /// Replicas at its end.
    pub(crate) fn last(&self) -> Option<u32> {
        self.0.back().map(|(_, replicas)| *replicas)
    }
}
