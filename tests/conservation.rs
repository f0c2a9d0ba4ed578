//! Over a bad network: what was acknowledged is there, once, and unaltered; and nothing is there that was not sent.
//!
//! `BELLWETHER_SEED` draws another network; every failure names its seed.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use support::remote_write::{packed, series};
use support::system::System;
use support::tangle::{Carrier, Dice, Tangle, seed};
use support::{Peer, Program, http, require_peer};

const CONFIG: &str = "host: { enabled: false }\n";

/// Our own sender: repeats a request until it is told that the request is kept.
struct Writer {
    client: reqwest::Client,
    url: String,
    seed: u64,
}

const STEPS: i64 = 60;
const WRITERS: i64 = 6;
const SERIES: i64 = 20;

impl Writer {
    /// Writes all steps of one writer.
    async fn write(&self, writer: i64, start_ms: i64) {
        let mut dice = Dice::new(self.seed ^ writer as u64);
        for step in 0..STEPS {
            let body = body(writer, step, start_ms);
            while !self.sent(body.clone()).await {
                tokio::time::sleep(Duration::from_millis(dice.below(20))).await;
            }
        }
    }

    /// Whether all is kept. An answer that forbids another try ends the test.
    async fn sent(&self, body: Vec<u8>) -> bool {
        let request = self
            .client
            .post(&self.url)
            .header("content-type", "application/x-protobuf")
            .header("content-encoding", "snappy")
            .timeout(Duration::from_secs(3));
        let Ok(answer) = request.body(body).send().await else { return false };
        let status = answer.status();
        assert!(status.is_success() || status.is_server_error(), "seed {}: answered {status}", self.seed);
        status.is_success()
    }
}

fn value(writer: i64, series: i64, step: i64) -> f64 {
    (writer * 1_000_000 + series * 1000 + step) as f64 / 7.0
}

fn body(writer: i64, step: i64, start_ms: i64) -> Vec<u8> {
    let name = writer.to_string();
    let one = |i: i64| {
        let number = i.to_string();
        let labels = [("__name__", &b"conserved"[..]), ("series", number.as_bytes()), ("writer", name.as_bytes())];
        series(&labels, &[(start_ms + step * 1000, value(writer, i, step))])
    };
    packed((0..SERIES).map(one).collect())
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
    since.as_millis() as i64
}

/// All samples of a selector: by series, milliseconds and text of the value.
async fn held(url: &str, selector: &str) -> BTreeMap<String, Vec<(i64, String)>> {
    let question = format!("{selector}[1h]");
    let request = http::client().get(format!("{url}/api/v1/query")).query(&[("query", &question)]);
    let answer: serde_json::Value = request.send().await.expect("an answer").json().await.expect("JSON");
    assert_eq!(answer["status"], "success", "{answer}");
    let point = |point: &serde_json::Value| {
        let millis = (point[0].as_f64().expect("a time") * 1000.0).round() as i64;
        (millis, point[1].as_str().expect("a value").to_owned())
    };
    let one = |one: &serde_json::Value| {
        (one["metric"].to_string(), one["values"].as_array().expect("values").iter().map(point).collect())
    };
    answer["data"]["result"].as_array().expect("a matrix").iter().map(one).collect()
}

/// A counter of the system about itself.
async fn counted(system: &System, start: &str) -> u64 {
    let text = http::client().get(system.url("/metrics")).send().await.expect("an answer").text().await.expect("text");
    let line = text.lines().find_map(|line| line.strip_prefix(start)?.strip_prefix(' '));
    line.map_or(0, |number| number.parse::<f64>().expect("a number") as u64)
}

fn address(system: &System) -> SocketAddr {
    system.url("").trim_start_matches("http://").parse().expect("an address")
}

/// All writers at once; then every sample is there once, and counted once.
async fn write_and_look(system: &System, tangle: &Tangle, scheme: &str, client: reqwest::Client) {
    let (seed, start_ms) = (seed(), now_ms() - 600_000);
    let writer = Arc::new(Writer { client, url: format!("{scheme}://{}/api/v1/write", tangle.address), seed });
    let mut writers = tokio::task::JoinSet::new();
    for number in 0..WRITERS {
        let writer = writer.clone();
        writers.spawn(async move { writer.write(number, start_ms).await });
    }
    writers.join_all().await;

    let held = held(&system.url(""), "conserved").await;
    assert_eq!(held.len() as i64, WRITERS * SERIES, "seed {seed}");
    for (labels, points) in &held {
        let labels: BTreeMap<String, String> = serde_json::from_str(labels).expect("labels");
        let number = |name: &str| labels[name].parse::<i64>().expect("a number");
        let sent = |step: i64| (start_ms + step * 1000, value(number("writer"), number("series"), step).to_string());
        assert_eq!(*points, (0..STEPS).map(sent).collect::<Vec<_>>(), "seed {seed}: {labels:?}");
    }
    let written = counted(system, "bellwether_ingest_samples_total{source=\"remote_write\"}").await;
    assert_eq!(written as i64, WRITERS * SERIES * STEPS, "seed {seed}: samples counted as written");
    let repeated = counted(system, "bellwether_ingest_samples_repeated_total{source=\"remote_write\"}").await;
    assert!(tangle.harm() > 10, "seed {seed}: only {} connections came to harm", tangle.harm());
    // Over TLS most answers are cut before there is one.
    assert!(repeated > 0 || scheme == "https", "seed {seed}: no answer was lost, so nothing is shown");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_strict_writer_was_told_is_kept_is_there_once_and_unaltered() {
    let folder = tempfile::tempdir().expect("a folder");
    let client = http::client();
    let system = System::start(folder.path(), CONFIG, &client).await;
    let tangle = Tangle::before(address(&system), seed(), Carrier::Plain).await;
    write_and_look(&system, &tangle, "http", client).await;
}

/// A certificate and its key in one file, as HAProxy wants them.
fn certificate(folder: &Path) -> std::path::PathBuf {
    let (key, certificate, both) = (folder.join("key"), folder.join("certificate"), folder.join("both.pem"));
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost", "-keyout"])
        .arg(&key)
        .arg("-out")
        .arg(&certificate)
        .output()
        .expect("openssl runs");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let text = |path| std::fs::read_to_string(path).expect("openssl wrote it");
    std::fs::write(&both, text(certificate) + &text(key)).expect("a file");
    both
}

/// HAProxy that takes TLS and passes on to the system.
fn tls_before(system: &System, folder: &Path) -> Peer {
    Peer::haproxy(&format!(
        "defaults\n  mode http\n  timeout connect 5s\n  timeout client 10s\n  timeout server 10s\n\
         frontend tls\n  bind 127.0.0.1:{{port}} ssl crt {}\n  default_backend us\n\
         backend us\n  server us {}\n",
        certificate(folder).display(),
        address(system)
    ))
}

#[tokio::test(flavor = "multi_thread")]
async fn over_tls_turned_bits_are_noticed_and_nothing_is_altered() {
    require_peer!(Program::Haproxy, Program::Openssl);
    let folder = tempfile::tempdir().expect("a folder");
    let client = http::client();
    let system = System::start(folder.path(), CONFIG, &client).await;
    let haproxy = tls_before(&system, folder.path());
    let tangle = Tangle::before(haproxy.address().parse().expect("an address"), seed(), Carrier::Tls).await;
    let client = reqwest::Client::builder().no_proxy().tls_danger_accept_invalid_certs(true).build();
    write_and_look(&system, &tangle, "https", client.expect("a client")).await;
}

/// An exporter that says how often it was asked, under a hundred names.
async fn exporter() -> (SocketAddr, Arc<AtomicU64>) {
    let asked = Arc::new(AtomicU64::new(0));
    let count = asked.clone();
    let text = move || {
        let number = count.fetch_add(1, Ordering::Relaxed) + 1;
        async move { (0..100).map(|i| format!("asked_total{{i=\"{i}\"}} {number}\n")).collect::<String>() }
    };
    let url = http::serve(axum::Router::new().route("/metrics", axum::routing::get(text))).await;
    (url.trim_start_matches("http://").parse().expect("an address"), asked)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_prometheus_sends_over_a_bad_network_arrives_once_and_unaltered() {
    require_peer!(Program::Prometheus);
    let folder = tempfile::tempdir().expect("a folder");
    let client = http::client();
    let system = System::start(folder.path(), CONFIG, &client).await;
    let tangle = Tangle::before(address(&system), seed(), Carrier::Plain).await;
    prometheus_through(&system, &tangle, "http", &client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_prometheus_sends_over_tls_with_turned_bits_arrives_once_and_unaltered() {
    require_peer!(Program::Prometheus, Program::Haproxy, Program::Openssl);
    let folder = tempfile::tempdir().expect("a folder");
    let client = http::client();
    let system = System::start(folder.path(), CONFIG, &client).await;
    let haproxy = tls_before(&system, folder.path());
    let tangle = Tangle::before(haproxy.address().parse().expect("an address"), seed(), Carrier::Tls).await;
    prometheus_through(&system, &tangle, "https", &client).await;
}

/// Prometheus scrapes for a while through the harm; then both hold the same samples.
async fn prometheus_through(system: &System, tangle: &Tangle, scheme: &str, client: &reqwest::Client) {
    let (exporter, asked) = exporter().await;
    let prometheus = Peer::prometheus(&format!(
        "scrape_configs: [{{job_name: asked, scrape_interval: 200ms, scrape_timeout: 200ms, \
         static_configs: [{{targets: ['{exporter}']}}]}}]\n\
         remote_write: [{{url: '{scheme}://{}/api/v1/write', remote_timeout: 3s, tls_config: {{insecure_skip_verify: true}}, \
         queue_config: {{batch_send_deadline: 50ms, min_backoff: 10ms, max_backoff: 50ms, max_samples_per_send: 200}}}}]\n",
        tangle.address
    ));
    system.until("there were sixty scrapes", async || asked.load(Ordering::Relaxed) >= 60).await;
    tangle.calm();
    let theirs = held(&prometheus.url(""), "asked_total").await;
    assert_eq!(theirs.len(), 100);
    let ours = async || held(&system.url(""), "asked_total").await;
    system
        .until("all that Prometheus held has arrived", async || {
            let ours = ours().await;
            theirs.iter().all(|(labels, points)| ours.get(labels).is_some_and(|ours| ours.starts_with(points)))
        })
        .await;

    // What came later must be theirs as well: nothing is there that was not sent.
    let ours = ours().await;
    let theirs = held(&prometheus.url(""), "asked_total").await;
    for (labels, points) in &ours {
        assert!(theirs[labels].starts_with(points), "seed {}: {labels}: {points:?}", seed());
    }
    let text = client.get(prometheus.url("/metrics")).send().await.expect("it answers").text().await.expect("text");
    let failed: Vec<&str> =
        text.lines().filter(|line| line.starts_with("prometheus_remote_storage_samples_failed_total")).collect();
    assert!(failed.iter().all(|line| line.ends_with(" 0")), "seed {}: Prometheus gave samples up: {failed:?}", seed());
    assert!(tangle.harm() > 5, "seed {}: only {} connections came to harm", seed(), tangle.harm());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_vmagent_sends_over_a_bad_network_arrives_once_and_unaltered() {
    require_peer!(Program::Vmagent);
    let folder = tempfile::tempdir().expect("a folder");
    let client = http::client();
    let system = System::start(folder.path(), CONFIG, &client).await;
    let tangle = Tangle::before(address(&system), seed(), Carrier::Plain).await;
    let (exporter, asked) = exporter().await;
    let scrape = format!(
        "scrape_configs: [{{job_name: asked, scrape_interval: 1s, static_configs: [{{targets: ['{exporter}']}}]}}]\n"
    );
    let _vmagent = Peer::vmagent(&scrape, &format!("http://{}/api/v1/write", tangle.address));
    system.until("there were ten scrapes", async || asked.load(Ordering::Relaxed) >= 10).await;
    tangle.calm();
    let last = asked.load(Ordering::Relaxed);
    let values = async || {
        let held = held(&system.url(""), "asked_total").await;
        held.into_values()
            .map(|points| points.into_iter().map(|(_, value)| value).collect())
            .collect::<Vec<Vec<String>>>()
    };
    // A scrape that the machine was too slow for is missing in vmagent itself: it says so with up = 0.
    let up = held(&system.url(""), "up").await;
    let missed = up.into_values().flatten().filter(|(_, value)| value == "0").count();
    let wanted: Vec<String> = (1..last).map(|number| number.to_string()).collect();
    system
        .until("all scrapes have arrived", async || {
            let values = values().await;
            values.len() == 100
                && values.iter().all(|held| {
                    let held: BTreeSet<&String> = held.iter().collect();
                    wanted.iter().filter(|number| !held.contains(number)).count() <= missed
                })
        })
        .await;
    for held in values().await {
        let numbers: Vec<u64> = held.iter().map(|text| text.parse().expect("a count")).collect();
        assert!(numbers.is_sorted_by(|a, b| a < b), "seed {}: {numbers:?}", seed());
    }
}
