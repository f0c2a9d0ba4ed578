//! The stores whose samples lie on a server, held to the laws of stores against real servers.

#[path = "stores/influx.rs"]
mod influx;
mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bellwether::config::Config;
use bellwether::pipeline::Pipeline;
use bellwether_collector::query::{Engine, EngineConfig, Evaluator};
use bellwether_collector::store::laws::{self, Promises, Values};
use bellwether_collector::store::prometheus::{self, PrometheusConfig};
use bellwether_collector::store::{Appended, Batch, Matcher, SeriesSamples, Store, StoreError, StoreStats, TimeRange};
use bellwether_models::outlook::Foresight;
use bellwether_models::series::{Labels, Sample, Timestamp};
use serde_json::Value;
use support::gate::Gate;
use support::system::System;
use support::world::{between, recorded};
use support::{Peer, Program, http, require_peer};
use tempfile::TempDir;

/// A store with a server of its own, told to show at once what it was given.
struct OnPeer<S> {
    store: S,
    peer: Peer,
    /// What makes the server show it; some only show what is a second old.
    flush: Option<&'static str>,
    _folder: TempDir,
}

impl<S> OnPeer<S> {
    async fn flush(&self) {
        if let Some(path) = self.flush {
            http::client().get(self.peer.url(path)).send().await.expect("the server flushes");
        }
    }
}

#[async_trait]
impl<S: Store> Store for OnPeer<S> {
    async fn append(&self, batch: Batch) -> Result<Appended, StoreError> {
        let appended = self.store.append(batch).await;
        self.flush().await;
        appended
    }

    async fn select(
        &self,
        matchers: &[Matcher],
        range: TimeRange,
        limit: usize,
    ) -> Result<Vec<SeriesSamples>, StoreError> {
        self.store.select(matchers, range, limit).await
    }

    async fn series(&self, matchers: &[Matcher], range: TimeRange) -> Result<Vec<Labels>, StoreError> {
        self.store.series(matchers, range).await
    }

    async fn retain(&self, now: Timestamp) -> Result<(), StoreError> {
        self.store.retain(now).await
    }

    async fn stats(&self) -> Result<StoreStats, StoreError> {
        self.store.stats().await
    }

    async fn check(&self) -> Result<(), StoreError> {
        self.store.check().await
    }

    fn evaluator(&self) -> Option<Arc<dyn Evaluator>> {
        self.store.evaluator()
    }
}

/// The store on `peer`, with a queue of its own.
async fn prometheus_on(peer: Peer, flush: Option<&'static str>) -> OnPeer<impl Store> {
    http::install_cryptography();
    let folder = tempfile::tempdir().expect("a folder");
    let config = PrometheusConfig { url: peer.url(""), path: folder.path().to_owned(), ..PrometheusConfig::default() };
    let store = prometheus::open(config).await.expect("the store opens");
    OnPeer { store, peer, flush, _folder: folder }
}

/// Prometheus that takes samples up to an hour out of order.
const LATE: &str = "storage: { tsdb: { out_of_order_time_window: 1h } }\n";

#[tokio::test(flavor = "multi_thread")]
async fn the_prometheus_store_keeps_the_laws_of_stores_on_prometheus() {
    require_peer!(Program::Prometheus);
    let promises = Promises { out_of_order_window: true, any_time: false, values: Values::Numbers, keeps_house: false };
    laws::store_that(promises, async || prometheus_on(Peer::prometheus(LATE), None).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_prometheus_store_keeps_the_laws_of_stores_on_victoria_metrics() {
    require_peer!(Program::VictoriaMetrics);
    let promises =
        Promises { out_of_order_window: false, any_time: false, values: Values::Decimals, keeps_house: false };
    let flush = Some("/internal/force_flush");
    laws::store_that(promises, async || prometheus_on(Peer::victoria_metrics(), flush).await).await;
}

/// Asks again and again until `holds`; the generous deadline only ends a test that would never end.
async fn until(what: &str, holds: impl AsyncFn() -> bool) {
    for _ in 0..1200 {
        if holds().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("waited in vain until {what}");
}

/// What Prometheus itself answers.
async fn asked(prometheus: &Peer, query: &str, at: Timestamp) -> Vec<Value> {
    let form = [("query", query.to_owned()), ("time", at.as_secs_f64().to_string())];
    let request = http::client().post(prometheus.url("/api/v1/query")).form(&form);
    let answer: Value = request.send().await.expect("an answer").json().await.expect("JSON");
    answer["data"]["result"].as_array().cloned().unwrap_or_else(|| panic!("{query}: {answer}"))
}

fn round(series: usize, at: i64) -> Batch {
    let one = |i: usize| SeriesSamples {
        labels: Labels::metric("work").with("i", &i.to_string()),
        samples: vec![Sample { at: Timestamp::from_secs(at), value: (at * 100 + i as i64) as f64 }],
    };
    (0..series).map(one).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_server_is_away_samples_wait_on_disk_over_a_restart_and_none_is_lost_or_written_twice() {
    require_peer!(Program::Prometheus);
    let peer = Peer::prometheus(LATE);
    let (gate, url) = Gate::before(&peer.url("")).await;
    let folder = tempfile::tempdir().expect("a folder");
    let config = PrometheusConfig { url, path: folder.path().to_owned(), request_samples: 7, ..Default::default() };
    let begin = 1_700_000_000;
    let store = prometheus::open(config.clone()).await.expect("a store");
    for at in 0..3 {
        assert_eq!(store.append(round(10, begin + at)).await.expect("the server takes it").written, 10);
    }
    gate.set_open(false);
    assert!(store.check().await.is_err());
    for at in 3..20 {
        assert_eq!(store.append(round(10, begin + at)).await.expect("the queue takes it").written, 10);
    }
    assert_eq!(store.append(round(10, begin + 19)).await.expect("known").repeated, 10);
    assert_eq!(store.stats().await.expect("stats").samples, 170);
    drop(store);

    // the next process knows nothing of what was sent: the server and the queue have to tell
    let store = prometheus::open(config).await.expect("a store");
    assert_eq!(store.append(round(10, begin + 20)).await.expect("the queue takes it").written, 10);
    gate.set_open(true);
    until("the queue is empty", async || store.stats().await.expect("stats").samples == 0).await;
    assert_eq!(store.append(round(10, begin + 2)).await.expect("the server is asked").repeated, 10);

    let held = asked(&peer, "work[10m]", Timestamp::from_secs(begin + 60)).await;
    assert_eq!(held.len(), 10);
    for series in held {
        let i: i64 = series["metric"]["i"].as_str().expect("a label").parse().expect("a number");
        let expected: Vec<Value> =
            (begin..=begin + 20).map(|at| serde_json::json!([at, (at * 100 + i).to_string()])).collect();
        assert_eq!(series["values"].as_array().expect("values"), &expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_server_warns_of_reaches_the_one_who_asked() {
    require_peer!(Program::Prometheus);
    // A Prometheus whose long-term storage is away answers with what it has itself, and says so.
    let away = "remote_read: [{ url: 'http://127.0.0.1:1/read', read_recent: true }]\n";
    let store = prometheus_on(Peer::prometheus(away), None).await;
    let engine = Engine::new(Arc::new(store), EngineConfig::default());
    let url = http::serve(bellwether_collector::query::http::router(engine)).await;
    for path in ["query?query=up", "query_range?query=up&start=1&end=2&step=1", "labels", "series?match[]=up"] {
        let answer = http::client().get(format!("{url}/api/v1/{path}")).send().await.expect("an answer");
        let answer: Value = answer.json().await.expect("json");
        let warning = answer["warnings"][0].as_str().unwrap_or_default();
        assert!(warning.contains("127.0.0.1:1"), "{path}: {answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_sample_that_the_server_refuses_costs_no_other() {
    require_peer!(Program::Prometheus);
    let store = prometheus_on(Peer::prometheus("global: {}\n"), None).await;
    store.append(round(20, 1_700_000_000)).await.expect("append");
    let mut batch = round(20, 1_700_000_010);
    // this server takes nothing out of order
    batch[7].samples.insert(0, Sample { at: Timestamp::from_secs(1_699_999_990), value: 1.0 });
    let appended = store.append(batch).await.expect("append");
    assert_eq!((appended.written, appended.refused.len()), (20, 1), "{:?}", appended.refused);
    assert_eq!(appended.refused[0].0.get("i"), Some("7"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_whole_loop_runs_on_what_prometheus_holds_and_writes_only_its_own_back() {
    require_peer!(Program::Prometheus);
    let client = http::client();
    let peer = Peer::prometheus("global: {}\n");
    let folder = tempfile::tempdir().expect("a folder");
    let text = format!(
        "store: {{ prometheus: {{ url: '{}', path: {:?} }} }}
cadence: 5m
workloads:
  - name: shop
    demand: sum(requests_per_second{{service=\"shop\"}})
    forecast: {{ step: 5m }}
    scale: {{ max: 40, capacity_per_replica: 50, startup: 15m }}
",
        peer.url(""),
        folder.path()
    );
    let config = Config::parse("test.yaml".as_ref(), &text).expect("a good configuration");
    let demand = recorded("demand.csv.gz", |_| Labels::metric("requests_per_second").with("service", "shop"));
    let (cadence, day) = (Duration::from_secs(300), Duration::from_secs(86_400));
    let live = demand[0].samples.last().expect("samples").at - day;
    // as if it had been scraped by Prometheus: we have no part in it
    let scraped = async |from, to| {
        support::remote_write::send(&client, &peer.url("/api/v1/write"), &between(&demand, from, to)).await
    };
    scraped(live - 15 * day, live).await;
    let told = Arc::new(AtomicI64::new(live.as_millis()));
    let time = told.clone();
    let clock = Arc::new(move || Timestamp::from_millis(time.load(Ordering::Relaxed)));
    let mut pipeline = Pipeline::open(&config, clock).await.expect("a pipeline");
    let mut now = live;
    let mut last = None;
    for _ in 0..6 {
        scraped(now, now + cadence).await;
        now = now + cadence;
        told.store(now.as_millis(), Ordering::Relaxed);
        assert!(pipeline.takes_samples(now).await);
        last = Some(pipeline.tick(now).await);
    }
    let (snapshot, view) = last.expect("rounds");
    let outlook = &snapshot.workloads[0];
    assert!(matches!(outlook.foresight, Foresight::Forecast { .. }), "{:?}", outlook.foresight);
    let observed = outlook.demand.expect("demand is known").value;
    let recently = demand[0].samples.iter().filter(|sample| sample.at <= now && sample.at > now - 2 * cadence);
    assert!(recently.clone().any(|sample| sample.value == observed), "{observed} of {recently:?}");

    let foreseen = asked(&peer, r#"bellwether_forecast{workload="shop",horizon_seconds="3600"}"#, now).await;
    assert_eq!(foreseen.len(), 4, "one series a quantile: {foreseen:?}");
    let desired = asked(&peer, r#"bellwether_desired_replicas{workload="shop"}"#, now).await;
    let decided = view.plan.of("shop").expect("a decision").to.expect("a number");
    assert_eq!(desired[0]["value"][1], decided.to_string());
    let written = asked(&peer, r#"count({__name__=~".+",__name__!~"bellwether_.*"})"#, now).await;
    assert_eq!(written[0]["value"][1], "1", "nothing but the demand and our own");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_system_refuses_what_the_server_has_and_is_not_ready_while_it_is_away() {
    require_peer!(Program::Prometheus);
    let client = http::client();
    let peer = Peer::prometheus("global: {}\n");
    let (gate, url) = Gate::before(&peer.url("")).await;
    let folder = tempfile::tempdir().expect("a folder");
    let store = format!("prometheus: {{ url: '{url}', path: {:?} }}", folder.path().join("data"));
    let system = System::start_on(folder.path(), &store, "cadence: 1s\n", &client).await;
    let refused = client.post(system.url("/api/v1/write")).body("x").send().await.expect("an answer");
    assert_eq!(refused.status(), 403);
    assert!(refused.text().await.expect("a text").contains("store.prometheus.accept"));
    let change = client.post(system.url("/api/v1/changes")).body(r#"{"service":"shop","kind":"deploy"}"#).send().await;
    assert_eq!(change.expect("an answer").status(), 204);
    let now = || Timestamp::from_secs(1 + std::time::UNIX_EPOCH.elapsed().expect("after 1970").as_secs() as i64);
    assert_eq!(asked(&peer, r#"bellwether_change{service="shop"}"#, now()).await.len(), 1);

    gate.set_open(false);
    let status = async || client.get(system.url("/-/ready")).send().await.expect("an answer").status().as_u16();
    system.until("it is not ready", async || status().await == 503).await;
    let metrics =
        async || client.get(system.url("/metrics")).send().await.expect("metrics").text().await.expect("text");
    let queued = async || {
        let metrics = metrics().await;
        let line = metrics.lines().find(|line| line.starts_with("bellwether_store_queue_samples")).map(str::to_owned);
        line.and_then(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).unwrap_or_default()
    };
    system.until("something waits", async || queued().await > 0.0).await;
    gate.set_open(true);
    system.until("it is ready again", async || status().await == 200).await;
    system.until("nothing waits", async || queued().await == 0.0).await;
    assert!(asked(&peer, "bellwether_heartbeat[1h]", now()).await[0]["values"].as_array().expect("values").len() > 2);
}
