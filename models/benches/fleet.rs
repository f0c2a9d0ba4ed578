//! What a fleet of series costs: fit, new point, forecast and memory of each; and fitting the network to one workload.
//!
//! `cargo bench -p bellwether-models --bench fleet`
#![allow(clippy::disallowed_methods, clippy::disallowed_macros)]

use bellwether_models::forecast::auto::{Combination, Live};
use bellwether_models::forecast::neural::{Network, Training, train};
use bellwether_models::forecast::{Fitted, Forecaster, Horizon, Kind, Quantile};
use bellwether_models::series::{Step, Timestamp, Window};

const SERIES: usize = 400;
/// New points of each series.
const ROUNDS: usize = 24;
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

/// Seconds this thread has spent on a processor, whatever else the machine does; zero where the system does not tell.
fn cpu_seconds() -> f64 {
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    told.split_whitespace().next().and_then(|nanos| nanos.parse::<f64>().ok()).unwrap_or(0.0) * 1e-9
}

/// Resident memory in bytes; zero where the system does not tell.
fn resident() -> f64 {
    let told = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    told.split_whitespace().nth(1).and_then(|pages| pages.parse::<f64>().ok()).unwrap_or(0.0) * 4096.0
}

/// Seconds all threads of this process have spent on a processor, to a hundredth.
fn cpu_seconds_of_all() -> f64 {
    let told = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = told.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    fields.iter().skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / 100.0
}

fn main() {
    let Some(horizon) = Horizon::new(12) else { return };
    let test = std::env::args().any(|arg| arg == "--test");
    let histories: Vec<Window> = (0..if test { 3 } else { SERIES }).map(history).collect();
    println!("| {SERIES} series | fit | new point | forecast | memory each | 10,000 series at 5 minutes |");
    println!("| --- | --- | --- | --- | --- | --- |");
    let rows = [
        ("light combination", Combination::light(horizon)),
        ("combination", Combination::new(horizon)),
        ("`lstm` alone", Combination::only(Kind::Lstm, horizon)),
    ];
    let row = |(name, method): (&str, Combination)| measure(name, &method.with_seasons(&[DAY]), &histories, horizon);
    let fleets: Vec<Vec<Live>> = rows.into_iter().map(row).collect(); // kept, or one would take the memory of another
    assert!(fleets.iter().all(|fleet| fleet.len() == histories.len()), "every series has a model");
    fine_tune(&histories, if test { 1 } else { 40 });
}

/// A row of the table: processor time and resident memory.
fn measure(name: &str, method: &Combination, histories: &[Window], horizon: Horizon) -> Vec<Live> {
    let (before, began) = (resident(), cpu_seconds());
    let mut fleet: Vec<Live> = histories.iter().filter_map(|h| method.fit(h).ok()).collect();
    let count = fleet.len().max(1) as f64;
    let (fit, memory) = ((cpu_seconds() - began) / count, (resident() - before) / count);
    let began = cpu_seconds();
    (0..ROUNDS).for_each(|i| fleet.iter_mut().for_each(|live| live.update(100.0 + i as f64)));
    let update = (cpu_seconds() - began) / count / ROUNDS as f64;
    let began = cpu_seconds();
    let said: f64 = fleet.iter().map(|live| live.forecast(horizon, &Quantile::STANDARD).mean[0]).sum();
    let forecast = (cpu_seconds() - began) / count;
    assert!(said.is_finite(), "every series has a forecast");
    let share = FLEET * (update / 300.0 + forecast / 60.0 + fit / (6.0 * 3600.0));
    println!(
        "| {name} | {:.2} ms | {:.1} us | {:.1} us | {:.0} kB | {share:.3} of a core |",
        fit * 1e3,
        update * 1e6,
        forecast * 1e6,
        memory / 1e3,
    );
    fleet
}

/// What it takes to fit the network that comes with the program to one workload.
fn fine_tune(histories: &[Window], batches: usize) {
    let Ok(network) = Network::from_bytes(include_bytes!("../pretrained/lstm.safetensors")) else { return };
    let training = Training { batches, batch: 32, seed: 1 };
    let (began, own) = (cpu_seconds_of_all(), [histories[..1].to_vec()]);
    let tuned = train(&own, &training, Some(&network), |_, _| {}).map(|bytes| bytes.len());
    println!(
        "\nfine-tuning, {batches} batches of 32: {:.2} s of all processors ({} bytes)",
        cpu_seconds_of_all() - began,
        tuned.unwrap_or(0)
    );
}
