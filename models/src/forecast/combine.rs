//! Weights for a combination, from how its members erred together.

use serde::{Deserialize, Serialize};

/// Second moments of the members' errors, older ones fading.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Together {
    members: usize,
    /// Row by row, shape `[members][members]`.
    moments: Vec<f64>,
}

/// Share of the off-diagonal moments that is believed.
const BELIEF: f64 = 0.9;

impl Together {
    pub(crate) fn new(members: usize) -> Self {
        Self { members, moments: vec![0.0; members * members] }
    }

    /// Takes in one error of each member, after old moments have been multiplied by `memory`.
    pub(crate) fn add(&mut self, errors: &[f64], memory: f64) {
        for (i, a) in errors.iter().enumerate() {
            for (j, b) in errors.iter().enumerate() {
                let cell = &mut self.moments[i * self.members + j];
                *cell = memory * *cell + a * b;
            }
        }
    }

    /// Moves `weights` (none negative, summing to one) to where the combined error is least in the mean square. They stay
    /// as they are while nothing is known.
    ///
    /// # Source
    /// Bates and Granger, "The combination of forecasts", Operational Research Quarterly 20, 1969; moments shrunk
    /// towards their diagonal; solved by exponentiated gradient (Kivinen and Warmuth 1997).
    pub(crate) fn weigh(&self, weights: &mut [f64]) {
        let n = self.members;
        let least = (0..n).map(|i| self.moments[i * n + i]).fold(f64::INFINITY, f64::min);
        if least.is_nan() || least <= 0.0 {
            return self.prefer_faultless(weights);
        }
        for _ in 0..100 {
            let slopes: Vec<f64> = (0..n).map(|i| self.slope(weights, i) / least).collect();
            let lowest = slopes.iter().copied().fold(f64::INFINITY, f64::min);
            weights.iter_mut().zip(&slopes).for_each(|(w, s)| *w *= (-0.5 * (s - lowest).min(40.0)).exp());
            let sum: f64 = weights.iter().sum();
            weights.iter_mut().for_each(|w| *w = (*w / sum).max(1e-6));
        }
    }

    fn slope(&self, weights: &[f64], i: usize) -> f64 {
        let row = &self.moments[i * self.members..(i + 1) * self.members];
        row.iter().zip(weights).enumerate().map(|(j, (m, w))| if i == j { m * w } else { BELIEF * m * w }).sum()
    }

    /// Shares all weight among those members whose errors are all zero, unless nothing is known of any.
    fn prefer_faultless(&self, weights: &mut [f64]) {
        let good: Vec<bool> = (0..self.members).map(|i| self.moments[i * self.members + i] <= 0.0).collect();
        let count = good.iter().filter(|g| **g).count().max(1) as f64;
        weights.iter_mut().zip(good).for_each(|(w, good)| *w = if good { 1.0 / count } else { 0.0 });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weights(together: &Together) -> Vec<f64> {
        let mut weights = vec![1.0 / together.members as f64; together.members];
        together.weigh(&mut weights);
        weights
    }

    #[test]
    fn nothing_known_is_shared_equally() {
        assert_eq!(weights(&Together::new(4)), [0.25; 4]);
    }

    #[test]
    fn independent_members_are_weighted_by_the_inverse_of_their_variance() {
        let mut together = Together::new(2);
        for (a, b) in [(1.0, 2.0), (1.0, -2.0), (-1.0, 2.0), (-1.0, -2.0)] {
            together.add(&[a, b], 1.0);
        }
        let weights = weights(&together);
        assert!((weights[0] - 0.8).abs() < 0.02, "{weights:?}");
    }

    #[test]
    fn a_faultless_member_takes_all() {
        let mut together = Together::new(2);
        together.add(&[0.0, 2.0], 1.0);
        assert_eq!(weights(&together), [1.0, 0.0]);
    }
}
