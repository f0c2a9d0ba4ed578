//! Regression of each coming step on the usual course of the cycle and the recent past.

use ndarray::Array2;
use serde::{Deserialize, Serialize};

use super::course::Course;
use super::linear::Cholesky;
use super::point::Path;

/// Lengths of the recent means looked at.
const MEANS: [usize; 6] = [2, 3, 6, 12, 24, 72];
/// Weight of a new cycle in the usual course.
const GAIN: f64 = 0.2;
/// Penalty on each standardised coefficient, as a share of the number of rows.
const PENALTY: f64 = 0.003;
/// Rounds of weighting down what fits badly.
const ROUNDS: usize = 3;
/// Most rows learnt from; more are thinned out evenly.
const MOST_ROWS: usize = 600;
/// Fewest rows learnt from.
const FEWEST_ROWS: usize = 30;

/// One linear model for each step. Features and targets are relative to the newest value: recent means, and for each
/// period the usual and the last value at the target's place in the cycle and at the present one.
///
/// # Source
/// Ridge penalty: Hoerl and Kennard, Technometrics 12, 1970. Least absolute errors by reweighted least squares: Holland
/// and Welsch, "Robust regression using iteratively reweighted least-squares", Comm. Statistics 6, 1977.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Regression {
    periods: Vec<usize>,
    /// Usual course of each period.
    courses: Vec<Course>,
    horizon: usize,
    /// Shape `[horizon, features]`.
    weights: Box<[f32]>,
}

impl Regression {
    /// Learns from `y` (finite); `None` when fewer than thirty rows can be formed.
    pub(crate) fn fit(y: &[f64], periods: &[usize], horizon: usize) -> Option<Self> {
        let periods: Vec<usize> = periods.iter().copied().filter(|p| 2 * p + 2 * horizon < y.len()).collect();
        let longest = periods.last().copied().unwrap_or(0);
        let from = (longest + 4).max(MEANS[MEANS.len() - 1].min(y.len() / 4)) + longest.min(horizon);
        let count = (y.len() + 1).checked_sub(horizon + from).filter(|count| *count >= FEWEST_ROWS)?;
        let rows: Vec<usize> = (from..from + count).rev().step_by(count.div_ceil(MOST_ROWS)).collect();
        let courses: Vec<Vec<f64>> = periods.iter().map(|p| course(y, *p)).collect();
        let view = View { y, sums: &running_sums(y), periods: &periods };
        let weights: Vec<Vec<f64>> = (0..horizon).map(|k| view.weights(&rows, k, &courses)).collect::<Option<_>>()?;
        let weights = weights.into_iter().flatten().map(|w| w as f32).collect();
        let last_cycle = |(course, period): (&Vec<f64>, &usize)| Course::new(&course[course.len() - period..], 0);
        let courses = courses.iter().zip(&periods).map(last_cycle).collect();
        Some(Self { periods, courses, horizon, weights })
    }
}

/// The usual value at each place after it was observed: a moving mean over cycles.
fn course(y: &[f64], period: usize) -> Vec<f64> {
    let mut course = y.to_vec();
    for i in period..y.len() {
        let gain = GAIN.max(1.0 / (i / period + 1) as f64);
        course[i] = course[i - period] + gain * (y[i] - course[i - period]);
    }
    course
}

/// Number of features.
fn width(periods: &[usize]) -> usize {
    1 + MEANS.len() + 4 * periods.len()
}

/// Sums of the first 0, 1, … values.
fn running_sums(y: &[f64]) -> Vec<f64> {
    let mut sum = 0.0;
    let mut add = |v: &f64| {
        sum += v;
        sum
    };
    std::iter::once(0.0).chain(y.iter().map(&mut add)).collect()
}

/// A series as the features look at it.
struct View<'a> {
    y: &'a [f64],
    sums: &'a [f64],
    periods: &'a [usize],
}

impl View<'_> {
    /// The coefficients for step `k`, learnt at the origins `rows`.
    fn weights(&self, rows: &[usize], k: usize, courses: &[Vec<f64>]) -> Option<Vec<f64>> {
        let mut x = Array2::zeros((rows.len(), width(self.periods)));
        let mut features = Vec::new();
        for (row, t) in rows.iter().enumerate() {
            self.features(*t, k, |period, at| courses[period][at], &mut features);
            x.row_mut(row).iter_mut().zip(&features).for_each(|(cell, v)| *cell = *v);
        }
        let targets: Vec<f64> = rows.iter().map(|t| self.y[t + k] - self.y[t - 1]).collect();
        least_absolute(x, &targets)
    }

    /// Features for step `k` after the first `t` values; `course` gives the usual value of a period at an index.
    fn features(&self, t: usize, k: usize, course: impl Fn(usize, usize) -> f64, features: &mut Vec<f64>) {
        let last = self.y[t - 1];
        features.clear();
        features.push(1.0);
        features.extend(MEANS.iter().map(|m| self.mean(t - m.min(&t), t) - last));
        for (i, period) in self.periods.iter().enumerate() {
            let lag = (k + 1).div_ceil(*period) * period;
            let (then, now) = (t + k - lag, (t - 1).saturating_sub(lag));
            features.push(course(i, then) - last);
            features.push(course(i, now) - last);
            features.push(self.mean(then.saturating_sub(1), (then + 2).min(t)) - last);
            features.push(self.mean(now.saturating_sub(1), (now + 2).min(t)) - last);
        }
    }

    fn mean(&self, from: usize, to: usize) -> f64 {
        (self.sums[to] - self.sums[from]) / (to - from) as f64
    }
}

/// Coefficients of least absolute error under a ridge penalty; rows of `x` are observations.
fn least_absolute(mut x: Array2<f64>, targets: &[f64]) -> Option<Vec<f64>> {
    let scales = standardise(&mut x);
    let mut weights = vec![1.0; targets.len()];
    let mut coefficients = Vec::new();
    for _ in 0..ROUNDS {
        coefficients = weighted_ridge(&x, targets, &weights)?;
        let fit = x.dot(&ndarray::ArrayView1::from(&coefficients));
        let sizes: Vec<f64> = targets.iter().zip(&fit).map(|(t, f)| (t - f).abs()).collect();
        let usual = median(&sizes);
        weights = sizes.iter().map(|size| if usual > 0.0 { usual / size.max(usual) } else { 1.0 }).collect();
    }
    Some(coefficients.iter().zip(&scales).map(|(c, s)| c / s).collect())
}

/// Divides each column by its root mean square; columns of almost nothing are left as they are.
fn standardise(x: &mut Array2<f64>) -> Vec<f64> {
    let n = x.nrows() as f64;
    let size = |column: ndarray::ArrayView1<f64>| (column.iter().map(|v| v * v).sum::<f64>() / n).sqrt();
    let sizes: Vec<f64> = x.columns().into_iter().map(size).collect();
    let least = sizes.iter().copied().fold(0.0, f64::max) * 1e-6;
    let scales: Vec<f64> = sizes.into_iter().map(|s| if s > least { s } else { 1.0 }).collect();
    for mut row in x.rows_mut() {
        row.iter_mut().zip(&scales).for_each(|(v, s)| *v /= s);
    }
    scales
}

fn weighted_ridge(x: &Array2<f64>, targets: &[f64], weights: &[f64]) -> Option<Vec<f64>> {
    let width = x.ncols();
    let mut gram = Array2::zeros((width, width));
    let mut right = vec![0.0; width];
    for ((row, target), weight) in x.rows().into_iter().zip(targets).zip(weights) {
        for (i, a) in row.iter().enumerate() {
            let a = a * weight;
            right[i] += a * target;
            gram.row_mut(i).iter_mut().zip(row.iter().take(i + 1)).for_each(|(cell, b)| *cell += a * b);
        }
    }
    (0..width).for_each(|i| gram[[i, i]] += PENALTY * targets.len() as f64);
    Cholesky::of(gram)?.solve(&mut right);
    Some(right)
}

fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    let middle = values.len() / 2;
    *values.select_nth_unstable_by(middle, f64::total_cmp).1
}

impl Regression {
    /// The first `steps` of those it was fitted for.
    fn block(&self, past: &[f64], steps: usize) -> Vec<f64> {
        let last = past.last().copied().unwrap_or(0.0);
        let longest = self.periods.last().copied().unwrap_or(0);
        if past.len() < longest + 4 {
            return vec![last; steps];
        }
        let past = &past[past.len().saturating_sub(self.needs())..];
        let (view, n) = (View { y: past, sums: &running_sums(past), periods: &self.periods }, past.len());
        let mut features = Vec::new();
        let mut at = |(k, weights): (usize, &[f32])| {
            let usual = |i: usize, at: usize| self.courses[i].at(at + self.periods[i] * n - n);
            view.features(n, k, usual, &mut features);
            last + features.iter().zip(weights).map(|(f, w)| f * f64::from(*w)).sum::<f64>()
        };
        self.weights.chunks_exact(width(&self.periods)).take(steps).enumerate().map(&mut at).collect()
    }

    /// Values of the past that the features may need.
    fn needs(&self) -> usize {
        let cycles = self.periods.iter().map(|p| self.horizon.div_ceil(*p) * p + 4);
        cycles.fold(MEANS[MEANS.len() - 1], usize::max)
    }
}

impl Path for Regression {
    /// Beyond the horizon it was fitted for, the path is fed back as if it had been observed.
    fn path(&self, past: &[f64], horizon: usize) -> Vec<f64> {
        let mut path = self.block(past, horizon.min(self.horizon));
        if path.len() < horizon {
            let mut model = self.clone();
            let mut extended = past[past.len().saturating_sub(self.needs())..].to_vec();
            while path.len() < horizon {
                for value in path[path.len() - self.horizon..].iter().copied() {
                    extended.push(value);
                    model.observe(&extended);
                }
                path.extend(model.block(&extended, self.horizon));
            }
        }
        path.truncate(horizon);
        path
    }

    fn reach(&self) -> usize {
        self.needs()
    }

    fn observe(&mut self, past: &[f64]) {
        if let Some(value) = past.last() {
            for course in &mut self.courses {
                let usual = course.at(0);
                course.leave(usual + GAIN * (value - usual));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wave(n: usize) -> Vec<f64> {
        (0..n).map(|i| (i as f64 / 24.0 * std::f64::consts::TAU).sin() * 10.0 + 50.0).collect()
    }

    #[test]
    fn a_wave_is_continued_also_beyond_the_horizon_it_was_fitted_for() {
        let y = wave(400);
        let regression = Regression::fit(&y, &[24], 6).expect("enough rows");
        let path = regression.path(&y, 20);
        assert!(path.iter().zip(&wave(420)[400..]).all(|(a, b)| (a - b).abs() < 1.5), "{path:?}");
    }

    #[test]
    fn observing_keeps_the_course_in_step() {
        let y = wave(500);
        let mut regression = Regression::fit(&y[..401], &[24], 6).expect("enough rows");
        (402..=500).for_each(|n| regression.observe(&y[..n]));
        let path = regression.path(&y, 6);
        assert!(path.iter().zip(&wave(506)[500..]).all(|(a, b)| (a - b).abs() < 0.5), "{path:?}");
    }

    #[test]
    fn lone_wild_targets_hardly_move_the_coefficients() {
        let x = Array2::ones((100, 1));
        let targets: Vec<f64> = (0..100).map(|i| if i % 10 == 0 { 100.0 } else { 1.0 }).collect();
        let found = least_absolute(x, &targets).expect("one plain column");
        assert!((0.9..1.5).contains(&found[0]), "{found:?}");
    }

    #[test]
    fn few_rows_make_no_regression() {
        assert_eq!(Regression::fit(&wave(40), &[24], 6), None);
    }
}
