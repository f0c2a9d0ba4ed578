//! How many different values a label takes, in little memory: pure.

use std::hash::{BuildHasher, RandomState};

use bellwether_models::series::{Labels, METRIC_NAME};

/// Registers of a sketch: 128 bytes, a standard error of 9 %.
const REGISTERS: usize = 128;

/// Labels of one metric that are followed; a series has no more by default.
const MAX_LABELS: usize = 64;

/// Counts different hashes approximately.
///
/// # Source
/// Flajolet, Fusy, Gandouet, Meunier, "HyperLogLog: the analysis of a near-optimal cardinality estimation algorithm", 2007.
#[derive(Clone, Debug)]
pub(super) struct Sketch([u8; REGISTERS]);

impl Default for Sketch {
    fn default() -> Self {
        Self([0; REGISTERS])
    }
}

impl Sketch {
    /// Notes a hash.
    pub(super) fn add(&mut self, hash: u64) {
        let register = (hash % REGISTERS as u64) as usize;
        let rank = (hash / REGISTERS as u64).trailing_zeros().min(56) as u8 + 1;
        self.0[register] = self.0[register].max(rank);
    }

    /// About how many different hashes were noted.
    pub(super) fn estimate(&self) -> u64 {
        let m = REGISTERS as f64;
        let harmonic: f64 = self.0.iter().map(|rank| 2f64.powi(-i32::from(*rank))).sum();
        let raw = 0.7213 / (1.0 + 1.079 / m) * m * m / harmonic;
        let empty = self.0.iter().filter(|rank| **rank == 0).count();
        let small = raw <= 2.5 * m && empty > 0;
        (if small { m * (m / empty as f64).ln() } else { raw }).round() as u64
    }
}

/// How many values each label of a metric takes.
#[derive(Debug, Default)]
pub(super) struct Spread(Vec<(Box<str>, Sketch)>);

impl Spread {
    /// Notes the labels of a new series.
    pub(super) fn add(&mut self, hasher: &RandomState, labels: &Labels) {
        for (name, value) in labels.iter().filter(|(name, _)| *name != METRIC_NAME) {
            let place = self.0.iter().position(|(known, _)| &**known == name).unwrap_or(self.0.len());
            if place == self.0.len() && place < MAX_LABELS {
                self.0.push((name.into(), Sketch::default()));
            }
            if let Some((_, sketch)) = self.0.get_mut(place) {
                sketch.add(hasher.hash_one(value));
            }
        }
    }

    /// The labels that take the most values, and about how many: those with at least half as many as the first.
    pub(super) fn widest(&self) -> Vec<(String, u64)> {
        let mut labels: Vec<(String, u64)> =
            self.0.iter().map(|(name, sketch)| (name.to_string(), sketch.estimate())).collect();
        labels.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        let most = labels.first().map_or(0, |(_, values)| *values);
        labels.retain(|(_, values)| *values > 1 && values * 2 >= most);
        labels
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn an_estimate_is_near_the_truth_at_every_size(exponent in 0u32..18, seed: u64) {
            let (count, mut sketch) = (1u64 << exponent, Sketch::default());
            for number in 0..count {
                // splitmix64: hashes that differ for every seed and number
                let mut hash = seed.wrapping_add((number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
                hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
                hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
                sketch.add(hash ^ (hash >> 31));
            }
            // five standard errors, and the few that share a register by chance
            let error = (sketch.estimate() as f64 - count as f64).abs();
            prop_assert!(error <= 0.5 * count as f64 + 2.0, "{count} was taken for {}", sketch.estimate());
        }
    }

    #[test]
    fn the_label_that_runs_away_stands_first_and_constant_ones_are_not_named() {
        let (mut spread, hasher) = (Spread::default(), RandomState::new());
        for number in 0..2000u32 {
            let (request, pod) = (number.to_string(), (number % 40).to_string());
            let labels = Labels::metric("m").with("request_id", &request).with("pod", &pod).with("job", "web");
            spread.add(&hasher, &labels);
        }
        let widest = spread.widest();
        assert_eq!(widest.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["request_id"]);
        assert!((1000..4000).contains(&widest[0].1), "{widest:?}");
    }
}
