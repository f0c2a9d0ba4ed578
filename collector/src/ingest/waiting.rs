//! How much each source has waiting for the store, and how much more it may bring.
//!
//! A source may hold at most as much of the room as is still free: one noisy source gets half of it, two get a third each,
//! and some always stays for a newcomer. Nobody need say beforehand how many sources there will be.
//!
//! # Source
//! Choudhury and Hahne, "Dynamic queue length thresholds for shared-memory packet switches", 1998, with a factor of one.

use std::collections::HashMap;

/// Bytes that wait, by source.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    total: u64,
    by_source: HashMap<Box<str>, u64>,
}

impl Waiting {
    /// Takes room for `bytes` of `source` out of `limit`; false when its share is used up. What comes alone is let in whatever
    /// its size.
    pub(super) fn enter(&mut self, source: &str, bytes: u64, limit: u64) -> bool {
        let free = limit.saturating_sub(self.total);
        let mine = self.of(source);
        let share = if mine == 0 { bytes } else { mine.saturating_add(bytes) };
        if self.total > 0 && share > free {
            return false;
        }
        self.total += bytes;
        *self.by_source.entry(source.into()).or_default() += bytes;
        true
    }

    /// Gives the room back.
    pub(super) fn leave(&mut self, source: &str, bytes: u64) {
        self.total = self.total.saturating_sub(bytes);
        if let Some(mine) = self.by_source.get_mut(source) {
            *mine = mine.saturating_sub(bytes);
            if *mine == 0 {
                self.by_source.remove(source);
            }
        }
    }

    /// Bytes of all sources.
    pub(super) fn total(&self) -> u64 {
        self.total
    }

    /// Bytes of one source.
    pub(super) fn of(&self, source: &str) -> u64 {
        self.by_source.get(source).copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn one_noisy_source_gets_half_and_a_newcomer_finds_room() {
        let mut waiting = Waiting::default();
        while waiting.enter("noisy", 10, 1000) {}
        assert_eq!(waiting.of("noisy"), 500);
        assert!(waiting.enter("calm", 100, 1000));
        while waiting.enter("noisy too", 10, 1000) {}
        assert!(waiting.total() <= 1000 && waiting.enter("newcomer", 100, 1000), "{waiting:?}");
    }

    #[test]
    fn what_comes_alone_is_let_in_whatever_its_size() {
        let mut waiting = Waiting::default();
        assert!(waiting.enter("big", 5000, 1000));
        assert!(!waiting.enter("other", 1, 1000));
        waiting.leave("big", 5000);
        assert!(waiting.enter("other", 1, 1000));
    }

    proptest! {
        #[test]
        fn the_whole_is_never_overdrawn_and_all_of_it_comes_back(asks in proptest::collection::vec((0usize..5, 1u64..400), 0..200)) {
            let (mut waiting, mut held) = (Waiting::default(), Vec::new());
            let names = ["a", "b", "c", "d", "e"];
            for (source, bytes) in asks {
                if waiting.enter(names[source], bytes, 1000) {
                    held.push((source, bytes));
                }
                prop_assert!(waiting.total() <= 1000);
            }
            for (source, bytes) in held {
                waiting.leave(names[source], bytes);
            }
            prop_assert_eq!((waiting.total(), waiting.by_source.len()), (0, 0));
        }
    }
}
