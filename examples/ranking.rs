//! How long a ranking of many series takes, and how much memory: `cargo run --release --example ranking [SERIES]`.
//!
//! One core, a window of two hours before the onset and an hour after it on a grid of a minute, 100 services in a chain of
//! calls. Prints the median and the 95th percentile of the time, and the peak of resident memory.

use std::time::Instant;

use bellwether_models::cause::{IncidentWindow, Metric, rank};
use bellwether_models::detect::synthetic::Noise;
use bellwether_models::series::Timestamp;

const BEFORE: usize = 120;
const ROWS: usize = 180;
const SERVICES: usize = 100;
const RUNS: usize = 20;

fn window(series: usize) -> IncidentWindow {
    let mut noise = Noise::new(7);
    let metric = |index: usize, noise: &mut Noise| {
        let service = index % SERVICES;
        let moved = if service < 10 { 5.0 * (10 - service) as f64 } else { 0.0 };
        let value = |row: usize, noise: &mut Noise| 50.0 + noise.gaussian() + if row >= BEFORE { moved } else { 0.0 };
        let values = (0..ROWS).map(|row| value(row, noise)).collect();
        Metric { service: format!("s{service:02}"), name: format!("metric_{}", index / SERVICES), values }
    };
    IncidentWindow {
        times: (0..ROWS).map(|row| Timestamp::from_secs(row as i64 * 60)).collect(),
        metrics: (0..series).map(|index| metric(index, &mut noise)).collect(),
        onset_row: BEFORE,
        symptom: Some(SERVICES - 1),
        calls: (1..SERVICES).map(|place| (format!("s{place:02}"), format!("s{:02}", place - 1))).collect(),
        ..IncidentWindow::default()
    }
}

/// Peak of resident memory in MiB, as Linux tells it.
fn peak_memory() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse::<f64>().ok().map(|kib| kib / 1024.0)
}

fn main() {
    let series = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(10_000);
    let window = window(series);
    let mut seconds: Vec<f64> = (0..RUNS)
        .map(|_| {
            let began = Instant::now();
            let ranking = rank(&window);
            assert_eq!(ranking.metrics.len(), series);
            began.elapsed().as_secs_f64()
        })
        .collect();
    seconds.sort_by(f64::total_cmp);
    let (median, p95) = (seconds[RUNS / 2], seconds[RUNS * 95 / 100]);
    println!("{series} series of {ROWS} rows: median {median:.3} s, p95 {p95:.3} s over {RUNS} runs");
    match peak_memory() {
        Some(mib) => println!("peak memory {mib:.0} MiB, the window included"),
        None => println!("peak memory is told on Linux alone"),
    }
}
