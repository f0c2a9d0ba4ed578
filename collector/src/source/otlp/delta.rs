//! Running totals of senders that report what was added since the last time.

use std::collections::HashMap;

use bellwether_models::series::{Labels, Timestamp};

use crate::source::exponential::Exponential;

/// Totals of the series that came as deltas, each since we first heard of it.
#[derive(Clone, Debug, Default)]
pub struct Totals {
    numbers: HashMap<Labels, Total<f64>>,
    histograms: HashMap<Labels, Total<Counted>>,
}

/// A histogram with its count and sum.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Counted {
    pub histogram: Exponential,
    pub count: f64,
    pub sum: Option<f64>,
}

/// What became of a delta.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Added<T> {
    /// It is in the total, which is this.
    Total(T),
    /// It is in the total, which shows at the next point: it came after a later one.
    Carried,
    /// It was there already, and a later one too.
    Repeated,
    /// It came too late to tell whether it was there already.
    TooLate,
}

/// Points whose times are remembered, to tell what came late from what came again.
const REMEMBERED: usize = 4;

#[derive(Clone, Copy, Debug)]
struct Total<T> {
    /// Times of the points in it, the latest first.
    times: [Timestamp; REMEMBERED],
    value: T,
}

/// Something that adds up.
trait Sum: Clone {
    fn plus(&mut self, added: Self);
}

impl Sum for f64 {
    fn plus(&mut self, added: Self) {
        *self += added;
    }
}

impl Sum for Counted {
    fn plus(&mut self, added: Self) {
        self.histogram.add(added.histogram);
        self.count += added.count;
        self.sum = self.sum.zip(added.sum).map(|(ours, theirs)| ours + theirs);
    }
}

impl<T: Sum> Total<T> {
    fn add(&mut self, at: Timestamp, added: T) -> Added<T> {
        let [latest, .., oldest] = self.times;
        if self.times.contains(&at) {
            return if at == latest { Added::Total(self.value.clone()) } else { Added::Repeated };
        }
        if at < oldest {
            return Added::TooLate;
        }
        self.value.plus(added);
        self.times[REMEMBERED - 1] = at;
        self.times.sort_unstable_by(|a, b| b.cmp(a));
        if at > latest { Added::Total(self.value.clone()) } else { Added::Carried }
    }
}

/// Series whose totals are kept; those silent for longest make room for new ones.
const MAX_SERIES: usize = 500_000;
const MAX_HISTOGRAMS: usize = 20_000;

impl Totals {
    /// Whether there is a total of the series.
    pub(super) fn knows(&self, labels: &Labels) -> bool {
        self.numbers.contains_key(labels)
    }

    /// Adds what was counted up to `at`. The latest point told again gives the same total.
    pub(super) fn add(&mut self, labels: &Labels, at: Timestamp, added: f64) -> Added<f64> {
        entry(&mut self.numbers, labels, MAX_SERIES, || 0.0).add(at, added)
    }

    /// As [`Totals::add`], for a histogram.
    pub(super) fn add_histogram(&mut self, labels: &Labels, at: Timestamp, added: Counted) -> Added<Counted> {
        let empty = || Counted { sum: Some(0.0), histogram: added.histogram.emptied(), count: 0.0 };
        entry(&mut self.histograms, labels, MAX_HISTOGRAMS, empty).add(at, added)
    }
}

fn entry<'a, T>(
    totals: &'a mut HashMap<Labels, Total<T>>,
    labels: &Labels,
    most: usize,
    empty: impl FnOnce() -> T,
) -> &'a mut Total<T> {
    if totals.len() >= most && !totals.contains_key(labels) {
        make_room(totals);
    }
    let fresh = || Total { times: [Timestamp::MIN; REMEMBERED], value: empty() };
    totals.entry(labels.clone()).or_insert_with(fresh)
}

fn make_room<T>(totals: &mut HashMap<Labels, Total<T>>) {
    let mut times: Vec<Timestamp> = totals.values().map(|total| total.times[0]).collect();
    let eighth = times.len() / 8;
    let (_, oldest_kept, _) = times.select_nth_unstable(eighth);
    let oldest_kept = *oldest_kept;
    totals.retain(|_, total| total.times[0] > oldest_kept);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Points may come up to two places late and twice: their sum is right in the end.
        #[test]
        fn whatever_the_order_every_point_counts_once(
            values in proptest::collection::vec(1u32..100, 3..40), swaps in proptest::collection::vec(any::<bool>(), 40),
        ) {
            let mut points: Vec<(i64, u32)> = values.iter().enumerate().map(|(at, value)| (at as i64, *value)).collect();
            for (at, swap) in (0..points.len() - 1).step_by(2).zip(&swaps) {
                if *swap {
                    points.swap(at, at + 1);
                }
            }
            let (mut totals, labels) = (Totals::default(), Labels::metric("m"));
            for (at, value) in points {
                for _ in 0..2 {
                    let added = totals.add(&labels, Timestamp::from_secs(at), f64::from(value));
                    prop_assert_ne!(added, Added::TooLate);
                }
            }
            let last = totals.add(&labels, Timestamp::from_secs(1000), 0.0);
            prop_assert_eq!(last, Added::Total(f64::from(values.iter().sum::<u32>())));
        }
    }

    #[test]
    fn a_point_from_long_ago_is_too_late() {
        let (mut totals, labels) = (Totals::default(), Labels::metric("m"));
        for at in 10..20 {
            totals.add(&labels, Timestamp::from_secs(at), 1.0);
        }
        assert_eq!(totals.add(&labels, Timestamp::from_secs(5), 1.0), Added::TooLate);
        assert_eq!(totals.add(&labels, Timestamp::from_secs(18), 1.0), Added::Repeated);
    }
}
