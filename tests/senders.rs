//! Real senders and real targets: what others take from them, we take too.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bellwether_collector::ingest::{Ingest, IngestConfig};
use bellwether_collector::remote_write::{self, V2_CONTENT_TYPE, v2};
use bellwether_collector::source::host::{self, HostConfig};
use bellwether_collector::source::push;
use bellwether_collector::source::scrape::{ScrapeConfig, ScrapeManager};
use bellwether_collector::store::memory::MemoryStore;
use bellwether_collector::store::{SeriesSamples, Store, TimeRange};
use bellwether_models::series::{Labels, Timestamp};
use support::{Peer, Program, http, require_peer};

/// A store with its door.
fn door() -> (Arc<MemoryStore>, Ingest) {
    http::install_cryptography();
    let store = Arc::new(MemoryStore::default());
    (store.clone(), Ingest::new(store, IngestConfig::default()))
}

async fn everything(store: &MemoryStore) -> Vec<SeriesSamples> {
    let always = TimeRange { from: Timestamp::MIN, to: Timestamp::MAX };
    store.select(&[], always, usize::MAX).await.expect("the store answers")
}

async fn series_of(store: &MemoryStore) -> BTreeSet<Labels> {
    everything(store).await.into_iter().map(|series| series.labels).collect()
}

/// Waits until `done` says so; the generous deadline only ends a test that would never end.
async fn until(what: &str, mut done: impl AsyncFnMut() -> bool) {
    for _ in 0..1200 {
        if done().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("waited in vain until {what}");
}

/// A job that uses what jobs use: labels of the target, rules for targets and for series.
fn job_of(exporter: &Peer) -> String {
    format!(
        "{{job_name: node, scrape_interval: 1s, scrape_timeout: 1s, \
          static_configs: [{{targets: ['{}'], labels: {{zone: eu, device: ours}}}}], \
          relabel_configs: [{{source_labels: [__address__], regex: '(.*):.*', target_label: host}}, \
                            {{source_labels: [host, zone], separator: '/', target_label: place, action: uppercase}}, \
                            {{source_labels: [__address__], target_label: shard, modulus: 7, action: hashmod}}], \
          metric_relabel_configs: [{{source_labels: [__name__], regex: 'go_.*|process_.*', action: drop}}, \
                                   {{regex: 'collector', action: labeldrop}}, \
                                   {{source_labels: [cpu, mode], regex: '0;idle', target_label: rest, replacement: '${{1}}yes'}}]}}",
        exporter.address()
    )
}

/// Series that a busy machine may or may not have at a given moment.
fn is_fleeting(labels: &Labels) -> bool {
    labels.metric_name().starts_with("node_scrape_collector")
}

#[tokio::test(flavor = "multi_thread")]
async fn node_exporter_scraped_by_us_shows_the_series_that_prometheus_sees_and_sends_us() {
    require_peer!(Program::NodeExporter, Program::Prometheus);
    let exporter = Peer::node_exporter();
    let (received, ingest) = door();
    let ours = http::serve(push::router(ingest)).await;
    let prometheus = Peer::prometheus(&format!(
        "scrape_configs: [{}]\nremote_write: [{{url: '{ours}/api/v1/write', queue_config: {{batch_send_deadline: 100ms}}}}]\n",
        job_of(&exporter)
    ));
    let (scraped, ingest) = door();
    let config: ScrapeConfig = serde_saphyr::from_str(&job_of(&exporter)).unwrap();
    let manager = ScrapeManager::start(&[config], ingest).unwrap();

    let has_up = async |store: &MemoryStore| {
        series_of(store).await.iter().any(|labels| labels.metric_name() == "scrape_series_added")
    };
    until("both have a scrape", async || has_up(&scraped).await && has_up(&received).await).await;
    manager.shutdown().await;

    let lasting =
        |series: BTreeSet<Labels>| series.into_iter().filter(|labels| !is_fleeting(labels)).collect::<BTreeSet<_>>();
    let (theirs, ours) = (lasting(series_of(&received).await), lasting(series_of(&scraped).await));
    assert!(theirs.len() > 300, "{} series", theirs.len());
    let differing: Vec<_> = theirs.symmetric_difference(&ours).collect();
    assert!(differing.is_empty(), "seen by one only: {differing:#?}");
    drop(prometheus);
}

/// What Prometheus itself holds of a selector over the last minutes: values by series and millisecond.
async fn held_by(prometheus: &Peer, selector: &str) -> BTreeMap<(Labels, i64), f64> {
    let query = format!("{selector}[10m]");
    let answer: serde_json::Value = http::client()
        .get(prometheus.url("/api/v1/query"))
        .query(&[("query", query.as_str())])
        .send()
        .await
        .expect("Prometheus answers")
        .json()
        .await
        .expect("with JSON");
    let mut held = BTreeMap::new();
    for series in answer["data"]["result"].as_array().expect("a matrix") {
        let labels: Labels = serde_json::from_value(series["metric"].clone()).expect("labels");
        for point in series["values"].as_array().expect("values") {
            let millis = (point[0].as_f64().expect("a time") * 1000.0).round() as i64;
            let value = point[1].as_str().and_then(|text| text.parse().ok()).expect("a value");
            held.insert((labels.clone(), millis), value);
        }
    }
    held
}

#[tokio::test(flavor = "multi_thread")]
async fn what_prometheus_remote_writes_we_hold_to_the_bit() {
    require_peer!(Program::NodeExporter, Program::Prometheus);
    let exporter = Peer::node_exporter();
    let (store, ingest) = door();
    let ours = http::serve(push::router(ingest)).await;
    let prometheus = Peer::prometheus(&format!(
        "scrape_configs: [{{job_name: node, scrape_interval: 500ms, scrape_timeout: 500ms, \
         static_configs: [{{targets: ['{}']}}]}}]\n\
         remote_write: [{{url: '{ours}/api/v1/write', queue_config: {{batch_send_deadline: 100ms}}}}]\n",
        exporter.address()
    ));
    let up_samples = async || {
        let all = everything(&store).await;
        all.iter()
            .filter(|series| series.labels.metric_name() == "up")
            .map(|series| series.samples.len())
            .sum::<usize>()
    };
    until("five scrapes arrived", async || up_samples().await >= 5).await;

    // newest first: all that Prometheus held then must have arrived before we are asked
    let held = held_by(&prometheus, r#"{__name__=~"node_cpu.*|node_memory.*|node_load.*|up|scrape_.*"}"#).await;
    let (newest_but_one, samples) = {
        let mut times: Vec<i64> = held.keys().map(|(_, at)| *at).collect();
        times.sort_unstable();
        times.dedup();
        (times[times.len() - 2], held.len())
    };
    assert!(samples > 100, "{samples} samples");
    let arrived = async || {
        let all = everything(&store).await;
        let points = all.into_iter().flat_map(|SeriesSamples { labels, samples }| {
            samples.into_iter().map(move |sample| ((labels.clone(), sample.at.as_millis()), sample.value))
        });
        points.collect::<BTreeMap<_, _>>()
    };
    until("all have arrived", async || {
        let arrived = arrived().await;
        held.keys().filter(|(_, at)| *at <= newest_but_one).all(|key| arrived.contains_key(key))
    })
    .await;

    let arrived = arrived().await;
    for (key, value) in held.iter().filter(|((_, at), _)| *at <= newest_but_one) {
        assert_eq!(arrived[key].to_bits(), value.to_bits(), "{key:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn vmagent_plugs_in_unchanged() {
    require_peer!(Program::NodeExporter, Program::Vmagent);
    let exporter = Peer::node_exporter();
    let (store, ingest) = door();
    let ours = http::serve(push::router(ingest)).await;
    let scrape = format!(
        "scrape_configs: [{{job_name: node, scrape_interval: 1s, static_configs: [{{targets: ['{}']}}]}}]\n",
        exporter.address()
    );
    let _vmagent = Peer::vmagent(&scrape, &format!("{ours}/api/v1/write"));

    until("its samples arrive", async || {
        series_of(&store).await.iter().any(|labels| labels.metric_name() == "node_cpu_seconds_total")
    })
    .await;

    let all = everything(&store).await;
    let up = all.iter().find(|series| series.labels.metric_name() == "up").expect("vmagent says what is up");
    assert_eq!(up.samples[0].value, 1.0);
    assert_eq!(up.labels.get("instance"), Some(exporter.address().as_str()));
}

/// The samples that an exporter shows now: series, milliseconds, value.
async fn shown_by(exporter: &Peer) -> Vec<(String, i64, f64)> {
    let text = http::client().get(exporter.url("/metrics")).send().await.expect("it answers").text().await;
    let sample = |line: &str| {
        let (rest, at) = line.rsplit_once(' ').expect("a time");
        let (series, value) = rest.rsplit_once(' ').expect("a value");
        (series.to_owned(), at.parse().expect("milliseconds"), value.parse().expect("a number"))
    };
    text.expect("text").lines().filter(|line| !line.is_empty() && !line.starts_with('#')).map(sample).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_collectd_shows_we_hold_under_its_own_names_and_times() {
    require_peer!(Program::Collectd);
    let collectd = Peer::collectd();
    let (store, ingest) = door();
    let job = format!(
        "{{job_name: collectd, scrape_interval: 200ms, scrape_timeout: 200ms, honor_labels: true, \
          metric_relabel_configs: [{{regex: job, action: labeldrop}}], static_configs: [{{targets: ['{}']}}]}}",
        collectd.address()
    );
    let manager = ScrapeManager::start(&[serde_saphyr::from_str(&job).unwrap()], ingest).unwrap();

    until("a whole text of collectd is held", async || {
        let shown = shown_by(&collectd).await;
        tokio::time::sleep(Duration::from_millis(400)).await;
        let all = everything(&store).await;
        let held = all.iter().flat_map(|series| {
            let name = series.labels.to_string();
            series.samples.iter().map(move |sample| ((name.clone(), sample.at.as_millis()), sample.value))
        });
        let held: BTreeMap<(String, i64), f64> = held.collect();
        let is_held = |(series, at, value): &(String, i64, f64)| held.get(&(sorted(series), *at)) == Some(value);
        shown.len() > 20 && shown.iter().all(is_held)
    })
    .await;
    manager.shutdown().await;
}

/// A series as collectd writes it, its labels in order.
fn sorted(series: &str) -> String {
    let Some((name, labels)) = series.strip_suffix('}').and_then(|series| series.split_once('{')) else {
        return series.to_owned();
    };
    let mut labels: Vec<&str> = labels.split(',').collect();
    labels.sort_unstable();
    format!("{name}{{{}}}", labels.join(","))
}

/// The families of node_exporter that we show too.
const FAMILIES: &str = "node_(cpu_(guest_)?seconds|memory|load|network|disk|filesystem|pressure|vmstat|filefd|boot|forks|\
                        intr|context|procs|uname|time_seconds|netstat|sockstat|softnet|nf_conntrack_entries|arp|entropy)";

/// What this kernel or a later node_exporter shows beyond the texts we read.
const PASSED_OVER: &str = "node_(disk_info|disk_device_mapper_info|disk_filesystem_info|disk_ata.*|network_receive_nohandler.*|\
                           filesystem_mount_info|filesystem_purgeable_bytes|cpu_core.*)";

#[tokio::test(flavor = "multi_thread")]
async fn this_machine_shows_the_series_that_node_exporter_shows() {
    require_peer!(Program::NodeExporter);
    let exporter = Peer::node_exporter();
    let (scraped, ingest) = door();
    let yaml = format!(
        "{{job_name: node, scrape_interval: 1s, honor_labels: false, static_configs: [{{targets: ['{}'], labels: {{instance: here}}}}]}}",
        exporter.address()
    );
    let manager = ScrapeManager::start(&[serde_saphyr::from_str(&yaml).unwrap()], ingest).unwrap();
    until("node_exporter is scraped", async || !series_of(&scraped).await.is_empty()).await;
    manager.shutdown().await;
    let config = HostConfig { instance: Some("here".to_owned()), max_cgroups: 0, ..HostConfig::default() };

    let ours: BTreeMap<Labels, f64> = host::observe(&config, &door().1)
        .await
        .into_iter()
        .map(|series| (series.labels, series.samples[0].value))
        .collect();

    let (families, passed) = (anchored_start(FAMILIES), anchored_start(PASSED_OVER));
    let shared = |name: &str| families.is_match(name) && !passed.is_match(name);
    let theirs: BTreeMap<Labels, f64> = everything(&scraped)
        .await
        .into_iter()
        .filter(|series| shared(series.labels.metric_name()) && !is_left_out(&series.labels))
        .map(|series| (series.labels, series.samples[0].value))
        .collect();
    let (their_series, our_series): (BTreeSet<_>, BTreeSet<_>) =
        (theirs.keys().collect(), ours.keys().filter(|labels| !is_left_out(labels)).collect());
    let differing: Vec<_> = their_series.symmetric_difference(&our_series).collect();
    assert!(theirs.len() > 50 && differing.is_empty(), "shown by one only: {differing:#?}");
    let steady = [
        "node_memory_MemTotal_bytes",
        "node_boot_time_seconds",
        "node_uname_info",
        "node_filefd_maximum",
        "node_filesystem_size_bytes",
    ];
    for (labels, value) in theirs.iter().filter(|(labels, _)| steady.contains(&labels.metric_name())) {
        assert_eq!(ours[labels], *value, "{labels}");
    }
    // counters only grow, and ours were read later
    let counters = theirs.iter().filter(|(labels, _)| labels.metric_name().ends_with("_total"));
    for (labels, value) in counters.filter(|(labels, _)| !is_estimated(labels)) {
        assert!(ours[labels] >= *value - 1e-9 * value.abs(), "{labels}: {} after {value}", ours[labels]);
    }
}

/// What some builds of node_exporter leave out: file systems in memory (Debian's), the loopback (1.5).
fn is_left_out(labels: &Labels) -> bool {
    labels.get("fstype") == Some("tmpfs") || labels.get("device") == Some("lo")
}

/// Idle and waiting time are estimates of the kernel and may go back.
fn is_estimated(labels: &Labels) -> bool {
    matches!(labels.get("mode"), Some("idle" | "iowait"))
}

fn anchored_start(pattern: &str) -> regex::Regex {
    regex::Regex::new(&format!("^(?:{pattern})")).expect("a pattern")
}

/// A message of version 2 with these series, by indexes into `SYMBOLS`.
fn message(timeseries: Vec<v2::TimeSeries>) -> v2::Request {
    v2::Request { symbols: SYMBOLS.map(|text| text.as_bytes().to_vec()).into(), timeseries }
}

const SYMBOLS: [&str; 7] = ["", "__name__", "up", "job", "node", "Whether it is up.", "seconds"];

fn v2_series(refs: &[u32], times: &[i64]) -> v2::TimeSeries {
    let sample = |timestamp: &i64| v2::Sample { value: Some(1.5), timestamp: *timestamp };
    v2::TimeSeries {
        labels_refs: refs.to_vec(),
        samples: times.iter().map(sample).collect(),
        metadata: Some(v2::Metadata { kind: 2, help_ref: 5, unit_ref: 6 }),
        created_timestamp: 1,
        ..v2::TimeSeries::default()
    }
}

/// Sends a body as version 2; gives status, samples and exemplars that the answer says are written.
async fn send_v2(ours: &str, content_type: &str, body: Vec<u8>) -> (u16, String, String) {
    let answer = http::client()
        .post(format!("{ours}/api/v1/write"))
        .header("Content-Type", content_type)
        .header("Content-Encoding", "snappy")
        .header("X-Prometheus-Remote-Write-Version", "2.0.0")
        .body(body)
        .send()
        .await
        .expect("the receiver answers");
    let header = |kind: &str| {
        let name = format!("x-prometheus-remote-write-{kind}-written");
        answer.headers().get(name).map_or("", |value| value.to_str().expect("text")).to_owned()
    };
    assert_eq!(header("histograms").is_empty(), header("samples").is_empty());
    (answer.status().as_u16(), header("samples"), header("exemplars"))
}

// No sender of version 2 is at hand: the messages are built from the published field numbers.
#[tokio::test]
async fn a_sender_of_remote_write_2_is_told_what_was_written() {
    let (store, ingest) = door();
    let now = ingest.now().as_millis();
    let ours = http::serve(push::router(ingest)).await;
    let send = async |timeseries| {
        send_v2(&ours, V2_CONTENT_TYPE, remote_write::packed(&message(timeseries)).expect("small")).await
    };
    let told = |status, samples: &str| (status, samples.to_owned(), "0".to_owned());

    assert_eq!(send(vec![v2_series(&[1, 2, 3, 4], &[now - 1, now])]).await, told(204, "2"));
    assert_eq!(send(vec![v2_series(&[1, 2, 3, 4], &[now - 1, now])]).await, told(204, "2"), "sent again");
    let with_exemplar = v2::TimeSeries { exemplars: vec![vec![]], ..v2_series(&[1, 2, 3, 4], &[now + 1]) };
    assert_eq!(send(vec![with_exemplar]).await, told(204, "1"), "exemplars are passed over, and it is said");
    assert_eq!(send(vec![]).await, told(204, "0"));
    let (good, bad) = (v2_series(&[1, 2], &[now]), v2_series(&[1, 9], &[now]));
    assert_eq!(send(vec![good, bad]).await, told(400, "1"));
    let contradicting =
        v2::TimeSeries { samples: vec![v2::Sample { value: Some(9.0), timestamp: now }], ..v2_series(&[1, 2], &[]) };
    assert_eq!(send(vec![contradicting]).await, told(400, "0"));

    let held: Vec<String> = series_of(&store).await.iter().map(ToString::to_string).collect();
    assert_eq!(held, ["up", r#"up{job="node"}"#]);
    let samples: usize = everything(&store).await.iter().map(|series| series.samples.len()).sum();
    assert_eq!(samples, 4);
}

#[tokio::test]
async fn what_is_no_message_of_version_2_is_refused_with_the_headers_of_nothing() {
    let (store, ingest) = door();
    let ours = http::serve(push::router(ingest)).await;
    let garbage = snap::raw::Encoder::new().compress_vec(&[0x2a, 0xff]).expect("small");
    let nothing = |status| (status, "0".to_owned(), "0".to_owned());
    assert_eq!(send_v2(&ours, V2_CONTENT_TYPE, garbage).await, nothing(400));
    assert_eq!(send_v2(&ours, V2_CONTENT_TYPE, b"no snappy".to_vec()).await, nothing(400));
    let claim = vec![0xff, 0xff, 0xff, 0xff, 0x0f, 0x00];
    assert_eq!(send_v2(&ours, V2_CONTENT_TYPE, claim).await, nothing(413));
    let later = "application/x-protobuf;proto=io.prometheus.write.v3.Request";
    assert_eq!(send_v2(&ours, later, vec![0]).await, (415, String::new(), String::new()));
    assert!(series_of(&store).await.is_empty());
}

#[tokio::test]
async fn targets_that_a_server_lists_are_scraped_until_it_lists_them_no_more() {
    let (store, ingest) = door();
    let exporter = http::serve(axum::Router::new().route("/metrics", axum::routing::get(async || "m 1\n"))).await;
    let address = exporter.trim_start_matches("http://").to_owned();
    let listed =
        Arc::new(std::sync::Mutex::new(format!(r#"[{{"targets": ["{address}"], "labels": {{"zone": "eu"}}}}]"#)));
    let list = listed.clone();
    let answer = move || {
        let list = list.lock().expect("nobody panicked").clone();
        async move { list }
    };
    let server = http::serve(axum::Router::new().route("/targets", axum::routing::get(answer))).await;
    let yaml = format!(
        "{{job_name: j, scrape_interval: 100ms, http_sd_configs: [{{url: '{server}/targets', refresh_interval: 1s}}]}}"
    );
    let manager = ScrapeManager::start(&[serde_saphyr::from_str(&yaml).unwrap()], ingest).unwrap();
    until("the listed target is scraped", async || series_of(&store).await.iter().any(|l| l.metric_name() == "m"))
        .await;
    let target = &manager.targets()[0];
    assert_eq!(target.labels.get("zone"), Some("eu"));
    assert_eq!(target.discovered_labels.get("__meta_url"), Some(format!("{server}/targets").as_str()));

    *listed.lock().unwrap() = "[]".to_owned();
    until("it is scraped no more", async || manager.targets().is_empty()).await;
    until("its series have ended", async || {
        let ended = |series: &SeriesSamples| {
            series.samples.last().is_some_and(|last| bellwether_models::series::is_stale(last.value))
        };
        everything(&store).await.iter().all(ended)
    })
    .await;
    manager.shutdown().await;
}

#[tokio::test]
async fn who_shows_no_token_may_not_send_where_one_is_asked_for() {
    let (store, ingest) = door();
    let config: push::PushConfig = serde_saphyr::from_str("{tokens: [secret]}").unwrap();
    let ours = http::serve(push::router_with(ingest, config)).await;
    let send = async |authorization: &str| {
        let request = http::client().post(format!("{ours}/api/v2/write")).header("Authorization", authorization);
        request.body("m f=1").send().await.expect("the receiver answers").status().as_u16()
    };
    for wrong in ["", "Token", "Token secre", "Token secret2", "Basic secret"] {
        assert_eq!(send(wrong).await, 401, "{wrong}");
    }
    assert!(series_of(&store).await.is_empty());
    assert_eq!((send("Token secret").await, send("Bearer secret").await), (204, 204));
}

/// The newest value of each series, by what it is called.
async fn newest(store: &MemoryStore) -> BTreeMap<String, f64> {
    let all = everything(store).await;
    all.iter()
        .map(|series| (series.labels.to_string(), series.samples.last().expect("no empty series").value))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_opentelemetry_sdk_sends_over_http_and_grpc_cumulative_and_delta() {
    let Some(python) = support::python::python_with_clients() else { return };
    let (store, ingest) = door();
    let ours = http::serve(push::router(ingest)).await;

    for transport in ["http", "grpc"] {
        for temporality in ["cumulative", "delta"] {
            support::python::run(&python, "otlp.py", &[transport, temporality, &ours]).await;
            let held = newest(&store).await;
            let of = |name: &str, more: &str| {
                let job = format!("{transport}-{temporality}");
                held.get(&format!(r#"{name}{{instance="one",job="{job}"{more}}}"#)).copied()
            };
            let expected = [
                (of("shop_orders_total", r#",pay_kind="card""#), 7.0),
                (of("shop_latency_seconds_bucket", r#",le="0.1""#), 0.0),
                (of("shop_latency_seconds_bucket", r#",le="1""#), 2.0),
                (of("shop_latency_seconds_bucket", r#",le="+Inf""#), 2.0),
                (of("shop_latency_seconds_count", ""), 2.0),
                (of("shop_queue_size_bytes", ""), 20.0),
            ];
            for (index, (value, expected)) in expected.into_iter().enumerate() {
                assert_eq!(value, Some(expected), "{transport} {temporality} {index}: {held:#?}");
            }
            assert!(held.keys().any(|name| name.starts_with(r#"target_info{host_name="n7""#)), "{held:#?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_official_influxdb_client_writes_and_is_told_of_bad_lines() {
    let Some(python) = support::python::python_with_clients() else { return };
    let (store, ingest) = door();
    let ours = http::serve(push::router(ingest)).await;

    let told = support::python::run(&python, "influx.py", &[&ours]).await;

    is_written_and_told(&store, &told).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_official_influxdb_client_of_javascript_writes_and_is_told_of_bad_lines() {
    let Some(node) = support::node::folder_with_client() else { return };
    let (store, ingest) = door();
    let ours = http::serve(push::router(ingest)).await;

    let told = support::node::run(&node, "influx.mjs", &["write", &ours]).await;

    is_written_and_told(&store, &told).await;
}

/// What both clients of InfluxDB write, and that they are told of their bad line.
async fn is_written_and_told(store: &MemoryStore, told: &str) {
    assert!(told.contains("400") && told.contains("line 2"), "{told}");
    let held = newest(store).await;
    let expected = [
        (r#"checkout_desk_requests{zone_1="eu west"}"#, 1520.0),
        (r#"checkout_desk_busy{zone_1="eu west"}"#, 0.71),
        (r#"checkout_desk_ok{zone_1="eu west"}"#, 1.0),
        ("good_f", 2.0),
    ];
    assert_eq!(held, expected.map(|(name, value)| (name.to_owned(), value)).into());
}
