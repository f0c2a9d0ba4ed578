//! The greatest and the mean value over a span of steps: what capacity must bear, and what a sum comes to.

use serde::{Deserialize, Serialize};

use super::Quantile;
use super::interval::Errors;
use super::record::Issued;

/// Errors kept of each span, and which of more.
const KEPT: (usize, usize) = (150, 2);

/// Errors of whole spans that begin now, so that quantiles of their extremes and sums need no assumption on how steps
/// hang together: the quantile of a maximum is not the maximum of quantiles.
///
/// # Source
/// Split conformal prediction of a functional of the path; see [`Errors`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Extents {
    /// Last step of each span, ascending; 0 is the first.
    ends: Vec<usize>,
    greatest: Errors,
    mean: Errors,
}

impl Extents {
    /// Spans that end at these steps; one of each begins at every `every`th point.
    pub(crate) fn new(ends: &[usize], every: usize) -> Self {
        let errors = || Errors::new(ends.len(), KEPT, every);
        Self { ends: ends.to_vec(), greatest: errors(), mean: errors() }
    }

    /// Takes in what came on the span that began with `issued`: `actual` holds one value for each of its steps. Nothing
    /// is seen before [`sort`](Self::sort) when `many` follow each other.
    pub(crate) fn learn(&mut self, issued: &Issued, actual: impl Iterator<Item = f64> + Clone, many: bool) {
        let steps = actual.size_hint().0;
        let Some(span) = self.ends.iter().position(|end| end + 1 == steps) else { return };
        let expected = (0..steps).map(|step| issued.combined(step));
        let width = mean((0..steps).map(|step| issued.width(step)));
        let highest = greatest(actual.clone()) - greatest(expected.clone());
        let average = mean(actual) - mean(expected);
        for (errors, error) in [(&mut self.greatest, highest / width), (&mut self.mean, average / width)] {
            if many { errors.push_unsorted(span, error) } else { errors.push(span, error) }
        }
    }

    pub(crate) fn sort(&mut self) {
        self.greatest.sort();
        self.mean.sort();
    }

    /// What to add to the greatest value of a path over its first `steps` steps to reach `levels`, in widths.
    pub(crate) fn of_greatest(&self, steps: usize, levels: &[Quantile]) -> Vec<f64> {
        self.greatest.offsets(self.span(steps), levels)
    }

    /// What to add to the mean of a path over its first `steps` steps to reach `levels`, in widths.
    pub(crate) fn of_mean(&self, steps: usize, levels: &[Quantile]) -> Vec<f64> {
        self.mean.offsets(self.span(steps), levels)
    }

    /// The shortest span that holds so many steps, or the longest.
    fn span(&self, steps: usize) -> usize {
        self.ends.partition_point(|end| end + 1 < steps).min(self.ends.len().saturating_sub(1))
    }
}

pub(super) fn greatest(values: impl Iterator<Item = f64>) -> f64 {
    values.fold(f64::NEG_INFINITY, f64::max)
}

pub(super) fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = values.fold((0.0, 0usize), |(sum, count), v| (sum + v, count + 1));
    sum / count.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_maximum_and_a_mean_have_quantiles_of_their_own() {
        let issued = Issued::new(9.0, &[10.0, 10.0], &[1.0, 1.0], std::iter::empty());
        let mut extents = Extents::new(&[0, 1], 1);
        for i in 0..200 {
            let swing = f64::from(i % 5) - 2.0;
            extents.learn(&issued, [10.0 + swing, 10.0 - swing].into_iter(), true);
        }
        extents.sort();
        let ninety = [Quantile::STANDARD[2]];
        assert!((extents.of_greatest(2, &ninety)[0] - 2.0).abs() < 0.1, "{extents:?}");
        assert_eq!(extents.of_mean(2, &ninety), [0.0]);
    }
}
