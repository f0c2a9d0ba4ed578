//! Intervals from the errors a forecast made on values it had not seen.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::Quantile;

/// Independent errors at which half of their middle is believed.
const MIDDLE_NEEDS: f64 = 20.0;

/// Errors at which a step needs no others to speak for it.
const ENOUGH: usize = 20;

/// Errors that weigh as much as the belief that errors grow with the square root of the distance, as those of a random
/// walk do.
const GROWTH_NEEDS: f64 = 20.0;

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
    steps: Vec<Newest>,
}

/// Errors in order of time and in order of size.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(from = "Stored", into = "Stored")]
struct Newest {
    by_time: VecDeque<f32>,
    by_size: Vec<f32>,
    /// Whether errors have been thinned out.
    thinned: bool,
    /// Errors passed over since the last one kept.
    passed: usize,
}

#[derive(Clone, Serialize, Deserialize)]
struct Stored(VecDeque<f32>, bool, usize);

impl From<Stored> for Newest {
    fn from(Stored(by_time, thinned, passed): Stored) -> Self {
        let mut newest = Self { by_time, by_size: Vec::new(), thinned, passed };
        newest.sort();
        newest
    }
}

impl From<Newest> for Stored {
    fn from(newest: Newest) -> Self {
        Self(newest.by_time, newest.thinned, newest.passed)
    }
}

impl Newest {
    /// Makes room for one more error, if this one is to be kept; gives the one that must go.
    fn make_room(&mut self, capacity: usize, stride: usize) -> Option<Option<f32>> {
        if self.by_time.len() >= capacity && !self.thinned && stride > 1 {
            self.thin(capacity, stride);
        }
        self.passed += 1;
        if self.thinned && self.passed < stride {
            return None;
        }
        self.passed = 0;
        Some(if self.by_time.len() >= capacity { self.by_time.pop_front() } else { None })
    }

    fn thin(&mut self, capacity: usize, stride: usize) {
        let sorted = !self.by_size.is_empty();
        let kept: Vec<f32> = self.by_time.iter().rev().step_by(stride).copied().collect();
        self.by_time = VecDeque::with_capacity(capacity);
        self.by_time.extend(kept.into_iter().rev());
        self.by_size = Vec::with_capacity(capacity);
        (self.thinned, self.passed) = (true, 0);
        if sorted {
            self.sort();
        }
    }

    fn sort(&mut self) {
        self.by_size.clear();
        self.by_size.extend(&self.by_time);
        self.by_size.sort_unstable_by(f32::total_cmp);
    }

    /// Takes in an error without its place in the order of size.
    fn push_unsorted(&mut self, error: f32, (capacity, stride): (usize, usize)) {
        if self.make_room(capacity, stride).is_some() {
            self.by_time.push_back(error);
        }
    }

    fn push(&mut self, error: f32, (capacity, stride): (usize, usize)) {
        let Some(oldest) = self.make_room(capacity, stride) else { return };
        let place = oldest.and_then(|oldest| self.by_size.binary_search_by(|e| e.total_cmp(&oldest)).ok());
        place.map(|place| self.by_size.remove(place));
        self.by_time.push_back(error);
        let place = self.by_size.partition_point(|e| e.total_cmp(&error).is_lt());
        self.by_size.insert(place, error);
    }
}

impl Errors {
    /// Room for `capacity` errors of each of `horizon` steps, of more only every `stride`th.
    pub(crate) fn new(horizon: usize, (capacity, stride): (usize, usize)) -> Self {
        Self { capacity, stride, steps: vec![Newest::default(); horizon] }
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
        self.steps.iter().all(|newest| newest.by_size.is_empty())
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
            widen * (conformal(errors, stretched(p, errors.len(), overlap)) - share * shift)
        };
        let rising = |highest: &mut f64, offset: f64| {
            *highest = highest.max(offset);
            Some(*highest)
        };
        levels.iter().map(at).scan(f64::NEG_INFINITY, rising).collect()
    }

    /// The errors that speak for `step`, by size; how many of them tell what one that overlaps with none would; and how much to widen them: its
    /// own where there are enough, else those of the nearest earlier step that has enough, or the most.
    fn known(&self, step: usize) -> Option<(&[f32], f64, f64)> {
        let count = |newest: &Newest| newest.by_size.len();
        let within = &self.steps[..self.steps.len().min(step + 1)];
        let most = within.iter().map(count).max().filter(|most| *most > 0)?;
        let known = within.iter().rposition(|newest| count(newest) >= most.min(ENOUGH))?;
        let distance = (step + 1) as f64 / (known + 1) as f64;
        let widen = if known == step { 1.0 } else { distance.powf(self.growth()) };
        let newest = &self.steps[known];
        let overlap = (known + 1) as f64 / if newest.thinned { self.stride as f64 } else { 1.0 };
        Some((&newest.by_size, overlap, widen))
    }

    /// The power of the distance with which errors grow, as far as the errors at hand tell it: between none and that of a
    /// random walk.
    fn growth(&self) -> f64 {
        let size = |newest: &Newest| {
            newest.by_size.iter().map(|e| f64::from(e.abs())).sum::<f64>() / newest.by_size.len() as f64
        };
        let first = self.steps.first().map_or(0.0, size);
        let (mut together, mut alone) = (0.5 * GROWTH_NEEDS, GROWTH_NEEDS);
        for (step, newest) in self.steps.iter().enumerate().skip(1).filter(|(_, newest)| !newest.by_size.is_empty()) {
            let (weight, distance) = (newest.by_size.len() as f64, ((step + 1) as f64).ln());
            let growth = (size(newest) / first).ln();
            if growth.is_finite() {
                together += weight * distance * growth;
                alone += weight * distance * distance;
            }
        }
        (together / alone).clamp(0.0, 0.5)
    }
}

/// The median of errors of which `overlap` tell what one would, as far as it is believed.
fn middle(errors: &[f32], overlap: f64) -> f64 {
    conformal(errors, 0.5) * (1.0 - doubt(errors.len(), overlap))
}

/// Share of the errors' middle that is taken for chance and left out, at the median whole, further out less: errors of a
/// path overlap, so that only one in `overlap` tells something new, and below twenty of those the middle is mostly noise.
fn doubt(errors: usize, overlap: f64) -> f64 {
    let independent = errors as f64 / overlap;
    MIDDLE_NEEDS / (MIDDLE_NEEDS + independent)
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
        let mut errors = Errors::new(1, (100, 1));
        (-9..=9).for_each(|e| errors.push(0, f64::from(e)));
        assert_eq!(errors.offsets(0, &[q(0.5), q(0.95)]), [0.0, 9.0]);
    }

    #[test]
    fn the_middle_of_few_errors_is_half_believed_and_the_bounds_more() {
        let mut errors = Errors::new(1, (100, 1));
        (0..20).for_each(|_| errors.push(0, 8.0));
        let offsets = errors.offsets(0, &[q(0.5), q(0.9)]);
        assert!((offsets[0] - 4.0).abs() < 1e-9 && (offsets[1] - 7.2).abs() < 1e-9, "{offsets:?}");
    }

    #[test]
    fn old_errors_are_forgotten_and_wild_ones_refused() {
        let mut errors = Errors::new(1, (3, 1));
        [100.0, -1.0, f64::NAN, 0.0, 1.0].into_iter().for_each(|e| errors.push(0, e));
        assert_eq!(errors.offsets(0, &[q(0.75)]), [1.0]);
    }

    #[test]
    fn more_errors_than_there_is_room_for_are_thinned_out_evenly() {
        let (mut live, mut many) = (Errors::new(1, (200, 3)), Errors::new(1, (200, 3)));
        for i in 0..1000 {
            let error = f64::from((i * 37) % 101) - 50.0;
            live.push(0, error);
            many.push_unsorted(0, error);
        }
        many.sort();
        assert_eq!(live, many);
        let offsets = live.offsets(0, &[q(0.1), q(0.5), q(0.9)]);
        assert!(offsets.iter().zip([-40.0, 0.0, 40.0]).all(|(a, b)| (a - b).abs() < 4.0), "{offsets:?}");
    }

    #[test]
    fn a_step_with_a_lone_error_borrows_the_width_of_one_that_knows_more() {
        let mut errors = Errors::new(30, (100, 1));
        for step in 0..30 {
            (0..30 - step).for_each(|i| errors.push(step, if i % 2 == 0 { -1.0 } else { 1.0 }));
        }
        let (near, far) = (errors.offsets(0, &[q(0.1), q(0.95)]), errors.offsets(29, &[q(0.1), q(0.95)]));
        assert!(far[0] <= near[0] && far[1] >= near[1], "{near:?} {far:?}");
        assert!(far[1] < 2.0, "errors that did not grow are not widened like those of a random walk: {far:?}");
    }

    #[test]
    fn beyond_the_horizon_the_last_step_is_widened() {
        let mut errors = Errors::new(1, (9, 1));
        [-1.0, 0.0, 1.0].into_iter().for_each(|e| errors.push(0, e));
        assert_eq!(errors.offsets(3, &[q(0.75)]), [2.0]);
        assert!(errors.offsets(0, &[q(0.01)])[0] < -1.0);
        assert_eq!(Errors::new(2, (9, 1)).offsets(0, &[q(0.9)]), [0.0]);
    }
}
