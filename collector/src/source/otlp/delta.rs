//! Running totals of senders that report what was added since the last time.

use std::collections::HashMap;

use bellwether_models::series::{Labels, Timestamp};

/// Totals of the series that came as deltas, each since we first heard of it.
#[derive(Clone, Debug, Default)]
pub struct Totals(HashMap<Labels, Total>);

#[derive(Clone, Copy, Debug)]
struct Total {
    at: Timestamp,
    value: f64,
}

/// Series whose totals are kept; those silent for longest make room for new ones.
const MAX_SERIES: usize = 500_000;

impl Totals {
    /// Adds what came at `at` and gives the total. The latest point told again gives the same total; an older one, whose
    /// place in the sum is past, gives none.
    pub(super) fn add(&mut self, labels: &Labels, at: Timestamp, added: f64) -> Option<f64> {
        self.make_room(labels);
        let total = self.0.entry(labels.clone()).or_insert(Total { at: Timestamp::MIN, value: 0.0 });
        if at > total.at {
            *total = Total { at, value: total.value + added };
        }
        (at == total.at).then_some(total.value)
    }

    fn make_room(&mut self, labels: &Labels) {
        if self.0.len() < MAX_SERIES || self.0.contains_key(labels) {
            return;
        }
        let mut times: Vec<Timestamp> = self.0.values().map(|total| total.at).collect();
        let eighth = times.len() / 8;
        let (_, oldest_kept, _) = times.select_nth_unstable(eighth);
        let oldest_kept = *oldest_kept;
        self.0.retain(|_, total| total.at > oldest_kept);
    }
}
