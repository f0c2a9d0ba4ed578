use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use bellwether_models::outlook::{Foresight, Observed, Outlook, Running};
use bellwether_models::series::Labels;
use serde_json::json;

use super::*;
use crate::actuate::webhook::Webhook;
use crate::actuate::{Actuator, Applied, Effect, SinkError};
use crate::config::{ActuatorConfig, Mode, ScaleConfig, WebhookConfig, Workload};
use crate::guard::Stop;
use crate::plan::Direction;

/// Keeps what is written.
#[derive(Default)]
struct Memory(Mutex<Vec<(Labels, f64)>>);

#[async_trait::async_trait]
impl SeriesSink for Memory {
    async fn write(&self, _: Timestamp, values: Vec<(Labels, f64)>) -> Result<(), SinkError> {
        self.0.lock().expect("no panic").extend(values);
        Ok(())
    }
}

/// A receiver that answers with a settable status and keeps what it got.
struct Receiver {
    url: String,
    status: Arc<AtomicU16>,
    got: Arc<Mutex<Vec<(HeaderMap, serde_json::Value)>>>,
}

impl Receiver {
    async fn start(path: &str) -> Self {
        let (status, got) = (Arc::new(AtomicU16::new(200)), Arc::new(Mutex::new(Vec::new())));
        let (answer, kept) = (status.clone(), got.clone());
        let handler = move |headers: HeaderMap, body: Bytes| async move {
            kept.lock().expect("no panic").push((headers, serde_json::from_slice(&body).expect("json")));
            StatusCode::from_u16(answer.load(Ordering::SeqCst)).expect("a status")
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let app = Router::new().route(path, post(handler));
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { url, status, got }
    }

    fn got(&self) -> Vec<(HeaderMap, serde_json::Value)> {
        self.got.lock().expect("no panic").clone()
    }
}

fn at(secs: i64) -> Timestamp {
    Timestamp::from_secs(1_700_000_000 + secs)
}

fn facts(now: Timestamp, demand: f64, replicas: f64) -> Snapshot {
    let outlook = Outlook {
        workload: "shop".to_owned(),
        made_at: now,
        demand: Some(Observed { at: now, value: demand }),
        replicas: Some(Observed { at: now, value: replicas }),
        foresight: Foresight::Abstained { reason: "too few observations".to_owned() },
        model: bellwether_models::outlook::ModelRef::default(),
        anomalies: Vec::new(),
        running: Running::default(),
    };
    Snapshot { made_at: now, workloads: vec![outlook], ..Snapshot::default() }
}

fn acting(webhook: WebhookConfig) -> Config {
    let scale = ScaleConfig {
        mode: Mode::Act,
        capacity_per_replica: 10.0.try_into().ok(),
        max: 50,
        actuator: Some(ActuatorConfig::Webhook(webhook)),
        ..ScaleConfig::default()
    };
    Config {
        workloads: vec![Workload { name: "shop".to_owned(), depends_on: Vec::new(), scale }],
        allowed_networks: vec!["127.0.0.1/32".parse().expect("a network")],
        ..Config::default()
    }
}

fn webhook(receiver: &Receiver) -> WebhookConfig {
    WebhookConfig { url: format!("{}/scale", receiver.url), secret_file: None, timeout: Duration::from_secs(5) }
}

async fn service(config: Config, dir: Option<&std::path::Path>) -> (Service, Arc<Memory>) {
    let sink = Arc::new(Memory::default());
    let service = Service::new(config, sink.clone(), dir.map(Into::into)).await.expect("it starts");
    (service, sink)
}

#[tokio::test]
async fn a_change_is_posted_once_and_recorded_with_its_outcome() {
    let receiver = Receiver::start("/scale").await;
    let (mut service, sink) = service(acting(webhook(&receiver)), None).await;
    for secs in [0, 15, 30] {
        service.tick(at(secs), &facts(at(secs), 60.0, 4.0)).await;
    }
    let got = receiver.got();
    assert_eq!(got.len(), 1, "deciding the same again posts nothing");
    assert_eq!(got[0].1["replicas"], 8);
    assert_eq!(got[0].1["from"], 4);
    let record = service.handle().decision(got[0].1["id"].as_str().expect("an id")).expect("on record");
    assert_eq!(record.attempts[0].applied, Some(Applied::Accepted));
    let written = sink.0.lock().expect("no panic");
    assert!(
        written.iter().any(|(l, v)| l.to_string() == r#"bellwether_desired_replicas{workload="shop"}"# && *v == 8.0)
    );
}

#[tokio::test]
async fn what_fails_is_tried_again_after_a_wait_under_the_same_key() {
    let receiver = Receiver::start("/scale").await;
    let (mut service, _) = service(acting(webhook(&receiver)), None).await;
    receiver.status.store(503, Ordering::SeqCst);
    service.tick(at(0), &facts(at(0), 60.0, 4.0)).await;
    service.tick(at(1), &facts(at(1), 60.0, 4.0)).await;
    service.tick(at(2), &facts(at(2), 60.0, 4.0)).await; // the wait is 2 s now
    receiver.status.store(200, Ordering::SeqCst);
    service.tick(at(3), &facts(at(3), 60.0, 4.0)).await;
    service.tick(at(60), &facts(at(60), 60.0, 4.0)).await;
    let keys: Vec<String> =
        receiver.got().iter().map(|(h, _)| h["idempotency-key"].to_str().expect("text").to_owned()).collect();
    assert_eq!(keys, ["shop-1700000000000"; 3]);
    let record = service.handle().decision("shop-1700000000000").expect("on record");
    let failed: Vec<bool> = record.attempts.iter().map(|a| a.error.is_some()).collect();
    assert_eq!(failed, [true, true, false]);
}

#[tokio::test]
async fn a_retry_outlives_another_configuration_that_carries_it_out_alike_and_no_other() {
    let receiver = Receiver::start("/scale").await;
    let same = acting(webhook(&receiver));
    let mut with_another = same.clone();
    let found = Workload { name: "found".to_owned(), depends_on: Vec::new(), scale: ScaleConfig::default() };
    with_another.workloads.push(found);
    let patient = WebhookConfig { timeout: Duration::from_secs(6), ..webhook(&receiver) };
    let mut lower = same.clone();
    lower.workloads[0].scale.max = 40;
    for (other, posted) in [(with_another, 2), (acting(patient), 1), (lower, 1), (Config::default(), 1)] {
        let before = receiver.got().len();
        let (mut service, _) = service(same.clone(), None).await;
        receiver.status.store(503, Ordering::SeqCst);
        service.tick(at(0), &facts(at(0), 60.0, 4.0)).await;
        receiver.status.store(200, Ordering::SeqCst);
        service.reconfigure(other).expect("it is taken on");
        service.tick(at(5), &facts(at(5), 60.0, 4.0)).await;
        assert_eq!(receiver.got().len() - before, posted);
    }
}

#[tokio::test]
async fn a_request_the_receiver_finds_fault_with_is_not_repeated() {
    let receiver = Receiver::start("/scale").await;
    let (mut service, _) = service(acting(webhook(&receiver)), None).await;
    receiver.status.store(422, Ordering::SeqCst);
    for secs in [0, 10, 100] {
        service.tick(at(secs), &facts(at(secs), 60.0, 4.0)).await;
    }
    assert_eq!(receiver.got().len(), 1);
}

#[tokio::test]
async fn the_signature_covers_time_and_body() {
    let receiver = Receiver::start("/scale").await;
    let dir = tempfile::tempdir().expect("a directory");
    let key = dir.path().join("key");
    std::fs::write(&key, "swordfish\n").expect("written");
    let config = WebhookConfig { secret_file: Some(key), ..webhook(&receiver) };
    let (mut service, _) = service(acting(config), None).await;
    service.tick(at(0), &facts(at(0), 60.0, 4.0)).await;
    let (headers, _) = &receiver.got()[0];
    assert_eq!(headers["bellwether-timestamp"], "1700000000");
    assert!(headers["bellwether-signature"].to_str().expect("text").starts_with("v1="));
}

#[tokio::test]
async fn a_dry_run_says_so_and_a_missing_key_sends_nothing() {
    let receiver = Receiver::start("/scale").await;
    let (mut other, _) = service(acting(webhook(&receiver)), None).await;
    let plan = other.tick(at(0), &facts(at(0), 60.0, 4.0)).await.plan.clone();
    let client = http_client().expect("a client");
    let here: Vec<ipnet::IpNet> = vec!["127.0.0.1/32".parse().expect("a network")];
    let allowed = Webhook::new(webhook(&receiver), client.clone(), here.clone());
    let outcome = allowed.apply(&plan.decisions[0], Effect::DryRun, at(0)).await;
    assert_eq!(outcome.expect("accepted"), Applied::WouldApply);
    assert_eq!(receiver.got()[1].1["dry_run"], true);
    let keyless = WebhookConfig { secret_file: Some("/nowhere/key".into()), ..webhook(&receiver) };
    let outcome = Webhook::new(keyless, client.clone(), here).apply(&plan.decisions[0], Effect::Real, at(0)).await;
    assert!(outcome.expect_err("no key").to_string().contains("/nowhere/key"));
    let outcome =
        Webhook::new(webhook(&receiver), client, Vec::new()).apply(&plan.decisions[0], Effect::Real, at(0)).await;
    let refused = outcome.expect_err("an address within");
    assert!(!refused.is_transient() && refused.to_string().contains("allowed_networks"), "{refused}");
    assert_eq!(receiver.got().len(), 2);
}

#[tokio::test]
async fn a_shadow_posts_nothing() {
    let receiver = Receiver::start("/scale").await;
    let mut config = acting(webhook(&receiver));
    config.workloads[0].scale.mode = Mode::Shadow;
    let (mut service, _) = service(config, None).await;
    let view = service.tick(at(0), &facts(at(0), 60.0, 4.0)).await;
    assert_eq!(view.plan.decisions[0].to, Some(8));
    assert!(receiver.got().is_empty());
}

#[tokio::test]
async fn a_freeze_holds_over_a_restart_until_it_is_lifted() {
    let dir = tempfile::tempdir().expect("a directory");
    let receiver = Receiver::start("/scale").await;
    let config = acting(webhook(&receiver));
    let (first, _) = service(config.clone(), Some(dir.path())).await;
    first.handle().stop(None, Stop { direction: None, note: "game day".to_owned(), since: at(0), until: None });
    drop(first);
    let (mut second, _) = service(config, Some(dir.path())).await;
    let view = second.tick(at(0), &facts(at(0), 60.0, 4.0)).await;
    assert_eq!(view.plan.decisions[0].to, Some(4), "{}", view.plan.decisions[0]);
    second.handle().resume(None);
    let view = second.tick(at(15), &facts(at(15), 60.0, 4.0)).await;
    assert_eq!(view.plan.decisions[0].to, Some(8));
}

#[tokio::test]
async fn a_decision_is_explained_after_a_restart() {
    let dir = tempfile::tempdir().expect("a directory");
    let receiver = Receiver::start("/scale").await;
    let (mut first, _) = service(acting(webhook(&receiver)), Some(dir.path())).await;
    let made = first.tick(at(0), &facts(at(0), 60.0, 4.0)).await.plan.decisions[0].clone();
    drop(first);
    let (second, _) = service(acting(webhook(&receiver)), Some(dir.path())).await;
    let found = second.handle().decision(&made.id).expect("on record");
    assert_eq!(found.decision, made);
    assert_eq!(found.attempts.len(), 1);
}

#[tokio::test]
async fn damaged_state_is_named() {
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::write(dir.path().join("control.json"), "{").expect("written");
    let sink = Arc::new(Memory::default());
    let error = Service::new(Config::default(), sink, Some(dir.path().into())).await.err().expect("refused");
    let source = std::error::Error::source(&error).expect("a source").to_string();
    assert!(source.contains("control.json is damaged"), "{source}");
}

#[tokio::test]
async fn contradicting_settings_are_refused_with_the_workloads_name() {
    let mut config = acting(WebhookConfig { url: String::new(), secret_file: None, timeout: Duration::from_secs(1) });
    config.workloads[0].scale.min = 99;
    let sink = Arc::new(Memory::default());
    let error = Service::new(config, sink, None).await.err().expect("refused");
    assert_eq!(error.to_string(), "workload shop cannot be scaled as configured");
}

#[test]
fn a_stop_is_written_as_people_read_it() {
    let stop = Stop { direction: Some(Direction::Up), note: "cost".to_owned(), since: at(0), until: None };
    let text = serde_json::to_string(&stop).expect("json");
    assert_eq!(text, r#"{"direction":"up","note":"cost","since":1700000000000}"#);
}

#[tokio::test]
async fn a_backend_that_is_being_drained_stays_configured_until_that_is_over() {
    let reroute = |names: &[&str]| {
        let backend = |name: &&str| json!({ "name": name, "load": "a", "capacity": 100.0 });
        let backends: Vec<_> = names.iter().map(backend).collect();
        let reroute: RerouteConfig = serde_json::from_value(json!({ "backends": backends })).expect("a configuration");
        Config { reroute, ..Config::default() }
    };
    let (mut service, _) = service(reroute(&["s1", "s2"]), None).await;
    let seen = |name: &str| {
        json!({ "workload": name, "made_at": at(0), "demand": { "at": at(0), "value": 10.0 }, "replicas": null,
            "anomalies": [], "foresight": { "kind": "abstained", "reason": "too short" } })
    };
    let facts = json!({ "made_at": at(0), "workloads": [], "incidents": [], "backends": [seen("s1"), seen("s2")] });
    let facts: Snapshot = serde_json::from_value(facts).expect("a snapshot");
    let (until, by) = (at(3600), "kim".to_owned());
    let order = drain::Order { backend: "s1".to_owned(), until, within: None, by, reason: String::new() };
    service.handle().drain(order, &facts, &reroute(&["s1", "s2"]).reroute, at(0)).expect("it can be spared");
    let refused = service.reconfigure(reroute(&["s2"])).expect_err("it would stay out of service");
    assert!(refused.to_string().contains("\"s1\"") && refused.to_string().contains("undrain it first"), "{refused}");
    service.reconfigure(reroute(&["s1"])).expect("the other may go");
    service.handle().undrain("s1", "kim", at(1)).expect("it was being drained");
    service.reconfigure(reroute(&["s2"])).expect("now it may go too");
}
