//! Replicas that take a while to start: the only part of the demo that is simulated.

use std::time::Duration;

use bellwether_models::series::Timestamp;

/// A fleet that follows orders: what it gains serves after the start-up time, what it loses is gone at once.
#[derive(Clone, Debug)]
pub struct Fleet {
    startup: Duration,
    ready: u32,
    starting: Vec<(Timestamp, u32)>,
}

impl Fleet {
    /// A fleet of `ready` replicas.
    #[must_use]
    pub fn new(ready: u32, startup: Duration) -> Self {
        Self { startup, ready, starting: Vec::new() }
    }

    /// Replicas asked for so far: those that serve and those that start.
    #[must_use]
    pub fn ordered(&self) -> u32 {
        self.ready + self.starting.iter().map(|(_, count)| count).sum::<u32>()
    }

    /// Replicas that serve at `now`.
    pub fn ready(&mut self, now: Timestamp) -> u32 {
        let started: u32 = self.starting.iter().filter(|(at, _)| *at <= now).map(|(_, count)| count).sum();
        self.starting.retain(|(at, _)| *at > now);
        self.ready += started;
        self.ready
    }

    /// Orders `wanted` replicas at `now`. Those still starting are given up first.
    pub fn order(&mut self, wanted: u32, now: Timestamp) {
        let ordered = self.ordered();
        if wanted > ordered {
            self.starting.push((now + self.startup, wanted - ordered));
            return;
        }
        let mut surplus = ordered - wanted;
        while let Some((at, count)) = self.starting.pop() {
            let given_up = count.min(surplus);
            surplus -= given_up;
            if given_up < count {
                self.starting.push((at, count - given_up));
                break;
            }
        }
        self.ready -= surplus;
    }
}

/// What running a fleet cost, and what it cost users.
#[derive(Clone, Copy, Debug, Default)]
pub struct Account {
    /// Minutes in which demand exceeded what the ready replicas serve.
    pub short_minutes: f64,
    /// Replicas paid for, times hours.
    pub replica_hours: f64,
}

impl Account {
    /// Adds a stretch of `duration`.
    pub fn add(&mut self, fleet: &mut Fleet, now: Timestamp, demand: f64, per_replica: f64, duration: Duration) {
        if demand > f64::from(fleet.ready(now)) * per_replica {
            self.short_minutes += duration.as_secs_f64() / 60.0;
        }
        self.replica_hours += f64::from(fleet.ordered()) * duration.as_secs_f64() / 3600.0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_replicas_serve_after_the_start_up_time_and_surplus_goes_at_once() {
        let at = |minute: i64| Timestamp::from_secs(minute * 60);
        let mut fleet = Fleet::new(2, Duration::from_secs(300));
        fleet.order(5, at(0));
        assert_eq!((fleet.ready(at(4)), fleet.ordered()), (2, 5));
        fleet.order(4, at(4));
        assert_eq!((fleet.ready(at(5)), fleet.ordered()), (4, 4));
        fleet.order(1, at(6));
        assert_eq!((fleet.ready(at(6)), fleet.ordered()), (1, 1));
    }
}
