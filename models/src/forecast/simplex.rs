//! Minimising a smooth function of a few parameters without derivatives.

/// The point with the least value of `f` found from `start` within `evaluations` calls, or until all corners agree to
/// the relative `tolerance`, by the simplex method with the standard coefficients. Deterministic; a NaN counts as infinitely bad.
///
/// # Source
/// Nelder and Mead, "A simplex method for function minimization", Computer Journal 7, 1965.
pub(crate) fn minimise(
    start: &[f64],
    size: f64,
    (evaluations, tolerance): (usize, f64),
    mut f: impl FnMut(&[f64]) -> f64,
) -> Vec<f64> {
    let mut value = |x: &[f64]| Some(f(x)).filter(|v| !v.is_nan()).unwrap_or(f64::INFINITY);
    let mut corners: Vec<(f64, Vec<f64>)> = vec![(value(start), start.to_vec())];
    for i in 0..start.len() {
        let mut corner = start.to_vec();
        corner[i] += size;
        corners.push((value(&corner), corner));
    }
    let mut calls = corners.len();
    while calls < evaluations {
        corners.sort_by(|a, b| a.0.total_cmp(&b.0));
        let (best, worst) = (corners[0].0, corners[start.len()].0);
        if (worst - best).abs() <= tolerance * (best.abs() + 1e-300) {
            break;
        }
        calls += improve(&mut corners, &mut value);
    }
    corners.sort_by(|a, b| a.0.total_cmp(&b.0));
    corners.swap_remove(0).1
}

/// Replaces the worst corner of a sorted simplex, or shrinks it; the number of evaluations spent.
fn improve(corners: &mut [(f64, Vec<f64>)], value: &mut impl FnMut(&[f64]) -> f64) -> usize {
    let n = corners.len() - 1;
    let centre: Vec<f64> = (0..n).map(|i| corners[..n].iter().map(|c| c.1[i]).sum::<f64>() / n as f64).collect();
    let worst = corners[n].clone();
    let towards = |t: f64| -> Vec<f64> { centre.iter().zip(&worst.1).map(|(c, w)| c + t * (c - w)).collect() };
    let mut attempt = |t: f64| {
        let point = towards(t);
        (value(&point), point)
    };
    let reflected = attempt(1.0);
    if reflected.0 < corners[0].0 {
        let expanded = attempt(2.0);
        corners[n] = if expanded.0 < reflected.0 { expanded } else { reflected };
        return 2;
    }
    if reflected.0 < corners[n - 1].0 {
        corners[n] = reflected;
        return 1;
    }
    let contracted = if reflected.0 < worst.0 { attempt(0.5) } else { attempt(-0.5) };
    if contracted.0 < worst.0.min(reflected.0) {
        corners[n] = contracted;
        return 2;
    }
    let best = corners[0].1.clone();
    for corner in &mut corners[1..] {
        corner.1.iter_mut().zip(&best).for_each(|(x, b)| *x = b + 0.5 * (*x - b));
        corner.0 = value(&corner.1);
    }
    2 + n
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bottom_of_rosenbrocks_valley_is_found() {
        let valley = |x: &[f64]| (1.0 - x[0]).powi(2) + 100.0 * (x[1] - x[0] * x[0]).powi(2);
        let found = minimise(&[-1.2, 1.0], 0.5, (400, 1e-10), valley);
        assert!((found[0] - 1.0).abs() < 1e-3 && (found[1] - 1.0).abs() < 1e-3, "{found:?}");
    }

    #[test]
    fn a_function_that_is_nowhere_defined_returns_the_start() {
        assert_eq!(minimise(&[3.0], 1.0, (50, 1e-10), |_| f64::NAN), [3.0]);
    }
}
