//! How long demand was above capacity, as we acted and as the reactive rule alone would have had it.

use std::time::Duration;

use bellwether_models::series::Timestamp;
use serde::{Deserialize, Serialize};

use super::Course;

/// Time in which what was seen loses half its weight.
const HALF_LIFE: Duration = Duration::from_secs(86_400);
/// A longer time between two looks is not reckoned.
const LONGEST_SILENCE: Duration = Duration::from_secs(900);

/// Times of too few replicas, fading.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Trial {
    at: Option<Timestamp>,
    ours: f64,
    reactive: f64,
    course: Course,
    suspended: bool,
}

impl Trial {
    /// Takes in how many replicas the demand of `now` would fill, how many serve, and how many the reactive rule alone would
    /// have asked for; those would serve after `startup`.
    pub fn observe(
        &mut self,
        now: Timestamp,
        needed: f64,
        serving: Option<u32>,
        reactive: Option<u32>,
        startup: Duration,
    ) {
        let time = self.at.replace(now).map_or(Duration::ZERO, |before| now.since(before));
        let fade = 0.5f64.powf(time.as_secs_f64() / HALF_LIFE.as_secs_f64());
        (self.ours, self.reactive) = (self.ours * fade, self.reactive * fade);
        let others = self.course.would_serve(now, startup);
        if let (Some(serving), Some(others), true) = (serving, others, time <= LONGEST_SILENCE) {
            let short = |replicas: u32| if needed > f64::from(replicas) { time.as_secs_f64() } else { 0.0 };
            self.ours += short(serving);
            self.reactive += short(others);
        }
        self.course.follow(now, reactive, startup);
    }

    /// Whether acting has been worse than the reactive rule by more than `worse_by`. Once it is said, it holds until a
    /// quarter of that is left.
    pub fn judge(&mut self, worse_by: Duration) -> bool {
        let worse = self.ours - self.reactive;
        let limit = worse_by.as_secs_f64() * if self.suspended { 0.25 } else { 1.0 };
        self.suspended = worse > limit;
        self.suspended
    }

    /// Whether it was last judged to be worse.
    #[must_use]
    pub fn is_suspended(&self) -> bool {
        self.suspended
    }

    /// Minutes of too few replicas over the last day or so: ours, and those of the reactive rule.
    #[must_use]
    pub fn minutes(&self) -> (f64, f64) {
        (self.ours / 60.0, self.reactive / 60.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STARTUP: Duration = Duration::from_secs(60);

    fn run(trial: &mut Trial, from: i64, to: i64, needed: f64, serving: u32, reactive: u32) {
        for secs in (from..to).step_by(15) {
            trial.observe(Timestamp::from_secs(secs), needed, Some(serving), Some(reactive), STARTUP);
        }
    }

    #[test]
    fn the_reactive_rule_s_replicas_serve_a_start_up_time_later_and_its_lost_ones_are_gone_at_once() {
        let mut trial = Trial::default();
        run(&mut trial, 0, 300, 4.0, 4, 4);
        run(&mut trial, 300, 600, 8.0, 8, 8);
        let (ours, reactive) = trial.minutes();
        assert!(ours == 0.0 && (reactive - 1.0).abs() < 0.01, "{ours} {reactive}");
        run(&mut trial, 600, 900, 8.0, 8, 4);
        assert!((trial.minutes().1 - 1.0 - 4.75).abs() < 0.05, "{:?}", trial.minutes());
    }

    #[test]
    fn who_does_worse_is_suspended_until_little_of_it_is_left() {
        let mut trial = Trial::default();
        let limit = Duration::from_secs(600);
        run(&mut trial, 0, 600, 4.0, 3, 5);
        assert!(!trial.judge(limit), "{:?}", trial.minutes());
        run(&mut trial, 600, 1500, 4.0, 3, 5);
        assert!(trial.judge(limit));
        run(&mut trial, 1500, 86_400, 4.0, 5, 5);
        assert!(trial.judge(limit), "half is left: {:?}", trial.minutes());
        run(&mut trial, 86_400, 86_400 * 4, 4.0, 5, 5);
        assert!(!trial.judge(limit), "{:?}", trial.minutes());
    }

    #[test]
    fn an_hour_nobody_looked_is_not_reckoned() {
        let mut trial = Trial::default();
        run(&mut trial, 0, 300, 4.0, 4, 4);
        trial.observe(Timestamp::from_secs(4000), 9.0, Some(4), Some(4), STARTUP);
        assert_eq!(trial.minutes(), (0.0, 0.0));
    }
}
