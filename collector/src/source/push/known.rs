//! Label sets that were sent of late, found by the bytes they were sent in: the same series come again every few seconds, and
//! need neither be checked nor built again.

use std::hash::BuildHasher;
use std::sync::{Mutex, PoisonError};

use bellwether_models::series::Labels;
use hashbrown::DefaultHashBuilder;
use hashbrown::hash_table::{Entry, HashTable};

use super::decoded::SeriesFault;

/// Names and values as sent.
pub(super) type Pairs<'a, 'm> = &'a [(&'m [u8], &'m [u8])];

/// Room for the texts of all sets kept; further ones are built each time they come.
const MOST_BYTES: usize = 32 << 20;
/// A set that was not asked for while the others were asked for this many times is forgotten.
const ROUNDS_UNUSED: usize = 16;
/// Forgetting is not worth it earlier.
const FEWEST_ASKED: usize = 1 << 16;

/// The sets of all senders.
#[derive(Default)]
pub(super) struct Known(Mutex<Sets>);

#[derive(Default)]
struct Sets {
    hasher: DefaultHashBuilder,
    sets: HashTable<Set>,
    bytes: usize,
    asked: usize,
    round: u32,
}

struct Set {
    hash: u64,
    labels: Labels,
    round: u32,
}

impl Known {
    /// The labels that `pairs` are, which stand in `sent` and nothing else does; `build` makes them when they are new.
    pub(super) fn labels(
        &self,
        sent: &[u8],
        pairs: Pairs<'_, '_>,
        build: impl FnOnce() -> Result<Labels, SeriesFault>,
    ) -> Result<Labels, SeriesFault> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).labels(sent, pairs, build)
    }
}

impl Sets {
    fn labels(
        &mut self,
        sent: &[u8],
        pairs: Pairs<'_, '_>,
        build: impl FnOnce() -> Result<Labels, SeriesFault>,
    ) -> Result<Labels, SeriesFault> {
        self.asked += 1;
        if self.asked > FEWEST_ASKED.max(ROUNDS_UNUSED * self.sets.len()) {
            self.forget();
        }
        let hash = self.hasher.hash_one(sent);
        match self.sets.entry(hash, |set| set.hash == hash && are(&set.labels, pairs), |set| set.hash) {
            Entry::Occupied(mut found) => {
                let set = found.get_mut();
                set.round = self.round;
                Ok(set.labels.clone())
            }
            Entry::Vacant(place) => {
                let labels = build()?;
                if self.bytes + labels.text_len() <= MOST_BYTES {
                    self.bytes += labels.text_len();
                    place.insert(Set { hash, labels: labels.clone(), round: self.round });
                }
                Ok(labels)
            }
        }
    }

    fn forget(&mut self) {
        let (round, mut bytes) = (self.round, 0);
        self.sets.retain(|set| {
            let kept = set.round == round;
            bytes += if kept { set.labels.text_len() } else { 0 };
            kept
        });
        self.sets.shrink_to(self.sets.len(), |set| set.hash);
        (self.bytes, self.asked, self.round) = (bytes, 0, round.wrapping_add(1));
    }
}

fn are(labels: &Labels, pairs: Pairs<'_, '_>) -> bool {
    let mut pairs = pairs.iter();
    labels.iter().all(|(name, value)| pairs.next().is_some_and(|pair| *pair == (name.as_bytes(), value.as_bytes())))
        && pairs.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(known: &Known, name: &str) -> (Labels, bool) {
        let (mut built, pairs) = (false, [("__name__".as_bytes(), name.as_bytes())]);
        let build = || {
            built = true;
            Ok(Labels::metric(name))
        };
        (known.labels(name.as_bytes(), &pairs, build).unwrap(), built)
    }

    #[test]
    fn a_set_is_built_once_and_given_again() {
        let known = Known::default();
        assert_eq!(asked(&known, "up"), (Labels::metric("up"), true));
        assert_eq!(asked(&known, "up"), (Labels::metric("up"), false));
        assert_eq!(asked(&known, "down"), (Labels::metric("down"), true));
    }

    #[test]
    fn the_same_hash_with_other_labels_is_another_set() {
        let known = Known::default();
        asked(&known, "up");
        let other = [("__name__".as_bytes(), "other".as_bytes())];
        let given = known.labels(b"up", &other, || Ok(Labels::metric("other"))).unwrap();
        assert_eq!(given, Labels::metric("other"));
        let longer = [("__name__".as_bytes(), "up".as_bytes()), ("job".as_bytes(), "a".as_bytes())];
        let built = Labels::metric("up").with("job", "a");
        assert_eq!(known.labels(b"up", &longer, || Ok(built.clone())).unwrap(), built);
    }

    #[test]
    fn what_is_refused_is_not_kept() {
        let known = Known::default();
        let refuse = || Err(SeriesFault::EmptyLabel);
        assert_eq!(known.labels(b"x", &[], refuse), Err(SeriesFault::EmptyLabel));
        assert_eq!(known.0.lock().unwrap().sets.len(), 0);
    }

    #[test]
    fn sets_that_come_no_more_are_forgotten_and_room_is_bounded() {
        let known = Known::default();
        asked(&known, "gone");
        (0..3 * FEWEST_ASKED).for_each(|_| drop(asked(&known, "stays")));
        assert!(asked(&known, "gone").1);
        assert!(!asked(&known, "stays").1);
        let long = "x".repeat(1 << 20);
        for index in 0..40 {
            asked(&known, &format!("{long}{index}"));
        }
        assert!(known.0.lock().unwrap().bytes <= MOST_BYTES);
    }
}
