//! The exact Gaussian likelihood of a regression with ARMA errors by the Kalman filter.

use ndarray::Array2;

use crate::forecast::linear;

/// What the filter found of a series and its regressors: `Σ vvᵗ/F` and `Σ ln F` for innovations `v` of variance `σ²F`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Innovations {
    count: f64,
    log_variances: f64,
    /// Shape `[1 + regressors, 1 + regressors]`, the series first; only one half is kept.
    moments: Array2<f64>,
    /// The state after the last value, regressors taken off.
    pub(crate) state: Vec<f64>,
}

impl Innovations {
    /// The regression's coefficients by generalised least squares.
    ///
    /// # Source
    /// Kohn and Ansley, "Efficient estimation and prediction in time series regression models", Biometrika 72, 1985.
    pub(crate) fn slopes(&self) -> Vec<f64> {
        slopes(&self.moments)
    }

    fn squares(&self) -> f64 {
        let explained: f64 = self.slopes().iter().enumerate().map(|(i, b)| b * self.moments[[i + 1, 0]]).sum();
        self.moments[[0, 0]] - explained
    }

    /// The likelihood's logarithm at the best variance and regression.
    pub(crate) fn concentrated_log_likelihood(&self) -> f64 {
        let variance = (self.squares() / self.count).max(f64::MIN_POSITIVE);
        -0.5 * (self.count * ((2.0 * std::f64::consts::PI * variance).ln() + 1.0) + self.log_variances)
    }

    /// The likelihood's logarithm at a given variance.
    #[cfg(test)]
    pub(crate) fn log_likelihood(&self, variance: f64) -> f64 {
        let constant = self.count * (2.0 * std::f64::consts::PI * variance).ln();
        -0.5 * (constant + self.log_variances + self.squares() / variance)
    }
}

/// Least-squares coefficients of the first column on the others, from their sums of products (lower half); a regressor
/// that never varies from nothing has none.
pub(super) fn slopes(moments: &Array2<f64>) -> Vec<f64> {
    let count = moments.nrows() - 1;
    if count == 0 {
        return Vec::new();
    }
    let greatest = (1..=count).map(|i| moments[[i, i]]).fold(f64::MIN_POSITIVE, f64::max);
    let mut normal = Array2::from_shape_fn((count, count), |(i, j)| moments[[i.max(j) + 1, i.min(j) + 1]]);
    for i in (0..count).filter(|i| moments[[i + 1, i + 1]] < 1e-12 * greatest) {
        normal[[i, i]] += greatest;
    }
    let right: Vec<f64> = (1..=count).map(|i| moments[[i, 0]]).collect();
    linear::solve(normal, &right).unwrap_or_else(|| vec![0.0; count])
}

/// Greatest order of either side of a process, seasonal factors multiplied out.
pub(super) const GREATEST_ORDER: usize = LARGE - 1;

const SMALL: usize = 4;
const MIDDLE: usize = 16;
const LARGE: usize = 28;

/// Runs the filter over the series `columns[0]` and its regressors, all as long, started from the stationary
/// distribution. Gaps (NaN) are passed over exactly. Once the filter's variance has settled, only the innovations are
/// computed. Orders are at most 27.
///
/// # Source
/// Harvey, "Forecasting, Structural Time Series Models and the Kalman Filter", 1989, ch. 3; the initial variance by
/// doubling, Anderson and Moore, "Optimal Filtering", 1979, §6.7.
pub(crate) fn innovations(ar: &[f64], ma: &[f64], columns: &[&[f64]]) -> Innovations {
    match ar.len().max(ma.len() + 1) {
        order if order <= SMALL => run::<SMALL>(ar, ma, columns),
        order if order <= MIDDLE => run::<MIDDLE>(ar, ma, columns),
        _ => run::<LARGE>(ar, ma, columns),
    }
}

fn run<const N: usize>(ar: &[f64], ma: &[f64], columns: &[&[f64]]) -> Innovations {
    let mut filter = Filter::<N>::stationary(ar, ma, columns.len());
    let seen = |t: usize| columns.iter().all(|column| column[t].is_finite());
    let len = columns[0].len();
    let whole_from = (0..len).rposition(|t| !seen(t)).map_or(0, |gap| gap + 1);
    let moments = Array2::zeros((columns.len(), columns.len()));
    let mut found = Innovations { count: 0.0, log_variances: 0.0, moments, state: Vec::new() };
    for t in 0..len {
        if filter.settled && t >= whole_from {
            filter.run_settled(columns, t, &mut found);
            break;
        }
        if let Some(variance) = filter.step(columns, t, seen(t)) {
            found.count += 1.0;
            found.log_variances += variance.ln();
            add_products(&mut found.moments, &filter.errors, variance);
        }
    }
    found.state = filter.state_without(&found.slopes(), ar.len().max(ma.len() + 1));
    found
}

fn add_products(moments: &mut Array2<f64>, errors: &[f64], variance: f64) {
    for (i, a) in errors.iter().enumerate() {
        errors[..=i].iter().enumerate().for_each(|(j, b)| moments[[i, j]] += a * b / variance);
    }
}

type Square<const N: usize> = [[f64; N]; N];

/// The state-space form: a companion transition with the autoregression in its first column, and a disturbance loading
/// `(1, θ₁, …)`; unused places are zero, which changes nothing. Plain arrays, since the search runs it thousands of times.
struct Filter<const N: usize> {
    phi: [f64; N],
    loading: [f64; N],
    /// One for the series and each regressor; all share the variance.
    states: Vec<[f64; N]>,
    /// The newest innovations, one for each state.
    errors: Vec<f64>,
    variance: Square<N>,
    settled: bool,
}

impl<const N: usize> Filter<N> {
    fn stationary(ar: &[f64], ma: &[f64], columns: usize) -> Self {
        let (mut phi, mut loading) = ([0.0; N], [0.0; N]);
        phi.iter_mut().zip(ar).for_each(|(cell, c)| *cell = *c);
        loading[0] = 1.0;
        loading[1..].iter_mut().zip(ma).for_each(|(cell, c)| *cell = *c);
        let variance = stationary_variance(&phi, &loading);
        Self { phi, loading, states: vec![[0.0; N]; columns], errors: vec![0.0; columns], variance, settled: false }
    }

    /// Predicts, compares and learns: the variance of the innovations, or `None` at a gap.
    fn step(&mut self, columns: &[&[f64]], t: usize, seen: bool) -> Option<f64> {
        let (scale, column) = (self.variance[0][0], self.variance[0]);
        for ((state, error), values) in self.states.iter_mut().zip(&mut self.errors).zip(columns) {
            *error = values[t] - state[0];
            if seen {
                (0..N).for_each(|i| state[i] += *error / scale * column[i]);
            }
            let head = state[0];
            (0..N).for_each(|i| state[i] = self.phi[i] * head + state.get(i + 1).copied().unwrap_or(0.0));
        }
        if seen {
            for i in 0..N {
                (0..N).for_each(|j| self.variance[i][j] -= column[i] * column[j] / scale);
            }
        }
        let moved = self.moved();
        let excess = moved.iter().flatten().map(|v| v.abs()).fold(0.0, f64::max);
        self.settled = seen && excess < 1e-9;
        self.variance = from_places(|i, j| moved[i][j] + self.loading[i] * self.loading[j]);
        seen.then_some(scale)
    }

    /// The rest of the sums with the filter's gain at its limit, where the recursion is that of the ARMA itself.
    fn run_settled(&mut self, columns: &[&[f64]], from: usize, found: &mut Innovations) {
        let phi = &self.phi;
        let gain: [f64; N] = std::array::from_fn(|i| phi[i] + self.loading.get(i + 1).copied().unwrap_or(0.0));
        let several = columns.len() > 1;
        let mut squares = 0.0;
        for t in from..columns[0].len() {
            for ((state, error), values) in self.states.iter_mut().zip(&mut self.errors).zip(columns) {
                let predicted = state[0];
                *error = values[t] - predicted;
                for i in 0..N {
                    state[i] = phi[i] * predicted + state.get(i + 1).copied().unwrap_or(0.0) + gain[i] * *error;
                }
            }
            if several {
                add_products(&mut found.moments, &self.errors, 1.0);
            } else {
                squares += self.errors[0] * self.errors[0];
            }
        }
        found.moments[[0, 0]] += squares;
        found.count += (columns[0].len() - from) as f64;
    }

    /// The first `len` places of the state of the series without those of its regressors.
    fn state_without(&self, slopes: &[f64], len: usize) -> Vec<f64> {
        let at = |i: usize| self.states[0][i] - self.states[1..].iter().zip(slopes).map(|(s, b)| b * s[i]).sum::<f64>();
        (0..len.min(N)).map(at).collect()
    }

    /// The variance of the state a step later, without the new disturbance.
    fn moved(&self) -> Square<N> {
        let (phi, p) = (&self.phi, &self.variance);
        let at = |i: usize, j: usize| p.get(i).and_then(|row| row.get(j)).copied().unwrap_or(0.0);
        from_places(|i, j| phi[i] * phi[j] * p[0][0] + phi[i] * at(0, j + 1) + phi[j] * at(i + 1, 0) + at(i + 1, j + 1))
    }
}

fn from_places<const N: usize>(value: impl Fn(usize, usize) -> f64) -> Square<N> {
    std::array::from_fn(|i| std::array::from_fn(|j| value(i, j)))
}

fn product<const N: usize>(a: &Square<N>, b: &Square<N>) -> Square<N> {
    from_places(|i, j| (0..N).map(|k| a[i][k] * b[k][j]).sum())
}

/// Solves `P = T P Tᵗ + R` by doubling; the transition is stationary.
fn stationary_variance<const N: usize>(phi: &[f64; N], loading: &[f64; N]) -> Square<N> {
    let mut power: Square<N> = from_places(|i, j| if j == 0 { phi[i] } else { f64::from(u8::from(j == i + 1)) });
    let mut sum: Square<N> = from_places(|i, j| loading[i] * loading[j]);
    for _ in 0..40 {
        let half = product(&power, &sum);
        let added: Square<N> = from_places(|i, j| (0..N).map(|k| half[i][k] * power[j][k]).sum());
        let small = added.iter().flatten().zip(sum.iter().flatten()).all(|(a, s)| a.abs() <= 1e-14 * s.abs());
        sum = from_places(|i, j| sum[i][j] + added[i][j]);
        power = product(&power, &power);
        if small {
            break;
        }
    }
    sum
}

/// One-step errors when everything before the first value is taken to be zero; an approximation to the innovations. A
/// gap has the value that was expected, and nothing is said of the values that the longest lag cannot reach.
pub(crate) fn conditional_errors(ar: &[f64], ma: &[f64], w: &[f64], errors: &mut Vec<f64>) {
    let of = |coefficients: &[f64]| -> Vec<(usize, f64)> {
        coefficients.iter().enumerate().map(|(i, c)| (i + 1, *c)).filter(|(_, c)| *c != 0.0).collect()
    };
    let (auto, moving) = (of(ar), of(ma));
    let sum = |lags: &[(usize, f64)], values: &[f64], t: usize| {
        lags.iter().filter(|(lag, _)| *lag <= t).map(|(lag, c)| c * values[t - lag]).sum::<f64>()
    };
    let mut seen = w.to_vec();
    errors.clear();
    for t in 0..w.len() {
        let expected = sum(&auto, &seen, t) + sum(&moving, errors, t);
        if !seen[t].is_finite() {
            seen[t] = expected;
        }
        errors.push(if t < ar.len() { 0.0 } else { seen[t] - expected });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_likelihood_of_white_noise_is_that_of_independent_normals() {
        let w = [1.0, -2.0, 0.5];
        let expected: f64 = w.iter().map(|v| -0.5 * ((2.0 * std::f64::consts::PI * 4.0).ln() + v * v / 4.0)).sum();
        assert!((innovations(&[], &[], &[&w]).log_likelihood(4.0) - expected).abs() < 1e-12);
    }

    #[test]
    fn gaps_add_nothing_to_the_likelihood_but_time_passes() {
        // With one missing value between, the variance of the second given the first is 1 + φ².
        let found = innovations(&[0.6], &[], &[&[1.0, f64::NAN, 2.0]]);
        let first = 1.0 / (1.0 - 0.36);
        let second = 1.0 + 0.36;
        assert!((found.squares() - (1.0 / first + (2.0_f64 - 0.36).powi(2) / second)).abs() < 1e-9);
        assert!((found.log_variances - (first.ln() + second.ln())).abs() < 1e-9);
    }

    #[test]
    fn settling_changes_nothing() {
        let w: Vec<f64> = (0..400).map(|i| f64::from((i * i * 7) % 23) - 11.0).collect();
        let fast = innovations(&[0.5, 0.2], &[0.3], &[&w]);
        let mut slow = Filter::<SMALL>::stationary(&[0.5, 0.2], &[0.3], 1);
        let mut square = |t: usize| slow.step(&[&w], t, true).map(|variance| slow.errors[0].powi(2) / variance);
        let squares: f64 = (0..400).filter_map(&mut square).sum();
        assert!((fast.squares() / squares - 1.0).abs() < 1e-7);
    }

    #[test]
    fn a_larger_filter_finds_the_same() {
        let w: Vec<f64> = (0..200).map(|i| f64::from((i * i * 7) % 23) - 11.0).collect();
        let ones = vec![1.0; 200];
        let columns: [&[f64]; 2] = [&w, &ones];
        let (small, large) = (run::<SMALL>(&[0.5], &[0.3], &columns), run::<LARGE>(&[0.5], &[0.3], &columns));
        assert!((small.concentrated_log_likelihood() - large.concentrated_log_likelihood()).abs() < 1e-6);
        assert!((small.slopes()[0] - large.slopes()[0]).abs() < 1e-9);
    }

    #[test]
    fn a_regressor_that_is_never_there_has_no_slope() {
        let (w, none) = (vec![1.0, 2.0, 3.0, 5.0], vec![0.0; 4]);
        assert_eq!(innovations(&[], &[], &[&w, &none]).slopes(), [0.0]);
    }
}
