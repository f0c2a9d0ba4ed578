//! Made series: days and weeks of random shape over a wandering level, with noise, slips and shifts.

use std::f64::consts::TAU;

use super::Chance;

/// Lengths of a day in steps.
const DAYS: [usize; 3] = [24, 96, 288];
/// Days of a series.
const LENGTH: usize = 28;

/// A series of four weeks. Half of the days have weekends; some levels shift, some values slip.
pub(super) fn series(chance: &mut Chance) -> Vec<f64> {
    let day = DAYS[chance.below(DAYS.len())];
    let shape = shape(chance);
    let weekend = if chance.below(2) == 0 { 1.0 } else { 0.3 + 0.35 * (1.0 + chance.symmetric()) };
    let (noise, memory) = (0.02 + 0.15 * chance.symmetric().abs(), 0.49 * (1.0 + chance.symmetric()));
    let (wander, slip) = (0.3 * noise * chance.symmetric().powi(2), chance.below(3) == 0);
    let shift_at = if chance.below(3) == 0 { chance.below(LENGTH * day) } else { usize::MAX };
    let (mut level, mut departure) = (1.0, 0.0);
    let at = |i: usize| {
        level += wander * chance.symmetric() + if i == shift_at { 0.5 * chance.symmetric() } else { 0.0 };
        departure = memory * departure + noise * (chance.symmetric() + chance.symmetric());
        let course = shape.iter().enumerate().map(|(k, (size, phase))| wave(i, day, k + 1, *size, *phase)).sum::<f64>();
        let worked = if (i / day) % 7 >= 5 { weekend } else { 1.0 };
        let slipped = if slip && chance.below(200) == 0 { 4.0 * noise } else { 0.0 };
        100.0 * (level + worked * course + departure + slipped)
    };
    (0..LENGTH * day).map(at).collect()
}

/// Sizes and phases of the harmonics of a day.
fn shape(chance: &mut Chance) -> Vec<(f64, f64)> {
    (1..=6).map(|k| (0.4 * chance.symmetric() / f64::from(k).powf(1.3), TAU * chance.symmetric())).collect()
}

fn wave(i: usize, day: usize, harmonic: usize, size: f64, phase: f64) -> f64 {
    size * (TAU * (harmonic * (i % day)) as f64 / day as f64 + phase).sin()
}
