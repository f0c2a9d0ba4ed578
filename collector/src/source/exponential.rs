//! Exponential histograms, as OpenTelemetry and Prometheus' native histograms send them, as buckets with upper bounds: pure.
//!
//! The store keeps numbers, and queries, dashboards and our own detectors read `le` buckets, so that is what they become. The
//! bounds of a coarser scale are among those of a finer one: however the resolution of a sender changes, its series of coarse
//! bounds go on. Of each octave four bounds are kept, so that a quantile is at most 9 % off.
//!
//! Source: the data model of OpenTelemetry metrics, section "ExponentialHistogram", and Prometheus' specification of native
//! histograms.

use std::collections::BTreeMap;

use bellwether_models::series::{Labels, METRIC_NAME, Sample, Timestamp, is_stale};

use crate::store::{Batch, SeriesSamples};

/// Finest scale kept: four buckets for each doubling.
const MAX_SCALE: i32 = 2;

/// Scales that have a meaning.
const SCALES: std::ops::RangeInclusive<i32> = -10..=20;

/// Most buckets on each side of zero; a wider histogram is kept more coarsely.
const MAX_WIDTH: i64 = 64;

/// Counts by bucket. Bucket `i` holds what lies above `base^i` and up to `base^(i+1)`, where `base = 2^(2^-scale)`.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Exponential {
    scale: i32,
    positive: BTreeMap<i64, f64>,
    /// Of the absolute values.
    negative: BTreeMap<i64, f64>,
    zero: f64,
    zero_threshold: f64,
}

impl Exponential {
    /// From counts as sent; `None` for a scale that has no meaning.
    pub(crate) fn new(
        scale: i32,
        positive: impl IntoIterator<Item = (i64, f64)>,
        negative: impl IntoIterator<Item = (i64, f64)>,
        zero: f64,
        zero_threshold: f64,
    ) -> Option<Self> {
        if !SCALES.contains(&scale) {
            return None;
        }
        let counts = |buckets: &mut dyn Iterator<Item = (i64, f64)>| buckets.filter(|(_, n)| *n > 0.0).collect();
        let mut new = Self {
            scale,
            positive: counts(&mut positive.into_iter()),
            negative: counts(&mut negative.into_iter()),
            zero: zero.max(0.0),
            zero_threshold: if zero_threshold.is_finite() { zero_threshold.max(0.0) } else { 0.0 },
        };
        new.bound();
        Some(new)
    }

    /// The same without counts.
    pub(crate) fn emptied(&self) -> Self {
        Self { positive: BTreeMap::new(), negative: BTreeMap::new(), zero: 0.0, ..self.clone() }
    }

    /// Adds the counts of another.
    pub(crate) fn add(&mut self, mut other: Self) {
        while self.scale > other.scale {
            self.coarsen();
        }
        while other.scale > self.scale {
            other.coarsen();
        }
        for (ours, theirs) in [(&mut self.positive, other.positive), (&mut self.negative, other.negative)] {
            for (index, count) in theirs {
                *ours.entry(index).or_default() += count;
            }
        }
        self.zero += other.zero;
        self.zero_threshold = self.zero_threshold.max(other.zero_threshold);
        self.bound();
    }

    fn bound(&mut self) {
        while self.scale > *SCALES.start() && (self.scale > MAX_SCALE || self.width() > MAX_WIDTH) {
            self.coarsen();
        }
    }

    fn width(&self) -> i64 {
        let of = |side: &BTreeMap<i64, f64>| match (side.first_key_value(), side.last_key_value()) {
            (Some((first, _)), Some((last, _))) => last.saturating_sub(*first),
            _ => 0,
        };
        of(&self.positive).max(of(&self.negative))
    }

    fn coarsen(&mut self) {
        self.scale -= 1;
        for side in [&mut self.positive, &mut self.negative] {
            let mut coarse = BTreeMap::new();
            for (index, count) in std::mem::take(side) {
                *coarse.entry(index >> 1).or_default() += count;
            }
            *side = coarse;
        }
    }

    fn bound_of(&self, index: i64) -> f64 {
        (index as f64 * f64::from(-self.scale).exp2()).exp2()
    }

    /// Upper bounds, ascending, each with the number of values up to it. The last, without a bound, is the count of all.
    pub(crate) fn buckets(&self) -> Vec<(f64, f64)> {
        let (mut below, mut buckets) = (0.0, Vec::new());
        let span = |side: &BTreeMap<i64, f64>| Some((*side.first_key_value()?.0, *side.last_key_value()?.0));
        let short = |(first, last): (i64, i64)| (first, last.min(first.saturating_add(2 * MAX_WIDTH)));
        if let Some((first, last)) = span(&self.negative).map(short) {
            buckets.push((-self.bound_of(last + 1), below));
            for index in (first..=last).rev() {
                below += self.negative.get(&index).unwrap_or(&0.0);
                buckets.push((-self.bound_of(index), below));
            }
        }
        below += self.zero;
        if self.zero > 0.0 {
            buckets.push((self.zero_threshold, below));
        }
        if let Some((first, last)) = span(&self.positive).map(short) {
            buckets.push((self.bound_of(first), below));
            for index in first..=last {
                below += self.positive.get(&index).unwrap_or(&0.0);
                buckets.push((self.bound_of(index + 1), below));
            }
        }
        // bounds beyond all numbers, and those that the zero bucket swallows
        let mut highest = f64::NEG_INFINITY;
        buckets.retain(|(bound, _)| {
            bound.is_finite() && *bound > highest && {
                highest = *bound;
                true
            }
        });
        buckets
    }
}

/// A histogram at one instant, as buckets with upper bounds.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Bucketed {
    pub at: Timestamp,
    /// Upper bounds, ascending and finite, with the number of values up to each.
    pub buckets: Vec<(f64, f64)>,
    pub count: f64,
    pub sum: Option<f64>,
}

impl Bucketed {
    /// The series `…_bucket`, `…_count` and `…_sum` of `labels`.
    pub(crate) fn series(&self, labels: &Labels, batch: &mut Batch) {
        let name = labels.metric_name();
        let mut put = |suffix: &str, bound: Option<&str>, value: f64| {
            let named = labels.with(METRIC_NAME, &format!("{name}_{suffix}"));
            let labels = bound.map_or_else(|| named.clone(), |bound| named.with("le", bound));
            batch.push(SeriesSamples { labels, samples: vec![Sample { at: self.at, value }] });
        };
        let ended = self.sum.filter(|sum| is_stale(*sum));
        for (bound, below) in &self.buckets {
            put("bucket", Some(&bound.to_string()), *below);
        }
        put("bucket", Some("+Inf"), ended.unwrap_or(self.count));
        put("count", None, ended.unwrap_or(self.count));
        if let Some(sum) = self.sum {
            put("sum", None, sum);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The histogram that a sender of `scale` would make of values.
    fn of_values(scale: i32, values: &[f64]) -> Exponential {
        let (mut positive, mut negative, mut zero) = (BTreeMap::new(), BTreeMap::new(), 0.0);
        for value in values {
            let index = (value.abs().log2() * f64::from(scale).exp2()).ceil() as i64 - 1;
            match value.partial_cmp(&0.0) {
                Some(std::cmp::Ordering::Greater) => *positive.entry(index).or_default() += 1.0,
                Some(std::cmp::Ordering::Less) => *negative.entry(index).or_default() += 1.0,
                _ => zero += 1.0,
            }
        }
        Exponential::new(scale, positive, negative, zero, 0.0).unwrap()
    }

    #[test]
    fn counts_become_cumulative_under_their_bounds() {
        let histogram = Exponential::new(0, [(0, 2.0), (2, 1.0)], [(1, 4.0)], 3.0, 0.25).unwrap();
        let expected = [(-4.0, 0.0), (-2.0, 4.0), (0.25, 7.0), (1.0, 7.0), (2.0, 9.0), (4.0, 9.0), (8.0, 10.0)];
        assert_eq!(histogram.buckets(), expected);
    }

    #[test]
    fn the_bounds_of_a_coarser_histogram_are_among_those_of_a_finer_one() {
        let bounds =
            |scale| of_values(scale, &[0.7, 3.0, 9.0]).buckets().into_iter().map(|(bound, _)| bound.to_string());
        let (fine, coarse): (Vec<String>, Vec<String>) = (bounds(2).collect(), bounds(1).collect());
        let inside = &coarse[1..coarse.len() - 1];
        assert!(!inside.is_empty() && inside.iter().all(|bound| fine.contains(bound)), "{coarse:?} {fine:?}");
    }

    proptest! {
        #[test]
        fn every_bound_has_as_many_values_below_it_as_there_are(
            values in proptest::collection::vec(-1e6f64..1e6, 1..50), scale in -4i32..12,
        ) {
            let histogram = of_values(scale, &values);
            let buckets = histogram.buckets();
            prop_assert!(buckets.len() <= 4 * MAX_WIDTH as usize);
            prop_assert!(buckets.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 <= pair[1].1));
            for (bound, below) in buckets {
                // what lies on a bound to the last bits may fall on either side of it
                let slack = bound.abs() * 1e-9;
                let least = values.iter().filter(|value| **value <= bound - slack).count() as f64;
                let most = values.iter().filter(|value| **value <= bound + slack).count() as f64;
                prop_assert!((least..=most).contains(&below), "{below} up to {bound}, not {least} to {most}");
            }
        }

        #[test]
        fn adding_histograms_is_counting_all_values_together(
            some in proptest::collection::vec(-1e3f64..1e3, 1..30), more in proptest::collection::vec(1e-3f64..1e5, 1..30),
            scales in (0i32..8, 0i32..8),
        ) {
            let mut sum = of_values(scales.0, &some);
            sum.add(of_values(scales.1, &more));
            let all: Vec<f64> = some.iter().chain(&more).copied().collect();
            let total = sum.buckets().last().unwrap().1;
            prop_assert_eq!(total, all.len() as f64);
        }

        #[test]
        fn no_counts_make_it_panic_or_run_on(
            scale: i32, positive in proptest::collection::vec((any::<i64>(), any::<f64>()), 0..20), zero: f64, threshold: f64,
        ) {
            if let Some(histogram) = Exponential::new(scale, positive.clone(), positive, zero, threshold) {
                prop_assert!(histogram.buckets().len() < 1000);
            }
        }
    }
}
