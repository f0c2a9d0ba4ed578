//! The exact Gaussian likelihood of an ARMA process by the Kalman filter.

use ndarray::{Array1, Array2};

use super::dot;

/// What the filter found: `Σ v²/F` and `Σ ln F` for innovations `v` of variance `σ²F`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Innovations {
    count: f64,
    squares: f64,
    log_variances: f64,
}

impl Innovations {
    /// The likelihood's logarithm at the best variance, which is `squares / count`.
    pub(crate) fn concentrated_log_likelihood(self) -> f64 {
        let variance = (self.squares / self.count).max(f64::MIN_POSITIVE);
        -0.5 * (self.count * ((2.0 * std::f64::consts::PI * variance).ln() + 1.0) + self.log_variances)
    }

    /// The likelihood's logarithm at a given variance.
    #[cfg(test)]
    pub(crate) fn log_likelihood(self, variance: f64) -> f64 {
        let constant = self.count * (2.0 * std::f64::consts::PI * variance).ln();
        -0.5 * (constant + self.log_variances + self.squares / variance)
    }
}

/// Runs the filter over `w` (mean already taken off), started from the stationary distribution. Gaps (NaN) are passed
/// over exactly. Once the filter's variance has settled, only the innovations are computed.
///
/// # Source
/// Harvey, "Forecasting, Structural Time Series Models and the Kalman Filter", 1989, ch. 3; the initial variance by
/// doubling, Anderson and Moore, "Optimal Filtering", 1979, §6.7.
pub(crate) fn innovations(ar: &[f64], ma: &[f64], w: &[f64]) -> Innovations {
    let mut filter = Filter::stationary(ar, ma);
    let mut found = Innovations { count: 0.0, squares: 0.0, log_variances: 0.0 };
    for (t, value) in w.iter().enumerate() {
        if filter.settled && w[t..].iter().all(|v| v.is_finite()) {
            settled(&filter, ar, ma, &w[t..], &mut found);
            break;
        }
        if let Some((error, variance)) = filter.step(*value) {
            found.count += 1.0;
            found.squares += error * error / variance;
            found.log_variances += variance.ln();
        }
    }
    found
}

/// The rest of the sums with the filter's gain at its limit, where the recursion is that of the ARMA itself.
fn settled(filter: &Filter, ar: &[f64], ma: &[f64], w: &[f64], found: &mut Innovations) {
    let mut state = filter.state.to_vec();
    let r = state.len();
    let at = |c: &[f64], i: usize| c.get(i).copied().unwrap_or(0.0);
    let gain: Vec<f64> = (0..r).map(|i| at(ar, i) + at(ma, i)).collect();
    let phi: Vec<f64> = (0..r).map(|i| at(ar, i)).collect();
    for value in w {
        let error = value - state[0];
        let predicted = state[0];
        for i in 0..r {
            state[i] = phi[i] * predicted + state.get(i + 1).copied().unwrap_or(0.0) + gain[i] * error;
        }
        found.squares += error * error;
    }
    found.count += w.len() as f64;
}

/// The state-space form: a companion transition `T` and a disturbance loading `(1, θ₁, …)`.
struct Filter {
    transition: Array2<f64>,
    noise: Array2<f64>,
    state: Array1<f64>,
    variance: Array2<f64>,
    settled: bool,
}

impl Filter {
    fn stationary(ar: &[f64], ma: &[f64]) -> Self {
        let r = ar.len().max(ma.len() + 1);
        let mut transition = Array2::zeros((r, r));
        ar.iter().enumerate().for_each(|(i, phi)| transition[[i, 0]] = *phi);
        (1..r).for_each(|i| transition[[i - 1, i]] = 1.0);
        let loading =
            Array1::from_iter((0..r).map(|i| if i == 0 { 1.0 } else { ma.get(i - 1).copied().unwrap_or(0.0) }));
        let noise = Array2::from_shape_fn((r, r), |(i, j)| loading[i] * loading[j]);
        let variance = stationary_variance(&transition, &noise);
        Self { transition, noise, state: Array1::zeros(r), variance, settled: false }
    }

    /// Predicts, compares and learns: the innovation and its variance, or `None` at a gap.
    fn step(&mut self, value: f64) -> Option<(f64, f64)> {
        let scale = self.variance[[0, 0]];
        let seen = value.is_finite().then_some((value - self.state[0], scale));
        if let Some((error, _)) = seen {
            let column = self.variance.column(0).to_owned();
            self.state.scaled_add(error / scale, &column);
            let r = column.len();
            let shrink = Array2::from_shape_fn((r, r), |(i, j)| column[i] * column[j] / scale);
            self.variance -= &shrink;
        }
        self.state = self.transition.dot(&self.state);
        self.variance = self.transition.dot(&self.variance).dot(&self.transition.t()) + &self.noise;
        let excess = (&self.variance - &self.noise).iter().map(|v| v.abs()).fold(0.0, f64::max);
        self.settled = seen.is_some() && excess < 1e-9;
        seen
    }
}

/// Solves `P = T P Tᵗ + R` by doubling; the transition is stationary.
fn stationary_variance(transition: &Array2<f64>, noise: &Array2<f64>) -> Array2<f64> {
    let (mut power, mut sum) = (transition.clone(), noise.clone());
    for _ in 0..40 {
        let added = power.dot(&sum).dot(&power.t());
        let small = added.iter().zip(&sum).all(|(a, s)| a.abs() <= 1e-14 * s.abs());
        sum = sum + added;
        power = power.dot(&power);
        if small {
            break;
        }
    }
    sum
}

/// One-step errors when everything before the first value is taken to be zero; an approximation to the innovations.
pub(crate) fn conditional_errors(ar: &[f64], ma: &[f64], w: &[f64], errors: &mut Vec<f64>) {
    errors.clear();
    let mut recent = vec![0.0; ma.len()];
    for (t, value) in w.iter().enumerate() {
        let reach = ar.len().min(t);
        let auto: f64 = ar[..reach].iter().enumerate().map(|(i, c)| c * w[t - 1 - i]).sum();
        let error = if t < ar.len() { 0.0 } else { value - auto - dot(ma, &recent) };
        super::push(&mut recent, error);
        errors.push(error);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_likelihood_of_white_noise_is_that_of_independent_normals() {
        let w = [1.0, -2.0, 0.5];
        let expected: f64 = w.iter().map(|v| -0.5 * ((2.0 * std::f64::consts::PI * 4.0).ln() + v * v / 4.0)).sum();
        assert!((innovations(&[], &[], &w).log_likelihood(4.0) - expected).abs() < 1e-12);
    }

    #[test]
    fn gaps_add_nothing_to_the_likelihood_but_time_passes() {
        // With one missing value between, the variance of the second given the first is 1 + φ².
        let found = innovations(&[0.6], &[], &[1.0, f64::NAN, 2.0]);
        let first = 1.0 / (1.0 - 0.36);
        let second = 1.0 + 0.36;
        assert!((found.squares - (1.0 / first + (2.0_f64 - 0.36).powi(2) / second)).abs() < 1e-9);
        assert!((found.log_variances - (first.ln() + second.ln())).abs() < 1e-9);
    }

    #[test]
    fn settling_changes_nothing() {
        let w: Vec<f64> = (0..400).map(|i| f64::from((i * i * 7) % 23) - 11.0).collect();
        let fast = innovations(&[0.5, 0.2], &[0.3], &w);
        let mut slow = Filter::stationary(&[0.5, 0.2], &[0.3]);
        let squares: f64 = w.iter().filter_map(|v| slow.step(*v)).map(|(e, f)| e * e / f).sum();
        assert!((fast.squares / squares - 1.0).abs() < 1e-7);
    }
}
