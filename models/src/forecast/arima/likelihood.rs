//! The exact Gaussian likelihood of an ARMA process by the Kalman filter.

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
    let whole_from = w.iter().rposition(|v| !v.is_finite()).map_or(0, |gap| gap + 1);
    let mut found = Innovations { count: 0.0, squares: 0.0, log_variances: 0.0 };
    for (t, value) in w.iter().enumerate() {
        if filter.settled && t >= whole_from {
            settled(&filter, &w[t..], &mut found);
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
fn settled(filter: &Filter, w: &[f64], found: &mut Innovations) {
    let (phi, mut state) = (&filter.phi, filter.state);
    let gain: [f64; MOST] = std::array::from_fn(|i| phi[i] + filter.loading.get(i + 1).copied().unwrap_or(0.0));
    for value in w {
        let predicted = state[0];
        let error = value - predicted;
        for i in 0..MOST {
            state[i] = phi[i] * predicted + state.get(i + 1).copied().unwrap_or(0.0) + gain[i] * error;
        }
        found.squares += error * error;
    }
    found.count += w.len() as f64;
}

/// Greatest dimension of the state: one more than the greatest order.
const MOST: usize = super::search::MAX_ORDER + 1;

type Square = [[f64; MOST]; MOST];

/// The state-space form: a companion transition with the autoregression in its first column, and a disturbance loading
/// `(1, θ₁, …)`; unused places are zero, which changes nothing. Plain arrays, since the search runs it thousands of times.
struct Filter {
    phi: [f64; MOST],
    loading: [f64; MOST],
    state: [f64; MOST],
    variance: Square,
    settled: bool,
}

impl Filter {
    fn stationary(ar: &[f64], ma: &[f64]) -> Self {
        let (mut phi, mut loading) = ([0.0; MOST], [0.0; MOST]);
        phi.iter_mut().zip(ar).for_each(|(cell, c)| *cell = *c);
        loading[0] = 1.0;
        loading[1..].iter_mut().zip(ma).for_each(|(cell, c)| *cell = *c);
        let variance = stationary_variance(&phi, &loading);
        Self { phi, loading, state: [0.0; MOST], variance, settled: false }
    }

    /// Predicts, compares and learns: the innovation and its variance, or `None` at a gap.
    fn step(&mut self, value: f64) -> Option<(f64, f64)> {
        let scale = self.variance[0][0];
        let seen = value.is_finite().then_some((value - self.state[0], scale));
        if let Some((error, _)) = seen {
            let column = self.variance[0];
            for i in 0..MOST {
                self.state[i] += error / scale * column[i];
                (0..MOST).for_each(|j| self.variance[i][j] -= column[i] * column[j] / scale);
            }
        }
        let head = self.state[0];
        (0..MOST).for_each(|i| self.state[i] = self.phi[i] * head + self.state.get(i + 1).copied().unwrap_or(0.0));
        let moved = self.moved();
        let excess = moved.iter().flatten().map(|v| v.abs()).fold(0.0, f64::max);
        self.settled = seen.is_some() && excess < 1e-9;
        self.variance = from_places(|i, j| moved[i][j] + self.loading[i] * self.loading[j]);
        seen
    }

    /// The variance of the state a step later, without the new disturbance.
    fn moved(&self) -> Square {
        let (phi, p) = (&self.phi, &self.variance);
        let at = |i: usize, j: usize| p.get(i).and_then(|row| row.get(j)).copied().unwrap_or(0.0);
        from_places(|i, j| phi[i] * phi[j] * p[0][0] + phi[i] * at(0, j + 1) + phi[j] * at(i + 1, 0) + at(i + 1, j + 1))
    }
}

fn from_places(value: impl Fn(usize, usize) -> f64) -> Square {
    std::array::from_fn(|i| std::array::from_fn(|j| value(i, j)))
}

fn product(a: &Square, b: &Square) -> Square {
    from_places(|i, j| (0..MOST).map(|k| a[i][k] * b[k][j]).sum())
}

/// Solves `P = T P Tᵗ + R` by doubling; the transition is stationary.
fn stationary_variance(phi: &[f64; MOST], loading: &[f64; MOST]) -> Square {
    let mut power = from_places(|i, j| if j == 0 { phi[i] } else { f64::from(u8::from(j == i + 1)) });
    let mut sum = from_places(|i, j| loading[i] * loading[j]);
    for _ in 0..40 {
        let half = product(&power, &sum);
        let added = from_places(|i, j| (0..MOST).map(|k| half[i][k] * power[j][k]).sum());
        let small = added.iter().flatten().zip(sum.iter().flatten()).all(|(a, s)| a.abs() <= 1e-14 * s.abs());
        sum = from_places(|i, j| sum[i][j] + added[i][j]);
        power = product(&power, &power);
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
