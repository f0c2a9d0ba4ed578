//! Weights for a combination, from how its members erred on values they had not seen.

use serde::{Deserialize, Serialize};

/// How sharply a greater loss lowers the weight: twice the loss leaves a sixteenth.
const SHARPNESS: i32 = 4;

/// One loss for each member, older errors fading.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Losses(Vec<f64>);

impl Losses {
    pub(crate) fn new(members: usize) -> Self {
        Self(vec![0.0; members])
    }

    /// Takes in one error of each member, which speaks for so many points, each of which leaves `memory` of the losses
    /// before it. An error counts by its square, divided by the mean size of the errors of all members at that time: so a time that was hard for everyone
    /// does not drown the others.
    pub(crate) fn add(&mut self, errors: &[f64], memory: f64, points: usize) {
        let (kept, weight) = (memory.powi(points as i32), points as f64);
        let size = errors.iter().map(|e| e.abs()).sum::<f64>() / errors.len() as f64;
        for (loss, error) in self.0.iter_mut().zip(errors) {
            *loss = kept * *loss + if size > 0.0 { weight * error * (error / size) } else { 0.0 };
        }
    }

    /// Weights, none negative, summing to one: the inverse losses, sharpened. Members without any loss share all weight;
    /// while nothing is known, these are all members.
    ///
    /// # Source
    /// Weights by inverse mean squared error after Bates and Granger, "The combination of forecasts", Operational
    /// Research Quarterly 20, 1969; correlations are left out, as their estimates cost more than they gain (Stock and
    /// Watson, "Combination forecasts of output growth", J. Forecasting 23, 2004).
    pub(crate) fn weights(&self) -> Vec<f64> {
        let least = self.0.iter().copied().fold(f64::INFINITY, f64::min);
        let raw =
            |loss: &f64| if least > 0.0 { (least / loss).powi(SHARPNESS) } else { f64::from(u8::from(*loss <= 0.0)) };
        let raw: Vec<f64> = self.0.iter().map(raw).collect();
        let sum: f64 = raw.iter().sum();
        raw.into_iter().map(|w| w / sum).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_known_is_shared_equally() {
        assert_eq!(Losses::new(4).weights(), [0.25; 4]);
    }

    #[test]
    fn the_better_member_has_the_greater_weight_and_old_errors_fade() {
        let mut losses = Losses::new(2);
        losses.add(&[1.0, 2.0], 1.0, 1);
        assert!((losses.weights()[0] - 256.0 / 257.0).abs() < 1e-12);
        (0..50).for_each(|_| losses.add(&[2.0, 1.0], 0.5, 1));
        assert!(losses.weights()[1] > 0.99);
    }

    #[test]
    fn a_faultless_member_takes_all() {
        let mut losses = Losses::new(2);
        losses.add(&[0.0, 2.0], 1.0, 1);
        assert_eq!(losses.weights(), [1.0, 0.0]);
    }
}
