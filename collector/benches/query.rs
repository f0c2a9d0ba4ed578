//! Query latency beside the real Prometheus and VictoriaMetrics: the same samples, the same questions over HTTP, asked
//! in turn. Prints the median of each and its ratio to the faster peer. `cargo bench -p bellwether-collector --bench query`
#![allow(missing_docs, dead_code)]

#[path = "../../tests/support/http.rs"]
mod http;
#[path = "../../tests/support/peer.rs"]
mod peer;
#[path = "../../tests/promql/recorded.rs"]
mod recorded;
#[path = "../../tests/support/remote_write.rs"]
mod remote_write;

use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bellwether_collector::query::{Engine, EngineConfig, http::router};
use bellwether_collector::store::embedded::{EmbeddedConfig, EmbeddedStore};
use bellwether_collector::store::{SeriesSamples, SharedStore};
use bellwether_models::series::{Sample, Timestamp};
use peer::{Peer, Program};

const START: i64 = 1_700_000_100_000;
const STEP: i64 = 15_000;
const DAY: i64 = 86_400_000;
const END: i64 = START + DAY;
const SERIES: usize = 2_000;
const LONG: usize = 50;
const ROUNDS: usize = 21;

/// Name, expression, seconds before the end, step in seconds.
const QUESTIONS: [(&str, &str, i64, i64); 7] = [
    ("a  3 h of one series", "scraped{replica=\"7\",kind=\"long\"}", 10_800, 15),
    ("a' 3 h of one series, rate", "rate(scraped{replica=\"7\",kind=\"long\"}[5m])", 10_800, 15),
    ("b  last 15 min of all series", "scraped", 900, 15),
    ("b' last 15 min of all series, sum of rates", "sum by (job) (rate(scraped[5m]))", 900, 15),
    ("b\" last instant of all series", "scraped", 0, 15),
    ("c  24 h at 5 min of 50 series", "scraped{kind=\"long\"}", 86_400, 300),
    ("c' 24 h at 5 min of 50 series, mean", "avg_over_time(scraped{kind=\"long\"}[5m])", 86_400, 300),
];

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(run());
}

async fn run() {
    if ![Program::Prometheus, Program::VictoriaMetrics].into_iter().all(peer::is_available) {
        return;
    }
    let (prometheus, victoria) = (Peer::prometheus("global: {}\n"), Peer::victoria_metrics());
    let directory = tempfile::tempdir().expect("a directory");
    let config =
        EmbeddedConfig { path: directory.path().join("store"), retention: Duration::ZERO, ..Default::default() };
    let store: SharedStore = Arc::new(EmbeddedStore::open(config).expect("the store opens"));
    let client = http::client();
    load(&store, &client, &[prometheus.url("/api/v1/write"), victoria.url("/api/v1/write")]).await;
    let ours = http::serve(router(Engine::new(store, EngineConfig::default()))).await;
    let servers = [("bellwether", ours), ("prometheus", prometheus.url("")), ("victoria-metrics", victoria.url(""))];
    for (name, expression, length, step) in QUESTIONS {
        let mut times = vec![Vec::new(); servers.len()];
        let mut bytes = vec![0; servers.len()];
        for _ in 0..ROUNDS {
            for (index, (_, server)) in servers.iter().enumerate() {
                let began = Instant::now();
                bytes[index] = ask(&client, server, expression, length, step).await;
                times[index].push(began.elapsed());
            }
        }
        report(name, &servers, &mut times, &bytes);
    }
}

async fn ask(client: &reqwest::Client, server: &str, expression: &str, length: i64, step: i64) -> usize {
    let (end, start) = (END / 1000, END / 1000 - length);
    let form = [
        ("query", expression.to_owned()),
        ("start", start.to_string()),
        ("end", end.to_string()),
        ("step", step.to_string()),
    ];
    let answer = client.post(format!("{server}/api/v1/query_range")).form(&form).send().await.expect("an answer");
    assert!(answer.status().is_success(), "{expression}: {}", answer.status());
    answer.bytes().await.expect("a body").len()
}

fn report(name: &str, servers: &[(&str, String)], times: &mut [Vec<Duration>], bytes: &[usize]) {
    let medians: Vec<f64> = times
        .iter_mut()
        .map(|times| {
            times.sort_unstable();
            times[times.len() / 2].as_secs_f64() * 1000.0
        })
        .collect();
    let faster = medians[1..].iter().copied().fold(f64::INFINITY, f64::min);
    let mut line = format!("{name:<44}");
    for ((server, _), (median, bytes)) in servers.iter().zip(medians.iter().zip(bytes)) {
        line.push_str(&format!(" {server} {median:.2} ms ({} kB)", bytes / 1000));
    }
    let _ = writeln!(std::io::stdout(), "{line}  ratio to the faster peer {:.2}", medians[0] / faster);
}

/// Recorded scrapes repeated: a day of a few series, the last three hours of many; in order of time to everybody.
async fn load(store: &SharedStore, client: &reqwest::Client, receivers: &[String]) {
    let recorded: Vec<SeriesSamples> =
        recorded::series().into_iter().filter(|one| one.samples.iter().all(|s| s.value.is_finite())).collect();
    let mut from = START;
    while from <= END {
        let to = (from + 1_800_000).min(END + 1);
        let batch: Vec<SeriesSamples> = (0..SERIES).filter_map(|index| stretch(&recorded, index, from, to)).collect();
        for part in batch.chunks(500) {
            for receiver in receivers {
                remote_write::send(client, receiver, part).await;
            }
            let appended = store.append(part.to_vec()).await.expect("the store takes the batch");
            assert!(appended.refused.is_empty());
        }
        from = to;
    }
}

fn stretch(recorded: &[SeriesSamples], index: usize, from: i64, to: i64) -> Option<SeriesSamples> {
    let long = index < LONG;
    let from = if long { from } else { from.max(END - 3 * 3_600_000) };
    let model = &recorded[index % recorded.len()];
    let labels = model.labels.with("metric", model.labels.metric_name()).with("__name__", "scraped");
    let labels = labels.with("replica", &index.to_string()).with("kind", if long { "long" } else { "short" });
    let first = (from - START + STEP - 1) / STEP;
    let samples: Vec<Sample> =
        (first..).map(|tick| sample(model, tick)).take_while(|s| s.at.as_millis() < to).collect();
    (!samples.is_empty()).then_some(SeriesSamples { labels, samples })
}

/// The recording again and again; a counter goes on where it ended.
fn sample(model: &SeriesSamples, tick: i64) -> Sample {
    let len = model.samples.len();
    let (lap, at) = (tick as usize / len, tick as usize % len);
    let rise = model.samples[len - 1].value - model.samples[0].value;
    let counter = model.labels.metric_name().ends_with("_total") && rise > 0.0;
    let value = model.samples[at].value + if counter { rise * lap as f64 } else { 0.0 };
    Sample { at: Timestamp::from_millis(START + tick * STEP), value }
}
