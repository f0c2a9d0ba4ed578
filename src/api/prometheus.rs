//! What clients of Prometheus ask beside queries: targets, rules, alerts, and the server's own state, in its forms.
//!
//! Rules and alerts are what is true here: each workload is watched by one detector, shown as an alerting rule over its
//! symptoms, and fires while an incident of it is open. The alerts are those that Alertmanager gets.

use std::collections::BTreeMap;

use axum::extract::{Query, State};
use axum::routing::get;
use axum::{Json, Router};
use bellwether_collector::query;
use bellwether_collector::source::moment::Moment;
use bellwether_collector::source::scrape::{Health, TargetStatus};
use bellwether_models::duration;
use bellwether_models::incident::{Incident, Status};
use bellwether_models::outlook::Snapshot;
use bellwether_models::series::Timestamp;
use bellwether_scheduler::notify::alert::{ALERT_NAME, Alert};
use serde::Deserialize;
use serde_json::{Value, json};

use super::Faces;
use crate::config::{Config, WorkloadConfig};

/// `/api/v1/{targets,scrape_pools,rules,alerts,alertmanagers}`, `/api/v1/targets/metadata` and
/// `/api/v1/status/{config,flags,runtimeinfo,walreplay}`.
pub fn router(faces: Faces) -> Router {
    let started = (faces.clock)();
    Router::new()
        .route("/api/v1/targets", get(targets))
        .route("/api/v1/targets/metadata", get(metadata))
        .route("/api/v1/scrape_pools", get(pools))
        .route("/api/v1/rules", get(rules))
        .route("/api/v1/alerts", get(alerts))
        .route("/api/v1/alertmanagers", get(alertmanagers))
        .route("/api/v1/status/config", get(config))
        .route("/api/v1/status/flags", get(async || success(json!({}))))
        .route("/api/v1/status/runtimeinfo", get(async move |State(faces): State<Faces>| runtime(started, &faces)))
        .route("/api/v1/status/walreplay", get(async || success(json!({ "min": 0, "max": 0, "current": 0 }))))
        .with_state(faces)
}

fn success(data: Value) -> Json<Value> {
    Json(json!({ "status": "success", "data": data }))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wanted {
    state: Option<String>,
    scrape_pool: Option<String>,
}

async fn targets(State(faces): State<Faces>, Query(wanted): Query<Wanted>) -> Json<Value> {
    let all = (faces.targets)();
    let state = wanted.state.as_deref().unwrap_or("any");
    let in_pool = |pool: &str| wanted.scrape_pool.as_deref().is_none_or(|wanted| wanted == pool);
    let active: Vec<Value> = match state {
        "dropped" => Vec::new(),
        _ => all.active.iter().filter(|target| in_pool(&target.job)).map(target_line).collect(),
    };
    let dropped: Vec<Value> = match state {
        "active" => Vec::new(),
        _ => all
            .dropped
            .iter()
            .filter(|(job, _)| in_pool(job))
            .map(|(_, labels)| json!({ "discoveredLabels": labels }))
            .collect(),
    };
    success(json!({ "activeTargets": active, "droppedTargets": dropped }))
}

fn target_line(target: &TargetStatus) -> Value {
    let health = match target.health {
        Health::Up => "up",
        Health::Down => "down",
        Health::Unknown => "unknown",
    };
    json!({
        "discoveredLabels": target.discovered_labels,
        "labels": target.labels,
        "scrapePool": target.job,
        "scrapeUrl": target.url,
        "globalUrl": target.url,
        "lastError": target.last_error.as_deref().unwrap_or(""),
        "lastScrape": date(target.last_scrape),
        "lastScrapeDuration": target.last_duration_seconds,
        "health": health,
        "scrapeInterval": duration::format(target.interval),
        "scrapeTimeout": duration::format(target.timeout),
    })
}

/// An instant as a date; the year 1, as Go writes it, for none.
fn date(at: Option<Timestamp>) -> Value {
    at.map_or_else(|| json!("0001-01-01T00:00:00Z"), |at| json!(Moment(at)))
}

#[derive(Deserialize)]
struct WantedMetadata {
    match_target: Option<String>,
    metric: Option<String>,
    limit: Option<usize>,
}

async fn metadata(State(faces): State<Faces>, Query(wanted): Query<WantedMetadata>) -> Json<Value> {
    let wanted_target = wanted.match_target.as_deref().filter(|selector| !selector.is_empty());
    let matchers = match wanted_target.map(query::matchers).transpose() {
        Ok(matchers) => matchers.unwrap_or_default(),
        Err(problem) => {
            return Json(json!({
                "status": "error", "errorType": "bad_data", "error": format!("invalid parameter \"match_target\": {problem}"),
            }));
        }
    };
    let all = (faces.targets)();
    let metric = wanted.metric.as_deref().filter(|metric| !metric.is_empty());
    let told =
        all.active.iter().filter(|target| matchers.iter().all(|matcher| matcher.matches(&target.labels))).flat_map(
            |target| {
                let said = target.metadata.iter().filter(move |said| metric.is_none_or(|metric| metric == said.metric));
                said.map(|said| {
                    let mut line =
                        json!({ "target": target.labels, "type": said.kind, "help": said.help, "unit": said.unit });
                    if metric.is_none() {
                        line["metric"] = json!(said.metric);
                    }
                    line
                })
            },
        );
    success(told.take(wanted.limit.filter(|limit| *limit > 0).unwrap_or(usize::MAX)).collect())
}

async fn pools(State(faces): State<Faces>) -> Json<Value> {
    let config = faces.config.borrow().clone();
    let names: Vec<&str> = config.scrape_configs.iter().map(|job| job.job_name.as_str()).collect();
    success(json!({ "scrapePools": names }))
}

#[derive(Deserialize)]
struct WantedRules {
    r#type: Option<String>,
}

async fn rules(State(faces): State<Faces>, Query(wanted): Query<WantedRules>) -> Json<Value> {
    let (config, snapshot) = (faces.config.borrow().clone(), faces.snapshots.borrow().clone());
    let shown = wanted.r#type.as_deref().is_none_or(|kind| kind == "alert");
    let workloads = config.workloads.iter().filter(|_| shown);
    let rules: Vec<Value> = workloads.map(|workload| rule(&faces, workload, &config, &snapshot)).collect();
    let groups: Vec<Value> = (!config.workloads.is_empty())
        .then(|| {
            json!({
                "name": "bellwether-incidents",
                "file": "workloads",
                "interval": config.cadence.duration().as_secs_f64(),
                "limit": 0,
                "rules": rules,
                "evaluationTime": 0.0,
                "lastEvaluation": Moment(snapshot.made_at),
            })
        })
        .into_iter()
        .collect();
    success(json!({ "groups": groups }))
}

fn rule(faces: &Faces, workload: &WorkloadConfig, config: &Config, snapshot: &Snapshot) -> Value {
    let alerts: Vec<Value> = open(&snapshot.incidents)
        .filter(|incident| incident.workload == workload.name)
        .map(|i| firing(faces, i, config))
        .collect();
    let watched = if workload.symptoms.is_empty() { workload.demand.clone() } else { workload.symptoms.join(" or ") };
    json!({
        "type": "alerting",
        "name": ALERT_NAME,
        "query": watched,
        "duration": 0,
        "keepFiringFor": 0,
        "labels": { "workload": workload.name },
        "annotations": { "description": "fires while these series behave unlike their own past and an incident is open" },
        "state": if alerts.is_empty() { "inactive" } else { "firing" },
        "alerts": alerts,
        "health": "ok",
        "evaluationTime": 0.0,
        "lastEvaluation": Moment(snapshot.made_at),
    })
}

async fn alerts(State(faces): State<Faces>) -> Json<Value> {
    let (config, snapshot) = (faces.config.borrow().clone(), faces.snapshots.borrow().clone());
    let alerts: Vec<Value> = open(&snapshot.incidents).map(|incident| firing(&faces, incident, &config)).collect();
    success(json!({ "alerts": alerts }))
}

fn open(incidents: &[Incident]) -> impl Iterator<Item = &Incident> {
    incidents.iter().filter(|incident| incident.status == Status::Open)
}

/// The alert that Alertmanager gets of an incident, as Prometheus would list it.
fn firing(faces: &Faces, incident: &Incident, config: &Config) -> Value {
    let scheduler = &faces.scheduler;
    let standing = scheduler.people().standing(&incident.id);
    let alert = Alert::of_incident(incident, &standing, &scheduler.similar(incident), &config.alerts);
    json!({
        "labels": alert.labels,
        "annotations": alert.annotations,
        "state": "firing",
        "activeAt": Moment(alert.starts_at),
        "value": "1e+00",
    })
}

async fn alertmanagers(State(faces): State<Faces>) -> Json<Value> {
    let config = faces.config.borrow().clone();
    let url = |base: &String| json!({ "url": format!("{}/api/v2/alerts", base.trim_end_matches('/')) });
    let active: Vec<Value> = config.alerts.alertmanagers.iter().map(url).collect();
    success(json!({ "activeAlertmanagers": active, "droppedAlertmanagers": [] }))
}

/// The configuration in force; secrets are not shown.
async fn config(State(faces): State<Faces>) -> Json<Value> {
    let config = faces.config.borrow().clone();
    success(json!({ "yaml": without_passwords(&serde_saphyr::to_string(&*config).unwrap_or_default()) }))
}

/// The text with the password of every address in it hidden, as `http://user:<secret>@host/`.
fn without_passwords(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find("://") {
        let (before, address) = rest.split_at(start + 3);
        shown.push_str(before);
        let end = address.find(|c: char| c.is_whitespace() || "/\"'?#,".contains(c)).unwrap_or(address.len());
        let (authority, after) = address.split_at(end);
        match authority.rsplit_once('@').and_then(|(user, host)| Some((user.split_once(':')?.0, host))) {
            Some((user, host)) => shown.extend([user, ":<secret>@", host]),
            None => shown.push_str(authority),
        }
        rest = after;
    }
    shown + rest
}

fn runtime(started: Timestamp, faces: &Faces) -> Json<Value> {
    let loaded = *faces.loaded.borrow();
    let retention = duration::format(faces.config.borrow().store.embedded.retention);
    let info: BTreeMap<&str, Value> = BTreeMap::from([
        ("startTime", json!(Moment(started))),
        ("CWD", json!("")),
        ("reloadConfigSuccess", json!(loaded.successful)),
        ("lastConfigTime", json!(Moment(loaded.at))),
        ("corruptionCount", json!(0)),
        ("goroutineCount", json!(tokio::runtime::Handle::current().metrics().num_alive_tasks())),
        ("GOMAXPROCS", json!(std::thread::available_parallelism().map_or(1, usize::from))),
        ("GOGC", json!("")),
        ("GODEBUG", json!("")),
        ("storageRetention", json!(retention)),
    ]);
    success(json!(info))
}

#[cfg(test)]
mod tests {
    use super::without_passwords;

    #[test]
    fn passwords_in_addresses_are_hidden_and_nothing_else_is() {
        let told =
            "url: http://me:pass@word@db:8086/x?y=a@b\nother: \"https://me@host/\"\nplain: http://[::1]:9090\na: b://";
        let expected =
            "url: http://me:<secret>@db:8086/x?y=a@b\nother: \"https://me@host/\"\nplain: http://[::1]:9090\na: b://";
        assert_eq!(without_passwords(told), expected);
    }
}
