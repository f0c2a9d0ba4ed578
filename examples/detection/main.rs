//! What the detector of one series does on signals whose truth is known: how often it raises a false alarm on clean
//! ones, and which injected faults it finds at the same threshold; and how ways of sharing a budget of false alarms among
//! many series keep it.
//!
//! `cargo run --release --example detection [-- DAYS]` prints the tables; the same seeds give the same tables.

mod budgets;

use std::time::Instant;

use bellwether_models::detect::synthetic::{Fault, Noise, Signal, false_events, peak};
use bellwether_models::detect::{Detector, Multivariate, Params, Univariate};
use bellwether_models::series::Timestamp;

const THRESHOLDS: [f64; 7] = [3.0, 4.0, 4.5, 5.0, 5.5, 6.0, 7.0];
const TRIALS: u64 = 30;
const DAY: u32 = 86_400;

fn main() {
    let days: u64 = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(60);
    println!("False events per metric-day ({days} series-days each, a sample a second), by surprise");
    println!("{:16} {}", "", THRESHOLDS.map(|t| format!("{t:6}")).join(" "));
    for signal in Signal::ALL {
        let mut sums = [0; THRESHOLDS.len()];
        for seed in 0..days {
            let events = false_events(signal, seed, THRESHOLDS);
            sums.iter_mut().zip(events).for_each(|(sum, n)| *sum += n);
        }
        println!(
            "{:16} {}",
            format!("{signal:?}"),
            sums.map(|n| format!("{:6.2}", f64::from(n) / days as f64)).join(" ")
        );
    }
    println!("Injected faults found of {TRIALS} (white noise, six hours of history)");
    for fault in Fault::ALL {
        let peaks: Vec<f64> = (0..TRIALS).map(|seed| peak(fault, 1000 + seed)).collect();
        let found = THRESHOLDS.map(|t| format!("{:6}", peaks.iter().filter(|p| **p >= t).count())).join(" ");
        println!("{:16} {found}", format!("{fault:?}"));
    }
    budgets::print();
    println!(
        "{:.2} M samples/s of a core for one series with a season found, {} bytes",
        samples_per_second() / 1e6,
        bytes()
    );
    println!("{:.0} rows/s of a core for 38 metrics, fits included", rows_per_second(38));
}

/// Samples with a season of an hour, after three hours in which it was found.
fn samples_per_second() -> f64 {
    let (mut detector, mut noise) = (Univariate::default(), Noise::new(1));
    let season = |second: u32| 10.0 * (f64::from(second) / 3600.0 * std::f64::consts::TAU).sin();
    let samples: Vec<f64> = (0..4 * DAY).map(|second| season(second) + noise.gaussian()).collect();
    let at = |second: usize| Timestamp::from_secs(second as i64);
    let (learning, timed) = samples.split_at(DAY as usize);
    for (second, value) in learning.iter().enumerate() {
        detector.observe(at(second), *value);
    }
    assert!(detector.seasons().next().is_some(), "the season is found");
    let started = Clock::start();
    for (second, value) in timed.iter().enumerate() {
        detector.observe(at(learning.len() + second), *value);
    }
    timed.len() as f64 / started.seconds()
}

/// Processor time of this thread where the system tells it, as it does on Linux, else time.
struct Clock {
    begun: Instant,
    busy: Option<f64>,
}

impl Clock {
    fn start() -> Self {
        Self { begun: Instant::now(), busy: Self::busy() }
    }

    fn seconds(&self) -> f64 {
        match (self.busy, Self::busy()) {
            (Some(before), Some(now)) if now > before => now - before,
            _ => self.begun.elapsed().as_secs_f64(),
        }
    }

    fn busy() -> Option<f64> {
        let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
        Some(text.split_whitespace().next()?.parse::<f64>().ok()? / 1e9)
    }
}

/// State of a series with two seasons.
fn bytes() -> usize {
    let (mut detector, mut noise) = (Univariate::default(), Noise::new(4));
    for hour in 0..2000_i64 {
        let wave = |period: f64| (hour as f64 / period * std::f64::consts::TAU).sin();
        detector.observe(Timestamp::from_secs(hour * 3600), 10.0 * (wave(24.0) + wave(168.0)) + noise.gaussian());
    }
    detector.bytes()
}

fn rows_per_second(width: usize) -> f64 {
    let (mut detector, mut noise) = (Multivariate::new(width, Params::default()), Noise::new(2));
    let rows = 60_000_i64;
    let started = Clock::start();
    for minute in 0..rows {
        let common = noise.gaussian();
        let row: Vec<f64> = (0..width).map(|k| common * (k % 5) as f64 + noise.gaussian()).collect();
        detector.observe(Timestamp::from_secs(60 * minute), &row);
    }
    rows as f64 / started.seconds()
}
