//! A model without seasons, run on a series from which the seasons are taken off.

use serde::{Deserialize, Serialize};

use super::course::Course;
use super::point::Path;

/// One cycle of additive seasonal effects for each period.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Seasonal {
    cycles: Vec<Course>,
}

impl Seasonal {
    /// Splits `y` (finite) into seasonal effects and the rest, periods ascending; a period that does not fit twice is
    /// passed over. A later cycle weighs `memory` times as much as the one before it.
    pub(crate) fn split(y: &[f64], periods: &[usize], memory: f64) -> (Self, Vec<f64>) {
        let (mut rest, mut cycles) = (y.to_vec(), Vec::new());
        for period in periods.iter().copied().filter(|p| *p >= 2 && 2 * p <= y.len()) {
            let effects = effects(&rest, period, memory);
            rest.iter_mut().enumerate().for_each(|(i, v)| *v -= effects[i % period]);
            cycles.push(Course::new(&effects, y.len()));
        }
        (Self { cycles }, rest)
    }

    /// Splits as [`split`](Self::split) does, by loess: effects change from cycle to cycle, and the last cycle goes on.
    ///
    /// # Source
    /// Cleveland, Cleveland, McRae and Terpenning, "STL", J. Official Statistics 6, 1990; several seasons after Bandara,
    /// Hyndman and Bergmeir, "MSTL", 2021.
    pub(crate) fn split_by_loess(y: &[f64], periods: &[usize]) -> (Self, Vec<f64>) {
        let periods: Vec<usize> = periods.iter().copied().filter(|p| *p >= 2 && 2 * p <= y.len()).collect();
        let Ok(parts) = stlrs::Mstl::fit(y, &periods) else { return Self::split(y, &periods, 1.0) };
        let mut rest = y.to_vec();
        let mut cycle = |(period, seasonal): (&usize, &Vec<f64>)| {
            rest.iter_mut().zip(seasonal).for_each(|(v, s)| *v -= s);
            Course::new(&seasonal[y.len() - period..], 0)
        };
        let cycles = periods.iter().zip(parts.seasonal()).map(&mut cycle).collect();
        (Self { cycles }, rest)
    }

    /// The effect `ahead` steps from now; 0 is the next value.
    pub(crate) fn at(&self, ahead: usize) -> f64 {
        self.cycles.iter().map(|cycle| cycle.at(ahead)).sum()
    }

    fn advance(&mut self) {
        self.cycles.iter_mut().for_each(Course::advance);
    }
}

/// Weighted mean, by place in the cycle, of what a centred moving average of one period leaves over; sums to zero.
fn effects(y: &[f64], period: usize, memory: f64) -> Vec<f64> {
    let trend = centred_average(y, period);
    let (mut sums, mut weights) = (vec![0.0; period], vec![0.0; period]);
    for (i, (value, trend)) in y.iter().zip(&trend).enumerate() {
        let weight = memory.powi((i / period) as i32);
        sums[i % period] += weight * (value - trend);
        weights[i % period] += weight;
    }
    let mut effects: Vec<f64> = sums.iter().zip(&weights).map(|(s, w)| s / w).collect();
    let mean = effects.iter().sum::<f64>() / period as f64;
    effects.iter_mut().for_each(|e| *e -= mean);
    effects
}

/// Moving average over one period with half weights at the ends of an even one; held at its first and last value where
/// the window leaves the series.
fn centred_average(y: &[f64], period: usize) -> Vec<f64> {
    let half = period / 2;
    let sums: Vec<f64> = std::iter::once(0.0)
        .chain(y.iter().scan(0.0, |sum, v| {
            *sum += v;
            Some(*sum)
        }))
        .collect();
    let at = |i: usize| {
        let i = i.clamp(half, y.len().saturating_sub(half + 1).max(half));
        let whole = sums[(i + half + 1).min(y.len())] - sums[i - half];
        let ends = if period.is_multiple_of(2) { 0.5 * (y[i - half] + y[(i + half).min(y.len() - 1)]) } else { 0.0 };
        (whole - ends) / period as f64
    };
    (0..y.len()).map(at).collect()
}

/// `model` on the seasonally adjusted series.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Adjusted<M> {
    pub(crate) seasonal: Seasonal,
    pub(crate) model: M,
}

impl<M: Path> Path for Adjusted<M> {
    fn path(&self, past: &[f64], horizon: usize) -> Vec<f64> {
        let mut path = self.model.path(past, horizon);
        path.iter_mut().enumerate().for_each(|(k, v)| *v += self.seasonal.at(k));
        path
    }

    fn observe(&mut self, past: &[f64]) {
        if let Some(value) = past.last() {
            self.model.observe(&[value - self.seasonal.at(0)]);
            self.seasonal.advance();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forecast::ets::Ets;

    fn two_seasons(n: usize) -> Vec<f64> {
        let wave = |i: usize, period: usize| (i as f64 / period as f64 * std::f64::consts::TAU).sin();
        (0..n).map(|i| 50.0 + 0.1 * i as f64 + 10.0 * wave(i, 24) + 5.0 * wave(i, 168)).collect()
    }

    #[test]
    fn two_seasons_over_a_trend_are_told_apart() {
        let y = two_seasons(24 * 7 * 4 + 5);
        let (seasonal, rest) = Seasonal::split(&y, &[24, 168], 1.0);
        let level = |from: usize| rest[from..from + 168].iter().sum::<f64>() / 168.0;
        assert!((level(400) - level(232) - 16.8).abs() < 1.0);
        let swing = (0..168).map(|k| seasonal.at(k)).fold(0.0, f64::max);
        assert!((10.0..16.0).contains(&swing), "{swing}");
    }

    #[test]
    fn the_path_continues_the_seasons_whatever_was_observed_since() {
        let y = two_seasons(24 * 7 * 4 + 5);
        let (seasonal, rest) = Seasonal::split(&y[..600], &[24, 168], 1.0);
        let mut adjusted = Adjusted { seasonal, model: Ets::fit(&rest) };
        (601..=y.len()).for_each(|n| adjusted.observe(&y[..n]));
        let (path, truth) = (adjusted.path(&y, 24), two_seasons(y.len() + 24));
        assert!(path.iter().zip(&truth[y.len()..]).all(|(a, b)| (a - b).abs() < 2.5), "{path:?}");
    }

    #[test]
    fn by_loess_the_last_cycle_goes_on_as_it_became() {
        let wave = |i: usize| (i as f64 / 24.0 * std::f64::consts::TAU).sin();
        let y: Vec<f64> = (0..600).map(|i| 50.0 + 0.02 * i as f64 * wave(i)).collect();
        let (seasonal, rest) = Seasonal::split_by_loess(&y, &[24]);
        let swing = (0..24).map(|k| seasonal.at(k)).fold(0.0, f64::max);
        assert!((9.0..13.0).contains(&swing), "{swing}: the mean of all cycles would be 6");
        assert_eq!(rest.len(), y.len());
    }

    #[test]
    fn a_period_that_does_not_fit_twice_is_passed_over() {
        let (seasonal, rest) = Seasonal::split(&[1.0, 2.0, 3.0], &[2, 0], 1.0);
        assert_eq!((seasonal.at(0), rest), (0.0, vec![1.0, 2.0, 3.0]));
    }
}
