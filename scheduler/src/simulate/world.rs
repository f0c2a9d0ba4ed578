//! Demand between its samples, replicas with their start-up time, and the tally of what was served.

use std::collections::VecDeque;
use std::time::Duration;

use bellwether_models::series::{Timestamp, Window};

/// Gaps of up to so many points are bridged; the demand in longer ones is unknown.
const BRIDGED: usize = 2;

/// The true demand at any instant: linear between the points of a trace.
pub struct Demand {
    window: Window,
}

impl Demand {
    /// The demand of a trace.
    #[must_use]
    pub fn of(window: &Window) -> Self {
        let mut window = window.clone();
        bridge(&mut window.values);
        Self { window }
    }

    /// From the first point to the last.
    #[must_use]
    pub fn span(&self) -> Duration {
        self.window.step.times(self.window.len().saturating_sub(1))
    }

    /// The demand at `at`; `None` outside the trace and in its gaps.
    #[must_use]
    pub fn at(&self, at: Timestamp) -> Option<f64> {
        let offset = at.as_millis().checked_sub(self.window.start.as_millis())?;
        let step = self.window.step.as_millis();
        let index = usize::try_from(offset.div_euclid(step)).ok()?;
        let share = offset.rem_euclid(step) as f64 / step as f64;
        let here = *self.window.values.get(index)?;
        let next = if share > 0.0 { *self.window.values.get(index + 1)? } else { here };
        let value = here + share * (next - here);
        value.is_finite().then_some(value.max(0.0))
    }

    /// Points of the trace in `span`, at least one.
    pub(crate) fn steps_in(&self, span: Duration) -> usize {
        usize::try_from(span.as_millis() / self.window.step.times(1).as_millis()).unwrap_or(usize::MAX).max(1)
    }

    /// The last point of the trace up to `at`; the first one before it begins.
    pub(crate) fn index_of(&self, at: Timestamp) -> usize {
        let offset = (at.as_millis() - self.window.start.as_millis()).div_euclid(self.window.step.as_millis());
        usize::try_from(offset).unwrap_or(0)
    }

    /// The value of a point, if there is one.
    pub(crate) fn value(&self, index: usize) -> Option<f64> {
        self.window.values.get(index).copied().filter(|value| value.is_finite())
    }

    /// The point `index`, once it is known: `Some(None)` for a gap.
    pub(crate) fn point(&self, index: usize, known: Timestamp) -> Option<Option<f64>> {
        let within = index < self.window.len() && self.window.time_of(index) <= known;
        within.then(|| self.value(index))
    }

    /// The highest demand from `from` to `to`, both included.
    #[must_use]
    pub fn peak(&self, from: Timestamp, to: Timestamp) -> Option<f64> {
        let step = self.window.step.as_millis();
        let index = |at: Timestamp| (at.as_millis() - self.window.start.as_millis()).div_euclid(step);
        let inner = (index(from) + 1..=index(to)).filter_map(|i| {
            let value = *self.window.values.get(usize::try_from(i).ok()?)?;
            value.is_finite().then_some(value)
        });
        [self.at(from), self.at(to)].into_iter().flatten().chain(inner).reduce(f64::max)
    }
}

fn bridge(values: &mut [f64]) {
    let known: Vec<usize> = (0..values.len()).filter(|i| values[*i].is_finite()).collect();
    for pair in known.windows(2) {
        let (a, b) = (pair[0], pair[1]);
        if b - a > 1 && b - a <= BRIDGED + 1 {
            let (from, to) = (values[a], values[b]);
            (a + 1..b).for_each(|i| values[i] = from + (to - from) * (i - a) as f64 / (b - a) as f64);
        }
    }
}

/// Replicas: those that serve, and those that start.
#[derive(Debug, Default)]
pub struct Pods {
    serving: u32,
    starting: VecDeque<(Timestamp, u32)>,
    begun: bool,
}

impl Pods {
    /// Asks for `wanted` in all: new ones serve after `startup`, and those that start go first when fewer are wanted.
    /// The first ones serve at once. Returns the change.
    pub fn set(&mut self, wanted: u32, now: Timestamp, startup: Duration) -> i64 {
        let all = self.all();
        if !std::mem::replace(&mut self.begun, true) {
            self.serving = wanted;
            return 0;
        }
        if wanted > all {
            self.starting.push_back((now + startup, wanted - all));
        }
        let mut surplus = all.saturating_sub(wanted);
        while surplus > 0 {
            let Some((_, newest)) = self.starting.back_mut() else { break };
            let gone = surplus.min(*newest);
            (*newest, surplus) = (*newest - gone, surplus - gone);
            if *newest == 0 {
                self.starting.pop_back();
            }
        }
        self.serving -= surplus;
        i64::from(wanted) - i64::from(all)
    }

    /// Replicas that serve at `now`.
    pub fn ready(&mut self, now: Timestamp) -> u32 {
        while let Some((_, count)) = self.starting.front().filter(|(at, _)| *at <= now) {
            self.serving += count;
            self.starting.pop_front();
        }
        self.serving
    }

    /// All replicas, starting ones included.
    #[must_use]
    pub fn all(&self) -> u32 {
        self.serving + self.starting.iter().map(|(_, count)| count).sum::<u32>()
    }
}

/// What came of a policy.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Tally {
    /// Seconds in which demand was above the capacity of the ready replicas.
    pub violation_seconds: f64,
    /// Demand that was not served, times seconds.
    pub unserved: f64,
    /// All demand, times seconds.
    pub demanded: f64,
    /// Replicas, starting ones included, times seconds.
    pub replica_seconds: f64,
    /// Changes of the replica count.
    pub scale_events: u64,
    /// Changes in the other direction than the one before.
    pub flips: u64,
    pub(super) last: i64,
}

impl Tally {
    pub(super) fn changed(&mut self, change: i64) {
        if change == 0 {
            return;
        }
        self.scale_events += 1;
        self.flips += u64::from(self.last * change.signum() < 0);
        self.last = change.signum();
    }

    pub(super) fn served(&mut self, demand: f64, capacity: f64, replicas: u32, time: Duration) {
        let seconds = time.as_secs_f64();
        if demand > capacity {
            self.violation_seconds += seconds;
            self.unserved += (demand - capacity) * seconds;
        }
        self.demanded += demand * seconds;
        self.replica_seconds += f64::from(replicas) * seconds;
    }

    /// Minutes in which demand was above capacity.
    #[must_use]
    pub fn violation_minutes(&self) -> f64 {
        self.violation_seconds / 60.0
    }

    /// Replicas times hours.
    #[must_use]
    pub fn replica_hours(&self) -> f64 {
        self.replica_seconds / 3600.0
    }

    /// Share of the demand that was not served.
    #[must_use]
    pub fn unserved_fraction(&self) -> f64 {
        if self.demanded > 0.0 { self.unserved / self.demanded } else { 0.0 }
    }
}
