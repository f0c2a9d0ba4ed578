//! What a tick costs: `cargo bench -p bellwether-predictor --bench tick -- [WORKLOADS] [DAYS]`; as a test, a small one.
//!
//! Each workload has a demand with a daily course, one sample a minute, and one symptom. The store computes its samples
//! when asked, so that the predictor (and the query engine under it) is what is measured. Wall time, all cores.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bellwether_collector::ingest::{Ingest, IngestConfig};
use bellwether_collector::query::{Engine, EngineConfig};
use bellwether_collector::store::{
    Appended, Batch, Matcher, SeriesSamples, SharedStore, Store, StoreError, StoreStats, TimeRange,
};
use bellwether_models::outlook::{Foresight, Snapshot};
use bellwether_models::series::{Labels, Sample, Step, Timestamp};
use bellwether_predictor::{Config, DetectionConfig, ForecastConfig, Service, Workload};

const MINUTE: Step = Step::from_secs(60);
const NOW: Timestamp = Timestamp::from_secs(1_700_000_040);

/// Every series a selector names exists, from the beginning of time.
struct Computed;

#[async_trait]
impl Store for Computed {
    async fn append(&self, batch: Batch) -> Result<Appended, StoreError> {
        let written = batch.iter().map(|series| series.samples.len() as u64).sum();
        Ok(Appended { written, ..Appended::default() })
    }

    async fn select(&self, matchers: &[Matcher], range: TimeRange, _: usize) -> Result<Vec<SeriesSamples>, StoreError> {
        let labels = Labels::new(matchers.iter().map(|m| (m.name.as_str(), m.value.as_str())));
        let seed = labels.to_string().bytes().fold(7u64, |h, b| h.wrapping_mul(31).wrapping_add(u64::from(b)));
        let first = range.from.floor_to(MINUTE) + MINUTE.times(1);
        let times = (0..).map(|i| first + MINUTE.times(i)).take_while(|at| *at <= range.to);
        let samples = times.map(|at| Sample { at, value: value(at, seed) }).collect();
        Ok(vec![SeriesSamples { labels, samples }])
    }

    async fn series(&self, _: &[Matcher], _: TimeRange) -> Result<Vec<Labels>, StoreError> {
        Ok(Vec::new())
    }

    async fn retain(&self, _: Timestamp) -> Result<(), StoreError> {
        Ok(())
    }

    async fn stats(&self) -> Result<StoreStats, StoreError> {
        Ok(StoreStats::default())
    }
}

fn value(at: Timestamp, seed: u64) -> f64 {
    let minute = at.as_millis() / 60_000;
    let mut bits = (minute as u64 ^ seed).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    bits ^= bits >> 29;
    let noise = (bits.wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 11) as f64 / (1u64 << 53) as f64;
    200.0 + 80.0 * (minute as f64 / 1440.0 * std::f64::consts::TAU).sin() + 20.0 * noise
}

fn workload(index: usize, history: Duration) -> Workload {
    let name = format!("w{index}");
    Workload {
        demand: format!("demand{{service=\"{name}\"}}"),
        symptoms: vec![format!("latency{{service=\"{name}\"}}")],
        forecast: ForecastConfig { history, ..ForecastConfig::default() },
        name,
        ..Workload::default()
    }
}

fn forecasts(snapshot: &Snapshot) -> usize {
    snapshot.workloads.iter().filter(|o| matches!(o.foresight, Foresight::Forecast { .. })).count()
}

/// Resident memory in MB, where the system tells.
fn resident_mb() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|kb| kb.parse::<f64>().ok()).unwrap_or(f64::NAN) / 1024.0
}

fn arguments() -> (usize, u64) {
    let mut numbers = std::env::args().skip(1).filter_map(|argument| argument.parse().ok());
    let test = !std::env::args().any(|argument| argument == "--bench");
    let workloads = numbers.next().unwrap_or(if test { 2 } else { 1000 });
    (workloads as usize, numbers.next().unwrap_or(if test { 1 } else { 14 }))
}

#[tokio::main]
async fn main() {
    let (workloads, days) = arguments();
    let history = Duration::from_secs(days * 86_400);
    let store: SharedStore = Arc::new(Computed);
    let engine = Engine::new(Arc::clone(&store), EngineConfig::default());
    let ingest = Ingest::new(store, IngestConfig { max_ahead: Duration::ZERO, ..IngestConfig::default() });
    let config = Config {
        workloads: (0..workloads).map(|index| workload(index, history)).collect(),
        detection: DetectionConfig { warm_up: history.min(Duration::from_secs(7 * 86_400)), ..Default::default() },
        ..Config::default()
    };
    let mut predictor = Service::new(config, engine, ingest, None);
    let began = Instant::now();
    let (mut now, mut ticks) = (NOW, 0);
    while forecasts(&*predictor.tick(now).await) < workloads {
        (now, ticks) = (now + MINUTE.times(1), ticks + 1);
    }
    let (fitting, resident) = (began.elapsed().as_secs_f64(), resident_mb());
    println!("workloads                {workloads}, each {days} d of history at 1 m, horizon 1 h, one symptom");
    println!(
        "until all are fitted     {fitting:.1} s in {} ticks, {:.1} ms each",
        ticks + 1,
        fitting * 1e3 / workloads as f64
    );
    println!("memory                   {resident:.0} MB, {:.2} MB each", resident / workloads as f64);
    let mut spans: Vec<f64> = Vec::new();
    for _ in 0..15 {
        now = now + MINUTE.times(1);
        let began = Instant::now();
        predictor.tick(now).await;
        spans.push(began.elapsed().as_secs_f64() * 1e3);
    }
    spans.sort_by(f64::total_cmp);
    println!("a tick with a new point  {:.0} ms median, {:.0} ms worst of {}", spans[7], spans[14], spans.len());
    let began = Instant::now();
    predictor.tick(now).await;
    println!("a tick without one       {:.2} ms", began.elapsed().as_secs_f64() * 1e3);
}
