//! Who of several may act: leadership by a lease that is renewed, told in values alone.
//!
//! The record lies with others (a Lease of Kubernetes). Nobody's clock but our own is trusted: a lease is over when its record
//! has not changed for its duration *since we first saw it so*, and it is ours only while less than its duration has passed
//! *since before we asked for the last renewal* (Gray and Cheriton, "Leases", 1989; the election of Kubernetes' client library
//! keeps the same rules). Each change of hands raises a number, which fences: what was begun under a lower one is void.

use std::time::Duration;

use bellwether_models::series::Timestamp;
use serde::{Deserialize, Serialize};

/// The lease as it lies with others.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Who holds it; empty for nobody.
    pub holder: String,
    /// How long it lasts after its renewal.
    pub duration: Duration,
    /// When its holder renewed it, by the holder's clock: of interest only in that it changes.
    pub renewed: Option<Timestamp>,
    /// When its holder took it.
    pub acquired: Option<Timestamp>,
    /// How often it has changed hands.
    pub transitions: u32,
}

/// What is to be done about the lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Write this record, if the one that was seen is still there.
    Write(Record),
    /// Wait.
    Wait,
}

/// One candidate's view of the lease. Time is our own, and never goes back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    identity: String,
    duration: Duration,
    /// The record as seen last, and since when it has been so.
    seen: Option<(Record, Timestamp)>,
    /// Until when the lease is ours.
    ours_until: Option<Timestamp>,
}

impl Candidate {
    /// A candidate that holds nothing yet. `identity` must be its own, over restarts too.
    #[must_use]
    pub fn new(identity: String, duration: Duration) -> Self {
        Self { identity, duration, seen: None, ours_until: None }
    }

    /// What to do at `now` about the record that lies there; `None` when there is none yet.
    pub fn on_seen(&mut self, record: Option<&Record>, now: Timestamp) -> Step {
        let record = record.cloned().unwrap_or_default();
        if self.seen.as_ref().is_none_or(|(before, _)| *before != record) {
            self.seen = Some((record.clone(), now));
        }
        let since = self.seen.as_ref().map_or(now, |(_, since)| *since);
        let is_over = record.holder.is_empty() || now.since(since) > record.duration;
        if record.holder == self.identity {
            let acquired = record.acquired.or(Some(now));
            return Step::Write(Record { duration: self.duration, renewed: Some(now), acquired, ..record });
        }
        self.ours_until = None;
        if !is_over {
            return Step::Wait;
        }
        let transitions = record.transitions + u32::from(!record.holder.is_empty());
        let (holder, duration) = (self.identity.clone(), self.duration);
        Step::Write(Record { holder, duration, renewed: Some(now), acquired: Some(now), transitions })
    }

    /// The record was written; `asked` is when that was asked for.
    pub fn on_written(&mut self, record: Record, asked: Timestamp) {
        self.ours_until = Some(asked + record.duration);
        self.seen = Some((record, asked));
    }

    /// Whether we may act at `now`, and under which number.
    #[must_use]
    pub fn fence(&self, now: Timestamp) -> Option<u32> {
        let transitions = self.seen.as_ref().map(|(record, _)| record.transitions)?;
        self.ours_until.filter(|until| now < *until).map(|_| transitions)
    }

    /// Until when it is ours, by our own clock; `None` when another holds it.
    #[must_use]
    pub fn ours_until(&self) -> Option<Timestamp> {
        self.ours_until
    }

    /// The record by which we give the lease up, if it is ours.
    #[must_use]
    pub fn release(&self, now: Timestamp) -> Option<Record> {
        self.fence(now)?;
        let (record, _) = self.seen.as_ref()?;
        Some(Record { holder: String::new(), duration: Duration::from_secs(1), renewed: Some(now), ..record.clone() })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LASTS: Duration = Duration::from_secs(15);

    fn at(secs: i64) -> Timestamp {
        Timestamp::from_secs(secs)
    }

    fn candidate(name: &str) -> Candidate {
        Candidate::new(name.to_owned(), LASTS)
    }

    /// The place where the record lies: writes succeed only on what was read.
    #[derive(Default)]
    struct Shelf(Option<Record>);

    impl Shelf {
        fn meet(&mut self, who: &mut Candidate, now: Timestamp) {
            if let Step::Write(record) = who.on_seen(self.0.as_ref(), now) {
                self.0 = Some(record.clone());
                who.on_written(record, now);
            }
        }
    }

    #[test]
    fn the_first_takes_it_the_second_waits_until_nothing_has_changed_for_its_duration() {
        let (mut shelf, mut a, mut b) = (Shelf::default(), candidate("a"), candidate("b"));
        shelf.meet(&mut a, at(0));
        shelf.meet(&mut b, at(1));
        assert_eq!((a.fence(at(1)), b.fence(at(1))), (Some(0), None));
        shelf.meet(&mut a, at(10));
        shelf.meet(&mut b, at(20));
        assert_eq!(b.fence(at(20)), None, "it saw a renewal");
        shelf.meet(&mut b, at(36));
        assert_eq!((a.fence(at(36)), b.fence(at(36))), (None, Some(1)));
    }

    #[test]
    fn who_slept_is_no_leader_when_it_wakes_and_learns_who_is() {
        let (mut shelf, mut a, mut b) = (Shelf::default(), candidate("a"), candidate("b"));
        shelf.meet(&mut a, at(0));
        shelf.meet(&mut b, at(1));
        shelf.meet(&mut b, at(17));
        assert_eq!(a.fence(at(17)), None);
        shelf.meet(&mut a, at(18));
        assert_eq!((a.fence(at(18)), b.fence(at(18))), (None, Some(1)));
    }

    #[test]
    fn who_gives_it_up_is_followed_at_once() {
        let (mut shelf, mut a, mut b) = (Shelf::default(), candidate("a"), candidate("b"));
        shelf.meet(&mut a, at(0));
        shelf.0 = a.release(at(5));
        shelf.meet(&mut b, at(5));
        assert!(b.fence(at(5)).is_some());
    }

    proptest! {
        /// Candidates that look, sleep, and lose their writes, each with a clock of its own that is off by a constant.
        #[test]
        fn never_do_two_hold_it_at_one_time(
            moves in prop::collection::vec((0usize..3, 0i64..12, any::<bool>()), 1..200),
            offsets in prop::collection::vec(-100_000i64..100_000, 3)
        ) {
            let mut shelf = Shelf::default();
            let mut all: Vec<Candidate> = ["a", "b", "c"].map(candidate).into();
            let (mut now, mut last) = (1_000_000, None);
            for (who, pause, lost) in moves {
                now += pause;
                let own = at(now + offsets[who]);
                if lost {
                    let _ = all[who].on_seen(shelf.0.as_ref(), own); // the write never arrived
                } else {
                    shelf.meet(&mut all[who], own);
                }
                let holders: Vec<u32> =
                    all.iter().zip(&offsets).filter_map(|(c, off)| c.fence(at(now + off))).collect();
                prop_assert!(holders.len() <= 1, "{holders:?}");
                if let Some(fence) = holders.first() {
                    prop_assert!(last.is_none_or(|last| *fence >= last), "fences never go down");
                    last = Some(*fence);
                }
            }
        }
    }
}
