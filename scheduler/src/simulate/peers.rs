//! What others predict with, as policies: a timetable, Holt-Winters, and the strongest frequencies. Each feeds what it
//! expects, or the demand of the moment where that is greater, to the rule of the plain autoscaler; the knob is its target.

use std::time::Duration;

use bellwether_models::series::Timestamp;
use rustfft::FftPlanner;
use rustfft::num_complex::Complex;

use super::Setting;
use super::policy::{Policy, Seen, plain};
use super::world::Demand;
use crate::decide::Reactive;

const DAY: Duration = Duration::from_secs(86_400);
/// Longest past that is looked at.
const HISTORY_DAYS: u32 = 14;

/// Something that expects a demand at an instant, from what was known before.
pub trait Predictor {
    /// The name of the policy.
    fn name(&self) -> &'static str;
    /// The greatest demand from `from` to `to`, of which the past up to `known` may be looked at; `None` while it cannot tell.
    fn expects(&mut self, truth: &Demand, known: Timestamp, from: Timestamp, to: Timestamp) -> Option<f64>;
}

/// A predictor before the rule of the plain autoscaler.
pub struct Predictive<P> {
    target: f64,
    rule: Reactive,
    predictor: P,
}

impl<P: Predictor> Predictive<P> {
    /// At one target.
    #[must_use]
    pub fn new(target: f64, predictor: P, setting: &Setting) -> Self {
        Self { target, rule: Reactive::new(plain(target, setting), None), predictor }
    }
}

impl<P: Predictor> Policy for Predictive<P> {
    fn name(&self) -> &str {
        self.predictor.name()
    }

    fn knob(&self) -> f64 {
        self.target
    }

    fn decide(&mut self, seen: &Seen<'_>) -> Option<u32> {
        let serving = seen.now + seen.setting.startup;
        let known = seen.now - seen.setting.metric_age;
        let expected = self.predictor.expects(seen.truth, known, serving, serving + seen.setting.cadence);
        let demand = expected.into_iter().chain(seen.demand()).reduce(f64::max);
        self.rule.step(demand, seen.now)
    }
}

/// A timetable as people write it: for each hour the greatest demand of that hour on the last seven days of its kind, working
/// days or weekends.
#[derive(Clone, Copy, Debug, Default)]
pub struct Timetable;

impl Predictor for Timetable {
    fn name(&self) -> &'static str {
        "cron"
    }

    fn expects(&mut self, truth: &Demand, known: Timestamp, from: Timestamp, _: Timestamp) -> Option<f64> {
        let hour = Duration::from_secs(3600);
        let begins = Timestamp::from_millis(from.as_millis() - from.as_millis().rem_euclid(3_600_000));
        let alike = (1..=HISTORY_DAYS).map(|days| begins - DAY * days).filter(|at| weekend(*at) == weekend(begins));
        let hours = alike.filter(|at| *at + hour <= known).take(7);
        hours.filter_map(|at| truth.peak(at, at + hour)).reduce(f64::max)
    }
}

/// Saturday and Sunday, UTC. The first of January 1970 was a Thursday.
fn weekend(at: Timestamp) -> bool {
    matches!((at.as_millis().div_euclid(DAY.as_millis() as i64) + 4).rem_euclid(7), 0 | 6)
}

/// Additive Holt-Winters with a season of a day.
///
/// # Source
/// Winters, "Forecasting sales by exponentially weighted moving averages", Management Science 6, 1960.
#[derive(Clone, Debug, Default)]
pub struct HoltWinters {
    next: usize,
    level: f64,
    trend: f64,
    season: Vec<f64>,
}

/// Weights of what is new in level, trend and season.
const ALPHA: f64 = 0.2;
const BETA: f64 = 0.001;
const GAMMA: f64 = 0.3;

impl Predictor for HoltWinters {
    fn name(&self) -> &'static str {
        "holt_winters"
    }

    fn expects(&mut self, truth: &Demand, known: Timestamp, from: Timestamp, to: Timestamp) -> Option<f64> {
        let period = truth.steps_in(DAY);
        if self.season.is_empty() {
            self.season = vec![0.0; period];
        }
        while let Some(value) = truth.point(self.next, known) {
            self.learn(value, period);
        }
        let steps = truth.index_of(from)..=truth.index_of(to) + 1;
        let ahead = |index: usize| {
            let steps = index.checked_sub(self.next)? as f64 + 1.0;
            Some((self.level + steps * self.trend + self.season[index % period]).max(0.0))
        };
        (self.next > 2 * period).then(|| steps.filter_map(ahead).reduce(f64::max)).flatten()
    }
}

impl HoltWinters {
    fn learn(&mut self, value: Option<f64>, period: usize) {
        let place = self.next % period;
        self.next += 1;
        let Some(value) = value else { return };
        if self.next <= period {
            // The first day: its mean is the level, what differs from it the season.
            let before = self.level;
            self.level += (value - before) / self.next as f64;
            self.season[place] = value;
            if self.next == period {
                self.season.iter_mut().for_each(|s| *s -= self.level);
            }
            return;
        }
        let before = self.level;
        self.level = ALPHA * (value - self.season[place]) + (1.0 - ALPHA) * (self.level + self.trend);
        self.trend = BETA * (self.level - before) + (1.0 - BETA) * self.trend;
        self.season[place] = GAMMA * (value - self.level) + (1.0 - GAMMA) * self.season[place];
    }
}

/// The strongest frequencies of the last whole days, carried on: what Crane's predictor does in its kind.
#[derive(Clone, Debug, Default)]
pub struct Frequencies {
    fitted: Option<usize>,
    /// One span of whole days; what comes is taken to repeat it.
    wave: Vec<f64>,
}

/// Frequencies that are kept.
const STRONGEST: usize = 40;

impl Predictor for Frequencies {
    fn name(&self) -> &'static str {
        "fft"
    }

    fn expects(&mut self, truth: &Demand, known: Timestamp, from: Timestamp, to: Timestamp) -> Option<f64> {
        let day = truth.steps_in(DAY);
        let newest = truth.index_of(known);
        if self.fitted.is_none_or(|at| newest >= at + day.div_ceil(4)) {
            self.fit(truth, newest, day);
        }
        let begins = self.fitted? + 1;
        let at = |index: usize| Some(self.wave[index.checked_sub(begins)? % self.wave.len()].max(0.0));
        (truth.index_of(from)..=truth.index_of(to) + 1).filter_map(at).reduce(f64::max)
    }
}

impl Frequencies {
    fn fit(&mut self, truth: &Demand, newest: usize, day: usize) {
        let days = ((newest + 1) / day).min(HISTORY_DAYS as usize);
        if days < 2 {
            return;
        }
        let first = newest + 1 - days * day;
        let values: Vec<Option<f64>> = (first..=newest).map(|i| truth.value(i)).collect();
        let known: Vec<f64> = values.iter().flatten().copied().collect();
        let mean = known.iter().sum::<f64>() / known.len().max(1) as f64;
        let mut waves: Vec<Complex<f64>> = values.iter().map(|v| Complex::new(v.unwrap_or(mean), 0.0)).collect();
        let (n, mut planner) = (waves.len(), FftPlanner::new());
        planner.plan_fft_forward(n).process(&mut waves);
        let mut strength: Vec<f64> = waves[1..].iter().map(|w| w.norm_sqr()).collect();
        strength.sort_by(|a, b| b.total_cmp(a));
        let least = strength.get(2 * STRONGEST).copied().unwrap_or(0.0);
        waves[1..].iter_mut().filter(|w| w.norm_sqr() <= least).for_each(|w| *w = Complex::new(0.0, 0.0));
        planner.plan_fft_inverse(n).process(&mut waves);
        self.wave = waves.iter().map(|w| w.re / n as f64).collect();
        self.fitted = Some(newest);
    }
}

#[cfg(test)]
mod tests {
    use bellwether_models::series::{Step, Window};

    use super::*;

    /// Demand of ten-minute steps that repeats itself day after day.
    fn days(n: usize) -> Demand {
        let value = |i: usize| 100.0 + 80.0 * (i as f64 / 144.0 * std::f64::consts::TAU).sin();
        let values = (0..144 * n).map(value).collect();
        Demand::of(&Window { start: Timestamp::from_secs(0), step: Step::from_secs(600), values })
    }

    fn expected(mut predictor: impl Predictor, day: u32) -> (f64, f64) {
        let truth = days(10);
        let known = Timestamp::from_secs(0) + DAY * day + Duration::from_secs(3000);
        let ahead = known + Duration::from_secs(3600);
        (predictor.expects(&truth, known, ahead, ahead).expect("it tells"), truth.at(ahead).expect("inside"))
    }

    #[test]
    fn what_repeats_is_expected_by_all_of_them() {
        for (expected, came) in [expected(HoltWinters::default(), 6), expected(Frequencies::default(), 6)] {
            assert!((expected - came).abs() < 8.0, "{expected} {came}");
        }
        let (expected, came) = expected(Timetable, 6);
        assert!(expected >= came && expected < came + 25.0, "the greatest of its hour: {expected} {came}");
    }

    #[test]
    fn nobody_tells_before_enough_was_seen() {
        let (truth, at) = (days(10), Timestamp::from_secs(3600));
        assert_eq!(Timetable.expects(&truth, at, at, at), None);
        assert_eq!(HoltWinters::default().expects(&truth, at, at, at), None);
        assert_eq!(Frequencies::default().expects(&truth, at, at, at), None);
    }

    #[test]
    fn the_days_of_the_weekend_are_known() {
        let day = |n: u32| weekend(Timestamp::from_secs(0) + DAY * n);
        assert_eq!((0..7).map(day).collect::<Vec<_>>(), [false, false, true, true, false, false, false]);
    }
}
