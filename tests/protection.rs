//! What protects the system from its senders, and its senders from each other: limits, quotas, reloads under load.

mod support;

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use axum::Router;
use axum::extract::State;
use axum::routing::get;
use bellwether_collector::ingest::{Ingest, IngestConfig, IngestError};
use bellwether_collector::remote_write::encode;
use bellwether_collector::store::memory::MemoryStore;
use bellwether_collector::store::{Appended, Batch, Matcher, SeriesSamples, Store, StoreError, StoreStats, TimeRange};
use bellwether_models::series::{Labels, Sample, Timestamp};
use serde_json::Value;
use support::http::{client, serve};
use support::system::System;

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("a time after 1970");
    Timestamp::from_millis(0) + since
}

fn one(labels: Labels, at: Timestamp, value: f64) -> SeriesSamples {
    SeriesSamples { labels, samples: vec![Sample { at, value }] }
}

fn requests(numbers: std::ops::Range<u32>) -> Batch {
    let labels = |number: u32| {
        let (request, pod) = (format!("r-{number}"), format!("pod-{}", number % 5));
        Labels::metric("http_requests_total").with("request_id", &request).with("pod", &pod).with("service", "shop")
    };
    let at = now();
    numbers.map(|number| one(labels(number), at, 1.0)).collect()
}

async fn write(client: &reqwest::Client, url: &str, tenant: &str, batch: &[SeriesSamples]) -> (u16, String) {
    let request = client.post(url).header("Content-Encoding", "snappy").header("X-Scope-OrgID", tenant);
    let answer = request.body(encode(batch).expect("a body")).send().await.expect("an answer");
    (answer.status().as_u16(), answer.text().await.unwrap_or_default())
}

async fn json(client: &reqwest::Client, url: &str) -> Value {
    client.get(url).send().await.expect("an answer").json().await.expect("JSON")
}

/// Values of a range selector's first series, or of an instant query's.
async fn values(client: &reqwest::Client, system: &System, query: &str) -> Vec<f64> {
    let request = client.get(system.url("/api/v1/query")).query(&[("query", query)]);
    let answer: Value = request.send().await.expect("an answer").json().await.expect("JSON");
    let first = &answer["data"]["result"][0];
    let points = first["values"].as_array().cloned().unwrap_or_else(|| vec![first["value"].clone()]);
    points.iter().filter_map(|point| point[1].as_str()?.parse().ok()).collect()
}

fn limits(system: &System) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_bellwether"))
        .args(["limits", "--url", &system.url("")])
        .output()
        .expect("the binary runs");
    (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cardinality_explosion_is_named_and_contained_while_known_series_and_other_senders_flow() {
    let (client, folder) = (client(), tempfile::tempdir().expect("a folder"));
    let config = "cadence: 1s\nhost: { enabled: false }\ningest: { max_series_per_metric: 400 }\n";
    let system = System::start(folder.path(), config, &client).await;
    let url = system.url("/api/v1/write");
    assert_eq!(write(&client, &url, "shop", &requests(0..100)).await.0, 204);

    let (status, told) = write(&client, &url, "shop", &requests(100..3000)).await;

    assert!(status == 400 && told.contains("metric_series_limit"), "{status} {told}");
    let known = requests(0..100);
    assert_eq!(write(&client, &url, "shop", &known).await.0, 204, "known series flow");
    assert_eq!(write(&client, &url, "calm", &requests(5000..5050)).await.0, 204, "another tenant flows");
    let other = vec![one(Labels::metric("orders_total").with("service", "shop"), now(), 1.0)];
    assert_eq!(write(&client, &url, "shop", &other).await.0, 204, "other metrics flow");

    let standing = json(&client, &system.url("/api/v1/limits")).await;
    let explosion = &standing["explosions"][0];
    assert_eq!(explosion["source"], "remote_write/shop", "{standing:#}");
    assert_eq!(explosion["metric"], "http_requests_total");
    assert_eq!(explosion["labels"][0]["label"], "request_id");
    assert_eq!(explosion["labels"].as_array().map(Vec::len), Some(1), "pods are few: {explosion:#}");
    assert_eq!((&explosion["series"], &explosion["contained"]), (&Value::from(400), &Value::from(true)));
    assert!(system.log().contains("request_id (about"), "{}", system.log());
    let (code, text) = limits(&system);
    assert!(code == Some(1) && text.contains("Running away") && text.contains("request_id"), "{text}");
    let shown = async |wanted: &str| {
        client
            .get(system.url("/metrics"))
            .send()
            .await
            .expect("metrics")
            .text()
            .await
            .is_ok_and(|text| text.contains(wanted))
    };
    let refused =
        r#"bellwether_ingest_refused_samples_total{source="remote_write/shop",reason="metric_series_limit"} 2600"#;
    assert!(shown(refused).await);
    system.until("the limit is a metric", async || shown("bellwether_ingest_contained_explosions 1").await).await;
    assert!(shown(r#"bellwether_ingest_limit_used{limit="max_series_per_metric"} 400"#).await);
}

/// Takes its time over every batch.
struct Slow(MemoryStore);

#[async_trait]
impl Store for Slow {
    async fn append(&self, batch: Batch) -> Result<Appended, StoreError> {
        tokio::time::sleep(Duration::from_millis(50)).await;
        self.0.append(batch).await
    }

    async fn select(
        &self,
        matchers: &[Matcher],
        range: TimeRange,
        limit: usize,
    ) -> Result<Vec<SeriesSamples>, StoreError> {
        self.0.select(matchers, range, limit).await
    }

    async fn series(&self, matchers: &[Matcher], range: TimeRange) -> Result<Vec<Labels>, StoreError> {
        self.0.series(matchers, range).await
    }

    async fn retain(&self, now: Timestamp) -> Result<(), StoreError> {
        self.0.retain(now).await
    }

    async fn stats(&self) -> Result<StoreStats, StoreError> {
        self.0.stats().await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_noisy_sender_is_told_to_wait_and_starves_nobody() {
    let config = IngestConfig { max_in_flight_bytes: 20_000, ..IngestConfig::default() };
    let ingest = Ingest::new(Arc::new(Slow(MemoryStore::default())), config);
    let sent_away = Arc::new(AtomicU64::new(0));
    let mut noise = tokio::task::JoinSet::new();
    for sender in 0..200u32 {
        let (ingest, sent_away) = (ingest.clone(), sent_away.clone());
        noise.spawn(async move {
            for round in 0..10 {
                let labels = Labels::metric("noise").with("sender", &sender.to_string());
                let batch = vec![one(labels, Timestamp::from_millis(round), 1.0)];
                if let Err(IngestError::Busy { .. }) = ingest.append("remote_write/noisy", batch).await {
                    sent_away.fetch_add(1, Ordering::Relaxed);
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            }
        });
    }
    tokio::time::sleep(Duration::from_millis(1)).await;
    for round in 0..10 {
        let batch = vec![one(Labels::metric("calm"), Timestamp::from_millis(round), 1.0)];
        let receipt = ingest.append("remote_write/calm", batch).await.expect("a calm sender finds room");
        assert_eq!(receipt.written, 1);
    }
    while noise.join_next().await.is_some() {}
    assert!(sent_away.load(Ordering::Relaxed) > 100, "the noisy sender was not held back");
}

/// Serves the number of the scrape, and counts them.
async fn counted(State(served): State<Arc<AtomicU64>>) -> String {
    format!("served_total {}\n", served.fetch_add(1, Ordering::SeqCst) + 1)
}

async fn target() -> String {
    let routes = Router::new().route("/metrics", get(counted)).with_state(Arc::new(AtomicU64::new(0)));
    serve(routes).await.trim_start_matches("http://").to_owned()
}

fn open_files(pid: u32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count)
}

fn rewrite(folder: &Path, steady: &str, moving: &str, round: u32) {
    let path = folder.join("bellwether.yaml");
    let text = std::fs::read_to_string(&path).expect("the configuration");
    let head: String = text
        .lines()
        .take_while(|line| !line.starts_with("scrape_configs"))
        .fold(String::new(), |all, line| all + line + "\n");
    std::fs::write(path, head + &jobs(steady, moving, round)).expect("the configuration is written");
}

/// A job that stays and one that changes with every round.
fn jobs(steady: &str, moving: &str, round: u32) -> String {
    format!(
        "scrape_configs:\n\
         - {{ job_name: steady, scrape_interval: 100ms, scrape_timeout: 100ms, static_configs: [{{ targets: ['{steady}'] }}] }}\n\
         - {{ job_name: moving-{}, scrape_interval: 100ms, scrape_timeout: 100ms, static_configs: [{{ targets: ['{moving}'], labels: {{ round: '{round}' }} }}] }}\n",
        round % 3
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_reloads_under_load_lose_and_leak_nothing() {
    let (client, folder) = (client(), tempfile::tempdir().expect("a folder"));
    let (steady, moving) = (target().await, target().await);
    let config = format!("cadence: 1s\nhost: {{ enabled: false }}\n{}", jobs(&steady, &moving, 0));
    let system = System::start(folder.path(), &config, &client).await;
    let stop = Arc::new(AtomicBool::new(false));
    let writer = {
        let (client, url, stop) = (client.clone(), system.url("/api/v1/write"), stop.clone());
        tokio::spawn(async move {
            let (mut acknowledged, mut at) = (0u64, now());
            while !stop.load(Ordering::Relaxed) {
                at = at + Duration::from_millis(1);
                at = at.max(now());
                let series = |n: u32| one(Labels::metric("written").with("n", &n.to_string()), at, f64::from(n));
                let (status, told) = write(&client, &url, "team", &(0..3).map(series).collect::<Vec<_>>()).await;
                assert_eq!(status, 204, "{told}");
                acknowledged += 1;
            }
            (acknowledged, at)
        })
    };
    let alive = async || {
        let text = client.get(system.url("/metrics")).send().await.expect("metrics").text().await.expect("text");
        let line = text.lines().find_map(|line| line.strip_prefix("bellwether_runtime_tasks "));
        line.map_or(0.0, |number| number.parse::<f64>().expect("a number"))
    };
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let before = (open_files(system.pid()), alive().await);

    for round in 1..=100 {
        rewrite(folder.path(), &steady, &moving, round);
        let answer = client.post(system.url("/-/reload")).send().await.expect("an answer");
        assert!(answer.status().is_success(), "{}", answer.text().await.unwrap_or_default());
    }

    stop.store(true, Ordering::Relaxed);
    let (acknowledged, last) = writer.await.expect("the writer ends");
    while now() <= last {
        // who writes more than once in a millisecond is ahead of the clock, and a query is not
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(acknowledged > 10, "{acknowledged}");
    for series in 0..3 {
        let held = values(&client, &system, &format!("count_over_time(written{{n='{series}'}}[1h])")).await;
        assert_eq!(held, [acknowledged as f64], "series {series}");
    }
    let scraped = values(&client, &system, "served_total{job='steady'}[1h]").await;
    // what a busy machine let time out is told as such, and nothing else is missing
    let failed = values(&client, &system, "up{job='steady'}[1h]").await.iter().filter(|up| **up == 0.0).count();
    let skipped = scraped.last().map_or(0.0, |last| *last) as usize - scraped.len();
    assert!(scraped.len() > 10 && skipped <= failed, "{skipped} scrapes of the job that stays are lost: {scraped:?}");
    assert!(scraped.is_sorted_by(|a, b| a < b), "a scrape of the job that stays is doubled: {scraped:?}");
    system
        .until("files and tasks are as few as before", async || {
            let after = (open_files(system.pid()), alive().await);
            after.0 <= before.0 + 5 && after.1 <= before.1 + 5.0
        })
        .await;
    system
        .until("the series of jobs that went have ended, and that of the last one is there", async || {
            values(&client, &system, "count(served_total{job=~'moving-.*'})").await == [1.0]
        })
        .await;
}
