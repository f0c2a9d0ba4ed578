//! KEDA's external scaler, asked by a real gRPC client that was generated from its definition: every call, and the cases that
//! KEDA's own end-to-end tests name (activation, fallback, cached metrics, pause, push).

mod support;

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use bellwether_models::outlook::{Foresight, Observed, Outlook, Running, Snapshot};
use bellwether_models::series::{Labels, Timestamp};
use bellwether_scheduler::actuate::{SeriesSink, SinkError};
use bellwether_scheduler::config::{ActuatorConfig, Asked, GrpcConfig, GrpcTls, Mode};
use bellwether_scheduler::guard::Stop;
use bellwether_scheduler::{Config, ScaleConfig, Service, Workload};
use serde_json::{Value, json};
use support::python::Talk;
use support::{Program, python, require_peer};

struct Nowhere;

#[async_trait::async_trait]
impl SeriesSink for Nowhere {
    async fn write(&self, _: Timestamp, _: Vec<(Labels, f64)>) -> Result<(), SinkError> {
        Ok(())
    }
}

/// The generated client.
struct Client(Talk);

impl Client {
    fn start(python: &Path, arguments: &[&str]) -> Self {
        Self(Talk::start(python, "keda.py", arguments))
    }

    async fn say(&mut self, call: &str, name: &str, more: Value) {
        let mut line = json!({ "call": call, "name": name });
        line.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        self.0.say(&line).await;
    }

    async fn hear(&mut self) -> Value {
        self.0.hear().await
    }

    async fn ask(&mut self, call: &str, name: &str, more: Value) -> Value {
        self.say(call, name, more).await;
        self.hear().await
    }
}

fn workload(name: &str, mode: Mode) -> Workload {
    let scale = ScaleConfig {
        mode,
        min: 0,
        max: 50,
        capacity_per_replica: 10.0.try_into().ok(),
        actuator: Some(ActuatorConfig::Keda(Asked {})),
        ..ScaleConfig::default()
    };
    Workload { name: name.to_owned(), depends_on: Vec::new(), scale }
}

fn at(secs: i64) -> Timestamp {
    Timestamp::from_secs(1_700_000_000 + secs)
}

/// All demands at `now`; nothing is known of a workload that is left out.
fn facts(now: Timestamp, demands: &[(&str, f64)]) -> Snapshot {
    let seen = |value: f64| Some(Observed { at: now, value });
    let outlook = |(name, demand): &(&str, f64)| Outlook {
        workload: (*name).to_owned(),
        made_at: now,
        demand: seen(*demand),
        replicas: seen((demand / 8.0).ceil()),
        foresight: Foresight::Abstained { reason: "too few observations".to_owned() },
        model: bellwether_models::outlook::ModelRef::default(),
        anomalies: Vec::new(),
        running: Running::default(),
    };
    Snapshot { made_at: now, workloads: demands.iter().map(outlook).collect(), ..Snapshot::default() }
}

fn workloads() -> Vec<Workload> {
    let acting = ["shop", "idle", "blind"].map(|name| workload(name, Mode::Act));
    acting.into_iter().chain([workload("watched", Mode::Shadow)]).collect()
}

async fn service(tls: Option<GrpcTls>) -> Service {
    let config = Config {
        workloads: workloads(),
        grpc: Some(GrpcConfig { listen: "127.0.0.1:0".parse().expect("an address"), tls }),
        ..Config::default()
    };
    Service::new(config, Arc::new(Nowhere), None).await.expect("it starts")
}

#[tokio::test(flavor = "multi_thread")]
async fn every_call_answers_a_generated_client_as_keda_expects() {
    let Some(python) = python::python_with_clients() else { return };
    support::http::install_cryptography();
    let mut service = service(None).await;
    let address = service.grpc_address().expect("it listens");
    let mut keda = Client::start(&python, &[&address.to_string()]);

    let early = keda.ask("GetMetrics", "shop", json!({})).await;
    assert_eq!(early["code"], "NOT_FOUND", "before the first round nobody is known: {early}");

    service.tick(at(0), &facts(at(0), &[("shop", 60.0), ("idle", 0.0), ("watched", 60.0)])).await;
    let spec = keda.ask("GetMetricSpec", "shop", json!({})).await;
    let expected = json!([{ "metricName": "bellwether_desired_replicas", "targetSize": "1", "targetSizeFloat": 1.0 }]);
    assert_eq!(spec["ok"]["metricSpecs"], expected, "{spec}");
    let value = |replicas: u32| {
        json!([{
            "metricName": "bellwether_desired_replicas",
            "metricValue": replicas.to_string(),
            "metricValueFloat": f64::from(replicas),
        }])
    };
    let metric = json!({ "metric": "bellwether_desired_replicas" });
    let told = keda.ask("GetMetrics", "shop", metric.clone()).await;
    assert_eq!(told["ok"]["metricValues"], value(8), "{told}");
    assert_eq!(keda.ask("GetMetrics", "shop", metric.clone()).await, told, "asking again changes nothing");
    let by_metadata = keda.ask("GetMetrics", "any-object", json!({ "metadata": { "workload": "shop" } })).await;
    assert_eq!(by_metadata["ok"]["metricValues"], value(8), "{by_metadata}");
    assert_eq!(keda.ask("IsActive", "shop", json!({})).await["ok"]["result"], true);

    // Zero is said as zero only where it was decided; what is unknown is an error, which makes KEDA fall back.
    assert_eq!(keda.ask("IsActive", "idle", json!({})).await["ok"]["result"], false);
    assert_eq!(keda.ask("GetMetrics", "idle", metric).await["ok"]["metricValues"], value(0));
    for (name, code) in [("blind", "UNAVAILABLE"), ("watched", "FAILED_PRECONDITION"), ("stranger", "NOT_FOUND")] {
        let refused = keda.ask("IsActive", name, json!({})).await;
        assert_eq!(refused["code"], code, "{refused}");
        assert!(refused["text"].as_str().is_some_and(|text| text.contains(name)), "{refused}");
        assert_eq!(keda.ask("GetMetrics", name, json!({})).await["code"], code);
    }
    let wrong = keda.ask("GetMetrics", "shop", json!({ "metric": "cpu" })).await;
    assert_eq!(wrong["code"], "NOT_FOUND", "{wrong}");
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_tell_the_present_state_at_once_and_then_each_change_only() {
    let Some(python) = python::python_with_clients() else { return };
    support::http::install_cryptography();
    let mut service = service(None).await;
    let address = service.grpc_address().expect("it listens");
    let mut keda = Client::start(&python, &[&address.to_string()]);
    service.tick(at(0), &facts(at(0), &[("idle", 0.0)])).await;
    keda.say("StreamMetricSpec", "idle", json!({})).await;
    let spec = keda.hear().await;
    assert_eq!(spec["message"]["metricSpecs"][0]["targetSizeFloat"], 1.0, "{spec}");
    keda.say("StreamIsActive", "idle", json!({})).await;
    assert_eq!(keda.hear().await["message"]["result"], false);
    for secs in [15, 30, 45] {
        service.tick(at(secs), &facts(at(secs), &[("idle", 0.0)])).await;
    }
    service.tick(at(60), &facts(at(60), &[("idle", 40.0)])).await;
    assert_eq!(keda.hear().await["message"]["result"], true, "nothing was said in between");
    keda.say("StreamIsActive", "stranger", json!({})).await;
    assert_eq!(keda.hear().await["code"], "NOT_FOUND");
}

/// A root, and a certificate for 127.0.0.1 that it signed, used by both sides.
fn certificates(folder: &Path) -> [String; 3] {
    let script = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=root \
                    -keyout root.key -out root.pem \
                  && openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=us \
                    -keyout our.key -out our.csr \
                  && printf 'subjectAltName=IP:127.0.0.1\\nbasicConstraints=CA:FALSE\\n' >ext \
                  && openssl x509 -req -in our.csr -CA root.pem -CAkey root.key -CAcreateserial -days 2 -extfile ext \
                    -out our.pem";
    let made = Command::new("sh").args(["-c", script]).current_dir(folder).output().expect("a shell");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    ["root.pem", "our.pem", "our.key"].map(|name| folder.join(name).display().to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn with_tls_only_clients_with_a_certificate_of_the_named_root_are_answered() {
    require_peer!(Program::Openssl);
    let Some(python) = python::python_with_clients() else { return };
    support::http::install_cryptography();
    let folder = tempfile::tempdir().expect("a folder");
    let [root, cert, key] = certificates(folder.path());
    let tls = GrpcTls {
        cert_file: cert.clone().into(),
        key_file: key.clone().into(),
        client_ca_file: Some(root.clone().into()),
    };
    let mut service = service(Some(tls)).await;
    let address = service.grpc_address().expect("it listens").to_string();
    service.tick(at(0), &facts(at(0), &[("shop", 60.0)])).await;
    let mut keda = Client::start(&python, &[&address, &root, &cert, &key]);
    assert_eq!(keda.ask("IsActive", "shop", json!({})).await["ok"]["result"], true);
    let mut plain = Client::start(&python, &[&address]);
    assert_eq!(plain.ask("IsActive", "shop", json!({})).await["code"], "UNAVAILABLE");
}

/// The part of KEDA that stands between us and the replicas, by its documentation and the cases of its end-to-end tests: it
/// asks each polling interval, counts failures, wakes what sleeps, and feeds a Horizontal Pod Autoscaler.
struct Keda<'a> {
    client: &'a mut Client,
    object: &'static str,
    min: u32,
    replicas: u32,
    /// Failures in a row, and how many make it fall back to so many replicas.
    failures: u32,
    fallback: (u32, u32),
    /// Fewer than there are only where this is false (behavior `currentReplicasIfHigher`).
    if_higher: bool,
    /// The metric of the last poll, where `useCachedMetrics` is set.
    cached: Option<Option<f64>>,
    paused: bool,
}

impl<'a> Keda<'a> {
    fn of(client: &'a mut Client, object: &'static str, min: u32, replicas: u32) -> Self {
        let (failures, fallback, if_higher, cached, paused) = (0, (3, 20), false, None, false);
        Self { client, object, min, replicas, failures, fallback, if_higher, cached, paused }
    }

    /// The metric by the rules of the client: the float where it lies above 0, else the whole number, and nothing below 0.
    async fn metric(&mut self) -> Option<f64> {
        let answer =
            self.client.ask("GetMetrics", self.object, json!({ "metric": "bellwether_desired_replicas" })).await;
        let value = answer["ok"]["metricValues"].get(0)?;
        let float = value["metricValueFloat"].as_f64().filter(|float| *float > 0.0);
        let whole = || value["metricValue"].as_str().and_then(|whole| whole.parse::<f64>().ok());
        let metric = float.or_else(whole)?.max(0.0);
        Some((metric * 1000.0).round() / 1000.0) // a quantity in thousandths
    }

    /// One polling interval: the metric, then whether it is active.
    async fn poll(&mut self) {
        if self.paused {
            return;
        }
        let metric = self.metric().await;
        let active = self.client.ask("IsActive", self.object, json!({})).await["ok"]["result"].as_bool();
        self.failures = if metric.is_some() && active.is_some() { 0 } else { self.failures + 1 };
        if let Some(cached) = &mut self.cached {
            *cached = metric;
        }
        self.activate(active);
    }

    fn activate(&mut self, active: Option<bool>) {
        match active {
            Some(true) if self.replicas == 0 => self.replicas = self.min.max(1),
            Some(false) if self.min == 0 => self.replicas = 0,
            _ => {}
        }
    }

    /// The autoscaler looks: it holds without a metric, and does nothing for what sleeps.
    async fn autoscale(&mut self) {
        if self.paused || self.replicas == 0 {
            return;
        }
        let fresh = if let Some(cached) = self.cached { cached } else { self.metric().await };
        let (threshold, fallback) = self.fallback;
        let fallback = if self.if_higher { fallback.max(self.replicas) } else { fallback };
        let fell_back = (self.failures >= threshold).then(|| f64::from(fallback));
        let Some(metric) = fresh.or(fell_back) else { return };
        // Target 1 of type AverageValue: the wish is the metric itself, but for the tolerance.
        if (metric / f64::from(self.replicas) - 1.0).abs() > 0.1 {
            self.replicas = (metric.ceil() as u32).max(self.min.max(1));
        }
    }

    async fn round(&mut self) -> u32 {
        self.poll().await;
        self.autoscale().await;
        self.replicas
    }
}

/// A service on `port`, which may have been another's a moment ago.
async fn service_on(port: u16) -> Service {
    let listen = ([127, 0, 0, 1], port).into();
    for _ in 0..100 {
        let grpc = Some(GrpcConfig { listen, tls: None });
        let config = Config { workloads: workloads(), grpc, ..Config::default() };
        match Service::new(config, Arc::new(Nowhere), None).await {
            Ok(service) => return service,
            Err(_) => tokio::time::sleep(std::time::Duration::from_millis(50)).await,
        }
    }
    panic!("port {port} is not to be had");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_sleeps_is_woken_scaled_and_put_to_sleep_again() {
    let Some(python) = python::python_with_clients() else { return };
    support::http::install_cryptography();
    let mut service = service(None).await;
    let mut client = Client::start(&python, &[&service.grpc_address().expect("it listens").to_string()]);
    let mut keda = Keda::of(&mut client, "idle", 0, 0);
    service.tick(at(0), &facts(at(0), &[("idle", 0.0)])).await;
    assert_eq!(keda.round().await, 0);
    service.tick(at(15), &facts(at(15), &[("idle", 40.0)])).await;
    keda.poll().await;
    assert_eq!(keda.replicas, 1, "activation is KEDA's, from 0 to 1");
    keda.autoscale().await;
    assert_eq!(keda.replicas, 5, "and the rest the autoscaler's");
    for secs in (30..=900).step_by(15) {
        service.tick(at(secs), &facts(at(secs), &[("idle", 0.0)])).await;
    }
    assert_eq!(keda.round().await, 0, "nothing is wanted, and that is no failure");
    assert_eq!(keda.failures, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn while_we_are_gone_it_falls_back_and_with_our_return_it_recovers() {
    let Some(python) = python::python_with_clients() else { return };
    support::http::install_cryptography();
    let port = support::peer::free_port();
    let mut service = service_on(port).await;
    let mut client = Client::start(&python, &[&format!("127.0.0.1:{port}")]);
    let mut keda = Keda::of(&mut client, "shop", 2, 4);
    service.tick(at(0), &facts(at(0), &[("shop", 60.0)])).await;
    assert_eq!(keda.round().await, 8);

    drop(service);
    while keda.failures == 0 {
        keda.poll().await; // connections end when what is under way has been answered
    }
    assert_eq!(keda.round().await, 8, "below the threshold the autoscaler holds");
    assert_eq!(keda.failures, 2);
    assert_eq!(keda.round().await, 20, "static fallback");
    keda.replicas = 30;
    keda.if_higher = true;
    assert_eq!(keda.round().await, 30, "currentReplicasIfHigher takes nothing away");

    let mut service = service_on(port).await;
    keda.round().await;
    assert!(keda.failures > 3, "a start without a first round is no reason to trust us");
    service.tick(at(60), &facts(at(60), &[("shop", 60.0)])).await;
    while keda.failures > 0 {
        keda.poll().await; // the client of gRPC reconnects when it pleases
    }
    keda.autoscale().await;
    assert_eq!(keda.replicas, 8);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cached_metric_is_that_of_the_last_poll() {
    let Some(python) = python::python_with_clients() else { return };
    support::http::install_cryptography();
    let mut service = service(None).await;
    let mut client = Client::start(&python, &[&service.grpc_address().expect("it listens").to_string()]);
    let mut keda = Keda::of(&mut client, "shop", 1, 8);
    keda.cached = Some(None);
    service.tick(at(0), &facts(at(0), &[("shop", 60.0)])).await;
    assert_eq!(keda.round().await, 8);
    service.tick(at(15), &facts(at(15), &[("shop", 120.0)])).await;
    keda.autoscale().await;
    assert_eq!(keda.replicas, 8, "between two polls nobody asks us");
    assert!(keda.round().await > 8);
}

#[tokio::test(flavor = "multi_thread")]
async fn paused_by_keda_nobody_asks_and_paused_by_us_the_answer_holds_and_is_no_failure() {
    let Some(python) = python::python_with_clients() else { return };
    support::http::install_cryptography();
    let mut service = service(None).await;
    let mut client = Client::start(&python, &[&service.grpc_address().expect("it listens").to_string()]);
    let mut keda = Keda::of(&mut client, "shop", 1, 8);
    service.tick(at(0), &facts(at(0), &[("shop", 60.0)])).await;
    assert_eq!(keda.round().await, 8);

    keda.paused = true;
    service.tick(at(15), &facts(at(15), &[("shop", 120.0)])).await;
    assert_eq!(keda.round().await, 8);
    keda.paused = false;
    let after = keda.round().await;
    assert!(after > 8, "what was decided meanwhile is still told: {after}");

    let stop = Stop { direction: None, note: "load test".to_owned(), since: at(20), until: None };
    service.handle().stop(Some("shop"), stop);
    let surge = |secs| {
        let mut facts = facts(at(secs), &[("shop", 400.0)]);
        facts.workloads[0].replicas = Some(Observed { at: at(secs), value: f64::from(after) });
        facts
    };
    let held = service.tick(at(30), &surge(30)).await;
    let held = held.plan.of("shop").and_then(|decision| decision.to).expect("a decision");
    assert_eq!(keda.round().await, held);
    assert_eq!((keda.failures, held), (0, after), "a pause of ours is an answer, not an error that would fall back");
    service.handle().resume(Some("shop"));
    service.tick(at(45), &surge(45)).await;
    assert!(keda.round().await > held);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_stream_that_broke_tells_the_present_state_when_it_is_opened_again() {
    let Some(python) = python::python_with_clients() else { return };
    support::http::install_cryptography();
    let port = support::peer::free_port();
    let mut service = service_on(port).await;
    let mut client = Client::start(&python, &[&format!("127.0.0.1:{port}")]);
    service.tick(at(0), &facts(at(0), &[("idle", 0.0)])).await;
    client.say("StreamIsActive", "idle", json!({})).await;
    assert_eq!(client.hear().await["message"]["result"], false);
    drop(service);
    let broken = client.hear().await;
    assert!(broken["code"].is_string(), "the end of the stream is an error, not an activity: {broken}");

    let mut service = service_on(port).await;
    service.tick(at(15), &facts(at(15), &[("idle", 40.0)])).await;
    let opened = loop {
        client.say("StreamIsActive", "idle", json!({})).await;
        let heard = client.hear().await;
        if heard.get("message").is_some() {
            break heard;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    };
    assert_eq!(opened["message"]["result"], true, "at once, without waiting for a change");
}
