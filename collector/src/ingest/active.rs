//! Which series are alive: what the series limits count.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use bellwether_models::series::{Labels, Timestamp};

/// Series by fingerprint, with the time and origin of their latest samples: about 24 bytes each.
#[derive(Default)]
pub(super) struct ActiveSeries {
    hasher: RandomState,
    seen: HashMap<u64, Seen>,
    origins: HashMap<Box<str>, usize>,
    alive: Vec<usize>,
    swept: Option<Timestamp>,
}

struct Seen {
    at: Timestamp,
    origin: usize,
}

/// Stands for the origin of a series that was active before the restart and has not been brought again yet.
const NOT_YET: usize = usize::MAX;

impl ActiveSeries {
    /// Number of series alive.
    pub(super) fn len(&self) -> usize {
        self.seen.len()
    }

    /// Number of series alive that `origin` brought first.
    pub(super) fn of_origin(&self, origin: usize) -> usize {
        self.alive[origin]
    }

    /// The index of an origin's name.
    pub(super) fn origin(&mut self, name: &str) -> usize {
        if let Some(index) = self.origins.get(name) {
            return *index;
        }
        self.origins.insert(name.into(), self.alive.len());
        self.alive.push(0);
        self.alive.len() - 1
    }

    /// The key of a series; chance collisions are as rare as those of a keyed 64-bit hash.
    pub(super) fn fingerprint(&self, labels: &Labels) -> u64 {
        self.hasher.hash_one(labels)
    }

    /// Notes that the series has samples from `origin` now; false when it is not alive.
    pub(super) fn touch(&mut self, fingerprint: u64, origin: usize, now: Timestamp) -> bool {
        let Some(seen) = self.seen.get_mut(&fingerprint) else { return false };
        seen.at = now;
        if seen.origin == NOT_YET {
            seen.origin = origin;
            self.alive[origin] += 1;
        }
        true
    }

    /// Counts in a series that was active before a restart.
    pub(super) fn restore(&mut self, fingerprint: u64, at: Timestamp) {
        self.seen.entry(fingerprint).or_insert(Seen { at, origin: NOT_YET });
    }

    /// Counts a series in.
    pub(super) fn insert(&mut self, fingerprint: u64, origin: usize, now: Timestamp) {
        if self.seen.insert(fingerprint, Seen { at: now, origin }).is_none() {
            self.alive[origin] += 1;
        }
    }

    /// Counts a series out: it ended.
    pub(super) fn remove(&mut self, fingerprint: u64) {
        let gone = self.seen.remove(&fingerprint);
        if let Some(alive) = gone.and_then(|seen| self.alive.get_mut(seen.origin)) {
            *alive -= 1;
        }
    }

    /// Counts out what had no samples for `active_for`; looks at most once per eighth of that time.
    pub(super) fn sweep(&mut self, now: Timestamp, active_for: Duration) {
        let due = self.swept.is_none_or(|swept| now < swept || now.since(swept) >= active_for / 8);
        if active_for.is_zero() || !due {
            return;
        }
        let alive = &mut self.alive;
        self.seen.retain(|_, seen| {
            let keep = now.since(seen.at) < active_for;
            if let Some(alive) = alive.get_mut(seen.origin) {
                *alive -= usize::from(!keep);
            }
            keep
        });
        self.swept = Some(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_series_counts_until_it_was_silent_for_long_enough() {
        let mut active = ActiveSeries::default();
        let (hour, start) = (Duration::from_secs(3600), Timestamp::from_secs(1_000_000));
        let origin = active.origin("test");
        active.sweep(start, hour);
        active.insert(1, origin, start);
        active.insert(2, origin, start);
        active.touch(2, origin, start + hour / 2);

        active.sweep(start + hour, hour);

        assert_eq!((active.len(), active.of_origin(origin)), (1, 1));
        assert!(active.touch(2, origin, start + hour) && !active.touch(1, origin, start + hour));
    }

    #[test]
    fn a_series_from_before_the_restart_counts_and_belongs_to_whom_brings_it_again() {
        let mut active = ActiveSeries::default();
        let (hour, start) = (Duration::from_secs(3600), Timestamp::from_secs(1_000_000));
        active.restore(1, start);
        active.restore(2, start);
        let origin = active.origin("test");
        assert_eq!((active.len(), active.of_origin(origin)), (2, 0));

        assert!(active.touch(1, origin, start + hour / 2));
        active.sweep(start + hour, hour);
        assert_eq!((active.len(), active.of_origin(origin)), (1, 1));
        active.remove(1);
        assert_eq!((active.len(), active.of_origin(origin)), (0, 0));
    }
}
