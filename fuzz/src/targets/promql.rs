//! PromQL and the query API.

use std::cell::OnceCell;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, StatusCode};
use bellwether_collector::query::{Engine, EngineConfig, Value, http};
use bellwether_collector::store::memory::MemoryStore;
use bellwether_collector::store::{Batch, SeriesSamples, Store};
use bellwether_models::series::{Labels, Sample, Step, Timestamp, stale_marker};
use tower::ServiceExt;

use super::choice;
use super::door::{NOW, wait_for};

/// Any text is refused or answered within its bounds, and a range of one step is the instant.
pub fn promql(bytes: &[u8]) {
    let Ok(query) = std::str::from_utf8(bytes) else { return };
    let engine = engine();
    let Ok(instant) = wait_for(engine.instant(query, NOW)) else { return };
    let range = wait_for(engine.range(query, NOW, NOW, Step::from_secs(60)));
    match (instant, range) {
        (Value::Matrix(_) | Value::Text(_), range) => assert!(range.is_err()),
        (Value::Scalar(value), Ok(matrix)) => assert_eq!(said(&matrix), [(Labels::default(), bits(value))]),
        (Value::Vector(vector), Ok(matrix)) => {
            let mut vector: Vec<_> = vector.into_iter().map(|one| (one.labels, bits(one.value))).collect();
            vector.sort();
            assert_eq!(said(&matrix), vector);
        }
        (instant, Err(error)) => panic!("{instant:?} at an instant, {error} over a range"),
    }
}

/// A request of the query API: the first byte chooses the address, the rest is the form. The answer is JSON, and not a
/// fault of ours.
pub fn query_api(bytes: &[u8]) {
    let (first, form) = choice(bytes);
    let path = PATHS[usize::from(first) % PATHS.len()];
    let request = Request::post(path).header("content-type", "application/x-www-form-urlencoded");
    let request = request.body(Body::from(form.to_vec())).expect("a request");
    let router = router();
    let (status, body) = wait_for(async {
        let response = router.oneshot(request).await.expect("the router answers");
        let status = response.status();
        (status, axum::body::to_bytes(response.into_body(), 64 << 20).await.expect("an answer"))
    });
    assert!(!status.is_server_error() || status == StatusCode::SERVICE_UNAVAILABLE, "{status}");
    let answer: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
    assert_eq!(answer["status"] == "success", status.is_success(), "{answer}");
}

const PATHS: [&str; 4] = ["/api/v1/query", "/api/v1/query_range", "/api/v1/series", "/api/v1/labels"];

/// Every NaN is one NaN.
fn bits(value: f64) -> u64 {
    if value.is_nan() { f64::NAN.to_bits() } else { value.to_bits() }
}

fn said(matrix: &[SeriesSamples]) -> Vec<(Labels, u64)> {
    let one = |series: &SeriesSamples| (series.labels.clone(), bits(series.samples[0].value));
    let mut said: Vec<_> = matrix.iter().map(one).collect();
    said.sort();
    said
}

thread_local! {
    static ENGINE: OnceCell<Engine> = const { OnceCell::new() };
}

fn engine() -> Engine {
    ENGINE.with(|engine| engine.get_or_init(new_engine).clone())
}

fn router() -> Router {
    http::router(engine())
}

fn new_engine() -> Engine {
    let store = MemoryStore::new(Duration::from_secs(86_400), Duration::ZERO);
    wait_for(store.append(batch())).expect("the store takes the batch");
    let config = EngineConfig { max_samples: 20_000, timeout: Duration::from_secs(5), ..EngineConfig::default() };
    Engine::new(Arc::new(store), config)
}

/// Counters with resets, gauges with odd values, a classic histogram, a series that ends.
fn batch() -> Batch {
    let series = |labels: Labels, value: &dyn Fn(i64) -> f64| {
        let sample =
            |i: i64| Sample { at: Timestamp::from_millis(NOW.as_millis() - (40 - i) * 15_000), value: value(i) };
        SeriesSamples { labels, samples: (0..=40).map(sample).collect() }
    };
    let named = |name: &str, instance: &str| Labels::metric(name).with("job", "web").with("instance", instance);
    let mut batch = vec![
        series(named("requests_total", "a"), &|i| (i % 25) as f64 * 3.5),
        series(named("requests_total", "b"), &|i| i as f64),
        series(named("load", "a"), &|i| (i as f64 * 0.7).sin()),
        series(named("load", "b"), &|i| if i % 7 == 0 { f64::NAN } else { -1e300 * i as f64 }),
        series(named("gone", "a"), &|i| if i > 30 { stale_marker() } else { 1.0 }),
    ];
    for (le, share) in [("0.1", 0.2), ("1", 0.7), ("+Inf", 1.0), ("odd", 0.5)] {
        batch.push(series(named("latency_bucket", "a").with("le", le), &|i| (i * 10) as f64 * share));
    }
    batch
}
