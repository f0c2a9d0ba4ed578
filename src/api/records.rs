//! Our own records as JSON. Every time is an integer: milliseconds since the Unix epoch, UTC.

use std::collections::BTreeSet;

use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use bellwether_models::detect::Vigilance;
use bellwether_models::incident::Incident;
use bellwether_models::outlook::{Foresight, ModelRef, Outlook};
use bellwether_models::series::Timestamp;
use bellwether_predictor::ForecastConfig;
use bellwether_scheduler::ScaleConfig;
use bellwether_scheduler::plan::Decision;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Faces;

/// Most decisions one answer lists.
const MOST_DECISIONS: usize = 10_000;
const USUAL_DECISIONS: usize = 100;

/// `/api/v1/{workloads,outlooks,detection,incidents,decisions}`.
pub fn router(faces: Faces) -> Router {
    Router::new()
        .route("/api/v1/workloads", get(workloads))
        .route("/api/v1/outlooks", get(outlooks))
        .route("/api/v1/detection", get(detection))
        .route("/api/v1/incidents", get(incidents))
        .route("/api/v1/incidents/{id}", get(incident))
        .route("/api/v1/decisions", get(decisions))
        .route("/api/v1/decisions/{id}", get(decision))
        .with_state(faces)
}

pub(super) type Answer<T> = Result<Json<T>, (StatusCode, Json<Value>)>;

pub(super) fn not_found(what: &str, id: &str) -> (StatusCode, Json<Value>) {
    (StatusCode::NOT_FOUND, Json(json!({ "error": format!("there is no {what} {id:?}") })))
}

/// A workload in one line.
#[derive(Serialize)]
struct WorkloadLine {
    name: String,
    demand: Option<f64>,
    replicas: Option<f64>,
    desired_replicas: Option<u32>,
    reactive_replicas: Option<u32>,
    model: Option<String>,
    serving: ModelRef,
    demand_query: Option<String>,
    forecast: Option<ForecastConfig>,
    /// Without who carries it out: an address may hold a secret.
    scale: Option<ScaleConfig>,
    abstained: Option<String>,
    anomalies: usize,
    open_incident: Option<String>,
}

async fn workloads(State(faces): State<Faces>) -> Json<Vec<WorkloadLine>> {
    let snapshot = faces.snapshots.borrow().clone();
    let view = faces.scheduler.view();
    let config = faces.config.borrow().clone();
    let line = |outlook: &Outlook| {
        let (model, abstained) = match &outlook.foresight {
            Foresight::Forecast { model, .. } => (Some(model.clone()), None),
            Foresight::Abstained { reason } => (None, Some(reason.clone())),
        };
        let decision = view.plan.of(&outlook.workload);
        let configured = config.workloads.iter().find(|workload| workload.name == outlook.workload);
        let open = snapshot.incidents.iter().find(|i| i.workload == outlook.workload && i.resolved_at.is_none());
        WorkloadLine {
            name: outlook.workload.clone(),
            demand: outlook.demand.map(|seen| seen.value),
            replicas: outlook.replicas.map(|seen| seen.value),
            desired_replicas: decision.and_then(|d| d.to),
            reactive_replicas: decision.and_then(|d| d.reactive),
            model,
            serving: outlook.model.clone(),
            demand_query: configured.map(|workload| workload.demand.clone()),
            forecast: configured.map(|workload| workload.forecast),
            scale: configured.and_then(|workload| Some(ScaleConfig { actuator: None, ..workload.scale.clone()? })),
            abstained,
            anomalies: outlook.anomalies.len(),
            open_incident: open.map(|incident| incident.id.clone()),
        }
    };
    Json(snapshot.workloads.iter().map(line).collect())
}

/// All outlooks of one instant.
#[derive(Serialize)]
struct Outlooks {
    made_at: Timestamp,
    workloads: Vec<Outlook>,
    backends: Vec<Outlook>,
}

async fn outlooks(State(faces): State<Faces>) -> Json<Outlooks> {
    let snapshot = faces.snapshots.borrow().clone();
    Json(Outlooks {
        made_at: snapshot.made_at,
        workloads: snapshot.workloads.clone(),
        backends: snapshot.backends.clone(),
    })
}

/// How watchful detection is, and how often it raised an alarm.
async fn detection(State(faces): State<Faces>) -> Json<Vigilance> {
    Json(faces.snapshots.borrow().detection.clone())
}

/// Which incidents to list.
#[derive(Deserialize)]
struct WhichIncidents {
    #[serde(default)]
    past: bool,
}

/// Open incidents and those resolved lately; with `past=true` all that are remembered, newest onset first.
async fn incidents(State(faces): State<Faces>, Query(which): Query<WhichIncidents>) -> Json<Vec<Incident>> {
    let mut incidents = faces.snapshots.borrow().incidents.clone();
    if which.past {
        let known: BTreeSet<String> = incidents.iter().map(|incident| incident.id.clone()).collect();
        let past = faces.scheduler.past();
        incidents.extend(past.iter().filter(|past| !known.contains(&past.id)).map(|past| Incident::clone(past)));
        incidents.sort_by_key(|incident| std::cmp::Reverse(incident.onset));
    }
    Json(incidents)
}

/// An incident with what people said of it and those of the past that are most like it.
async fn incident(State(faces): State<Faces>, Path(id): Path<String>) -> Answer<Value> {
    let found = faces.incident(&id).ok_or_else(|| not_found("incident", &id))?;
    let mut answer = serde_json::to_value(&found).unwrap_or(Value::Null);
    answer["standing"] = serde_json::to_value(faces.scheduler.people().standing(&id)).unwrap_or(Value::Null);
    answer["similar"] = serde_json::to_value(faces.scheduler.similar(&found)).unwrap_or(Value::Null);
    Ok(Json(answer))
}

/// Which decisions to list.
#[derive(Deserialize)]
struct Which {
    workload: Option<String>,
    limit: Option<usize>,
}

async fn decisions(State(faces): State<Faces>, Query(which): Query<Which>) -> Json<Vec<Decision>> {
    let limit = which.limit.unwrap_or(USUAL_DECISIONS).min(MOST_DECISIONS);
    let records = faces.scheduler.decisions(limit, which.workload.as_deref());
    Json(records.into_iter().map(|record| record.decision).collect())
}

async fn decision(State(faces): State<Faces>, Path(id): Path<String>) -> Answer<Value> {
    let wanted = id.clone();
    let found = tokio::task::spawn_blocking(move || faces.scheduler.decision(&wanted)).await.ok().flatten();
    let record = found.ok_or_else(|| not_found("decision", &id))?;
    let mut answer = serde_json::to_value(&record.decision).unwrap_or(Value::Null);
    answer["attempts"] = serde_json::to_value(&record.attempts).unwrap_or(Value::Null);
    Ok(Json(answer))
}
