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
            let came = y[now..].iter().zip(&forecast.quantiles[3]).zip(&forecast.mean);
            for ((y, p95), mean) in came.filter(|((y, _), _)| y.is_finite()) {
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

#[test]
fn runs_of_gaps_each_day_are_borne() {
    let (below, off) =
        after(|y| y.iter_mut().enumerate().filter(|(i, _)| i % DAY < 5).for_each(|(_, v)| *v = f64::NAN));
    assert!(below > 0.88 && off < 8.0, "{below} {off}");
}

#[test]
fn a_counter_and_its_reset_stay_within_twice_what_was_seen() {
    let mut y: Vec<f64> = (0..KNOWN + 3 * DAY + 6).map(|i| (i % 500) as f64 * 40.0).collect();
    y[KNOWN + 70..].iter_mut().enumerate().for_each(|(i, v)| *v = i as f64 * 40.0);
    let (below, _) = followed(&y, KNOWN + 2 * DAY..KNOWN + 3 * DAY);
    assert!(below > 0.8, "{below}");
}

#[test]
fn a_constant_and_zeros_are_foretold_to_stay_with_no_width() {
    for level in [0.0, 7.0] {
        let forecast = fitted(&vec![level; KNOWN]).forecast(Horizon::new(6).expect("not zero"), &Quantile::STANDARD);
        let said = forecast.mean.iter().chain(forecast.quantiles.iter().chain(&forecast.peaks).flatten());
        assert!(said.copied().all(|v| (v - level).abs() < 1e-9), "{level}: {forecast:?}");
    }
}

#[test]
fn thirty_points_give_a_forecast_within_their_range_widened_by_itself() {
    let y = load(30);
    let (least, greatest) = y.iter().fold((f64::INFINITY, 0.0_f64), |(a, b), v| (a.min(*v), b.max(*v)));
    let history = Window { start: Timestamp::from_secs(0), step: Step::from_secs(1800), values: y };
    let forecast = Combination::new(Horizon::new(12).expect("not zero"))
        .fit(&history)
        .expect("enough to begin with")
        .forecast(Horizon::new(12).expect("not zero"), &Quantile::STANDARD);
    let said = forecast.mean.iter().chain(forecast.quantiles.iter().chain(&forecast.peaks).flatten());
    let within = 0.0..=2.0 * greatest - least;
    assert!(said.copied().all(|v| within.contains(&v)), "{forecast:?}");
    let widths: Vec<f64> = forecast.quantiles[3].iter().zip(&forecast.quantiles[0]).map(|(hi, lo)| hi - lo).collect();
    let narrowest = widths.iter().copied().fold(f64::INFINITY, f64::min);
    assert!(narrowest > 0.3 * widths[0], "the fan does not close with the steps: {widths:?}");
}

#[test]
fn the_week_after_an_outage_within_the_history_is_as_if_it_had_not_been() {
    let clean = fitted(&load(KNOWN));
    let mut y = load(KNOWN);
    y[KNOWN - 40..KNOWN - 28].fill(0.0);
    let horizon = Horizon::new(6).expect("not zero");
    let (one, other) =
        (clean.forecast(horizon, &Quantile::STANDARD), fitted(&y).forecast(horizon, &Quantile::STANDARD));
    assert!(one.mean.iter().zip(&other.mean).all(|(a, b)| (a - b).abs() < 8.0), "{one:?} {other:?}");
    assert!(one.quantiles[3].iter().zip(&other.quantiles[3]).all(|(a, b)| (a - b).abs() < 15.0), "{one:?} {other:?}");
}
