//! What the detector of one series does on signals whose truth is known: how often it raises a false alarm on clean
//! ones, and which injected faults it finds at the same threshold.
//!
//! `cargo run --release --example detection [-- DAYS]` prints both tables; the same seeds give the same tables.

use std::time::Instant;

use bellwether_models::detect::synthetic::Noise;
use bellwether_models::detect::{Detector, Univariate};
use bellwether_models::series::Timestamp;

const DAY: usize = 86_400;
/// Flagged rows within so many seconds are one event.
const JOIN: usize = 60;
const TRIALS: u64 = 30;

type Signal = fn(usize, &mut Noise, &mut f64) -> f64;

const SIGNALS: [(&str, Signal); 6] = [
    ("white", |_, noise, _| noise.gaussian()),
    ("AR(1) 0.9", |_, noise, state| {
        *state = 0.9 * *state + noise.gaussian();
        *state
    }),
    ("Poisson 5", |_, noise, _| noise.poisson(5.0)),
    ("log-normal", |_, noise, _| noise.gaussian().exp()),
    ("daily sine, noise with load", |second, noise, _| {
        let load = 100.0 + 50.0 * (second as f64 / DAY as f64 * std::f64::consts::TAU).sin();
        load + 0.05 * load * noise.gaussian()
    }),
    ("Student t3", |_, noise, _| noise.student3()),
];

/// A fault: its name, how long it lasts in seconds, and what it makes of a value (second of the fault, clean value,
/// value when it began, noise).
type Fault = (&'static str, usize, fn(f64, f64, f64, &mut Noise) -> f64);

const FAULTS: [Fault; 8] = [
    ("spike 10 sigma", 1, |_, x, _, _| x + 10.0),
    ("shift 3 sigma", 3600, |_, x, _, _| x + 3.0),
    ("shift 5 sigma", 3600, |_, x, _, _| x + 5.0),
    ("shift 20 sigma", 3600, |_, x, _, _| x + 20.0),
    ("ramp to 100 sigma in 1 h", 3600, |t, x, _, _| x + t / 36.0),
    ("stuck 1 h", 3600, |_, _, held, _| held),
    ("noise x3", 3600, |_, x, _, noise| x + 8.0_f64.sqrt() * noise.gaussian()),
    ("leak 5 sigma/h", 7200, |t, x, _, _| x + 5.0 * t / 3600.0),
];

fn main() {
    let days: u64 = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(60);
    let thresholds = [3.0, 3.5, 4.0, 4.5, 5.0, 5.5, 6.0];
    println!("False events per metric-day ({days} series-days each, 1 s), by surprise threshold {thresholds:?}");
    for (name, signal) in SIGNALS {
        let started = Instant::now();
        let mut events = [0; 7];
        (0..days).for_each(|seed| count(signal, seed, &thresholds, &mut events));
        let rate = days as f64 * DAY as f64 / started.elapsed().as_secs_f64() / 1e6;
        let per_day = events.map(|n| format!("{:6.2}", f64::from(n) / days as f64)).join(" ");
        println!("{name:28} {per_day}   ({rate:.1} M samples/s, generator included)");
    }
    println!("Injected faults found of {TRIALS} (white noise, 6 h of history)");
    for fault in FAULTS {
        let peaks: Vec<f64> = (0..TRIALS).map(|seed| peak(&fault, 1000 + seed)).collect();
        let found = thresholds.map(|t| format!("{:6}", peaks.iter().filter(|p| **p >= t).count())).join(" ");
        println!("{:28} {found}", fault.0);
    }
}

fn count(signal: Signal, seed: u64, thresholds: &[f64; 7], events: &mut [u32; 7]) {
    let (mut detector, mut noise, mut state) = (Univariate::default(), Noise::new(seed), 0.0);
    let mut last = [None::<usize>; 7];
    for second in 0..DAY {
        let surprise = detector.observe(at(second), signal(second, &mut noise, &mut state)).surprise;
        for k in (0..thresholds.len()).filter(|k| surprise >= thresholds[*k]) {
            events[k] += u32::from(last[k].is_none_or(|before| second - before > JOIN));
            last[k] = Some(second);
        }
    }
}

/// Greatest surprise while the fault lasts.
fn peak((_, length, fault): &Fault, seed: u64) -> f64 {
    let (mut detector, mut noise) = (Univariate::default(), Noise::new(seed));
    let start = 6 * 3600;
    for second in 0..start {
        detector.observe(at(second), noise.gaussian());
    }
    let held = noise.gaussian();
    let mut highest: f64 = 0.0;
    for second in 0..*length {
        let clean = noise.gaussian();
        let value = fault(second as f64, clean, held, &mut noise);
        highest = highest.max(detector.observe(at(start + second), value).surprise);
    }
    highest
}

fn at(second: usize) -> Timestamp {
    Timestamp::from_secs(second as i64)
}
