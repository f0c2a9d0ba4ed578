//! Which order: differences by a test, the rest step by step by AICc.

use super::likelihood::{conditional_errors, innovations};
use super::polynomial::{invertible, stationary};
use super::{Coefficients, dot};
use crate::forecast::simplex;

/// Greatest autoregressive and moving-average order looked at.
pub(super) const MAX_ORDER: usize = 3;
/// Orders the search starts from.
const STARTS: [(usize, usize); 4] = [(2, 2), (0, 0), (1, 0), (0, 1)];
/// Fewer differenced values than this only ever get white noise.
const FEWEST: usize = 12;

/// A fitted order: unbounded parameters, autoregressive first.
#[derive(Clone)]
struct Candidate {
    orders: (usize, usize),
    unbounded: Vec<f64>,
    aicc: f64,
}

/// The best model of `y` (finite).
pub(super) fn best(y: &[f64]) -> Coefficients {
    let differences = usize::from(y.len() >= FEWEST && !level_stationary(y));
    fitted_by(y, differences, |w| climb(w, differences))
}

/// The most likely model of `y` (finite) with the orders of `known`.
pub(super) fn again(y: &[f64], known: &Coefficients) -> Coefficients {
    let differences = known.differences;
    fitted_by(y, differences, |w| fitted(w, (known.ar.len(), known.ma.len()), differences))
}

fn fitted_by(y: &[f64], differences: usize, candidate: impl Fn(&[f64]) -> Candidate) -> Coefficients {
    let mean = if differences == 0 { y.iter().sum::<f64>() / y.len().max(1) as f64 } else { 0.0 };
    let w: Vec<f64> = match differences {
        0 => y.iter().map(|v| v - mean).collect(),
        _ => y.windows(2).map(|pair| pair[1] - pair[0]).collect(),
    };
    let flat = w.iter().all(|v| v.abs() < 1e-12 * (1.0 + mean.abs()));
    if w.len() < FEWEST || flat {
        return Coefficients { ar: vec![], ma: vec![], differences, mean };
    }
    let (ar, ma) = polished(&w, candidate(&w));
    Coefficients { ar, ma, differences, mean }
}

/// The most likely coefficients of one order.
#[cfg(test)]
pub(super) fn of_order(w: &[f64], orders: (usize, usize)) -> (Vec<f64>, Vec<f64>) {
    polished(w, fitted(w, orders, 1))
}

/// Fits the starting orders and moves to the best neighbour as long as one is better.
fn climb(w: &[f64], differences: usize) -> Candidate {
    let mut tried: Vec<Candidate> = STARTS.iter().map(|orders| fitted(w, *orders, differences)).collect();
    loop {
        let best = least(&tried).clone();
        let fresh: Vec<_> = neighbours(best.orders).filter(|o| tried.iter().all(|c| c.orders != *o)).collect();
        tried.extend(fresh.into_iter().map(|orders| fitted(w, orders, differences)));
        if least(&tried).orders == best.orders {
            return best;
        }
    }
}

fn least(tried: &[Candidate]) -> &Candidate {
    tried.iter().fold(&tried[0], |best, c| if c.aicc < best.aicc { c } else { best })
}

fn neighbours((p, q): (usize, usize)) -> impl Iterator<Item = (usize, usize)> {
    let moves = [(-1, 0), (1, 0), (0, -1), (0, 1), (-1, -1), (1, 1)];
    let moved = moves.into_iter().map(move |(dp, dq)| (p.checked_add_signed(dp), q.checked_add_signed(dq)));
    moved.filter_map(|(p, q)| Some((p?, q?))).filter(|(p, q)| *p <= MAX_ORDER && *q <= MAX_ORDER)
}

/// Least conditional squares by Levenberg's method, then the AICc of the exact likelihood there.
fn fitted(w: &[f64], orders: (usize, usize), differences: usize) -> Candidate {
    let unbounded = least_squares(w, orders);
    let (ar, ma) = split(&unbounded, orders.0);
    let k = (orders.0 + orders.1 + 1 + usize::from(differences == 0)) as f64;
    let n = w.len() as f64;
    let penalty = if n > k + 1.0 { 2.0 * k * n / (n - k - 1.0) } else { f64::INFINITY };
    let aicc = penalty - 2.0 * innovations(&ar, &ma, w).concentrated_log_likelihood();
    Candidate { orders, unbounded, aicc: if aicc.is_nan() { f64::INFINITY } else { aicc } }
}

/// Coefficients at the maximum of the exact likelihood near the candidate.
fn polished(w: &[f64], candidate: Candidate) -> (Vec<f64>, Vec<f64>) {
    let loss = |x: &[f64]| {
        let (ar, ma) = split(x, candidate.orders.0);
        -innovations(&ar, &ma, w).concentrated_log_likelihood()
    };
    let best = simplex::minimise(&candidate.unbounded, 0.05, (30 * (1 + candidate.unbounded.len()), 1e-8), loss);
    split(&best, candidate.orders.0)
}

fn split(unbounded: &[f64], p: usize) -> (Vec<f64>, Vec<f64>) {
    (stationary(&unbounded[..p]), invertible(&unbounded[p..]))
}

/// # Source
/// Levenberg, "A method for the solution of certain non-linear problems in least squares", 1944; derivatives by
/// differences.
fn least_squares(w: &[f64], (p, q): (usize, usize)) -> Vec<f64> {
    let mut x = vec![0.1; p + q];
    let (mut errors, mut shifted) = (Vec::new(), Vec::new());
    let squares = |x: &[f64], errors: &mut Vec<f64>| {
        let (ar, ma) = split(x, p);
        conditional_errors(&ar, &ma, w, errors);
        dot(errors, errors)
    };
    let (mut now, mut damping) = (squares(&x, &mut errors), 1e-3);
    for _ in 0..12 {
        let slopes: Vec<Vec<f64>> = (0..x.len())
            .map(|i| {
                let mut moved = x.clone();
                moved[i] += 1e-5;
                squares(&moved, &mut shifted);
                shifted.iter().zip(&errors).map(|(s, e)| (s - e) / 1e-5).collect()
            })
            .collect();
        let Some(step) = damped_step(&slopes, &errors, damping) else { break };
        let moved: Vec<f64> = x.iter().zip(step).map(|(x, s)| (x - s).clamp(-20.0, 20.0)).collect();
        let then = squares(&moved, &mut shifted);
        if then < now {
            let small = now - then < 1e-7 * now;
            (x, now, damping) = (moved, then, damping * 0.2);
            std::mem::swap(&mut errors, &mut shifted);
            if small {
                break;
            }
        } else {
            damping *= 10.0;
        }
    }
    x
}

fn damped_step(slopes: &[Vec<f64>], errors: &[f64], damping: f64) -> Option<Vec<f64>> {
    let n = slopes.len();
    let mut normal = ndarray::Array2::from_shape_fn((n, n), |(i, j)| dot(&slopes[i], &slopes[j]));
    (0..n).for_each(|i| normal[[i, i]] += damping * (normal[[i, i]] + 1e-12));
    let right: Vec<f64> = slopes.iter().map(|s| dot(s, errors)).collect();
    crate::forecast::linear::solve(normal, &right)
}

/// Whether the KPSS test at 5 % finds no reason to difference.
///
/// # Source
/// Kwiatkowski, Phillips, Schmidt and Shin, "Testing the null hypothesis of stationarity", J. Econometrics 54, 1992.
fn level_stationary(y: &[f64]) -> bool {
    kpss(y) < 0.463
}

/// The KPSS statistic for a level with Bartlett's weights over `3·√n/13` lags.
pub(crate) fn kpss(y: &[f64]) -> f64 {
    let n = y.len() as f64;
    let mean = y.iter().sum::<f64>() / n;
    let e: Vec<f64> = y.iter().map(|v| v - mean).collect();
    let lags = (3.0 * n.sqrt() / 13.0) as usize;
    let covariance = |lag: usize| dot(&e[lag..], &e[..e.len() - lag]) / n;
    let long_run = covariance(0)
        + (1..=lags).map(|lag| 2.0 * (1.0 - lag as f64 / (lags as f64 + 1.0)) * covariance(lag)).sum::<f64>();
    let mut sum = 0.0;
    let squares: f64 = e
        .iter()
        .map(|v| {
            sum += v;
            sum * sum
        })
        .sum();
    let statistic = squares / (n * n * long_run);
    if statistic.is_finite() { statistic } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::laws::noise;

    #[test]
    fn a_wandering_series_is_differenced_and_a_steady_one_is_not() {
        let steady: Vec<f64> = (0..300).map(noise).collect();
        let mut level = 0.0;
        let wandering: Vec<f64> = (0..300)
            .map(|i| {
                level += noise(i);
                level
            })
            .collect();
        assert_eq!(best(&steady).differences, 0);
        assert_eq!(best(&wandering).differences, 1);
    }

    #[test]
    fn a_constant_needs_no_coefficients() {
        let found = best(&[5.0; 50]);
        assert_eq!((found.ar.len(), found.ma.len(), found.mean), (0, 0, 5.0));
    }
}
