//! Stationary and invertible coefficients as a smooth image of the whole space.

/// Coefficients of a stationary autoregression from unbounded numbers, through its partial autocorrelations.
///
/// # Source
/// Monahan, "A note on enforcing stationarity in autoregressive-moving average models", Biometrika 71, 1984.
pub(super) fn stationary(unbounded: &[f64]) -> Vec<f64> {
    let mut coefficients: Vec<f64> = Vec::with_capacity(unbounded.len());
    for x in unbounded {
        let partial = 0.995 * x / (1.0 + x * x).sqrt();
        let mirrored: Vec<f64> = coefficients.iter().rev().copied().collect();
        coefficients.iter_mut().zip(mirrored).for_each(|(c, m)| *c -= partial * m);
        coefficients.push(partial);
    }
    coefficients
}

/// Coefficients of an invertible moving average from unbounded numbers.
pub(super) fn invertible(unbounded: &[f64]) -> Vec<f64> {
    stationary(unbounded).into_iter().map(|c| -c).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_numbers_give_an_impulse_that_dies_out() {
        for x in [[5.0, -5.0, 5.0], [0.3, 2.0, -9.0], [0.0, 0.0, 0.0]] {
            let ar = stationary(&x);
            let mut recent = vec![1.0, 0.0, 0.0];
            for _ in 0..200_000 {
                let next = super::super::dot(&ar, &recent);
                super::super::push(&mut recent, next);
            }
            assert!(recent.iter().all(|v| v.abs() < 1e-6), "{ar:?} {recent:?}");
        }
    }

    #[test]
    fn one_number_is_its_own_partial_autocorrelation() {
        assert!((stationary(&[1.0])[0] - 0.995 / 2.0_f64.sqrt()).abs() < 1e-12);
        assert!(invertible(&[1.0])[0] < 0.0);
    }
}
