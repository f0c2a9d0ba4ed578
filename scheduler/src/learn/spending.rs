//! What a workload has cost today.

use std::time::Duration;

use bellwether_models::series::Timestamp;
use serde::{Deserialize, Serialize};

use crate::config::BudgetConfig;

const DAY: Duration = Duration::from_secs(86_400);
/// A longer silence is not reckoned: nobody saw what ran.
const LONGEST_SILENCE: Duration = Duration::from_secs(900);

/// Replica-hours since midnight, UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Spending {
    day: i64,
    replica_seconds: f64,
    last: Option<(Timestamp, u32)>,
}

impl Spending {
    /// Takes in how many run at `now`.
    pub fn observe(&mut self, now: Timestamp, replicas: Option<u32>) {
        let midnight = midnight(now);
        if day(now) != self.day {
            (self.day, self.replica_seconds) = (day(now), 0.0);
        }
        if let Some((before, ran)) = self.last {
            let time = now.since(before.max(midnight));
            if time <= LONGEST_SILENCE {
                self.replica_seconds += f64::from(ran) * time.as_secs_f64();
            }
        }
        self.last = replicas.map(|replicas| (now, replicas));
    }

    /// Replica-hours spent today.
    #[must_use]
    pub fn today(&self, now: Timestamp) -> f64 {
        if day(now) == self.day { self.replica_seconds / 3600.0 } else { 0.0 }
    }

    /// The most replicas that `budget` allows from `now` on; `None` without a limit.
    #[must_use]
    pub fn allows(&self, budget: &BudgetConfig, now: Timestamp) -> Option<u32> {
        let by_hour = budget.per_hour.map(|hours| hours.value());
        let left = (DAY - now.since(midnight(now)).min(DAY)).as_secs_f64() / 3600.0;
        let by_day = budget.per_day.map(|hours| (hours.value() - self.today(now)).max(0.0) / left.max(0.25));
        by_hour.into_iter().chain(by_day).reduce(f64::min).map(|replicas| replicas as u32) // down, and saturates
    }
}

fn day(at: Timestamp) -> i64 {
    at.as_millis().div_euclid(DAY.as_millis() as i64)
}

fn midnight(at: Timestamp) -> Timestamp {
    Timestamp::from_millis(day(at) * DAY.as_millis() as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(hours: f64) -> Timestamp {
        Timestamp::from_secs(86_400 * 20_000 + (hours * 3600.0) as i64)
    }

    fn budget(per_hour: Option<f64>, per_day: Option<f64>) -> BudgetConfig {
        let hours = |h: Option<f64>| h.map(|h| h.try_into().expect("positive"));
        BudgetConfig { per_hour: hours(per_hour), per_day: hours(per_day) }
    }

    #[test]
    fn what_the_night_saves_can_be_spent_in_the_evening() {
        let mut spending = Spending::default();
        assert_eq!(spending.allows(&budget(None, Some(240.0)), at(0.0)), Some(10));
        for quarter in 0..=48 {
            spending.observe(at(f64::from(quarter) / 4.0), Some(4));
        }
        assert!((spending.today(at(12.0)) - 48.0).abs() < 1e-9);
        assert_eq!(spending.allows(&budget(None, Some(240.0)), at(12.0)), Some(16));
        assert_eq!(spending.allows(&budget(Some(12.5), Some(240.0)), at(12.0)), Some(12));
        assert_eq!(spending.allows(&budget(None, None), at(12.0)), None);
        assert_eq!(spending.today(at(24.1)), 0.0, "another day");
    }

    #[test]
    fn a_silence_costs_nothing_and_an_overdrawn_day_allows_nothing() {
        let mut spending = Spending::default();
        spending.observe(at(0.0), Some(100));
        spending.observe(at(5.0), Some(100));
        assert_eq!(spending.today(at(5.0)), 0.0);
        spending.observe(at(5.2), Some(100));
        assert_eq!(spending.allows(&budget(None, Some(10.0)), at(5.2)), Some(0));
    }

    #[test]
    fn midnight_begins_anew_and_a_clock_that_jumps_back_does_no_harm() {
        let mut spending = Spending::default();
        spending.observe(at(23.9), Some(10));
        spending.observe(at(24.1), Some(10));
        assert!((spending.today(at(24.1)) - 1.0).abs() < 1e-6, "six minutes of ten replicas");
        spending.observe(at(23.0), Some(10));
        assert_eq!(spending.today(at(23.0)), 0.0);
    }
}
