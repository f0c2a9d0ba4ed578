//! Intervals from the errors a forecast made on values it had not seen.

use serde::{Deserialize, Serialize};

use super::Quantile;
use super::newest::Newest;

/// Independent errors at which half of their middle is believed.
const MIDDLE_NEEDS: f64 = 20.0;

/// Errors at which a step needs no others to speak for it.
const ENOUGH: usize = 20;

/// Errors that weigh as much as the belief that errors grow with the square root of the distance, as those of a random
/// walk do.
const GROWTH_NEEDS: f64 = 20.0;

/// Independent errors at which a bound read from the errors weighs as much as one reckoned from their mean size.
const TAIL_NEEDS: f64 = 60.0;

/// How far out p95 lies, in mean distances from the median on its side: 2.06 where errors are normal, 2.13 where they
/// follow Student's t with three degrees of freedom, 2.30 where they fall off as Laplace's do. A little more makes up for
/// the mean being known from few errors.
const REACH_95: f64 = 2.35;

/// Most that a level is moved away from the middle, as a share of its distance.
const MOST_STRETCH: f64 = 0.02;

/// The newest errors of each step ahead, from which quantiles are read (split conformal prediction, kept rolling).
///
/// # Source
/// Vovk, Gammerman and Shafer, "Algorithmic Learning in a Random World", 2005; Xu and Xie, "Conformal prediction
/// interval for dynamic time-series", ICML 2021, for the rolling set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Errors {
    /// Most errors kept of each step.
    capacity: usize,
    /// Once there would be more, only one in so many is kept: neighbours in time overlap and tell nearly the same.
    stride: usize,
    /// Points from one error to the next.
    every: usize,
    steps: Vec<Newest>,
}

impl Errors {
    /// Room for `capacity` errors of each of `horizon` steps, of more only every `stride`th; there is one at every
    /// `every`th point.
    pub(crate) fn new(horizon: usize, (capacity, stride): (usize, usize), every: usize) -> Self {
        Self { capacity, stride, every, steps: vec![Newest::default(); horizon] }
    }

    /// Takes in the error (observed less expected) of step `step` (0 is the first).
    pub(crate) fn push(&mut self, step: usize, error: f64) {
        if let Some(newest) = self.steps.get_mut(step).filter(|_| error.is_finite()) {
            newest.push(error as f32, (self.capacity, self.stride));
        }
    }

    /// Takes in an error that is not seen until [`sort`](Self::sort): for many at once.
    pub(crate) fn push_unsorted(&mut self, step: usize, error: f64) {
        if let Some(newest) = self.steps.get_mut(step).filter(|_| error.is_finite()) {
            newest.push_unsorted(error as f32, (self.capacity, self.stride));
        }
    }

    /// Whether no error is seen yet.
    pub(crate) fn is_empty(&self) -> bool {
        self.steps.iter().all(|newest| newest.len() == 0)
    }

    /// Makes all errors seen.
    pub(crate) fn sort(&mut self) {
        self.steps.iter_mut().for_each(Newest::sort);
    }

    /// What to add to the expected value of step `step` to reach the middle of its distribution.
    pub(crate) fn middle(&self, step: usize) -> f64 {
        self.known(step).map_or(0.0, |(errors, overlap, widen)| widen * middle(errors, overlap))
    }

    /// What to add to the expected value of step `step` to reach each of `levels` (ascending). A step without errors of
    /// its own takes those of the nearest earlier one, widened with the square root of the distance; without any errors
    /// there is no width.
    pub(crate) fn offsets(&self, step: usize, levels: &[Quantile]) -> Vec<f64> {
        let Some((errors, overlap, widen)) = self.known(step) else { return vec![0.0; levels.len()] };
        let shift = conformal(errors, 0.5) * doubt(errors.len(), overlap);
        let at = |level: &Quantile| {
            let p = level.value();
            let share = 1.0 - (2.0 * p - 1.0).abs();
            widen * (bound(errors, overlap, p) - share * shift)
        };
        let rising = |highest: &mut f64, offset: f64| {
            *highest = highest.max(offset);
            Some(*highest)
        };
        levels.iter().map(at).scan(f64::NEG_INFINITY, rising).collect()
    }

    /// The errors that speak for `step`, by size; how many of them tell what one that overlaps with none would; and how much to widen them: its
    /// own where there are enough, else those of the nearest earlier step that has enough, or the most.
    fn known(&self, step: usize) -> Option<(&Newest, f64, f64)> {
        let within = &self.steps[..self.steps.len().min(step + 1)];
        let most = within.iter().map(Newest::len).max().filter(|most| *most > 0)?;
        let known = within.iter().rposition(|newest| newest.len() >= most.min(ENOUGH))?;
        let distance = (step + 1) as f64 / (known + 1) as f64;
        let widen = if known == step { 1.0 } else { distance.powf(self.growth()) };
        let newest = &self.steps[known];
        let stride = self.every * if newest.is_thinned() { self.stride } else { 1 };
        let overlap = ((known + 1) as f64 / stride as f64).max(1.0);
        Some((newest, overlap, widen))
    }

    /// The power of the distance with which errors grow, as far as the errors at hand tell it: between none and that of a
    /// random walk.
    fn growth(&self) -> f64 {
        let first = self.steps.first().map_or(0.0, Newest::mean_size);
        let (mut together, mut alone) = (0.5 * GROWTH_NEEDS, GROWTH_NEEDS);
        for (step, newest) in self.steps.iter().enumerate().skip(1).filter(|(_, newest)| newest.len() > 0) {
            let (weight, distance) = (newest.len() as f64, ((step + 1) as f64).ln());
            let growth = (newest.mean_size() / first).ln();
            if growth.is_finite() {
                together += weight * distance * growth;
                alone += weight * distance * distance;
            }
        }
        (together / alone).clamp(0.0, 0.5)
    }
}

/// The median of errors of which `overlap` tell what one would, as far as it is believed.
fn middle(errors: &Newest, overlap: f64) -> f64 {
    conformal(errors, 0.5) * (1.0 - doubt(errors.len(), overlap))
}

/// Share of the errors' middle that is taken for chance and left out, at the median whole, further out less: errors of a
/// path overlap, so that only one in `overlap` tells something new, and below twenty of those the middle is mostly noise.
fn doubt(errors: usize, overlap: f64) -> f64 {
    let independent = errors as f64 / overlap;
    MIDDLE_NEEDS / (MIDDLE_NEEDS + independent)
}

/// The bound of probability `p`: what the errors at hand tell, drawn towards what their mean size on that side lets expect
/// the more the fewer of them are independent. The share of errors beyond a bound hangs on a few of them, the ratio of a
/// bound to the mean size hardly differs between distributions: where there are few, the second is the surer guide.
///
/// # Source
/// Shrinkage of an estimate towards a surer one: James and Stein, "Estimation with quadratic loss", 1961. The bounds
/// expected are those of Laplace's distribution, whose logarithm falls off evenly on either side.
fn bound(errors: &Newest, overlap: f64, p: f64) -> f64 {
    let read = conformal(errors, stretched(p, errors.len(), overlap));
    let (median, beyond) = (conformal(errors, 0.5), 1.0 - (2.0 * p - 1.0).abs());
    let distance = REACH_95 * beyond.ln() / 0.1f64.ln() * errors.mean_distance(median, p > 0.5);
    let reckoned = if p > 0.5 { median + distance } else { median - distance };
    let trust = errors.len() as f64 / overlap;
    (trust * read + TAIL_NEEDS * reckoned) / (trust + TAIL_NEEDS)
}

/// The probability to read in place of `p`, further out by what overlap hides: `n` errors that overlap are worth fewer
/// than `n`. Never by more than a fiftieth, nor beyond the ranks at hand.
fn stretched(p: f64, n: usize, overlap: f64) -> f64 {
    let edge = 1.0 / (n + 1) as f64;
    let further = 0.5 + (p - 0.5) * (1.0 + (overlap / n as f64).min(MOST_STRETCH));
    further.clamp(edge.min(p), (1.0 - edge).max(p))
}

/// The value that one more error lies at or below with probability `p`: its rank is taken among one more than the
/// errors at hand. Beyond the first and last rank the outermost error stands, moved out by half the range for each rank
/// that is missing.
fn conformal(errors: &Newest, p: f64) -> f64 {
    let Some(last) = errors.len().checked_sub(1) else { return 0.0 };
    let rank = p * (errors.len() + 1) as f64 - 1.0;
    let at = |rank: f64| errors.at(rank.clamp(0.0, last as f64) as usize);
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
    fn of_many_errors_the_bounds_are_read_and_of_few_they_are_reckoned_from_their_mean_size() {
        let of = |count: i32| {
            let mut errors = Errors::new(1, (5000, 1), 1);
            (0..count).for_each(|i| errors.push(0, f64::from(i % 19 - 9)));
            errors.offsets(0, &[q(0.5), q(0.95)])
        };
        let (many, few) = (of(4997), of(19));
        assert!(many[0].abs() < 0.1 && (many[1] - 9.0).abs() < 0.1, "{many:?}");
        assert!(few[0].abs() < 0.1 && (few[1] - 0.75 * REACH_95 * 4.75).abs() < 2.5, "{few:?}");
        assert!(few[1] > many[1]);
    }

    #[test]
    fn the_middle_of_few_errors_is_half_believed_and_the_bounds_more() {
        let mut errors = Errors::new(1, (100, 1), 1);
        (0..20).for_each(|_| errors.push(0, 8.0));
        let offsets = errors.offsets(0, &[q(0.5), q(0.9)]);
        assert!((offsets[0] - 4.0).abs() < 1e-9 && (offsets[1] - 7.2).abs() < 1e-9, "{offsets:?}");
    }

    #[test]
    fn old_errors_are_forgotten_and_wild_ones_refused() {
        let mut errors = Errors::new(1, (3, 1), 1);
        [100.0, -1.0, f64::NAN, 0.0, 1.0].into_iter().for_each(|e| errors.push(0, e));
        let offset = errors.offsets(0, &[q(0.75)])[0];
        assert!(offset > 0.3 && offset < 2.0, "the error of 100 is gone: {offset}");
    }

    #[test]
    fn more_errors_than_there_is_room_for_are_thinned_out_evenly() {
        let (mut live, mut many) = (Errors::new(1, (200, 3), 1), Errors::new(1, (200, 3), 1));
        for i in 0..1000 {
            let error = f64::from((i * 37) % 101) - 50.0;
            live.push(0, error);
            many.push_unsorted(0, error);
        }
        many.sort();
        assert_eq!(live, many);
        let offsets = live.offsets(0, &[q(0.1), q(0.5), q(0.9)]);
        assert!(offsets.iter().zip([-42.0, 0.0, 42.0]).all(|(a, b)| (a - b).abs() < 5.0), "{offsets:?}");
    }

    #[test]
    fn a_step_with_a_lone_error_borrows_the_width_of_one_that_knows_more() {
        let mut errors = Errors::new(30, (100, 1), 1);
        for step in 0..30 {
            (0..30 - step).for_each(|i| errors.push(step, if i % 2 == 0 { -1.0 } else { 1.0 }));
        }
        let (near, far) = (errors.offsets(0, &[q(0.1), q(0.95)]), errors.offsets(29, &[q(0.1), q(0.95)]));
        assert!(far[0] <= near[0] && far[1] >= near[1], "{near:?} {far:?}");
        assert!(
            far[1] < 1.5 * near[1],
            "errors that did not grow are not widened like those of a random walk: {far:?}"
        );
    }

    #[test]
    fn beyond_the_horizon_the_last_step_is_widened() {
        let mut errors = Errors::new(1, (9, 1), 1);
        [-1.0, 0.0, 1.0].into_iter().for_each(|e| errors.push(0, e));
        let (last, beyond) = (errors.offsets(0, &[q(0.75)])[0], errors.offsets(3, &[q(0.75)])[0]);
        assert!(last > 0.0 && (beyond - 2.0 * last).abs() < 1e-12, "{last} {beyond}");
        assert!(errors.offsets(0, &[q(0.01)])[0] < -1.0);
        assert_eq!(Errors::new(2, (9, 1), 1).offsets(0, &[q(0.9)]), [0.0]);
    }
}
