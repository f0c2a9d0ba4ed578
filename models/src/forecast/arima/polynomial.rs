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

/// Coefficients of the product `(1 - a₁B - …)(1 - b₁Bˢ - …)`, in the same form.
pub(super) fn product(a: &[f64], b: &[f64], period: usize) -> Vec<f64> {
    let mut all = vec![0.0; a.len() + period * b.len()];
    all[..a.len()].copy_from_slice(a);
    for (j, seasonal) in b.iter().enumerate() {
        let lag = (j + 1) * period;
        all[lag - 1] += seasonal;
        a.iter().enumerate().for_each(|(i, ordinary)| all[lag + i] -= ordinary * seasonal);
    }
    all
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
                recent.rotate_right(1);
                recent[0] = next;
            }
            assert!(recent.iter().all(|v| v.abs() < 1e-6), "{ar:?} {recent:?}");
        }
    }

    #[test]
    fn a_product_is_multiplied_out() {
        assert_eq!(product(&[0.5], &[0.4], 3), [0.5, 0.0, 0.4, -0.2]);
        assert_eq!(product(&[], &[0.4], 2), [0.0, 0.4]);
        assert_eq!(product(&[0.5], &[], 7), [0.5]);
    }

    #[test]
    fn one_number_is_its_own_partial_autocorrelation() {
        assert!((stationary(&[1.0])[0] - 0.995 / 2.0_f64.sqrt()).abs() < 1e-12);
        assert!(invertible(&[1.0])[0] < 0.0);
    }
}
