//! How long runs last: repeated values and missing samples.

use serde::{Deserialize, Serialize};

use super::tail::soft_limit;

const OCTAVES: usize = 12;
/// Share of runs that outlast an octave, before any was seen, and the weight of that belief in runs.
const PRIOR_SURVIVAL: f32 = 0.1;
const PRIOR_WEIGHT: f32 = 1.0;

/// Survival of runs by octave of their length (a Kaplan-Meier product on a coarse grid): any distribution of lengths,
/// from "never repeats" to "idle every night", in a fixed few bytes.
///
/// Source: E. Kaplan and P. Meier, "Nonparametric estimation from incomplete observations", JASA 1958.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Runs {
    length: u32,
    breaks: f32,
    starts: f32,
    entered: [f32; OCTAVES],
    outlasted: [f32; OCTAVES],
    odds: f32,
    limit: f32,
}

impl Runs {
    /// Takes whether the run goes on, ages the memory by the factor `keep`, and returns the surprise
    /// (`-log10` of the probability that a run starts here and lasts this long).
    pub(super) fn observe(&mut self, goes_on: bool, keep: f32) -> f64 {
        self.breaks *= keep;
        self.starts *= keep;
        if !goes_on {
            self.length = 0;
            self.breaks += 1.0;
            return 0.0;
        }
        if self.length == 0 {
            self.odds = -((self.starts + 0.5) / (self.starts + self.breaks + 1.0)).log10();
            self.starts += 1.0;
            self.limit = 2.0 * self.breaks.ln_1p() / std::f32::consts::LN_10;
        }
        self.length = self.length.saturating_add(1);
        if self.length.is_power_of_two() {
            self.pass(self.length.trailing_zeros() as usize, keep);
        }
        soft_limit(f64::from(self.odds), f64::from(self.limit))
    }

    /// The run reached the length `2^octave`.
    fn pass(&mut self, octave: usize, keep: f32) {
        if octave > 0 && octave <= OCTAVES {
            let k = octave - 1;
            self.odds -= self.survival(k).log10();
            self.outlasted[k] = self.outlasted[k] * keep + 1.0;
        }
        if octave < OCTAVES {
            self.entered[octave] = self.entered[octave] * keep + 1.0;
        }
    }

    fn survival(&self, octave: usize) -> f32 {
        // the present run has entered but is not yet known to last: it does not count itself
        let others = (self.entered[octave] - 1.0).max(0.0);
        ((self.outlasted[octave].min(others) + PRIOR_WEIGHT * PRIOR_SURVIVAL) / (others + PRIOR_WEIGHT))
            .clamp(1e-6, 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::reference;

    #[test]
    fn runs_outlast_lengths_as_often_as_the_estimate_of_kaplan_and_meier_by_statsmodels() {
        let known = &reference::known()["runs"];
        let mut runs = Runs::default();
        for length in reference::numbers(&known["lengths"]) {
            runs.observe(false, 1.0);
            (0..length as usize).for_each(|_| {
                runs.observe(true, 1.0);
            });
        }
        runs.observe(false, 1.0);
        runs.observe(true, 1.0);
        let started = runs.odds;
        let (reached, survival) = (reference::numbers(&known["reached"]), reference::numbers(&known["survival"]));
        for (length, expected) in reached.into_iter().zip(survival) {
            while f64::from(runs.length) < length {
                runs.observe(true, 1.0);
            }
            let told = f64::from(runs.odds - started);
            assert!((told + expected.log10()).abs() < 0.01, "{told} for {expected} at {length}");
        }
    }

    #[test]
    fn a_series_that_never_repeated_is_surprised_by_its_first_run() {
        let surprise = |breaks: usize| {
            let mut runs = Runs::default();
            (0..breaks).for_each(|_| {
                runs.observe(false, 1.0);
            });
            (0..64).map(|_| runs.observe(true, 1.0)).fold(0.0, f64::max)
        };
        assert!(surprise(3) < 2.5 && surprise(5000) > 5.0, "{} {}", surprise(3), surprise(5000));
    }
}
