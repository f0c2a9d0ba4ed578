//! Incidents as the real Alertmanager sees them: shown, kept alive, resolved.

mod support;

use std::sync::Arc;
use std::time::Duration;

use bellwether_models::incident::{Incident, Status};
use bellwether_models::outlook::Snapshot;
use bellwether_models::series::{Labels, Timestamp};
use bellwether_scheduler::actuate::{SeriesSink, SinkError};
use bellwether_scheduler::{AlertsConfig, Config, Service};
use serde_json::{Value, json};
use support::{Peer, Program, require_peer};

/// Forgets a firing alert that is not repeated for five seconds.
const CONFIG: &str = "
global: { resolve_timeout: 5s }
route: { receiver: none, group_wait: 1s }
receivers: [{ name: none }]
";

struct Nowhere;

#[async_trait::async_trait]
impl SeriesSink for Nowhere {
    async fn write(&self, _: Timestamp, _: Vec<(Labels, f64)>) -> Result<(), SinkError> {
        Ok(())
    }
}

fn now() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    Timestamp::from_millis(i64::try_from(since.as_millis()).expect("before the year 292 million"))
}

fn incident(onset: Timestamp) -> Incident {
    let cause = json!({
        "service": "cart-db", "metric": "latency", "score": 9.1, "summary": "latency rose from 12 ms to 480 ms",
        "doubt": "", "evidence": [{ "kind": "shift", "before": 0.012, "after": 0.48, "sigmas": 31.0 }]
    });
    let incident = json!({
        "id": "shop-1", "workload": "shop", "services": ["shop", "cart-db"], "severity": "critical", "status": "open",
        "onset": onset, "opened_at": onset, "updated_at": onset, "resolved_at": null, "merged_into": null,
        "anomalies": [], "ranking": { "causes": [cause], "metrics": [], "confidence": 0.9, "abstained": null }
    });
    serde_json::from_value(incident).expect("an incident")
}

fn facts(incidents: Vec<Incident>) -> Snapshot {
    Snapshot { made_at: now(), incidents, ..Snapshot::default() }
}

async fn service(alertmanagers: &[&Peer], state: &tempfile::TempDir) -> Service {
    let config = Config {
        alerts: AlertsConfig {
            alertmanagers: alertmanagers.iter().map(|peer| peer.url("")).collect(),
            resend_interval: Duration::from_secs(1),
            external_url: Some("http://bellwether.example:9494".to_owned()),
            ..AlertsConfig::default()
        },
        ..Config::default()
    };
    Service::new(config, Arc::new(Nowhere), Some(state.path().into())).await.expect("the scheduler starts")
}

/// Alerts that Alertmanager holds for active.
async fn active(alertmanager: &Peer) -> Vec<Value> {
    let answer = reqwest::get(alertmanager.url("/api/v2/alerts?active=true")).await.expect("alertmanager answers");
    answer.json().await.expect("a list of alerts")
}

/// Polls until `wanted` alerts are active.
async fn until(alertmanager: &Peer, wanted: usize) -> Vec<Value> {
    for _ in 0..300 {
        let alerts = active(alertmanager).await;
        if alerts.len() == wanted {
            return alerts;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("alertmanager never had {wanted} active alerts, but {:?}", active(alertmanager).await);
}

#[tokio::test]
async fn alertmanager_shows_an_incident_keeps_it_while_it_is_repeated_and_sees_its_end() {
    require_peer!(Program::Alertmanager);
    let (alertmanager, state) = (Peer::alertmanager(CONFIG), tempfile::tempdir().expect("a directory"));
    let mut service = service(&[&alertmanager], &state).await;
    let onset = now();
    service.tick(now(), &facts(vec![incident(onset)])).await;

    let shown = until(&alertmanager, 1).await.remove(0);
    assert_eq!(shown["labels"]["alertname"], "BellwetherIncident");
    assert_eq!(shown["labels"]["workload"], "shop");
    assert_eq!(shown["annotations"]["cause_1"], "cart-db (latency): latency rose from 12 ms to 480 ms");
    assert_eq!(shown["generatorURL"], "http://bellwether.example:9494/incidents/shop-1");

    // Longer than its resolve_timeout: only our repeats keep it alive.
    for _ in 0..14 {
        tokio::time::sleep(Duration::from_millis(500)).await;
        service.tick(now(), &facts(vec![incident(onset)])).await;
        let alerts = active(&alertmanager).await;
        assert_eq!(alerts.len(), 1, "kept alive");
        assert_eq!(alerts[0]["fingerprint"], shown["fingerprint"], "and the same one");
    }

    let over = Incident { status: Status::Resolved, resolved_at: Some(now()), updated_at: now(), ..incident(onset) };
    service.tick(now(), &facts(vec![over])).await;
    until(&alertmanager, 0).await;
}

#[tokio::test]
async fn an_alert_nobody_repeats_runs_out() {
    require_peer!(Program::Alertmanager);
    let (alertmanager, state) = (Peer::alertmanager(CONFIG), tempfile::tempdir().expect("a directory"));
    service(&[&alertmanager], &state).await.tick(now(), &facts(vec![incident(now())])).await;
    until(&alertmanager, 1).await;
    until(&alertmanager, 0).await;
}

#[tokio::test]
async fn what_ended_while_we_were_down_is_ended_at_every_member_after_the_restart() {
    require_peer!(Program::Alertmanager);
    let patient = CONFIG.replace("resolve_timeout: 5s", "resolve_timeout: 1h");
    let members = [Peer::alertmanager(&patient), Peer::alertmanager(&patient)];
    let state = tempfile::tempdir().expect("a directory");
    let onset = now();
    service(&[&members[0], &members[1]], &state).await.tick(now(), &facts(vec![incident(onset)])).await;
    for member in &members {
        until(member, 1).await;
    }
    let mut restarted = service(&[&members[0], &members[1]], &state).await;
    restarted.tick(now(), &facts(Vec::new())).await;
    for member in &members {
        until(member, 0).await;
    }
}

/// What Alertmanager's own receiver was sent: the status of each group of alerts, in order.
#[derive(Clone, Default)]
struct Told(Arc<std::sync::Mutex<Vec<String>>>);

impl Told {
    async fn start() -> (Self, String) {
        let told = Self::default();
        let kept = told.clone();
        let take = move |axum::Json(body): axum::Json<Value>| async move {
            let status = body["status"].as_str().unwrap_or_default().to_owned();
            kept.0.lock().expect("no panic").push(status);
        };
        let url = support::http::serve(axum::Router::new().fallback(axum::routing::post(take))).await;
        (told, url)
    }

    fn words(&self) -> Vec<String> {
        self.0.lock().expect("no panic").clone()
    }

    async fn until(&self, words: &[&str]) {
        for _ in 0..300 {
            if self.words() == words {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("the receiver never heard {words:?}, but {:?}", self.words());
    }
}

/// Tells a receiver at once, and forgets nothing that is not repeated for an hour.
fn telling(url: &str, more: &str) -> String {
    format!(
        "global: {{ resolve_timeout: 1h }}\nroute: {{ receiver: hook, group_wait: 100ms, group_interval: 200ms, \
         repeat_interval: 1h }}\nreceivers: [{{ name: hook, webhook_configs: [{{ url: '{url}' }}] }}]\n{more}"
    )
}

/// State and reasons of the one alert of ours that Alertmanager holds.
async fn held(alertmanager: &Peer) -> Option<Value> {
    let url = alertmanager.url("/api/v2/alerts?filter=alertname%3D%22BellwetherIncident%22");
    let found: Vec<Value> = reqwest::get(url).await.ok()?.json().await.ok()?;
    found.into_iter().next().map(|alert| alert["status"].clone())
}

async fn until_held(alertmanager: &Peer, what: &str, holds: impl Fn(&Value) -> bool) {
    for _ in 0..300 {
        if held(alertmanager).await.is_some_and(|status| holds(&status)) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("never {what}: {:?}", held(alertmanager).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_silenced_stays_silent_through_its_restart_and_ours_and_its_end_is_heard() {
    require_peer!(Program::Alertmanager);
    let (told, url) = Told::start().await;
    let (mut alertmanager, state) = (Peer::alertmanager(&telling(&url, "")), tempfile::tempdir().expect("a directory"));
    let onset = now();
    let mut first = service(&[&alertmanager], &state).await;
    first.tick(now(), &facts(vec![incident(onset)])).await;
    told.until(&["firing"]).await;

    let silence = json!({
        "matchers": [{ "name": "incident", "value": "shop-1", "isRegex": false }], "createdBy": "kim", "comment": "on it",
        "startsAt": jiff::Timestamp::now().to_string(),
        "endsAt": (jiff::Timestamp::now() + jiff::SignedDuration::from_hours(1)).to_string(),
    });
    let client = support::http::client();
    let answer = client.post(alertmanager.url("/api/v2/silences")).json(&silence).send().await.expect("an answer");
    assert!(answer.status().is_success(), "{}", answer.text().await.unwrap_or_default());
    until_held(&alertmanager, "silenced", |status| status["state"] == "suppressed").await;

    tokio::task::block_in_place(|| alertmanager.restart());
    assert!(active(&alertmanager).await.is_empty(), "its alerts are gone with its memory");
    tokio::time::sleep(Duration::from_millis(1100)).await; // our interval of repetition
    first.tick(now(), &facts(vec![incident(onset)])).await;
    until_held(&alertmanager, "silenced again", |status| status["state"] == "suppressed").await;

    first.settle().await;
    drop(first);
    let mut second = service(&[&alertmanager], &state).await;
    for _ in 0..4 {
        second.tick(now(), &facts(vec![incident(onset)])).await;
        second.settle().await;
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    assert_eq!(told.words(), ["firing"], "nobody heard of what was silenced");

    let silences: Value =
        client.get(alertmanager.url("/api/v2/silences")).send().await.expect("an answer").json().await.expect("json");
    let id = silences[0]["id"].as_str().expect("the silence").to_owned();
    client.delete(alertmanager.url(&format!("/api/v2/silence/{id}"))).send().await.expect("an answer");
    until_held(&alertmanager, "heard again", |status| status["state"] == "active").await;
    let over = Incident { status: Status::Resolved, resolved_at: Some(now()), updated_at: now(), ..incident(onset) };
    second.tick(now(), &facts(vec![over])).await;
    for _ in 0..300 {
        if told.words().last().is_some_and(|word| word == "resolved") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(told.words().iter().filter(|word| *word == "resolved").count(), 1, "{:?}", told.words());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_incident_that_another_alert_inhibits_is_told_once_that_is_over() {
    require_peer!(Program::Alertmanager);
    let (told, url) = Told::start().await;
    let rule = "inhibit_rules: [{ source_matchers: ['alertname=\"ClusterDown\"'], target_matchers: ['alertname=\"BellwetherIncident\"'] }]\n";
    let (alertmanager, state) = (Peer::alertmanager(&telling(&url, rule)), tempfile::tempdir().expect("a directory"));
    let client = support::http::client();
    let post = async |alert: Value| {
        let answer = client.post(alertmanager.url("/api/v2/alerts")).json(&json!([alert])).send().await;
        assert!(answer.expect("an answer").status().is_success());
    };
    post(json!({ "labels": { "alertname": "ClusterDown" } })).await;
    told.until(&["firing"]).await;
    let mut service = service(&[&alertmanager], &state).await;
    let onset = now();
    service.tick(now(), &facts(vec![incident(onset)])).await;
    until_held(&alertmanager, "inhibited", |status| {
        status["state"] == "suppressed" && status["inhibitedBy"].as_array().is_some_and(|by| !by.is_empty())
    })
    .await;
    post(json!({ "labels": { "alertname": "ClusterDown" }, "endsAt": jiff::Timestamp::now().to_string() })).await;
    until_held(&alertmanager, "told", |status| status["state"] == "active").await;
    for _ in 0..300 {
        if told.words().iter().filter(|word| *word == "firing").count() >= 2 {
            return;
        }
        service.tick(now(), &facts(vec![incident(onset)])).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("nobody was told: {:?}", told.words());
}
