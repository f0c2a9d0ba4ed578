//! When a target is due: pure.

use std::time::Duration;

use bellwether_models::series::{Step, Timestamp};

/// A sample's time may be moved by this much onto the regular grid, which compresses better.
const TOLERANCE: Duration = Duration::from_millis(2);

/// The first time at or after `now` for a target whose place in the interval is `seed`: targets are spread evenly and
/// keep their place over restarts.
pub(super) fn first_due(now: Timestamp, interval: Duration, seed: u64) -> Timestamp {
    let millis = u64::try_from(interval.as_millis()).unwrap_or(u64::MAX).max(1);
    let Ok(step) = Step::from_millis(i64::try_from(millis).unwrap_or(i64::MAX)) else { return now };
    let due = now.floor_to(step) + Duration::from_millis(seed % millis);
    if due < now { due + interval } else { due }
}

/// The next time on the grid of `due` after `now`; what was missed is not made up for.
pub(super) fn next_due(due: Timestamp, now: Timestamp, interval: Duration) -> Timestamp {
    let millis = interval.as_millis().max(1);
    let missed = now.since(due).as_millis() / millis;
    due + interval.saturating_mul(u32::try_from(missed + 1).unwrap_or(u32::MAX))
}

/// How long to wait for `due`; never longer than an interval, should the clock have been set back.
pub(super) fn wait(due: Timestamp, now: Timestamp, interval: Duration) -> Duration {
    due.since(now).min(interval)
}

/// The time a sample gets that was due at `due` and is taken at `now`.
pub(super) fn aligned(due: Timestamp, now: Timestamp) -> Timestamp {
    if now.since(due) <= TOLERANCE && due.since(now) <= TOLERANCE { due } else { now }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    proptest! {
        #[test]
        fn the_first_scrape_comes_within_an_interval_at_the_targets_own_place(now in 0i64..1 << 42, seed: u64) {
            let now = Timestamp::from_millis(now);
            let due = first_due(now, MINUTE, seed);
            prop_assert!(due >= now && due.since(now) < MINUTE);
            prop_assert_eq!(due.as_millis() as u64 % 60_000, seed % 60_000);
        }

        #[test]
        fn the_next_scrape_is_on_the_grid_and_in_the_future(late in 0u64..1_000_000) {
            let due = Timestamp::from_secs(1000);
            let now = due + Duration::from_millis(late);
            let next = next_due(due, now, MINUTE);
            prop_assert!(next > now && next.since(now) <= MINUTE);
            prop_assert_eq!(next.since(due).as_millis() % 60_000, 0);
        }
    }

    #[test]
    fn a_clock_set_back_delays_by_an_interval_at_most() {
        assert_eq!(wait(Timestamp::from_secs(100_000), Timestamp::from_secs(5), MINUTE), MINUTE);
    }

    #[test]
    fn small_delays_are_moved_onto_the_grid_and_large_ones_told() {
        let due = Timestamp::from_millis(60_000);
        assert_eq!(aligned(due, Timestamp::from_millis(60_002)), due);
        assert_eq!(aligned(due, Timestamp::from_millis(60_003)), Timestamp::from_millis(60_003));
    }
}
