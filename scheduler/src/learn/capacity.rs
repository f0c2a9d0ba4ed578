//! What one replica can serve, from how full the replicas are at which load.
//!
//! The share of its capacity that a replica uses is taken to grow in a straight line with its load (the utilisation law:
//! Denning and Buzen, "The Operational Analysis of Queueing Network Models", 1978), from what it uses without any. The
//! line is fitted by least squares with weights that fade with time; the capacity is the load at which it reaches 1, and its
//! uncertainty follows by the delta method.

use std::time::Duration;

use bellwether_models::series::Timestamp;
use serde::{Deserialize, Serialize};

/// Time in which an observation loses half its weight.
const HALF_LIFE: Duration = Duration::from_secs(86_400);
/// Neighbours in time err alike: so many observations count as one where uncertainty is reckoned.
const ALIKE: f64 = 10.0;
/// Least weight of what was seen.
const ENOUGH: f64 = 60.0;
/// Least relative spread of loads: from a single load no line can be told.
const SPREAD: f64 = 0.05;
/// Least share of the variation that the line must explain.
const EXPLAINED: f64 = 0.5;
/// Standard deviations below the estimate that are reckoned with: one-sided 95 %.
const CAUTION: f64 = 1.645;
/// The line is not followed further than so many times the greatest load seen.
const BEYOND: f64 = 2.0;

/// Weighted sums from which the line is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CapacityFit {
    at: Option<Timestamp>,
    weight: f64,
    mean_load: f64,
    mean_full: f64,
    load_load: f64,
    load_full: f64,
    full_full: f64,
    greatest_load: f64,
}

/// What a replica can serve.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Learnt {
    /// With 95 % confidence at least this; what decisions reckon with.
    pub safe: f64,
    /// Most likely.
    pub likely: f64,
}

impl CapacityFit {
    /// Takes in how full a replica is under `load`. An observation that was taken in before, or is no number, is passed over.
    pub fn observe(&mut self, at: Timestamp, load: f64, full: f64) {
        let news = self.at.is_none_or(|last| at > last);
        if !(news && load.is_finite() && load > 0.0 && (0.0..=10.0).contains(&full)) {
            return;
        }
        let age = self.at.map_or(Duration::ZERO, |last| at.since(last));
        let fade = 0.5f64.powf(age.as_secs_f64() / HALF_LIFE.as_secs_f64());
        self.at = Some(at);
        for sum in [&mut self.weight, &mut self.load_load, &mut self.load_full, &mut self.full_full] {
            *sum *= fade;
        }
        self.greatest_load = (self.greatest_load * fade.sqrt()).max(load);
        // Welford's update, with weights (West 1979): no difference of large sums.
        self.weight += 1.0;
        let (load_off, full_off) = (load - self.mean_load, full - self.mean_full);
        self.mean_load += load_off / self.weight;
        self.mean_full += full_off / self.weight;
        self.load_load += load_off * (load - self.mean_load);
        self.load_full += load_off * (full - self.mean_full);
        self.full_full += full_off * (full - self.mean_full);
    }

    /// What a replica can serve; `None` until load and fullness tell.
    #[must_use]
    pub fn learnt(&self) -> Option<Learnt> {
        let n = self.weight / ALIKE;
        let spread = (self.load_load / self.weight).sqrt() / self.mean_load;
        if self.weight < ENOUGH || spread.is_nan() || spread < SPREAD {
            return None;
        }
        let slope = self.load_full / self.load_load;
        let idle = self.mean_full - slope * self.mean_load;
        let explained = self.load_full * slope / self.full_full;
        if !(slope > 0.0 && idle < 0.9 && explained >= EXPLAINED) {
            return None;
        }
        let likely = (1.0 - idle) / slope;
        let noise = (self.full_full - slope * self.load_full).max(0.0) / self.weight * n / (n - 2.0);
        // The variance of a ratio of two linear estimates, by the delta method.
        let off = likely - self.mean_load;
        let variance = noise / (slope * slope) * (1.0 / n + off * off / (self.load_load / self.weight * n));
        let safe = (likely - CAUTION * variance.sqrt()).min(BEYOND * self.greatest_load);
        (safe.is_finite() && safe > 0.0 && likely.is_finite()).then_some(Learnt { safe, likely })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Idle at a tenth; full at `capacity`; noise of `noise`, drawn by a rule.
    fn seen(capacity: f64, noise: f64, n: usize) -> CapacityFit {
        let mut fit = CapacityFit::default();
        for i in 0..n {
            let load = capacity * (0.3 + 0.4 * ((i * 37 % 101) as f64 / 101.0));
            let full = 0.1 + 0.9 * load / capacity + noise * ((i * 61 % 103) as f64 / 51.5 - 1.0);
            fit.observe(Timestamp::from_secs(60 * i as i64), load, full);
        }
        fit
    }

    #[test]
    fn the_load_at_which_a_replica_would_be_full_is_found_with_its_uncertainty() {
        let exact = seen(50.0, 0.0, 200).learnt().expect("learnt");
        assert!((exact.likely - 50.0).abs() < 1e-6 && (exact.safe - 50.0).abs() < 1e-3, "{exact:?}");
        let noisy = seen(50.0, 0.05, 600).learnt().expect("learnt");
        assert!((noisy.likely - 50.0).abs() < 2.0, "{noisy:?}");
        assert!(noisy.safe < noisy.likely && noisy.safe > 40.0, "{noisy:?}");
        let fewer = seen(50.0, 0.05, 150).learnt().expect("learnt");
        assert!(fewer.likely - fewer.safe > noisy.likely - noisy.safe, "less is known: {fewer:?} {noisy:?}");
    }

    #[test]
    fn where_load_and_fullness_tell_nothing_nothing_is_said() {
        assert_eq!(CapacityFit::default().learnt(), None);
        assert_eq!(seen(50.0, 0.0, 20).learnt(), None, "too little");
        let mut flat = CapacityFit::default();
        let mut random = CapacityFit::default();
        for i in 0..500 {
            let at = Timestamp::from_secs(60 * i);
            flat.observe(at, 20.0, 0.5);
            random.observe(at, 10.0 + (i * 37 % 101) as f64, ((i * 61 % 103) as f64) / 103.0);
        }
        assert_eq!((flat.learnt(), random.learnt()), (None, None));
    }

    #[test]
    fn a_line_is_not_followed_far_beyond_what_was_seen() {
        let mut fit = CapacityFit::default();
        for i in 0..500 {
            let load = 1.0 + (i * 37 % 101) as f64 / 101.0;
            fit.observe(Timestamp::from_secs(60 * i), load, 0.001 * load);
        }
        let learnt = fit.learnt().expect("learnt");
        assert!(learnt.safe <= 4.0 && learnt.likely > 900.0, "{learnt:?}");
    }

    #[test]
    fn a_new_version_that_serves_half_is_learnt_within_days() {
        let mut fit = seen(50.0, 0.01, 1440);
        for i in 1440..1440 * 10 {
            let load = 25.0 * (0.3 + 0.4 * ((i * 37 % 101) as f64 / 101.0));
            fit.observe(Timestamp::from_secs(60 * i), load, 0.1 + 0.9 * load / 25.0);
        }
        let learnt = fit.learnt().expect("learnt");
        assert!((learnt.likely - 25.0).abs() < 2.5, "{learnt:?}");
    }

    proptest! {
        #[test]
        fn no_input_makes_a_capacity_that_is_no_positive_number(
            seen in prop::collection::vec((any::<f64>(), any::<f64>(), 0i64..100_000), 0..200)
        ) {
            let mut fit = CapacityFit::default();
            for (load, full, at) in seen {
                fit.observe(Timestamp::from_secs(at), load, full);
            }
            if let Some(learnt) = fit.learnt() {
                prop_assert!(learnt.safe > 0.0 && learnt.safe.is_finite());
            }
        }
    }
}
