//! The forecast against plain autoscalers of equal cost, on the workload at hand.
//!
//! Any autoscaler has fewer violations at a lower target, so a forecast is worth following only if it has fewer than a plain
//! autoscaler that costs as much. Both are run in the shadow, side by side: the course that follows the forecast, and plain
//! ones at several targets. Of each is counted for how long demand was above what would have served, and what it would have
//! cost. Where the forecast's course lies above the line through the plain ones, the reactive rule decides alone, at the
//! target that costs as much.

use std::time::Duration;

use bellwether_models::outlook::Outlook;
use bellwether_models::series::Timestamp;
use serde::{Deserialize, Serialize};

use super::demand::{Foreseen, Now};
use super::{Step, Track, pace};
use crate::config::{Fraction, ScaleConfig};
use crate::learn::Course;
use crate::plan::Reason;

/// Target utilisations of the plain autoscalers, the coldest first.
const TARGETS: [f64; 8] = [0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95];
/// Time in which what was counted loses half its weight: as long as forecasters look back.
const HALF_LIFE: Duration = Duration::from_secs(14 * 86_400);
/// A longer time between two looks is not reckoned.
const LONGEST_SILENCE: Duration = Duration::from_secs(900);
/// Who was outdone must have had fewer minutes than this share of the others' before it is followed again.
const WON_BACK: f64 = 0.9;

/// What was counted; see the module.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Contest {
    at: Option<Timestamp>,
    forecast: Count,
    plain: Vec<Count>,
    outdone: bool,
}

/// What would have come of one course, fading.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Count {
    short_seconds: f64,
    replica_seconds: f64,
}

/// The courses themselves: begun anew after a restart.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Shadows {
    forecast: Shadow,
    /// The floor below that course; nothing is counted of it.
    floor: Track,
    plain: [Shadow; TARGETS.len()],
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Shadow {
    track: Track,
    course: Course,
}

/// What was counted over two weeks or so.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tally {
    /// Minutes of too few replicas, following the forecast.
    pub forecast_minutes: f64,
    /// Those of a plain autoscaler that costs as much.
    pub plain_minutes: f64,
    /// Its target utilisation.
    pub target: Fraction,
}

impl Contest {
    /// Takes in the facts of `now` and goes on with all `shadows`.
    pub(crate) fn observe(&mut self, shadows: &mut Shadows, outlook: &Outlook, scale: &ScaleConfig, now: Timestamp) {
        let Ok(present) = Now::read(Some(outlook), scale, now) else { return };
        let time = self.at.replace(now).map_or(Duration::ZERO, |before| now.since(before));
        let span = if time <= LONGEST_SILENCE { time } else { Duration::ZERO };
        let fade = 0.5f64.powf(time.as_secs_f64() / HALF_LIFE.as_secs_f64());
        self.plain.resize_with(TARGETS.len(), Count::default);
        let counts = self.plain.iter_mut().chain([&mut self.forecast]);
        for (count, shadow) in counts.zip(shadows.plain.iter().chain([&shadows.forecast])) {
            count.add(shadow, &present, span, fade, scale.startup, now);
        }
        shadows.go_on(outlook, &present, span, scale, now);
    }

    /// Judges anew. The forecast is outdone when it had more minutes than a plain autoscaler at as much cost, by more than
    /// `outdone_by`.
    pub(crate) fn judge(&mut self, outdone_by: Duration) {
        let Some((plain, _)) = self.equal_cost() else { return };
        let (share, slack) = if self.outdone { (WON_BACK, outdone_by / 4) } else { (1.0, outdone_by) };
        self.outdone = self.forecast.short_seconds > plain * share + slack.as_secs_f64();
    }

    /// What was counted, once something was.
    #[must_use]
    pub fn tally(&self) -> Option<Tally> {
        let (plain, target) = self.equal_cost()?;
        let forecast_minutes = self.forecast.short_seconds / 60.0;
        Some(Tally { forecast_minutes, plain_minutes: plain / 60.0, target: Fraction::try_from(target).ok()? })
    }

    /// The same, where a plain autoscaler was last judged to do better.
    #[must_use]
    pub fn outdone(&self) -> Option<Tally> {
        self.tally().filter(|_| self.outdone)
    }

    /// Seconds of too few replicas, and target, of the plain autoscaler that costs as much as following the forecast: between two
    /// targets the seconds are taken as straight over the cost, and the cost as the inverse of the target; beyond the coldest
    /// and the hottest it is that one.
    fn equal_cost(&self) -> Option<(f64, f64)> {
        let cost = self.forecast.replica_seconds;
        if cost <= 0.0 {
            return None;
        }
        let rivals = || self.plain.iter().zip(TARGETS);
        let colder = rivals().rfind(|(rival, _)| rival.replica_seconds >= cost);
        let hotter = rivals().find(|(rival, _)| rival.replica_seconds < cost);
        let ((a, cold), (b, hot)) = match (colder, hotter) {
            (Some(colder), Some(hotter)) => (colder, hotter),
            (Some(only), None) | (None, Some(only)) => (only, only),
            (None, None) => return None,
        };
        let between = a.replica_seconds - b.replica_seconds;
        let share = if between > 0.0 { (cost - b.replica_seconds) / between } else { 0.0 };
        let mix = |at_b: f64, at_a: f64| at_b + share * (at_a - at_b);
        Some((mix(b.short_seconds, a.short_seconds), 1.0 / mix(1.0 / hot, 1.0 / cold)))
    }
}

impl Count {
    /// Adds the time since the last look, as `shadow` stood in it.
    fn add(&mut self, shadow: &Shadow, present: &Now, span: Duration, fade: f64, startup: Duration, now: Timestamp) {
        (self.short_seconds, self.replica_seconds) = (self.short_seconds * fade, self.replica_seconds * fade);
        let course = &shadow.course;
        let (Some(asked), Some(serving)) = (course.last(), course.would_serve(now, startup)) else { return };
        self.replica_seconds += f64::from(asked) * span.as_secs_f64();
        if present.fills() > f64::from(serving) {
            self.short_seconds += span.as_secs_f64();
        }
    }
}

impl Shadows {
    fn go_on(&mut self, outlook: &Outlook, present: &Now, cadence: Duration, scale: &ScaleConfig, now: Timestamp) {
        for (shadow, target) in self.plain.iter_mut().zip(TARGETS) {
            let Ok(target) = Fraction::try_from(target) else { continue };
            let step = Step::of(&shadow.track, present, target, scale, now);
            shadow.go_on(step, scale, now);
        }
        self.foresee(outlook, present, cadence, scale, now);
    }

    /// As the forecast would be followed if nobody doubted it.
    fn foresee(&mut self, outlook: &Outlook, present: &Now, cadence: Duration, scale: &ScaleConfig, now: Timestamp) {
        let Foreseen { band, missing, .. } = Foreseen::read(outlook, scale, cadence, now);
        let whole = band.is_some() && missing.is_none();
        let hot = scale.floor_utilisation.filter(|_| whole).unwrap_or(scale.target_utilisation);
        let floor = Step::of(&self.floor, present, hot, scale, now);
        let track = &self.forecast.track;
        let coming = band.map_or(0, |band| band.nearest(track.replicas()).replicas);
        let gives_nothing_up = missing.is_some_and(|why| !matches!(why, Reason::ForecastAbstained { .. }));
        let held = track.replicas().filter(|_| gives_nothing_up).unwrap_or(0);
        let advised = present.reactive(track.replicas(), hot, scale).replicas.max(coming).max(held);
        let advised = advised.clamp(scale.min, scale.max);
        let wanted = pace::stabilised(track, advised, scale, now).max(floor.replicas);
        let replicas = pace::limited(track, wanted, scale, now);
        floor.record(&mut self.floor, scale, now);
        self.forecast.go_on(Step { advised, replicas }, scale, now);
    }
}

impl Shadow {
    fn go_on(&mut self, step: Step, scale: &ScaleConfig, now: Timestamp) {
        step.record(&mut self.track, scale, now);
        self.course.follow(now, Some(step.replicas), scale.startup);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Contest after the forecast and the plain ones, by target, had so many minutes short at so many replica-hours.
    fn contest(forecast: (f64, f64), plain: impl Fn(f64) -> (f64, f64)) -> Contest {
        let rival =
            |(minutes, hours): (f64, f64)| Count { short_seconds: 60.0 * minutes, replica_seconds: 3600.0 * hours };
        let plain = TARGETS.iter().map(|target| rival(plain(*target))).collect();
        Contest { forecast: rival(forecast), plain, ..Contest::default() }
    }

    fn judged(mut contest: Contest) -> Contest {
        contest.judge(Duration::from_secs(300));
        contest
    }

    /// Costs as the inverse of the target; 100 minutes at 0.95, none at 0.5 and below.
    fn plain(target: f64) -> (f64, f64) {
        ((100.0 * (target - 0.5) / 0.45).max(0.0), 100.0 / target)
    }

    #[test]
    fn the_plain_autoscaler_of_equal_cost_lies_between_two_targets() {
        let cost = 100.0 / 0.75;
        let tally = contest((0.0, cost), plain).tally().expect("counted");
        assert!((tally.target.value() - 0.75).abs() < 1e-9, "{tally:?}");
        let (hot, cold) = (plain(0.8), plain(0.7));
        let straight = hot.0 + (cold.0 - hot.0) * (cost - hot.1) / (cold.1 - hot.1);
        assert!((tally.plain_minutes - straight).abs() < 1e-9, "{tally:?}");
    }

    #[test]
    fn who_costs_more_or_less_than_all_is_held_against_the_nearest() {
        let target = |hours| contest((0.0, hours), plain).tally().expect("counted").target.value();
        assert!((target(1e6) - 0.3).abs() < 1e-9 && (target(1.0) - 0.95).abs() < 1e-9);
    }

    #[test]
    fn a_forecast_is_outdone_beyond_the_slack_and_wins_back_only_by_doing_better() {
        let at = |minutes| contest((minutes, 100.0 / 0.8), plain);
        let equal = at(0.0).tally().expect("counted").plain_minutes;
        assert!(judged(at(equal + 4.0)).outdone().is_none());
        let outdone = judged(at(equal + 6.0));
        assert!(outdone.outdone().is_some());
        let again = |minutes| judged(Contest { outdone: true, ..at(minutes) }).outdone().is_some();
        assert!(again(equal), "as good is not better");
        assert!(!again(0.9 * equal));
    }

    #[test]
    fn nothing_is_said_before_anything_was_counted() {
        assert_eq!(judged(Contest::default()).outdone(), None);
        assert_eq!(Contest::default().tally(), None);
    }
}
