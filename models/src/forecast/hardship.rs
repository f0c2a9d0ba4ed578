//! What happens to real series, and that forecasts bear it: bounded at all times, calibrated again within a season.

use super::auto::{Combination, Live};
use super::{Fitted, Forecaster, Horizon, Quantile};
use crate::laws;
use crate::series::{Step, Timestamp, Window};

const DAY: usize = 48;
const KNOWN: usize = 14 * DAY;

/// Half-hourly load of a service, the same in every run.
fn load(n: usize) -> Vec<f64> {
    let wave = |i: usize| (i as f64 / DAY as f64 * std::f64::consts::TAU).sin();
    (0..n).map(|i| 100.0 + 40.0 * wave(i) + 12.0 * laws::noise(i)).collect()
}

fn fitted(y: &[f64]) -> Live {
    let history = Window { start: Timestamp::from_secs(0), step: Step::from_secs(1800), values: y[..KNOWN].to_vec() };
    let horizon = Horizon::new(6).expect("not zero");
    Combination::new(horizon).with_seasons(&[DAY]).fit(&history).expect("two clean weeks")
}

/// Share at or below p95, and mean absolute error, of forecasts made before each of `range`; all values stay within
/// bounds stated here: ten times the greatest value seen.
fn followed(y: &[f64], range: std::ops::Range<usize>) -> (f64, f64) {
    let mut live = fitted(y);
    let greatest = y.iter().copied().filter(|v| v.is_finite()).fold(0.0, f64::max);
    let (mut below, mut off, mut points) = (0usize, 0.0, 0usize);
    for now in KNOWN..range.end {
        let forecast = live.forecast(Horizon::new(6).expect("not zero"), &Quantile::STANDARD);
        let said = forecast.mean.iter().chain(forecast.quantiles.iter().chain(&forecast.peaks).flatten());
        assert!(said.copied().all(|v| (0.0..=10.0 * greatest).contains(&v)), "at {now}: {forecast:?}");
        if range.contains(&now) {
            for ((y, p95), mean) in y[now..].iter().zip(&forecast.quantiles[3]).zip(&forecast.mean) {
                (below, off, points) = (below + usize::from(y <= p95), off + (y - mean).abs(), points + 1);
            }
        }
        live.update(y[now]);
    }
    (below as f64 / points as f64, off / points as f64)
}

fn after(change: impl Fn(&mut [f64])) -> (f64, f64) {
    let mut y = load(KNOWN + 3 * DAY + 6);
    change(&mut y[KNOWN..]);
    followed(&y, KNOWN + 2 * DAY..KNOWN + 3 * DAY)
}

#[test]
fn an_ordinary_day_is_the_measure() {
    let (below, off) = after(|_| {});
    assert!(below > 0.9 && off < 5.0, "{below} {off}");
}

#[test]
fn after_a_level_shift_of_ten_the_bounds_hold_again_within_a_season() {
    let (below, off) = after(|y| y.iter_mut().for_each(|v| *v *= 10.0));
    assert!(below > 0.85, "{below}");
    assert!(off < 100.0, "{off} where an ordinary day at that level has 50");
}

#[test]
fn an_outage_of_six_hours_is_forgotten_within_a_season() {
    for lost in [f64::NAN, 0.0] {
        let (below, off) = after(|y| y[20..32].fill(lost));
        assert!(below > 0.88 && off < 8.0, "{lost}: {below} {off}");
    }
}

#[test]
fn a_spike_of_a_hundred_leaves_no_trace_within_a_season() {
    let (below, off) = after(|y| y[30] *= 100.0);
    assert!(below > 0.88 && off < 8.0, "{below} {off}");
}

#[test]
fn clocks_put_forward_an_hour_are_followed_within_a_season() {
    let (below, off) = after(|y| y.rotate_left(2));
    assert!(below > 0.85 && off < 10.0, "{below} {off}");
}
