//! Which orders: differences by tests, the rest step by step by AICc.

use ndarray::Array2;
use serde::{Deserialize, Serialize};

use super::likelihood::{GREATEST_ORDER, conditional_errors, innovations, slopes};
use super::polynomial::{invertible, product, stationary};
use super::{Coefficients, Differences, dot, without};
use crate::forecast::adjusted::Seasonal;
use crate::forecast::clean::fill;
use crate::forecast::simplex;

/// Greatest autoregressive and moving-average order looked at.
pub(crate) const MAX_ORDER: usize = 3;
/// Longest season that seasonal terms describe; the filter's state grows with it.
pub(crate) const LONGEST_SEASON: usize = GREATEST_ORDER - MAX_ORDER;
/// Fewer differenced values than this only ever get white noise.
const FEWEST: usize = 12;
/// Most steps of the search for the maximum of a seasonal likelihood, where each takes milliseconds.
const SEASONAL_STEPS: usize = 30;

/// How many coefficients of each kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Orders {
    pub(crate) ar: usize,
    pub(crate) ma: usize,
    /// None or one: beyond a season or two differences serve better.
    pub(crate) seasonal_ar: usize,
    pub(crate) seasonal_ma: usize,
    /// Whether there is a mean or a drift.
    pub(crate) constant: bool,
}

impl Orders {
    fn count(self) -> usize {
        self.ar + self.ma + self.seasonal_ar + self.seasonal_ma
    }

    /// Both polynomials multiplied out; unbounded parameters come in the order of the fields.
    fn polynomials(self, unbounded: &[f64], period: usize) -> (Vec<f64>, Vec<f64>) {
        let (ar, rest) = unbounded.split_at(self.ar);
        let (ma, rest) = rest.split_at(self.ma);
        let (seasonal_ar, seasonal_ma) = rest.split_at(self.seasonal_ar);
        expanded(&stationary(ar), &invertible(ma), &stationary(seasonal_ar), &invertible(seasonal_ma), period)
    }

    /// Orders one step away, and where there are `seasonal` terms those of theirs.
    fn neighbours(self, seasonal: bool) -> impl Iterator<Item = Self> {
        let moves = [(-1, 0), (1, 0), (0, -1), (0, 1), (-1, -1), (1, 1)];
        let ordinary = moves.into_iter().filter_map(move |(p, q)| {
            let (ar, ma) = (self.ar.checked_add_signed(p)?, self.ma.checked_add_signed(q)?);
            (ar <= MAX_ORDER && ma <= MAX_ORDER).then_some(Self { ar, ma, ..self })
        });
        let other = |order: usize| 1 - order;
        let turned = [
            Self { seasonal_ar: other(self.seasonal_ar), ..self },
            Self { seasonal_ma: other(self.seasonal_ma), ..self },
        ];
        ordinary.chain(turned.into_iter().filter(move |_| seasonal))
    }
}

/// Ordinary and seasonal factors of the autoregression and of the moving average, multiplied out.
pub(crate) fn expanded(
    ar: &[f64],
    ma: &[f64],
    seasonal_ar: &[f64],
    seasonal_ma: &[f64],
    period: usize,
) -> (Vec<f64>, Vec<f64>) {
    let negative = |x: &[f64]| x.iter().map(|c| -c).collect::<Vec<f64>>();
    (product(ar, seasonal_ar, period), negative(&product(&negative(ma), &negative(seasonal_ma), period)))
}

/// Fitted orders and their unbounded parameters.
#[derive(Clone)]
struct Candidate {
    orders: Orders,
    unbounded: Vec<f64>,
    aicc: f64,
}

/// The best model of `y` (gaps NaN), with seasonal terms where a period up to [`LONGEST_SEASON`] is given.
pub(super) fn best(y: &[f64], regressors: &[Vec<f64>], period: Option<usize>) -> Coefficients {
    let period = period.filter(|p| (2..=LONGEST_SEASON).contains(p) && 3 * p <= y.len());
    Problem::new(y, regressors, needed(y, period)).solve(|problem| problem.climb(period.is_some()))
}

/// The most likely model of `y` (gaps NaN) with the orders of `known`.
pub(super) fn again(y: &[f64], regressors: &[Vec<f64>], known: &Coefficients) -> Coefficients {
    Problem::new(y, regressors, known.differences).solve(|problem| problem.fitted(known.orders))
}

/// The differences that tests call for: a seasonal one where the season explains most of what moves, then an ordinary one
/// where the level is not stationary.
fn needed(y: &[f64], period: Option<usize>) -> Differences {
    let whole = fill(y, period).unwrap_or_default();
    let seasonal = period.map_or(0, |p| usize::from(seasonal_strength(&whole, p) > 0.64));
    let seasonally = Differences { ordinary: 0, seasonal, period: period.unwrap_or(1) };
    let w = seasonally.of(&whole);
    Differences { ordinary: usize::from(w.len() >= FEWEST && !level_stationary(&w)), ..seasonally }
}

/// Share of what moves beside the level that the mean cycle explains, `0..=1`.
///
/// # Source
/// Wang, Smith and Hyndman, "Characteristic-based clustering for time series data", Data Mining and Knowledge Discovery
/// 13, 2006; as the rule for seasonal differences in Hyndman's forecast package.
fn seasonal_strength(y: &[f64], period: usize) -> f64 {
    let (seasonal, rest) = Seasonal::split(y, &[period], 1.0);
    let level: Vec<f64> = rest.chunks(period).map(|cycle| cycle.iter().sum::<f64>() / cycle.len() as f64).collect();
    let remainder: Vec<f64> = rest.iter().enumerate().map(|(i, v)| v - level[i / period]).collect();
    let cycle = y.len() % period;
    let with_season = |(i, v): (usize, &f64)| v + seasonal.at((i + period - cycle) % period);
    let both: Vec<f64> = remainder.iter().enumerate().map(with_season).collect();
    let strength = 1.0 - dot(&remainder, &remainder) / dot(&both, &both);
    if strength.is_finite() { strength.max(0.0) } else { 0.0 }
}

/// The differenced series and its regressors, and what a plain regression leaves over.
struct Problem {
    differences: Differences,
    w: Vec<f64>,
    ones: Vec<f64>,
    regressors: Vec<Vec<f64>>,
    rest: Vec<f64>,
}

impl Problem {
    fn new(y: &[f64], regressors: &[Vec<f64>], differences: Differences) -> Self {
        let w = differences.of(y);
        let regressors: Vec<Vec<f64>> = regressors.iter().map(|x| differences.of(x)).collect();
        let ones = vec![1.0; w.len()];
        let mut problem = Self { differences, w, ones, regressors, rest: Vec::new() };
        let constant = differences.count() <= 1;
        let slopes = problem.plain_slopes(constant);
        let level = if constant { slopes[0] } else { 0.0 };
        problem.rest = without(&problem.w, &problem.regressors, &slopes[usize::from(constant)..]);
        problem.rest.iter_mut().for_each(|v| *v -= level);
        problem
    }

    /// A mean is always there, a drift where it pays.
    fn has_mean(&self) -> bool {
        self.differences.count() == 0
    }

    /// The series, then its regressors.
    fn columns(&self, constant: bool) -> Vec<&[f64]> {
        let ones = constant.then_some(self.ones.as_slice());
        std::iter::once(self.w.as_slice()).chain(ones).chain(self.regressors.iter().map(Vec::as_slice)).collect()
    }

    /// Least squares where nothing is missing.
    fn plain_slopes(&self, constant: bool) -> Vec<f64> {
        let columns = self.columns(constant);
        let mut moments = Array2::zeros((columns.len(), columns.len()));
        for t in (0..self.w.len()).filter(|t| self.w[*t].is_finite()) {
            for (i, a) in columns.iter().enumerate() {
                columns[..=i].iter().enumerate().for_each(|(j, b)| moments[[i, j]] += a[t] * b[t]);
            }
        }
        slopes(&moments)
    }

    fn solve(&self, candidate: impl Fn(&Self) -> Candidate) -> Coefficients {
        let seen = self.w.iter().filter(|v| v.is_finite());
        let size = seen.clone().map(|v| v.abs()).fold(0.0, f64::max);
        let flat = self.rest.iter().filter(|v| v.is_finite()).all(|v| v.abs() <= 1e-12 * (1.0 + size));
        if seen.count() < FEWEST || flat {
            let orders = Orders { constant: self.has_mean(), ..Orders::default() };
            return self.coefficients(&Candidate { orders, unbounded: vec![], aicc: f64::INFINITY });
        }
        self.coefficients(&self.polished(candidate(self)))
    }

    fn coefficients(&self, candidate: &Candidate) -> Coefficients {
        let (ar, ma) = candidate.orders.polynomials(&candidate.unbounded, self.differences.period);
        let constant = candidate.orders.constant;
        let found = innovations(&ar, &ma, &self.columns(constant)).slopes();
        let level = if constant { found[0] } else { 0.0 };
        let slopes = found[usize::from(constant)..].to_vec();
        Coefficients { orders: candidate.orders, differences: self.differences, ar, ma, constant: level, slopes }
    }

    /// Fits the starting orders and moves to the best neighbour as long as one is better; then tries a drift.
    fn climb(&self, seasonal: bool) -> Candidate {
        let (on, constant) = (usize::from(seasonal), self.has_mean());
        let start = |ar, ma, seasonal_ar, seasonal_ma| Orders { ar, ma, seasonal_ar, seasonal_ma, constant };
        let starts = [start(2, 2, on, on), start(0, 0, 0, 0), start(1, 0, on, 0), start(0, 1, 0, on)];
        let mut tried: Vec<Candidate> = starts.into_iter().map(|orders| self.fitted(orders)).collect();
        loop {
            let best = least(&tried).clone();
            let unknown = |orders: &Orders| tried.iter().all(|c| c.orders != *orders);
            let fresh: Vec<Orders> = best.orders.neighbours(seasonal).filter(unknown).collect();
            tried.extend(fresh.into_iter().map(|orders| self.fitted(orders)));
            if least(&tried).orders == best.orders {
                return if self.differences.count() == 1 { self.with_drift(best) } else { best };
            }
        }
    }

    fn with_drift(&self, best: Candidate) -> Candidate {
        let judged = |constant| {
            let orders = Orders { constant, ..best.orders };
            self.judged(orders, best.unbounded.clone(), &self.columns(constant))
        };
        let (still, drifting) = (judged(false), judged(true));
        if drifting.aicc < still.aicc { drifting } else { still }
    }

    /// Least conditional squares by Levenberg's method, then AICc: of the exact likelihood where the filter is small, else
    /// of the conditional one.
    fn fitted(&self, orders: Orders) -> Candidate {
        let unbounded = least_squares(&self.rest, orders, self.differences.period);
        if self.differences.period == 1 {
            return self.judged(orders, unbounded, &[&self.rest]);
        }
        let (ar, ma) = orders.polynomials(&unbounded, self.differences.period);
        let mut errors = Vec::new();
        conditional_errors(&ar, &ma, &self.rest, &mut errors);
        let counted = errors.len().saturating_sub(ar.len()).max(1) as f64;
        let variance = (dot(&errors, &errors) / counted).max(f64::MIN_POSITIVE);
        let aicc = self.penalty(orders) + self.w.len() as f64 * variance.ln();
        Candidate { orders, unbounded, aicc: if aicc.is_nan() { f64::INFINITY } else { aicc } }
    }

    fn judged(&self, orders: Orders, unbounded: Vec<f64>, columns: &[&[f64]]) -> Candidate {
        let (ar, ma) = orders.polynomials(&unbounded, self.differences.period);
        let aicc = self.penalty(orders) - 2.0 * innovations(&ar, &ma, columns).concentrated_log_likelihood();
        Candidate { orders, unbounded, aicc: if aicc.is_nan() { f64::INFINITY } else { aicc } }
    }

    fn penalty(&self, orders: Orders) -> f64 {
        let k = (orders.count() + 1 + usize::from(orders.constant) + self.regressors.len()) as f64;
        let n = self.w.len() as f64;
        if n > k + 1.0 { 2.0 * k * n / (n - k - 1.0) } else { f64::INFINITY }
    }

    /// The candidate at the maximum of the exact likelihood nearby.
    fn polished(&self, candidate: Candidate) -> Candidate {
        let columns = self.columns(candidate.orders.constant);
        let loss = |x: &[f64]| {
            let (ar, ma) = candidate.orders.polynomials(x, self.differences.period);
            -innovations(&ar, &ma, &columns).concentrated_log_likelihood()
        };
        let usual = 30 * (1 + candidate.unbounded.len());
        let steps = if self.differences.period > 1 { SEASONAL_STEPS } else { usual };
        let unbounded = simplex::minimise(&candidate.unbounded, 0.05, (steps, 1e-8), loss);
        Candidate { unbounded, ..candidate }
    }
}

/// The most likely coefficients of given orders.
#[cfg(test)]
pub(crate) fn of_orders(y: &[f64], regressors: &[Vec<f64>], orders: Orders, differences: Differences) -> Coefficients {
    let problem = Problem::new(y, regressors, differences);
    problem.coefficients(&problem.polished(problem.fitted(orders)))
}

fn least(tried: &[Candidate]) -> &Candidate {
    tried.iter().fold(&tried[0], |best, c| if c.aicc < best.aicc { c } else { best })
}

/// # Source
/// Levenberg, "A method for the solution of certain non-linear problems in least squares", 1944; derivatives by
/// differences.
fn least_squares(w: &[f64], orders: Orders, period: usize) -> Vec<f64> {
    let mut x = vec![0.1; orders.count()];
    let (mut errors, mut shifted) = (Vec::new(), Vec::new());
    let squares = |x: &[f64], errors: &mut Vec<f64>| {
        let (ar, ma) = orders.polynomials(x, period);
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
    let mut normal = Array2::from_shape_fn((n, n), |(i, j)| dot(&slopes[i], &slopes[j]));
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
        assert_eq!(best(&steady, &[], None).differences.ordinary, 0);
        assert_eq!(best(&wandering, &[], None).differences.ordinary, 1);
    }

    #[test]
    fn a_constant_needs_no_coefficients() {
        let found = best(&[5.0; 50], &[], None);
        assert_eq!((found.ar.len(), found.ma.len()), (0, 0));
        assert!((found.constant - 5.0).abs() < 1e-12);
    }

    #[test]
    fn a_season_too_long_for_seasonal_terms_is_left_alone() {
        let y: Vec<f64> = (0..400).map(|i| f64::from(i % 50)).collect();
        assert_eq!(best(&y, &[], Some(50)).differences.period, 1);
    }
}
