//! Departures that come at the same time of every day.

use serde::{Deserialize, Serialize};

use crate::series::Timestamp;

/// Departures remembered.
const KEPT: usize = 16;
/// A time of day is told to six minutes.
const TICK_MILLIS: i64 = 360_000;
const TICKS_A_DAY: i64 = 240;
/// Ticks by which what comes daily may come earlier or later: half an hour.
const NEAR: i64 = 5;
/// Days after which a departure is no habit any more.
const DAYS: usize = 14;
/// Earlier days on which a departure has come before it is a habit.
const TIMES: usize = 2;
/// Departures that chance brings in a day are few: so many, and none below this surprise.
const BY_CHANCE: f64 = 3.0;
const LEAST: f64 = 2.0;

/// The last departures of a series: when in the day, on which day (modulo 256), and how strong, in sixteenths of a decade.
/// What came at this time of day before, as a backup or a report does, is a habit of the series and no news.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Habits {
    ticks: [u8; KEPT],
    days: [u8; KEPT],
    strengths: [u8; KEPT],
    next: u8,
}

impl Habits {
    /// Surprise that came at this time of day before: on the day of the second-most of the last two weeks; 0 when it came
    /// on one day only.
    pub(super) fn strength(&self, at: Timestamp) -> f64 {
        let now = ticks(at);
        let mut strongest = [0; DAYS + 1];
        for k in 0..KEPT {
            let ago = self.ago(k, now);
            let days = (ago + TICKS_A_DAY / 2) / TICKS_A_DAY;
            if (1..=DAYS as i64).contains(&days) && (ago - days * TICKS_A_DAY).abs() <= NEAR {
                let day = &mut strongest[days as usize];
                *day = self.strengths[k].max(*day);
            }
        }
        strongest.sort_unstable();
        f64::from(strongest[DAYS + 1 - TIMES]) / 16.0
    }

    /// Notes a departure of this surprise in a series sampled every `interval` seconds, unless chance brings such often;
    /// what follows within half an hour is the same one.
    pub(super) fn note(&mut self, at: Timestamp, surprise: f64, interval: f64) {
        if surprise < LEAST.max((86_400.0 / BY_CHANCE / interval).log10()) {
            return;
        }
        let (now, strength) = (ticks(at), (16.0 * surprise).min(255.0) as u8);
        let last = (usize::from(self.next) + KEPT - 1) % KEPT;
        if self.strengths[last] > 0 && self.ago(last, now) <= NEAR {
            self.strengths[last] = self.strengths[last].max(strength);
            return;
        }
        let place = usize::from(self.next);
        self.ticks[place] = now.rem_euclid(TICKS_A_DAY) as u8;
        self.days[place] = day(now);
        self.strengths[place] = strength;
        self.next = (self.next + 1) % KEPT as u8;
    }

    /// Ticks since departure `k`.
    fn ago(&self, k: usize, now: i64) -> i64 {
        let days = i64::from(day(now).wrapping_sub(self.days[k]));
        days * TICKS_A_DAY + now.rem_euclid(TICKS_A_DAY) - i64::from(self.ticks[k])
    }
}

fn ticks(at: Timestamp) -> i64 {
    at.as_millis().div_euclid(TICK_MILLIS)
}

fn day(ticks: i64) -> u8 {
    ticks.div_euclid(TICKS_A_DAY).rem_euclid(256) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(day: i64, minute: i64) -> Timestamp {
        Timestamp::from_secs(86_400 * day + 60 * minute)
    }

    /// Habits of a series sampled every five minutes, with departures of a surprise of 4.
    fn after(departures: &[(i64, i64)]) -> Habits {
        let mut habits = Habits::default();
        departures.iter().for_each(|(day, minute)| habits.note(at(*day, *minute), 4.0, 300.0));
        habits
    }

    #[test]
    fn what_came_at_this_time_on_two_earlier_days_is_a_habit_and_on_one_it_is_not() {
        let once = after(&[(19_000, 180), (19_000, 185)]);
        assert_eq!(once.strength(at(19_001, 180)), 0.0);
        let twice = after(&[(19_000, 180), (19_001, 165)]);
        assert_eq!(twice.strength(at(19_002, 195)), 4.0);
        assert_eq!(twice.strength(at(19_002, 240)), 0.0);
        assert_eq!(twice.strength(at(19_020, 180)), 0.0);
    }

    #[test]
    fn a_habit_about_midnight_is_one_on_either_side_of_it() {
        let habits = after(&[(7, 1430), (9, 10)]);
        assert_eq!(habits.strength(at(10, 1435)), 4.0);
        assert_eq!(habits.strength(at(10, 5)), 4.0);
    }

    #[test]
    fn the_weaker_of_two_days_tells_and_what_chance_brings_is_not_noted() {
        let mut habits = Habits::default();
        habits.note(at(1, 0), 6.0, 1.0);
        habits.note(at(2, 0), 5.0, 1.0);
        habits.note(at(3, 0), 4.0, 1.0); // of 86,400 samples a day several are that strange
        assert_eq!(habits.strength(at(4, 0)), 5.0);
    }

    #[test]
    fn clocks_that_jump_and_times_before_1970_are_taken() {
        let mut habits = Habits::default();
        for day in [19_000, -3, 0, 400_000, -400_000] {
            habits.note(at(day, 3), 99.0, 60.0);
            assert!(habits.strength(at(day + 1, 0)) >= 0.0);
        }
    }
}
