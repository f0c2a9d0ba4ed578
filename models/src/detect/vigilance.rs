//! How often detection raises an alarm over all series, beside how often it may.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Score, Thresholds};
use crate::series::Timestamp;

/// Multiples of the budget at which alarms are counted: half, the whole, double; the last is for calibration alone, wide
/// enough for many alarms in a week and for real trouble to be few among them.
const MULTIPLES: [f64; LEVELS] = [0.5, 1.0, 2.0, 16.0];
const LEVELS: usize = 4;
const DAY: i64 = 86_400;
/// Days that alarms are remembered.
const REMEMBERED: i64 = 28;
/// Alarms younger than this may be of trouble that still lasts: nothing is learnt from them yet.
const UNDECIDED: Duration = Duration::from_secs(3600);
/// Weight of the belief that the budget holds as it is, in alarms at the widest level.
const BELIEF: f64 = 16.0;
/// Most decades that the threshold is raised.
const MOST: f64 = 1.5;

/// Alarms by multiple of the budget.
pub type Alarms = [bool; LEVELS];

/// One series at several thresholds at once: what would have been an alarm at half the budget, at double, and so on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Shadow {
    last: [Option<Timestamp>; LEVELS],
}

impl Shadow {
    /// Takes a score, and says at which levels an alarm begins. `base` holds for the budget before it was corrected, on
    /// which the widest level stands; the others stand on `thresholds`.
    pub fn observe(&mut self, at: Timestamp, score: &Score, base: &Thresholds, thresholds: &Thresholds) -> Alarms {
        std::array::from_fn(|level| {
            let usual = if level + 1 == LEVELS { base.opens } else { thresholds.opens };
            let over = score.surprise >= (usual - MULTIPLES[level].log10()).max(1.0);
            let lasts = self.last[level].is_some_and(|last| at.since(last) < thresholds.quiet);
            if over || (lasts && thresholds.belongs(score)) {
                self.last[level] = Some(at);
            }
            over && !lasts
        })
    }
}

/// Alarms of all series by day.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Ledger {
    days: BTreeMap<i64, [u32; LEVELS]>,
    since: Option<Timestamp>,
    /// Alarms at the widest level that are too young to learn from.
    undecided: Vec<Timestamp>,
}

impl Ledger {
    /// Notes what a sample of some series raised at `at`.
    pub fn note(&mut self, at: Timestamp, alarms: Alarms) {
        self.since = Some(self.since.map_or(at, |since| since.min(at)));
        let day = self.days.entry(day(at)).or_default();
        for (count, alarm) in day[..LEVELS - 1].iter_mut().zip(alarms) {
            *count += u32::from(alarm);
        }
        if alarms[LEVELS - 1] {
            self.undecided.push(at);
        }
    }

    /// Forgets what is old and learns from what has settled.
    pub fn settle(&mut self, now: Timestamp) {
        let (settled, young) = self.undecided.drain(..).partition(|at| now.since(*at) >= UNDECIDED);
        self.undecided = young;
        let settled: Vec<Timestamp> = settled;
        for at in settled {
            self.days.entry(day(at)).or_default()[LEVELS - 1] += 1;
        }
        self.days = self.days.split_off(&(day(now) - REMEMBERED));
    }

    /// Alarms of the seven days before `now` at half the budget, the budget and double.
    #[must_use]
    pub fn last_week(&self, now: Timestamp) -> [u32; 3] {
        let mut sums = [0; 3];
        for day in self.days.range(day(now) - 6..).map(|(_, day)| day) {
            sums.iter_mut().zip(day).for_each(|(sum, count)| *sum += count);
        }
        sums
    }

    /// Decades by which thresholds are to be raised so that a budget of `per_week` holds, as the alarms at a multiple of
    /// it tell: the ratio of those that came to those that were to come, drawn towards one while few were due.
    #[must_use]
    pub fn correction(&self, per_week: f64, now: Timestamp) -> f64 {
        let came: u32 = self.days.values().map(|day| day[LEVELS - 1]).sum();
        let due = MULTIPLES[LEVELS - 1] * per_week * self.weeks(now);
        ((BELIEF + f64::from(came)) / (BELIEF + due)).log10().clamp(0.0, MOST)
    }

    /// Weeks of which alarms are remembered.
    fn weeks(&self, now: Timestamp) -> f64 {
        let span = self.since.map_or(Duration::ZERO, |since| now.since(since));
        span.as_secs_f64().min((REMEMBERED * DAY) as f64) / (7 * DAY) as f64
    }
}

/// What detection says of itself, over the whole installation.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Vigilance {
    /// False alarms one is ready to bear in a week.
    pub budget_per_week: f64,
    /// Alarms of the last seven days at half the budget, the budget, and double; true ones too.
    pub alarms_last_week: [u32; 3],
    /// Surprise from which an anomaly opens.
    pub opens: f64,
    /// Decades of it that were learnt from how often alarms came.
    pub correction: f64,
    /// Series still being learnt, those known for an hour, those known fully.
    pub series: [usize; 3],
    /// Series of which people said that their alarms were false.
    pub lenient: usize,
    /// Series that gave way to others since the start.
    pub evicted: u64,
}

fn day(at: Timestamp) -> i64 {
    at.as_millis().div_euclid(DAY * 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(hour: i64) -> Timestamp {
        Timestamp::from_secs(hour * 3600)
    }

    #[test]
    fn alarms_are_counted_where_they_begin_at_each_level_apart() {
        let (mut shadow, thresholds) = (Shadow::default(), Thresholds::default());
        let mut take = |minute: i64, surprise: f64| {
            let score = Score { surprise, ..Score::NONE };
            shadow.observe(Timestamp::from_secs(minute * 60), &score, &thresholds, &thresholds)
        };
        assert_eq!(take(0, 3.8), [false, false, true, true]);
        assert_eq!(take(1, 4.1), [false, true, false, false]);
        assert_eq!(take(2, 2.0), [false; 4]);
        assert_eq!(take(20, 5.0), [true; 4]);
    }

    #[test]
    fn more_alarms_than_were_due_raise_the_threshold_once_they_have_settled() {
        let mut ledger = Ledger::default();
        ledger.note(at(0), [false; 4]);
        for hour in 0..160 {
            ledger.note(at(hour), [false, hour == 3, hour % 80 == 3, true]);
        }
        assert_eq!(ledger.correction(1.0, at(168)), 0.0);
        ledger.settle(at(168));
        assert!((ledger.correction(1.0, at(168)) - (176.0_f64 / 32.0).log10()).abs() < 1e-9);
        assert_eq!(ledger.correction(100.0, at(168)), 0.0);
        assert_eq!(ledger.last_week(at(160)), [0, 1, 2]);
        ledger.settle(at(24 * 60));
        assert_eq!(ledger.correction(1.0, at(24 * 60)), 0.0);
    }
}
