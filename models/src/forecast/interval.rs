//! Intervals from the errors a forecast made on values it had not seen.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::Quantile;

/// Independent errors at which half of their middle is believed.
const MIDDLE_NEEDS: f64 = 20.0;

/// Most that a level is moved away from the middle, as a share of its distance.
const MOST_STRETCH: f64 = 0.02;

/// The newest errors of each step ahead, from which quantiles are read (split conformal prediction, kept rolling).
///
/// # Source
/// Vovk, Gammerman and Shafer, "Algorithmic Learning in a Random World", 2005; Xu and Xie, "Conformal prediction
/// interval for dynamic time-series", ICML 2021, for the rolling set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Errors {
    capacity: usize,
    steps: Vec<VecDeque<f32>>,
}

impl Errors {
    /// Room for `capacity` errors of each of `horizon` steps.
    pub(crate) fn new(horizon: usize, capacity: usize) -> Self {
        Self { capacity, steps: vec![VecDeque::new(); horizon] }
    }

    /// Takes in the error (observed less expected) of step `step` (0 is the first).
    pub(crate) fn push(&mut self, step: usize, error: f64) {
        if let Some(ring) = self.steps.get_mut(step).filter(|_| error.is_finite()) {
            if ring.len() == self.capacity {
                ring.pop_front();
            }
            ring.push_back(error as f32);
        }
    }

    /// What to add to the expected value of step `step` to reach each of `levels` (ascending). A step without errors of
    /// its own takes those of the nearest earlier one, widened with the square root of the distance; without any errors
    /// there is no width.
    pub(crate) fn offsets(&self, step: usize, levels: &[Quantile]) -> Vec<f64> {
        let known = self.steps.iter().take(step + 1).rposition(|ring| !ring.is_empty());
        let Some(known) = known else { return vec![0.0; levels.len()] };
        let widen = ((step + 1) as f64 / (known + 1) as f64).sqrt();
        let mut errors: Vec<f32> = self.steps[known].iter().copied().collect();
        errors.sort_unstable_by(f32::total_cmp);
        let shift = conformal(&errors, 0.5) * doubt(errors.len(), known + 1);
        let at = |level: &Quantile| {
            let p = level.value();
            let share = 1.0 - (2.0 * p - 1.0).abs();
            widen * (conformal(&errors, stretched(p, errors.len(), known + 1)) - share * shift)
        };
        let rising = |highest: &mut f64, offset: f64| {
            *highest = highest.max(offset);
            Some(*highest)
        };
        levels.iter().map(at).scan(f64::NEG_INFINITY, rising).collect()
    }
}

/// Share of the errors' middle that is taken for chance and left out, at the median whole, further out less: errors of a path `steps` long overlap, so that only one in
/// `steps` tells something new, and below twenty of those the middle is mostly noise.
fn doubt(errors: usize, steps: usize) -> f64 {
    let independent = errors as f64 / steps as f64;
    MIDDLE_NEEDS / (MIDDLE_NEEDS + independent)
}

/// The probability to read in place of `p`, further out by what overlap hides: `n` errors of a path `steps` long are
/// worth fewer than `n`. Never by more than a fiftieth, nor beyond the ranks at hand.
fn stretched(p: f64, n: usize, steps: usize) -> f64 {
    let edge = 1.0 / (n + 1) as f64;
    let further = 0.5 + (p - 0.5) * (1.0 + (steps as f64 / n as f64).min(MOST_STRETCH));
    further.clamp(edge.min(p), (1.0 - edge).max(p))
}

/// The value that one more error lies at or below with probability `p`: its rank is taken among one more than the
/// errors at hand. Beyond the first and last rank the outermost error stands, moved out by half the range for each rank
/// that is missing.
fn conformal(sorted: &[f32], p: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else { return 0.0 };
    let rank = p * (sorted.len() + 1) as f64 - 1.0;
    let at = |rank: f64| f64::from(sorted[rank.clamp(0.0, last as f64) as usize]);
    let inside = at(rank.floor()) + rank.fract().max(0.0) * (at(rank.ceil()) - at(rank.floor()));
    let missing = (rank - last as f64).max(0.0) + rank.min(0.0);
    inside + 0.5 * missing * (at(last as f64) - at(0.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn q(p: f64) -> Quantile {
        Quantile::try_from(p).expect("a probability")
    }

    #[test]
    fn nineteen_errors_give_the_ninety_five_percent_bound_as_the_largest() {
        let mut errors = Errors::new(1, 100);
        (-9..=9).for_each(|e| errors.push(0, f64::from(e)));
        assert_eq!(errors.offsets(0, &[q(0.5), q(0.95)]), [0.0, 9.0]);
    }

    #[test]
    fn the_middle_of_few_errors_is_half_believed_and_the_bounds_more() {
        let mut errors = Errors::new(1, 100);
        (0..20).for_each(|_| errors.push(0, 8.0));
        let offsets = errors.offsets(0, &[q(0.5), q(0.9)]);
        assert!((offsets[0] - 4.0).abs() < 1e-9 && (offsets[1] - 7.2).abs() < 1e-9, "{offsets:?}");
    }

    #[test]
    fn old_errors_are_forgotten_and_wild_ones_refused() {
        let mut errors = Errors::new(1, 3);
        [100.0, -1.0, f64::NAN, 0.0, 1.0].into_iter().for_each(|e| errors.push(0, e));
        assert_eq!(errors.offsets(0, &[q(0.75)]), [1.0]);
    }

    #[test]
    fn beyond_the_horizon_the_last_step_is_widened() {
        let mut errors = Errors::new(1, 9);
        [-1.0, 0.0, 1.0].into_iter().for_each(|e| errors.push(0, e));
        assert_eq!(errors.offsets(3, &[q(0.75)]), [2.0]);
        assert!(errors.offsets(0, &[q(0.01)])[0] < -1.0);
        assert_eq!(Errors::new(2, 9).offsets(0, &[q(0.9)]), [0.0]);
    }
}
