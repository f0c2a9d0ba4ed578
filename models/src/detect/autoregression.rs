//! What the metrics of a row should be, given the rows before.

use serde::{Deserialize, Serialize};

/// Weight of the ridge per thousand rows, in units of the standardised metrics.
const RIDGE_PER_THOUSAND: f64 = 1.5;
/// Residuals are not taken as smaller than this share of a metric's deviation.
const LEAST_RESIDUAL: f64 = 0.01;

/// A vector autoregression: each metric predicted from the last row and from exponential means of the rows before,
/// all standardised; fitted by ridge regression.
///
/// Source: H. Lütkepohl, "New Introduction to Multiple Time Series Analysis", 2005, chapter 3; the means in place of
/// long lags follow the heterogeneous autoregression of F. Corsi, J. of Financial Econometrics 2009.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Autoregression {
    inputs: usize,
    outputs: usize,
    /// Row-major `[inputs + 1][outputs]`; the last row is the intercept.
    weights: Vec<f32>,
    /// Inverse deviation of each output's residuals.
    precision: Vec<f32>,
}

impl Autoregression {
    /// Fits on rows of `(inputs, outputs)`; `None` when there are too few or they determine nothing.
    pub(super) fn fit(rows: &[(&[f32], &[f32])]) -> Option<Self> {
        let (x, y) = rows.first()?;
        let (inputs, outputs) = (x.len(), y.len());
        let n = inputs + 1;
        let (mut gram, mut cross) = (vec![0.0; n * n], vec![0.0; n * outputs]);
        let mut extended = vec![1.0_f64; n];
        for (x, y) in rows {
            extended.iter_mut().zip(*x).for_each(|(e, v)| *e = f64::from(*v));
            accumulate(&mut gram, &mut cross, &extended, y);
        }
        let ridge = RIDGE_PER_THOUSAND * rows.len() as f64 / 1000.0;
        (0..n).for_each(|k| gram[k * n + k] += ridge.max(1e-3));
        cholesky(&mut gram, n)?;
        solve(&gram, &mut cross, n, outputs);
        let weights = cross.iter().map(|w| *w as f32).collect();
        let mut fitted = Self { inputs, outputs, weights, precision: vec![1.0; outputs] };
        fitted.precision = fitted.precisions(rows);
        Some(fitted)
    }

    /// Residuals of `outputs` given `inputs`, each in its own deviations, written to `residuals`.
    pub(super) fn residuals(&self, inputs: &[f32], outputs: &[f32], residuals: &mut Vec<f32>) {
        residuals.clear();
        residuals.extend(
            outputs.iter().zip(&self.weights[self.inputs * self.outputs..]).map(|(y, intercept)| y - intercept),
        );
        for (x, weights) in inputs.iter().zip(self.weights.chunks_exact(self.outputs)) {
            residuals.iter_mut().zip(weights).for_each(|(r, w)| *r -= x * w);
        }
        residuals.iter_mut().zip(&self.precision).for_each(|(r, p)| *r *= p);
    }

    fn precisions(&self, rows: &[(&[f32], &[f32])]) -> Vec<f32> {
        let (mut squares, mut residuals) = (vec![0.0_f64; self.outputs], Vec::new());
        for (x, y) in rows {
            self.residuals(x, y, &mut residuals);
            squares.iter_mut().zip(&residuals).for_each(|(s, r)| *s += f64::from(*r) * f64::from(*r));
        }
        squares.iter().map(|s| ((s / rows.len() as f64).sqrt().max(LEAST_RESIDUAL)).recip() as f32).collect()
    }
}

/// Adds `x xᵀ` (lower half) and `x yᵀ`.
fn accumulate(gram: &mut [f64], cross: &mut [f64], x: &[f64], y: &[f32]) {
    let n = x.len();
    for (i, xi) in x.iter().enumerate() {
        gram[i * n..=i * n + i].iter_mut().zip(x).for_each(|(g, xj)| *g += xi * xj);
        cross[i * y.len()..(i + 1) * y.len()].iter_mut().zip(y).for_each(|(c, yj)| *c += xi * f64::from(*yj));
    }
}

/// Lower Cholesky factor in place; `None` when the matrix is not positive definite.
fn cholesky(a: &mut [f64], n: usize) -> Option<()> {
    for i in 0..n {
        for j in 0..=i {
            let (above, row) = a.split_at(i * n);
            let factor = if j == i { &row[..j] } else { &above[j * n..j * n + j] };
            let sum = row[j] - row[..j].iter().zip(factor).map(|(p, q)| p * q).sum::<f64>();
            if i == j && (sum <= 0.0 || sum.is_nan()) {
                return None;
            }
            a[i * n + j] = if i == j { sum.sqrt() } else { sum / a[j * n + j] };
        }
    }
    Some(())
}

/// Solves `L Lᵀ X = B` in place of `B` (`[n][m]`).
fn solve(l: &[f64], b: &mut [f64], n: usize, m: usize) {
    for i in 0..n {
        for k in 0..i {
            subtract(b, m, i, k, l[i * n + k]);
        }
        b[i * m..(i + 1) * m].iter_mut().for_each(|v| *v /= l[i * n + i]);
    }
    for i in (0..n).rev() {
        for k in i + 1..n {
            subtract(b, m, i, k, l[k * n + i]);
        }
        b[i * m..(i + 1) * m].iter_mut().for_each(|v| *v /= l[i * n + i]);
    }
}

/// Row `i` of `b` minus `factor` times row `k`.
fn subtract(b: &mut [f64], m: usize, i: usize, k: usize, factor: f64) {
    let (low, high) = b.split_at_mut(i.max(k) * m);
    let (target, source) =
        if i > k { (&mut high[..m], &low[k * m..(k + 1) * m]) } else { (&mut low[i * m..(i + 1) * m], &high[..m]) };
    target.iter_mut().zip(source).for_each(|(t, s)| *t -= factor * s);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::reference;
    use crate::detect::synthetic::Noise;

    #[test]
    fn residuals_are_those_of_scikit_learns_ridge() {
        let case = &reference::known()["law"];
        let (inputs, outputs) = (reference::rows(&case["inputs"]), reference::rows(&case["outputs"]));
        let pairs: Vec<(&[f32], &[f32])> =
            inputs.iter().zip(&outputs).map(|(x, y)| (x.as_slice(), y.as_slice())).collect();
        let (model, mut residuals) = (Autoregression::fit(&pairs).unwrap(), Vec::new());
        for ((x, y), expected) in pairs.iter().zip(reference::numbers(&case["residuals"])) {
            model.residuals(x, y, &mut residuals);
            assert!((f64::from(residuals[0]) - expected).abs() < 1e-4, "{residuals:?} {expected}");
        }
    }

    #[test]
    fn a_linear_law_is_found_and_its_breach_is_measured_in_deviations() {
        let mut noise = Noise::new(1);
        let data: Vec<([f32; 2], [f32; 1])> = (0..4000)
            .map(|_| {
                let x = [noise.gaussian() as f32, noise.gaussian() as f32];
                (x, [2.0 * x[0] - x[1] + 0.5 + 0.1 * noise.gaussian() as f32])
            })
            .collect();
        let rows: Vec<(&[f32], &[f32])> = data.iter().map(|(x, y)| (x.as_slice(), y.as_slice())).collect();
        let model = Autoregression::fit(&rows).unwrap();
        let mut residuals = Vec::new();
        model.residuals(&[1.0, 1.0], &[2.5], &mut residuals);
        assert!((residuals[0] - 10.0).abs() < 0.6, "{residuals:?}");
        assert!(Autoregression::fit(&[]).is_none());
    }
}
