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
