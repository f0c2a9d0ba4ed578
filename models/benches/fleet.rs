//! What a fleet of series costs: fit, new point, forecast, memory and remembered state of each.
//!
//! `cargo bench -p bellwether-models --bench fleet`
#![allow(clippy::disallowed_methods, clippy::disallowed_macros)]

use std::time::Instant;

use bellwether_models::forecast::auto::{Combination, Live};
use bellwether_models::forecast::{Fitted, Forecaster, Horizon, Quantile};
use bellwether_models::series::{Step, Timestamp, Window};

const SERIES: usize = 400;
const DAY: usize = 288;
const FLEET: f64 = 10_000.0;

/// A week at five minutes, each series with a phase and noise of its own.
fn history(series: usize) -> Window {
    let mut state = series as u64 + 1;
    let mut noise = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as f64 / f64::from(1u32 << 31) - 0.5
    };
    let wave = |i: usize| ((i + 7 * series) as f64 / DAY as f64 * std::f64::consts::TAU).sin();
    let values = (0..7 * DAY).map(|i| 100.0 + 40.0 * wave(i) + 10.0 * noise()).collect();
    Window { start: Timestamp::from_secs(0), step: Step::from_secs(300), values }
}

/// Resident memory in bytes; zero where the system does not tell.
fn resident() -> f64 {
    let told = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    told.split_whitespace().nth(1).and_then(|pages| pages.parse::<f64>().ok()).unwrap_or(0.0) * 4096.0
}

fn main() {
    let Some(horizon) = Horizon::new(12) else { return };
    let series = if std::env::args().any(|arg| arg == "--test") { 3 } else { SERIES };
    let histories: Vec<Window> = (0..series).map(history).collect();
    for (name, method) in [("light", Combination::light(horizon)), ("usual", Combination::new(horizon))] {
        let method = method.with_seasons(&[DAY]);
        let (before, began) = (resident(), Instant::now());
        let mut fleet: Vec<Live> = histories.iter().filter_map(|h| method.fit(h).ok()).collect();
        let count = fleet.len().max(1) as f64;
        let (fit, memory) = (began.elapsed().as_secs_f64() / count, (resident() - before) / count);
        let began = Instant::now();
        fleet.iter_mut().for_each(|live| live.update(100.0));
        let update = began.elapsed().as_secs_f64() / count;
        let began = Instant::now();
        let said: f64 = fleet.iter().map(|live| live.forecast(horizon, &Quantile::STANDARD).mean[0]).sum();
        let forecast = began.elapsed().as_secs_f64() / count;
        let share = FLEET * (update / 300.0 + forecast / 60.0 + fit / (6.0 * 3600.0));
        println!(
            "{name:<6} fit {:.2} ms  new point {:.1} us  forecast {:.1} us  memory {:.0} kB each; 10,000 series, a forecast each \
             minute and a fit each 6 h: {:.3} of a core  ({count} series, mean {:.1})",
            fit * 1e3,
            update * 1e6,
            forecast * 1e6,
            memory / 1e3,
            share,
            said / count,
        );
    }
}
