//! Receivers built from the public contracts of Slack's incoming webhooks and PagerDuty's Events API v2, and our own
//! signed webhook.

use std::collections::VecDeque;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Uri};
use axum::response::{IntoResponse, Response};
use bellwether_models::incident::{Incident, Said, Status};
use bellwether_models::outlook::Snapshot;
use bellwether_models::series::Labels;
use serde_json::{Value, json};
use tokio::sync::Notify;

use super::*;
use crate::actuate::{SeriesSink, SinkError};
use crate::config::Config;
use crate::history::Statement;
use crate::notify::config::{AlertWebhookConfig, PagerDutyConfig, SlackConfig};
use crate::service::Service;

struct Nowhere;

#[async_trait::async_trait]
impl SeriesSink for Nowhere {
    async fn write(&self, _: Timestamp, _: Vec<(Labels, f64)>) -> Result<(), SinkError> {
        Ok(())
    }
}

type Headers = Vec<(&'static str, String)>;

/// What a receiver was sent, and what it answers next: 202 when nothing else was asked for.
#[derive(Default)]
struct Book {
    got: Mutex<Vec<(String, HeaderMap, String)>>,
    answers: Mutex<VecDeque<(u16, Headers)>>,
    gate: Option<Notify>,
}

#[derive(Clone)]
struct Receiver {
    url: String,
    book: Arc<Book>,
}

impl Receiver {
    async fn start() -> Self {
        Self::with(Book::default()).await
    }

    async fn with(book: Book) -> Self {
        let book = Arc::new(book);
        let app = Router::new().fallback(receive).with_state(book.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { url, book }
    }

    fn answers_next(&self, status: u16, headers: &[(&'static str, String)]) {
        locked(&self.book.answers).push_back((status, headers.to_vec()));
    }

    fn bodies(&self) -> Vec<Value> {
        locked(&self.book.got).iter().map(|(_, _, body)| serde_json::from_str(body).expect("json")).collect()
    }
}

async fn receive(State(book): State<Arc<Book>>, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    locked(&book.got).push((uri.path().to_owned(), headers, String::from_utf8_lossy(&body).into_owned()));
    if let Some(gate) = &book.gate {
        gate.notified().await;
    }
    let (status, extra) = locked(&book.answers).pop_front().unwrap_or((202, Vec::new()));
    let mut answer = (StatusCode::from_u16(status).expect("a status"), "ok").into_response();
    for (name, value) in extra {
        answer.headers_mut().insert(name, value.parse().expect("a header"));
    }
    answer
}

fn at(secs: i64) -> Timestamp {
    Timestamp::from_secs(1_700_000_000 + secs)
}

fn incident(id: &str) -> Incident {
    let cause = json!({ "service": "db", "metric": "cpu", "score": 9.0, "summary": "cpu of db rose.", "doubt": "", "evidence": [] });
    let text = json!({
        "id": id, "workload": "shop", "services": ["shop"], "severity": "critical", "status": "open", "onset": at(0),
        "opened_at": at(0), "updated_at": at(0), "resolved_at": null, "merged_into": null, "anomalies": [],
        "ranking": { "causes": [cause], "metrics": [], "confidence": 0.9, "abstained": null }
    });
    serde_json::from_value(text).expect("an incident")
}

fn facts(incidents: &[Incident]) -> Snapshot {
    Snapshot { incidents: incidents.to_vec(), ..Snapshot::default() }
}

fn loopback() -> AlertsConfig {
    AlertsConfig { allowed_networks: vec!["127.0.0.1/32".parse().expect("a network")], ..AlertsConfig::default() }
}

fn webhook(name: &str, url: &str) -> AlertWebhookConfig {
    AlertWebhookConfig { name: name.to_owned(), url: url.to_owned(), secret_file: None }
}

async fn service(alerts: AlertsConfig, dir: &Path) -> Service {
    let config = Config { alerts, ..Config::default() };
    Service::new(config, Arc::new(Nowhere), Some(dir.to_owned())).await.expect("it starts")
}

fn file(dir: &Path, name: &str, text: &str) -> std::path::PathBuf {
    let path = dir.join(name);
    std::fs::write(&path, text).expect("written");
    path
}

#[tokio::test]
async fn one_incident_goes_to_every_kind_of_receiver_through_its_whole_life() {
    let dir = tempfile::tempdir().expect("a directory");
    let (hook, chat, pager) = (Receiver::start().await, Receiver::start().await, Receiver::start().await);
    let signed = AlertWebhookConfig {
        secret_file: Some(file(dir.path(), "secret", "swordfish\n")),
        ..webhook("own", &format!("{}/hook", hook.url))
    };
    let url_file = file(dir.path(), "chat", &format!("{}/services/T0/B0/x\n", chat.url));
    let routing_key_file = file(dir.path(), "key", "R0UT1NG\n");
    let alerts = AlertsConfig {
        webhooks: vec![signed],
        slack: vec![SlackConfig { name: "ops".to_owned(), url_file }],
        pagerduty: vec![PagerDutyConfig { name: "on-call".to_owned(), routing_key_file, url: pager.url.clone() }],
        ..loopback()
    };
    let mut service = service(alerts, dir.path()).await;
    service.tick(at(0), &facts(&[incident("i-1")])).await;
    service.settle().await;
    let kim = Statement { by: "kim".to_owned(), at: at(5), note: String::new() };
    service.handle().say("i-1", Said::Acknowledged, kim).expect("noted");
    service.tick(at(15), &facts(&[incident("i-1")])).await;
    service.settle().await;
    let over = Incident { status: Status::Resolved, resolved_at: Some(at(30)), ..incident("i-1") };
    service.tick(at(30), &facts(&[over])).await;
    service.settle().await;

    let states: Vec<Value> = hook.bodies().iter().map(|body| body["state"].clone()).collect();
    assert_eq!(states, ["firing", "acknowledged", "resolved"]);
    let (path, headers, body) = locked(&hook.book.got)[0].clone();
    assert_eq!((path.as_str(), &headers["bellwether-timestamp"]), ("/hook", &"1700000000".parse().expect("a header")));
    assert_eq!(headers["bellwether-signature"], format!("v1={}", signature(b"swordfish", "1700000000", &body)));

    let events: Vec<_> = pager.bodies().iter().map(|event| event["event_action"].clone()).collect();
    assert_eq!(events, ["trigger", "acknowledge", "resolve"]);
    assert!(pager.bodies().iter().all(|event| event["routing_key"] == "R0UT1NG" && event["dedup_key"] == "i-1"));
    assert_eq!(locked(&pager.book.got)[0].0, "/v2/enqueue");

    let texts = chat.bodies();
    assert_eq!(texts.len(), 3);
    assert!(texts[0]["text"].as_str().is_some_and(|text| text.starts_with("[critical] shop is ill")));
    assert!(texts[1].to_string().contains("looked after by kim"));
    let kept = std::fs::read_to_string(dir.path().join("notices.json")).expect("kept");
    assert!(!kept.contains("R0UT1NG") && !kept.contains("/services/"), "no secret is written down");
}

#[tokio::test]
async fn a_receiver_within_is_dialled_only_when_its_network_is_named() {
    let dir = tempfile::tempdir().expect("a directory");
    let receiver = Receiver::start().await;
    let hidden = receiver.url.replace("127.0.0.1", "localhost");
    for (name, url, named, arrives) in [
        ("address", &receiver.url, false, false),
        ("name", &hidden, false, false),
        ("address-named", &receiver.url, true, true),
    ] {
        let base = if named { loopback() } else { AlertsConfig::default() };
        let mut service = service(AlertsConfig { webhooks: vec![webhook(name, url)], ..base }, dir.path()).await;
        service.tick(at(0), &facts(&[incident(name)])).await;
        service.settle().await;
        assert_eq!(!receiver.bodies().is_empty(), arrives, "{name}");
    }
}

#[tokio::test]
async fn a_redirect_is_looked_at_like_any_other_address() {
    let dir = tempfile::tempdir().expect("a directory");
    let (front, back) = (Receiver::start().await, Receiver::start().await);
    let elsewhere = back.url.replace("127.0.0.1", "127.0.0.2"); // loopback too, but not named
    let alerts = AlertsConfig { webhooks: vec![webhook("front", &front.url)], ..loopback() };
    let mut service = service(alerts, dir.path()).await;
    front.answers_next(307, &[("location", format!("{elsewhere}/inner"))]);
    service.tick(at(0), &facts(&[incident("i-1")])).await;
    service.settle().await;
    assert!(back.bodies().is_empty(), "an address that was not named");
    front.answers_next(302, &[("location", format!("{}/moved", back.url))]);
    service.tick(at(60), &facts(&[incident("i-1")])).await;
    service.settle().await;
    assert!(back.bodies().is_empty(), "a redirect that would drop the notice");
    front.answers_next(307, &[("location", format!("{}/moved", back.url))]);
    service.tick(at(120), &facts(&[incident("i-1")])).await;
    service.settle().await;
    assert_eq!(back.bodies()[0]["id"], "i-1");
    assert_eq!(front.bodies().len(), 3);
}

#[tokio::test]
async fn a_receiver_that_does_not_answer_holds_up_neither_the_round_nor_another_receiver() {
    let dir = tempfile::tempdir().expect("a directory");
    let slow = Receiver::with(Book { gate: Some(Notify::new()), ..Book::default() }).await;
    let quick = Receiver::start().await;
    let webhooks = vec![webhook("slow", &slow.url), webhook("quick", &quick.url)];
    let timeout = Duration::from_secs(600); // a round that waited for the answer would wait for this
    let mut service = service(AlertsConfig { webhooks, timeout, ..loopback() }, dir.path()).await;
    service.tick(at(0), &facts(&[incident("i-1")])).await;
    service.tick(at(15), &facts(&[incident("i-1"), incident("i-2")])).await;
    while quick.bodies().len() < 2 || slow.bodies().is_empty() {
        tokio::task::yield_now().await;
    }
    assert_eq!(slow.bodies().len(), 1, "one request at a time");
    slow.book.gate.as_ref().expect("a gate").notify_one();
    while slow.bodies().len() < 2 {
        tokio::task::yield_now().await;
    }
    slow.book.gate.as_ref().expect("a gate").notify_one();
    service.settle().await;
    let ids: Vec<Value> = slow.bodies().iter().map(|body| body["id"].clone()).collect();
    assert_eq!(ids, ["i-1", "i-2"]);
}

#[tokio::test]
async fn what_was_not_delivered_before_a_restart_is_delivered_after_it_and_nothing_twice() {
    let dir = tempfile::tempdir().expect("a directory");
    let (up, down) = (Receiver::start().await, Receiver::start().await);
    let webhooks = vec![webhook("up", &up.url), webhook("down", &down.url)];
    let alerts = AlertsConfig { webhooks, ..loopback() };
    down.answers_next(503, &[]);
    let mut before = service(alerts.clone(), dir.path()).await;
    before.tick(at(0), &facts(&[incident("i-1")])).await;
    before.settle().await;
    drop(before);
    let mut after = service(alerts, dir.path()).await;
    after.tick(at(30), &facts(&[incident("i-1")])).await;
    after.settle().await;
    assert_eq!((up.bodies().len(), down.bodies().len()), (1, 2));
}

#[tokio::test]
async fn a_receiver_that_asks_for_time_is_left_alone_for_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let busy = Receiver::start().await;
    let mut service =
        service(AlertsConfig { webhooks: vec![webhook("busy", &busy.url)], ..loopback() }, dir.path()).await;
    busy.answers_next(429, &[("retry-after", "100".to_owned())]);
    for secs in [0, 50, 99, 100, 150] {
        service.tick(at(secs), &facts(&[incident("i-1")])).await;
        service.settle().await;
        assert_eq!(busy.bodies().len(), if secs < 100 { 1 } else { 2 }, "{secs}");
    }
}
