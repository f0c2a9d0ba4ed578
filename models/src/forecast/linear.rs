//! Solving symmetric positive definite systems.

use ndarray::Array2;

/// Solves `A x = b` for a symmetric positive definite `A` (shape `[n, n]`) by Cholesky's factorisation; `None` when it
/// is not positive definite.
pub(crate) fn solve(a: Array2<f64>, b: &[f64]) -> Option<Vec<f64>> {
    let factor = Cholesky::of(a)?;
    let mut x = b.to_vec();
    factor.solve(&mut x);
    Some(x)
}

/// A lower triangular factor `L` with `L Lᵗ = A`.
pub(crate) struct Cholesky(Array2<f64>);

impl Cholesky {
    /// Factors `a`; only its lower half is read.
    pub(crate) fn of(mut a: Array2<f64>) -> Option<Self> {
        let n = a.nrows();
        for j in 0..n {
            for i in j..n {
                let sum: f64 = a.row(i).iter().zip(a.row(j)).take(j).map(|(x, y)| x * y).sum();
                a[[i, j]] -= sum;
            }
            let pivot = a[[j, j]];
            if pivot.is_nan() || pivot <= 0.0 {
                return None;
            }
            let root = pivot.sqrt();
            (j..n).for_each(|i| a[[i, j]] /= root);
        }
        Some(Self(a))
    }

    /// Puts the solution in place of the right-hand side.
    pub(crate) fn solve(&self, x: &mut [f64]) {
        let (l, n) = (&self.0, x.len());
        for i in 0..n {
            let sum: f64 = (0..i).map(|k| l[[i, k]] * x[k]).sum();
            x[i] = (x[i] - sum) / l[[i, i]];
        }
        for i in (0..n).rev() {
            let sum: f64 = (i + 1..n).map(|k| l[[k, i]] * x[k]).sum();
            x[i] = (x[i] - sum) / l[[i, i]];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_system_is_solved() {
        let a = ndarray::arr2(&[[4.0, 2.0, 0.5], [2.0, 5.0, 1.0], [0.5, 1.0, 3.0]]);
        let x = solve(a.clone(), &[1.0, 2.0, 3.0]).expect("positive definite");
        let back = a.dot(&ndarray::Array1::from(x));
        assert!(back.iter().zip([1.0, 2.0, 3.0]).all(|(a, b)| (a - b).abs() < 1e-12));
    }

    #[test]
    fn a_system_that_is_not_positive_definite_is_refused() {
        assert_eq!(solve(ndarray::arr2(&[[1.0, 2.0], [2.0, 1.0]]), &[1.0, 1.0]), None);
    }
}
