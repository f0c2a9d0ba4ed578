//! What every implementer of a trait promises (feature `laws`).

use std::fmt::Debug;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::forecast::{Fitted, Forecast, Forecaster, Horizon, Quantile};
use crate::series::{Step, Timestamp, Window};

/// Asserts that `forecaster` keeps the laws: same input, same output; gaps, infinities and outliers are borne; values
/// are finite and quantiles do not cross; a scaled history scales the forecast; histories of few points, constants and
/// zeros are met with a forecast near them or an error; a history that is never negative is never foretold to be;
/// saving and loading changes nothing; so does forecasting.
///
/// # Panics
/// When a law is broken; the message names it and the history.
pub fn forecaster<F>(forecaster: &F)
where
    F: Forecaster,
    F::Fitted: Clone + PartialEq + Debug + Serialize + DeserializeOwned,
{
    for (name, history) in histories() {
        let again = forecaster.fit(&history);
        match (forecaster.fit(&history), again) {
            (Ok(fitted), Ok(again)) => {
                assert_eq!(fitted, again, "{name}: the same history gave two fits");
                bears_updates(name, fitted.clone());
                is_sound(name, &history, &forecast(&fitted));
                survives_storage(name, &fitted);
            }
            (Err(one), Err(other)) => assert_eq!(one, other, "{name}: the same history gave two errors"),
            _ => panic!("{name}: the same history gave a fit and an error"),
        }
    }
    scales(forecaster);
    stays_near_a_constant(forecaster);
}

fn forecast(fitted: &impl Fitted) -> Forecast {
    let horizon = Horizon::new(9).unwrap_or_else(|| unreachable!("nine is not zero"));
    fitted.forecast(horizon, &Quantile::STANDARD)
}

fn is_sound(name: &str, history: &Window, forecast: &Forecast) {
    assert_eq!(forecast.horizon(), 9, "{name}: another horizon than asked for");
    assert_eq!(forecast.start, history.end(), "{name}: the forecast starts elsewhere than the history ends");
    let values = || forecast.mean.iter().chain(forecast.quantiles.iter().chain(&forecast.peaks).flatten());
    assert!(values().all(|v| v.is_finite()), "{name}: not finite: {forecast:?}");
    for pair in forecast.quantiles.windows(2) {
        assert!(pair[0].iter().zip(&pair[1]).all(|(lo, hi)| lo <= hi), "{name}: quantiles cross: {forecast:?}");
    }
    for (peaks, path) in forecast.peaks.iter().zip(&forecast.quantiles) {
        assert!(peaks.is_sorted(), "{name}: a longer span has a lower peak: {forecast:?}");
        assert!(peaks.iter().zip(path).all(|(peak, q)| peak >= q), "{name}: a peak below its step: {forecast:?}");
    }
    if history.values.iter().all(|v| v.is_nan() || *v >= 0.0) {
        assert!(values().all(|v| *v >= 0.0), "{name}: negative though the history never was: {forecast:?}");
    }
    let seen = || history.values.iter().copied().filter(|v| v.is_finite());
    let (least, greatest) = (seen().fold(f64::INFINITY, f64::min), seen().fold(f64::NEG_INFINITY, f64::max));
    let range = 2.0 * (greatest - least) + 1e-9 * greatest.abs();
    assert!(values().all(|v| (least - range..=greatest + range).contains(v)), "{name}: absurd: {forecast:?}");
}

fn bears_updates(name: &str, mut fitted: impl Fitted) {
    let start = forecast(&fitted).start;
    for value in [1.0, f64::NAN, f64::INFINITY, -1e9, 1e12, 0.0, f64::NEG_INFINITY] {
        fitted.update(value);
    }
    let forecast = forecast(&fitted);
    assert!(forecast.start > start, "{name}: updates do not move the forecast on");
    assert!(forecast.mean.iter().all(|v| v.is_finite()), "{name}: wild updates break it: {forecast:?}");
}

fn survives_storage<T: Fitted + PartialEq + Debug + Serialize + DeserializeOwned>(name: &str, fitted: &T) {
    let stored = serde_json::to_string(fitted).unwrap_or_else(|e| panic!("{name}: cannot be saved: {e}"));
    let loaded: T = serde_json::from_str(&stored).unwrap_or_else(|e| panic!("{name}: cannot be loaded: {e}"));
    assert_eq!(fitted, &loaded, "{name}: saving and loading changes it");
}

fn scales<F: Forecaster>(forecaster: &F) {
    let history = daily(400);
    let scaled = Window { values: history.values.iter().map(|v| v * 1024.0).collect(), ..history.clone() };
    if let (Ok(one), Ok(other)) = (forecaster.fit(&history), forecaster.fit(&scaled)) {
        for (a, b) in forecast(&one).mean.iter().zip(&forecast(&other).mean) {
            assert!((a * 1024.0 - b).abs() <= 0.01 * b.abs(), "scaling the history does not scale: {a} to {b}");
        }
    }
}

fn stays_near_a_constant<F: Forecaster>(forecaster: &F) {
    for level in [0.0, 5.0, -3.0] {
        let constant = window(vec![level; 200]);
        if let Ok(fitted) = forecaster.fit(&constant) {
            let forecast = forecast(&fitted);
            let mut values = forecast.mean.iter().chain(forecast.quantiles.iter().flatten());
            assert!(values.all(|v| (v - level).abs() < 1e-6), "constant {level}: {forecast:?}");
        }
    }
}

fn window(values: Vec<f64>) -> Window {
    Window { start: Timestamp::from_secs(1_600_000_000), step: Step::from_secs(300), values }
}

/// A rhythm of twelve steps with noise that repeats from run to run.
fn daily(n: usize) -> Window {
    let wave = |i: usize| (i as f64 / 12.0 * std::f64::consts::TAU).sin();
    window((0..n).map(|i| 100.0 + 50.0 * wave(i) + 10.0 * noise(i)).collect())
}

/// Noise in `-0.5..0.5` that is the same in every run (the mixing function of SplitMix64: Steele, Lea and Flood 2014).
pub(crate) fn noise(i: usize) -> f64 {
    let mut z = (i as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64 - 0.5
}

fn with(n: usize, change: impl Fn(&mut [f64])) -> Window {
    let mut window = daily(n);
    change(&mut window.values);
    window
}

/// Ordinary and hostile histories, each with its name.
fn histories() -> Vec<(&'static str, Window)> {
    vec![
        ("a daily course", daily(400)),
        ("nothing", window(vec![])),
        ("one point", daily(1)),
        ("eight points", daily(8)),
        ("thirty points", daily(30)),
        ("only gaps", window(vec![f64::NAN; 100])),
        ("zeros", window(vec![0.0; 100])),
        ("a constant", window(vec![7.0; 100])),
        ("a run of gaps", with(400, |y| y[200..260].fill(f64::NAN))),
        (
            "gaps at both ends",
            with(400, |y| {
                y[..30].fill(f64::NAN);
                y[380..].fill(f64::NAN);
            }),
        ),
        ("every third missing", with(400, |y| (0..400).step_by(3).for_each(|i| y[i] = f64::NAN))),
        (
            "infinities",
            with(400, |y| {
                y[100] = f64::INFINITY;
                y[399] = f64::NEG_INFINITY;
            }),
        ),
        ("one spike", with(400, |y| y[300] *= 100.0)),
        ("a spike at the end", with(400, |y| y[399] *= 100.0)),
        ("a level shift", with(400, |y| y[340..].iter_mut().for_each(|v| *v *= 10.0))),
        ("a counter and its reset", with(400, |y| (0..400).for_each(|i| y[i] = (i % 250) as f64 * 1e3))),
        (
            "zero but for one",
            with(200, |y| {
                y.fill(0.0);
                y[150] = 1.0;
            }),
        ),
        ("zero until lately", with(200, |y| y[..190].fill(0.0))),
        ("greatest floats", with(100, |y| (0..100).for_each(|i| y[i] = if i % 2 == 0 { 1e300 } else { -1e300 }))),
        ("least floats", with(100, |y| y.iter_mut().for_each(|v| *v *= 1e-300))),
    ]
}
