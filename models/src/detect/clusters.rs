//! How many samples of an exceedance are one event.

use serde::{Deserialize, Serialize};

/// Samples without an exceedance that end a cluster of them.
const APART: u8 = 4;
/// Share of exceedances that begin a cluster, before any was seen, and the weight of that belief in exceedances.
const PRIOR_SHARE: f32 = 0.3;
const PRIOR_WEIGHT: f32 = 5.0;
/// The least a sample counts.
const LEAST: f32 = 0.05;

/// The extremal index of a series, by runs: the share of exceedances that begin a cluster. Ten samples that exceed
/// together are one observation of the tail, not ten; of independent samples each is one.
///
/// Source: M. Leadbetter, "Extremes and local dependence in stationary sequences", 1983; R. Smith, I. Weissman,
/// "Estimating the extremal index", JRSS B 1994.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Clusters {
    exceedances: f32,
    begun: f32,
    calm: u8,
}

impl Default for Clusters {
    fn default() -> Self {
        Self { exceedances: PRIOR_WEIGHT, begun: PRIOR_WEIGHT * PRIOR_SHARE, calm: APART }
    }
}

impl Clusters {
    /// Takes whether a sample exceeds, ageing the memory by the factor `keep`, and gives the observations it stands for.
    pub(super) fn observe(&mut self, exceeds: bool, keep: f32) -> f32 {
        if exceeds {
            let begins = self.calm >= APART;
            self.exceedances = self.exceedances * keep + 1.0;
            self.begun = self.begun * keep + f32::from(u8::from(begins));
        }
        self.calm = if exceeds { 0 } else { self.calm.saturating_add(1) };
        (self.begun / self.exceedances).max(LEAST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::reference;

    /// What a sample stands for at the end.
    fn after(exceeds: impl Iterator<Item = bool>) -> f32 {
        let mut clusters = Clusters::default();
        exceeds.map(|exceeds| clusters.observe(exceeds, 1.0)).last().unwrap()
    }

    #[test]
    fn exceedances_that_come_together_are_one_observation_and_lone_ones_each_one() {
        let (together, alone) = (after((0..20_000).map(|k| k % 100 < 10)), after((0..20_000).map(|k| k % 10 == 0)));
        assert!((together - 0.1).abs() < 0.01 && (alone - 1.0).abs() < 0.01, "{together} {alone}");
    }

    #[test]
    fn the_extremal_index_is_that_of_the_reference() {
        let case = &reference::known()["clusters"];
        let threshold = case["threshold"].as_f64().unwrap();
        let values = reference::numbers(&case["values"]).into_iter();
        let mut clusters = Clusters { exceedances: 0.0, begun: 0.0, calm: APART };
        let share = values.map(|value| clusters.observe(value > threshold, 1.0)).filter(|s| !s.is_nan()).last();
        assert!((f64::from(share.unwrap()) - case["index"].as_f64().unwrap()).abs() < 1e-6, "{share:?}");
    }
}
