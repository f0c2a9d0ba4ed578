//! What others send wrong is answered clearly, counted by reason, and harms nothing else.

mod support;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;
use bellwether_collector::ingest::{Ingest, IngestConfig};
use bellwether_collector::source::push;
use bellwether_collector::source::scrape::{Health, ScrapeConfig, ScrapeManager};
use bellwether_collector::store::memory::MemoryStore;
use bellwether_collector::store::{Matcher, Store, TimeRange};
use bellwether_models::series::{Timestamp, is_stale, stale_marker};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use support::remote_write::{packed, series};

/// The clock of these tests.
const NOW: Timestamp = Timestamp::from_secs(1_700_000_000);
const NOW_MS: i64 = NOW.as_millis();

/// A collector on a loopback port, its store and its counters. Needs a runtime of one thread.
struct Collector {
    store: Arc<MemoryStore>,
    address: SocketAddr,
    counters: PrometheusHandle,
    client: reqwest::Client,
    _recording: metrics::LocalRecorderGuard<'static>,
}

impl Collector {
    async fn start() -> Self {
        let recorder = Box::leak(Box::new(PrometheusBuilder::new().build_recorder()));
        let recording = metrics::set_default_local_recorder(recorder);
        let store = Arc::new(MemoryStore::default());
        let ingest = Ingest::with_clock(store.clone(), IngestConfig::default(), Arc::new(|| NOW));
        let address = serve(push::router(ingest)).await;
        let (counters, client) = (recorder.handle(), client());
        Self { store, address, counters, client, _recording: recording }
    }

    async fn post(&self, path: &str, headers: &[(&str, &str)], body: Vec<u8>) -> (u16, String) {
        let request = self.client.post(format!("http://{}{path}", self.address)).body(body);
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        let response = request.send().await.expect("the collector answers");
        (response.status().as_u16(), response.text().await.expect("the answer is text"))
    }

    async fn remote_write(&self, body: Vec<u8>) -> (u16, String) {
        self.post("/api/v1/write", &REMOTE_WRITE, body).await
    }

    /// All samples of a metric: labels, milliseconds, bits.
    async fn held(&self, metric: &str) -> Vec<(String, i64, f64)> {
        let everything = TimeRange { from: Timestamp::MIN, to: Timestamp::MAX };
        let found = self.store.select(&[Matcher::equal("__name__", metric)], everything, usize::MAX).await;
        let lines = |series: bellwether_collector::store::SeriesSamples| {
            let labels = series.labels.to_string();
            series.samples.into_iter().map(move |sample| (labels.clone(), sample.at.as_millis(), sample.value))
        };
        found.expect("the store answers").into_iter().flat_map(lines).collect()
    }

    /// The counter whose line starts so.
    fn counted(&self, start: &str) -> u64 {
        let text = self.counters.render();
        let line = text.lines().find_map(|line| line.strip_prefix(start)?.strip_prefix(' '));
        line.map_or(0, |number| number.parse().expect("counters are whole"))
    }

    fn refused_samples(&self, origin: &str, reason: &str) -> u64 {
        self.counted(&format!("bellwether_ingest_refused_samples_total{{source=\"{origin}\",reason=\"{reason}\"}}"))
    }

    fn refused_requests(&self, origin: &str, reason: &str) -> u64 {
        self.counted(&format!("bellwether_ingest_requests_refused_total{{source=\"{origin}\",reason=\"{reason}\"}}"))
    }
}

const REMOTE_WRITE: [(&str, &str); 2] = [("content-type", "application/x-protobuf"), ("content-encoding", "snappy")];

fn client() -> reqwest::Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().tls_certs_only([]).build().expect("a client")
}

async fn serve(router: Router) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free loopback port");
    let address = listener.local_addr().expect("it has an address");
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

fn good(value: f64) -> support::remote_write::TimeSeries {
    series(&[("__name__", b"good"), ("job", b"j")], &[(NOW_MS, value)])
}

/// Headers, body, the status that answers, the reason counted, and what the answer says.
type HostileRequest<'a> = (&'a [(&'a str, &'a str)], Vec<u8>, u16, &'a str, &'a str);

#[tokio::test]
async fn a_hostile_remote_write_is_refused_clearly_and_counted_and_the_next_good_one_is_kept() {
    let collector = Collector::start().await;
    let truncated = {
        let mut body = packed(vec![good(1.0); 50]);
        body.truncate(body.len() / 2);
        body
    };
    let four_gigabytes = vec![0xff, 0xff, 0xff, 0xff, 0x0f, 0x00];
    let no_message = snap::raw::Encoder::new().compress_vec(b"\x0a\xff\xff\xff\xff\x7f").unwrap();
    let json = [("content-type", "application/json"), ("content-encoding", "snappy")];
    let gzip = [("content-type", "application/x-protobuf"), ("content-encoding", "gzip")];
    let cases: [HostileRequest; 7] = [
        (&REMOTE_WRITE, truncated, 400, "snappy", "not snappy's block format"),
        (&REMOTE_WRITE, four_gigabytes, 413, "too_large", "larger than the limit of 134217728 bytes"),
        (&REMOTE_WRITE, b"not snappy at all".to_vec(), 400, "snappy", "not snappy's block format"),
        (&REMOTE_WRITE, no_message, 400, "message", "the message is cut off"),
        (&REMOTE_WRITE, vec![0; (32 << 20) + 1], 413, "too_large", "body is larger than the limit of 33554432"),
        (&json, packed(vec![good(1.0)]), 415, "content_type", "application/json"),
        (&gzip, packed(vec![good(1.0)]), 415, "content_encoding", "gzip"),
    ];
    for (headers, body, status, reason, text) in cases {
        let before = collector.refused_requests("remote_write", reason);
        let (answered, told) = collector.post("/api/v1/write", headers, body).await;
        assert!(answered == status && told.contains(text), "{reason}: {answered} {told}");
        assert_eq!(collector.refused_requests("remote_write", reason), before + 1, "{reason}");
    }
    assert_eq!(collector.held("good").await, []);

    assert_eq!(collector.remote_write(packed(vec![good(1.0)])).await.0, 204);
    assert_eq!(collector.held("good").await, [(r#"good{job="j"}"#.to_owned(), NOW_MS, 1.0)]);
}

#[tokio::test]
async fn each_bad_series_of_a_request_is_refused_under_its_reason_and_the_others_are_kept() {
    let collector = Collector::start().await;
    let megabyte = vec![b'x'; 1 << 20];
    let at = [(NOW_MS, 1.0)];
    let cases = [
        ("label_value_too_long", series(&[("__name__", b"bad"), ("a", &megabyte)], &at)),
        ("not_utf8", series(&[("__name__", b"bad"), ("a", b"\xff\xfe")], &at)),
        ("labels_unsorted", series(&[("b", b"1"), ("__name__", b"bad")], &at)),
        ("label_duplicate", series(&[("__name__", b"bad"), ("a", b"1"), ("a", b"2")], &at)),
        ("label_empty", series(&[("__name__", b"bad"), ("a", b"")], &at)),
        ("metric_name_missing", series(&[("a", b"1")], &at)),
        ("metric_name_invalid", series(&[("__name__", b"not a name")], &at)),
        ("label_name_invalid", series(&[("__name__", b"bad"), ("a-b", b"1")], &at)),
        ("too_far_ahead", series(&[("__name__", b"bad")], &[(NOW_MS + 86_400_000, 1.0)])),
    ];
    for (index, (reason, bad)) in cases.into_iter().enumerate() {
        let value = index as f64;
        let fine = series(&[("__name__", b"good"), ("n", index.to_string().as_bytes())], &[(NOW_MS, value)]);
        let (status, told) = collector.remote_write(packed(vec![bad, fine])).await;
        assert!(status == 400 && told.contains(reason), "{reason}: {status} {told}");
        assert!(told.len() < 1000, "an answer does not repeat a megabyte");
        assert_eq!(collector.refused_samples("remote_write", reason), 1, "{reason}");
        assert_eq!(collector.held("good").await.len(), index + 1, "{reason}");
    }
    assert_eq!(collector.held("bad").await, []);
}

#[tokio::test]
async fn nan_infinities_and_staleness_markers_are_kept_to_the_bit() {
    let collector = Collector::start().await;
    let odd = f64::from_bits(0x7ff8_0000_dead_beef);
    let values = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, stale_marker(), odd, f64::MIN_POSITIVE / 2.0];
    let samples: Vec<(i64, f64)> = values.iter().zip(0..).map(|(value, n)| (NOW_MS + n, *value)).collect();

    let (status, _) = collector.remote_write(packed(vec![series(&[("__name__", b"odd")], &samples)])).await;

    assert_eq!(status, 204);
    let held = collector.held("odd").await;
    let bits = |values: &mut dyn Iterator<Item = f64>| values.map(f64::to_bits).collect::<Vec<_>>();
    assert_eq!(bits(&mut held.iter().map(|(.., value)| *value)), bits(&mut values.into_iter()));
}

#[tokio::test]
async fn late_repeated_and_contradicting_samples_are_told_apart() {
    let collector = Collector::start().await;
    let send = |samples: &[(i64, f64)]| collector.remote_write(packed(vec![series(&[("__name__", b"m")], samples)]));
    let (minute, day) = (60_000, 86_400_000);
    assert_eq!(send(&[(NOW_MS, 1.0)]).await.0, 204);

    assert_eq!(send(&[(NOW_MS, 1.0)]).await.0, 204, "sent again: nothing to do");
    assert_eq!(send(&[(NOW_MS - minute, 2.0)]).await.0, 204, "a little late: kept");
    let (status, told) = send(&[(NOW_MS, 9.0), (NOW_MS + minute, 3.0)]).await;
    assert!(status == 400 && told.contains("1 of 2 samples refused: duplicate_timestamp: m: sample at"), "{told}");
    let (status, told) = send(&[(NOW_MS - day, 4.0), (NOW_MS + 2 * minute, 5.0)]).await;
    assert!(status == 400 && told.contains("too_old"), "{told}");

    let held: Vec<(i64, f64)> =
        collector.held("m").await.into_iter().map(|(_, at, value)| (at - NOW_MS, value)).collect();
    assert_eq!(held, [(-minute, 2.0), (0, 1.0), (minute, 3.0), (2 * minute, 5.0)]);
    assert_eq!(collector.refused_samples("remote_write", "duplicate_timestamp"), 1);
    assert_eq!(collector.refused_samples("remote_write", "too_old"), 1);
    assert_eq!(collector.counted(r#"bellwether_ingest_samples_repeated_total{source="remote_write"}"#), 1);
}

#[tokio::test]
async fn bad_lines_are_named_by_number_and_the_good_ones_written() {
    let collector = Collector::start().await;
    let body =
        b"cpu,host=a usage=1.5 1700000000\nthis is no line\ncpu,host=b usage=2,text=\"x\" 1700000000\ncpu f=\xff 1\n";

    let (status, told) = collector.post("/api/v2/write?bucket=b&precision=s", &[], body.to_vec()).await;

    let told: serde_json::Value = serde_json::from_str(&told).unwrap();
    assert_eq!((status, told["code"].as_str()), (400, Some("invalid")));
    let message = told["message"].as_str().unwrap();
    assert!(message.starts_with("partial write: 2 of 4 lines refused: line 2: "), "{message}");
    assert!(message.contains("line 4: not valid UTF-8"), "{message}");
    assert_eq!(collector.held("cpu_usage").await.len(), 2);
    assert_eq!(collector.refused_samples("influx", "malformed_line"), 2);
    assert_eq!(collector.refused_samples("influx", "text_field"), 1);
    let (status, told) = collector.post("/write?precision=fortnight", &[], b"cpu f=1".to_vec()).await;
    assert!(status == 400 && told.contains("fortnight"), "{told}");
    let (status, told) = collector.post("/write", &[("content-encoding", "gzip")], b"cpu f=1".to_vec()).await;
    assert!(status == 400 && told.contains("not gzip"), "{told}");
}

/// A target that serves whatever text a test puts there.
async fn target(text: Arc<Mutex<Vec<u8>>>) -> SocketAddr {
    let serve_text = async |State(text): State<Arc<Mutex<Vec<u8>>>>| {
        ([(CONTENT_TYPE, "text/plain; version=0.0.4")], text.lock().expect("nobody panicked").clone())
    };
    serve(Router::new().route("/metrics", get(serve_text)).with_state(text)).await
}

fn job(name: &str, target: SocketAddr) -> ScrapeConfig {
    let yaml = format!(
        "{{job_name: {name}, scrape_interval: 50ms, scrape_timeout: 50ms, static_configs: [{{targets: ['{target}']}}]}}"
    );
    serde_saphyr::from_str(&yaml).expect("a scrape configuration")
}

/// A door whose clock runs, for scrapes at distinct times.
fn running_door(collector: &Collector) -> Ingest {
    Ingest::new(collector.store.clone(), IngestConfig::default())
}

/// Waits until `done` says so; the generous deadline only ends a test that would never end.
async fn until(what: &str, mut done: impl AsyncFnMut() -> bool) {
    for _ in 0..6000 {
        if done().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("waited in vain until {what}");
}

#[tokio::test]
async fn a_malformed_scrape_ends_the_series_of_its_target_and_no_other() {
    let collector = Collector::start().await;
    let sick = Arc::new(Mutex::new(b"sick_metric 1\n".to_vec()));
    let well = Arc::new(Mutex::new(b"well_metric 1\n".to_vec()));
    let configs = [job("sick", target(sick.clone()).await), job("well", target(well).await)];
    let manager = ScrapeManager::start(&configs, running_door(&collector)).unwrap();
    let health = |job: &str| manager.targets().into_iter().find(|target| target.job == job).map(|target| target.health);
    until("both targets are up", async || health("sick") == Some(Health::Up) && health("well") == Some(Health::Up))
        .await;

    for bad in [&b"a 1\nsick_metric{a=\"1} 2\n"[..], b"a 1\nb{x=\"\xff\"} 2\n", b"a 1\nb one\n"] {
        *sick.lock().unwrap() = bad.to_vec();
        until("the sick target is down", async || health("sick") == Some(Health::Down)).await;
        let error = manager.targets()[0].last_error.clone().unwrap();
        assert!(error.contains("line 2: "), "{error}");
        assert!(is_stale(collector.held("sick_metric").await.last().unwrap().2));
        assert_eq!(health("well"), Some(Health::Up));
        *sick.lock().unwrap() = b"sick_metric 1\n".to_vec();
        until("the sick target recovers", async || health("sick") == Some(Health::Up)).await;
    }

    manager.shutdown().await;
    assert_eq!(collector.held("a").await, [], "nothing of a bad text is kept");
    assert!(collector.held("well_metric").await.iter().all(|(.., value)| *value == 1.0));
    let up: Vec<f64> = collector.held("up").await.into_iter().map(|(.., value)| value).collect();
    assert!(up.contains(&0.0) && up.contains(&1.0));
    let malformed = collector.counted(r#"bellwether_scrape_failures_total{job="sick",reason="malformed"}"#);
    assert!(malformed >= 3, "{malformed}");
}

#[tokio::test]
async fn a_scraped_series_with_a_label_of_a_megabyte_is_refused_alone() {
    let collector = Collector::start().await;
    let text = format!("huge{{a=\"{}\"}} 1\nsmall 2\n", "x".repeat(1 << 20));
    let configs = [job("huge", target(Arc::new(Mutex::new(text.into_bytes()))).await)];
    let manager = ScrapeManager::start(&configs, running_door(&collector)).unwrap();

    until("the target was scraped", async || !collector.held("small").await.is_empty()).await;

    manager.shutdown().await;
    assert_eq!(collector.held("huge").await, []);
    assert!(collector.held("up").await.iter().all(|(.., value)| *value == 1.0));
    assert!(collector.refused_samples("scrape:huge", "label_value_too_long") >= 1);
}

#[tokio::test]
async fn a_target_beyond_its_limits_or_its_time_is_down_and_says_why() {
    let collector = Collector::start().await;
    let text = Arc::new(Mutex::new(b"a 1\nb 2\n".to_vec()));
    let address = target(text).await;
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let limited = ScrapeConfig { sample_limit: 1, ..job("limited", address) };
    let large = ScrapeConfig {
        body_size_limit: bellwether_collector::source::size::ByteSize::from_bytes(3),
        ..job("large", address)
    };
    let slow = job("slow", silent.local_addr().unwrap());
    let lost = ScrapeConfig { metrics_path: "/lost".to_owned(), ..job("lost", address) };
    let manager = ScrapeManager::start(&[limited, large, slow, lost], running_door(&collector)).unwrap();

    until("all were tried", async || {
        manager.targets().len() == 4 && manager.targets().iter().all(|t| t.health == Health::Down)
    })
    .await;

    let errors: Vec<(String, String)> =
        manager.targets().into_iter().map(|target| (target.job, target.last_error.unwrap_or_default())).collect();
    let expected = [
        ("large", "larger than the limit of 3 bytes"),
        ("limited", "sample_limit of 1"),
        ("lost", "HTTP status 404"),
        ("slow", "no complete answer within 0.05 s"),
    ];
    for ((job, error), (name, text)) in errors.iter().zip(expected) {
        assert!(job == name && error.contains(text), "{job}: {error}");
    }
    manager.shutdown().await;
}
