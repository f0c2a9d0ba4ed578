//! How long a replica takes from being asked for to being ready, seen from the two counts alone.

use std::collections::VecDeque;
use std::time::Duration;

use bellwether_models::series::Timestamp;
use serde::{Deserialize, Serialize};

/// Start-up times that are remembered.
const REMEMBERED: usize = 100;
/// Fewer than this teach nothing.
const ENOUGH: usize = 5;
/// Of one step up, no more replicas than this are remembered: a large one shall not drown what others taught.
const OF_ONE_STEP: u32 = 10;
/// A replica that has not started for so long will not.
const GIVEN_UP: Duration = Duration::from_secs(3600);
/// Share of start-up times that lie below the one to reckon with.
const SHARE: f64 = 0.9;

/// The last start-up times.
///
/// Replicas are known by their place alone: the seventh is ready when seven are. A replica that dies and comes back was not
/// asked for, and teaches nothing. The times are as exact as the counts are frequent, and never too short.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StartupTimes {
    asked: Option<u32>,
    /// When which places were asked for: instant, first and last place.
    waiting: VecDeque<(Timestamp, u32, u32)>,
    seconds: VecDeque<f64>,
}

impl StartupTimes {
    /// Takes in how many are asked for, and how many are ready, at `now`.
    pub fn observe(&mut self, now: Timestamp, asked: u32, ready: u32) {
        self.note_arrivals(now, ready);
        let before = self.asked.replace(asked).unwrap_or(asked);
        self.waiting.retain(|(at, first, _)| *first <= asked && now.since(*at) < GIVEN_UP);
        self.waiting.iter_mut().for_each(|(_, _, last)| *last = (*last).min(asked));
        let first = before.max(ready) + 1;
        if asked > before && asked >= first {
            self.waiting.push_back((now, first, asked));
        }
    }

    /// The time that nine of ten replicas needed at most, and how many were seen; `None` before enough were.
    #[must_use]
    pub fn usual(&self) -> Option<(Duration, usize)> {
        let mut seconds: Vec<f64> = self.seconds.iter().copied().collect();
        seconds.sort_by(f64::total_cmp);
        let index = (seconds.len() as f64 * SHARE).ceil() as usize;
        let usual = seconds.get(index.checked_sub(1)?).filter(|_| seconds.len() >= ENOUGH)?;
        Some((Duration::from_secs_f64(*usual), seconds.len()))
    }

    fn note_arrivals(&mut self, now: Timestamp, ready: u32) {
        let mut arrived = Vec::new();
        for (at, first, last) in &mut self.waiting {
            if ready >= *first {
                let count = ready.min(*last) - *first + 1;
                arrived.extend(std::iter::repeat_n(now.since(*at).as_secs_f64(), count.min(OF_ONE_STEP) as usize));
                *first += count;
            }
        }
        self.waiting.retain(|(_, first, last)| first <= last);
        self.seconds.extend(arrived);
        while self.seconds.len() > REMEMBERED {
            self.seconds.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(secs: i64) -> Timestamp {
        Timestamp::from_secs(secs)
    }

    #[test]
    fn a_replica_has_started_when_as_many_are_ready_as_its_place_in_the_row() {
        let mut times = StartupTimes::default();
        times.observe(at(0), 2, 2);
        times.observe(at(10), 8, 2);
        times.observe(at(70), 8, 4); // two after 60 s
        times.observe(at(100), 8, 7); // three after 90 s
        assert_eq!(times.usual(), Some((Duration::from_secs(90), 5)));
        times.observe(at(310), 8, 8); // the last one after 300 s
        assert_eq!(times.usual(), Some((Duration::from_secs(300), 6)));
    }

    #[test]
    fn too_few_teach_nothing_and_those_called_off_or_come_back_neither() {
        let mut times = StartupTimes::default();
        times.observe(at(0), 2, 2);
        times.observe(at(10), 6, 2);
        times.observe(at(20), 2, 2); // called off
        times.observe(at(5000), 2, 1); // one died
        times.observe(at(5100), 2, 2); // and came back
        assert_eq!((times.seconds.len(), times.waiting.len()), (0, 0));
        times.observe(at(6000), 4, 2);
        times.observe(at(6030), 4, 4);
        assert_eq!(times.usual(), None);
    }

    #[test]
    fn who_never_starts_is_given_up() {
        let mut times = StartupTimes::default();
        times.observe(at(0), 2, 2);
        times.observe(at(10), 9, 2);
        times.observe(at(4000), 9, 2);
        times.observe(at(4010), 9, 9);
        assert!(times.seconds.is_empty());
    }

    proptest! {
        #[test]
        fn memory_stays_bounded_and_times_are_those_that_passed(
            counts in prop::collection::vec((0u32..2000, 0u32..2000, 1i64..600), 1..300)
        ) {
            let (mut times, mut now) = (StartupTimes::default(), 0);
            for (asked, ready, pause) in counts {
                now += pause;
                times.observe(at(now), asked, ready);
                prop_assert!(times.seconds.len() <= REMEMBERED);
                prop_assert!(times.waiting.len() <= GIVEN_UP.as_secs() as usize);
                prop_assert!(times.seconds.iter().all(|s| *s > 0.0 && *s <= now as f64));
                prop_assert!(times.waiting.iter().all(|(_, first, last)| first <= last && *last <= asked));
            }
        }
    }
}
