//! What every detector of one series keeps, whatever it is fed.

use proptest::prelude::*;

use super::synthetic::Noise;
use super::{Detector, Kind, Score, Univariate};
use crate::series::{Timestamp, stale_marker};

fn scores(samples: &[(i64, f64)]) -> Vec<Score> {
    let mut detector = Univariate::default();
    samples.iter().map(|(at, value)| detector.observe(Timestamp::from_millis(*at), *value)).collect()
}

fn any_value() -> impl Strategy<Value = f64> {
    prop_oneof![
        8 => -100.0..100.0_f64,
        2 => Just(0.0),
        1 => Just(f64::NAN),
        1 => Just(f64::INFINITY),
        1 => Just(f64::NEG_INFINITY),
        1 => Just(stale_marker()),
        1 => Just(f64::MAX),
        1 => Just(f64::MIN_POSITIVE),
        1 => any::<f64>(),
    ]
}

/// Steps of time, mostly regular, with repeats, pauses and jumps of the clock in both directions.
fn any_step() -> impl Strategy<Value = i64> {
    prop_oneof![12 => Just(15_000_i64), 2 => 0..60_000_i64, 1 => Just(0), 1 => -1_000_000_000..1_000_000_000_i64, 1 => any::<i64>()]
}

fn minutes(values: impl Iterator<Item = f64>) -> Vec<(i64, f64)> {
    values.enumerate().map(|(k, value)| (k as i64 * 60_000, value)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn no_input_gives_nan_or_a_negative_surprise_or_a_panic(steps in prop::collection::vec((any_step(), any_value()), 0..400)) {
        let mut at = 0_i64;
        let samples: Vec<_> = steps.iter().map(|(step, value)| { at = at.wrapping_add(*step); (at, *value) }).collect();
        for score in scores(&samples) {
            prop_assert!(score.surprise.is_finite() && score.surprise >= 0.0, "{score:?}");
            prop_assert!((0.0..1.0).contains(&score.as_unit()), "{score:?}");
        }
    }

    #[test]
    fn scores_do_not_change_with_the_unit_of_the_values(seed in any::<u64>(), power in -20..20_i32) {
        let mut noise = Noise::new(seed);
        let values: Vec<f64> = (0..500).map(|k| 10.0 + (f64::from(k) / 9.0).sin() + noise.gaussian()).collect();
        let unit = f64::from(power).exp2();
        let (plain, scaled) = (scores(&minutes(values.iter().copied())), scores(&minutes(values.iter().map(|v| v * unit))));
        for (a, b) in plain.iter().zip(&scaled) {
            prop_assert!((a.surprise - b.surprise).abs() < 1e-6, "{a:?} {b:?}");
        }
    }

    #[test]
    fn a_detector_that_was_saved_and_loaded_goes_on_as_if_nothing_had_happened(seed in any::<u64>(), cut in 1..600_usize) {
        let mut noise = Noise::new(seed);
        let samples = minutes((0..700).map(|k| f64::from(k % 50) + noise.student3()));
        let mut live = Univariate::default();
        for (at, value) in &samples[..cut] {
            live.observe(Timestamp::from_millis(*at), *value);
        }
        let mut loaded: Univariate = serde_json::from_str(&serde_json::to_string(&live).unwrap()).unwrap();
        for (at, value) in &samples[cut..] {
            let (a, b) = (live.observe(Timestamp::from_millis(*at), *value), loaded.observe(Timestamp::from_millis(*at), *value));
            prop_assert!((a.surprise - b.surprise).abs() < 1e-6, "{a:?} {b:?}");
        }
    }
}

#[test]
fn constant_series_are_quiet_and_their_first_move_is_not() {
    for level in [0.0, 5.0, -1e9, 1e-9] {
        let mut samples = minutes((0..1000).map(|_| level));
        samples.push((60_000_000, level * 2.0 + 1.0));
        let scores = scores(&samples);
        assert!(scores[..1000].iter().all(|score| score.surprise < 2.0), "level {level}");
        assert!(scores[1000].surprise > 3.0, "level {level}: {:?}", scores[1000]);
    }
}

#[test]
fn a_series_that_stops_moving_is_stuck() {
    let mut noise = Noise::new(3);
    let samples = minutes((0..1060).map(|k| if k < 1000 { noise.gaussian() } else { 0.25 }));
    assert_eq!(scores(&samples)[1040].kind, Some(Kind::Stuck));
}

#[test]
fn the_state_of_a_series_fits_two_kilobytes() {
    let mut noise = Noise::new(4);
    let mut detector = Univariate::default();
    for hour in 0..2000_i64 {
        let season =
            (hour as f64 / 24.0 * std::f64::consts::TAU).sin() + (hour as f64 / 168.0 * std::f64::consts::TAU).sin();
        detector.observe(Timestamp::from_secs(hour * 3600), 10.0 * season + noise.gaussian());
    }
    assert!(detector.bytes() <= 2048, "{} bytes", detector.bytes());
}

#[test]
fn a_spike_that_comes_every_night_is_news_twice_and_a_larger_one_or_one_by_day_always() {
    let mut noise = Noise::new(6);
    let five_minutes = |day: usize, k: usize| day * 288 + k;
    let mut values: Vec<f64> = (0..7 * 288).map(|_| 100.0 + noise.gaussian()).collect();
    // at two every night, a little earlier or later, and once at noon and once a hundred times as high
    (1..6).for_each(|day| values[five_minutes(day, 24 + day % 3)] += 200.0);
    values[five_minutes(5, 144)] += 200.0;
    values[five_minutes(6, 25)] += 20_000.0;
    let scores = scores(&values.into_iter().enumerate().map(|(k, v)| (k as i64 * 300_000, v)).collect::<Vec<_>>());
    let at = |day: usize, k: usize| scores[five_minutes(day, k)].surprise;
    let nights: Vec<f64> = (1..6).map(|day| at(day, 24 + day % 3)).collect();
    assert!(nights[0] > 3.0 && nights[1] > 2.0, "{nights:?}");
    assert!(nights[2..].iter().all(|surprise| *surprise < 1.7), "{nights:?}");
    assert!(at(5, 144) > 2.0 && at(6, 25) > 2.0, "{} {}", at(5, 144), at(6, 25));
}
