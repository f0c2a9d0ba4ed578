//! Distance of a row to the rows most like it.

use serde::{Deserialize, Serialize};

/// Neighbours that are averaged.
const NEIGHBOURS: usize = 10;

/// A set of reference rows; a row far from all of them is unlike anything seen.
///
/// Source: S. Ramaswamy, R. Rastogi, K. Shim, "Efficient algorithms for mining outliers from large data sets", SIGMOD
/// 2000; the mean over the neighbours is F. Angiulli, C. Pizzuti, PKDD 2002.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct References {
    width: usize,
    rows: Vec<f32>,
}

impl References {
    /// The references are `rows`, each `width` long.
    pub(super) fn new<'a>(width: usize, rows: impl Iterator<Item = &'a [f32]>) -> Self {
        Self { width, rows: rows.flatten().copied().collect() }
    }

    /// Mean distance of `row` to its nearest references, per square root of the width; 0 without references.
    pub(super) fn distance(&self, row: &[f32]) -> f64 {
        let mut nearest = [f32::INFINITY; NEIGHBOURS];
        for reference in self.rows.chunks_exact(self.width.max(1)) {
            let squared = squared_distance(reference, row);
            if squared < nearest[NEIGHBOURS - 1] {
                insert(&mut nearest, squared);
            }
        }
        let known = nearest.iter().filter(|d| d.is_finite());
        let (sum, count) = known.fold((0.0, 0), |(sum, count), d| (sum + f64::from(d.sqrt()), count + 1));
        sum / f64::from(count.max(1)) / (self.width.max(1) as f64).sqrt()
    }
}

/// Eight sums side by side, which the compiler turns into vector instructions.
fn squared_distance(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0_f32; 8];
    let (a8, b8) = (a.chunks_exact(8), b.chunks_exact(8));
    let rest: f32 = a8.remainder().iter().zip(b8.remainder()).map(|(x, y)| (x - y) * (x - y)).sum();
    for (x, y) in a8.zip(b8) {
        for k in 0..8 {
            sums[k] += (x[k] - y[k]) * (x[k] - y[k]);
        }
    }
    sums.iter().sum::<f32>() + rest
}

fn insert(sorted: &mut [f32; NEIGHBOURS], value: f32) {
    let mut k = NEIGHBOURS - 1;
    while k > 0 && sorted[k - 1] > value {
        sorted[k] = sorted[k - 1];
        k -= 1;
    }
    sorted[k] = value;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::reference;

    #[test]
    fn distances_are_those_of_scikit_learn() {
        let case = &reference::known()["rows"];
        let known = reference::rows(&case["known"]);
        let references = References::new(4, known.iter().map(Vec::as_slice));
        for (row, expected) in reference::rows(&case["asked"]).iter().zip(reference::numbers(&case["distances"])) {
            assert!((references.distance(row) - expected).abs() < 1e-4, "{row:?} {expected}");
        }
    }

    #[test]
    fn the_distance_is_the_mean_over_the_ten_nearest() {
        let rows: Vec<Vec<f32>> = (0..40).map(|k| vec![k as f32; 9]).collect();
        let references = References::new(9, rows.iter().map(Vec::as_slice));
        // nearest to -1 are 0..10 at distances 1..=10 per metric
        assert!((references.distance(&[-1.0; 9]) - 5.5).abs() < 1e-6);
        assert_eq!(References::default().distance(&[]), 0.0);
    }
}
