//! What people say of incidents, maintenance, and incidents as labelled cases.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use bellwether_models::incident::{Incident, Maintenance, Said, TrackRecord, Word};
use bellwether_models::series::Timestamp;
use bellwether_predictor::inquiry;
use bellwether_scheduler::history::{NotNoted, Plan, Statement};
use bellwether_scheduler::notify::AlertStatus;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Faces;
use super::records::{Answer, not_found};
use crate::case::Case;

/// `/api/v1/incidents/{id}/…`, `/api/v1/words`, `/api/v1/maintenance`, `/api/v1/alerts/status`, `/api/v1/track-record`.
pub fn router(faces: Faces) -> Router {
    Router::new()
        .route("/api/v1/incidents/{id}/ack", post(acknowledge))
        .route("/api/v1/incidents/{id}/feedback", post(feedback))
        .route("/api/v1/incidents/{id}/words", get(words))
        .route("/api/v1/incidents/{id}/case", get(case))
        .route("/api/v1/words/{id}/take-back", post(take_back))
        .route("/api/v1/maintenance", get(maintenance).post(announce))
        .route("/api/v1/maintenance/{id}/end", post(end))
        .route("/api/v1/alerts/status", get(alerts))
        .route("/api/v1/track-record", get(track_record))
        .with_state(faces)
}

/// Who speaks, and a remark.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Speaker {
    by: String,
    #[serde(default)]
    note: String,
}

/// What an incident really was.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Feedback {
    by: String,
    #[serde(default)]
    note: String,
    verdict: Verdict,
    #[serde(default)]
    service: Option<String>,
    #[serde(default)]
    metric: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Verdict {
    FalseAlarm,
    Cause,
}

/// A maintenance as it is asked for: from `from`, or now, until `to`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Announcement {
    by: String,
    #[serde(default)]
    note: String,
    #[serde(default)]
    from: Option<Timestamp>,
    to: Timestamp,
    #[serde(default)]
    services: Vec<String>,
}

/// A word with whether it still stands.
#[derive(Serialize)]
struct WordLine {
    #[serde(flatten)]
    word: Word,
    taken_back: bool,
}

impl Faces {
    /// The incident of that id, present or past.
    pub(super) fn incident(&self, id: &str) -> Option<Incident> {
        let present = self.snapshots.borrow().incidents.iter().find(|incident| incident.id == id).cloned();
        present.or_else(|| self.scheduler.past().iter().find(|past| past.id == id).map(|past| Incident::clone(past)))
    }

    fn known(&self, id: &str) -> Result<Incident, (StatusCode, Json<Value>)> {
        self.incident(id).ok_or_else(|| not_found("incident", id))
    }

    fn statement(&self, by: String, note: String) -> Statement {
        Statement { by, at: (self.clock)(), note }
    }
}

fn refused(error: &NotNoted) -> (StatusCode, Json<Value>) {
    let status = match error {
        NotNoted::Unknown { .. } => StatusCode::NOT_FOUND,
        NotNoted::Over { .. } => StatusCode::CONFLICT,
        NotNoted::Kept(_) => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::BAD_REQUEST,
    };
    (status, Json(json!({ "error": error.to_string() })))
}

/// Writing is durable before it is answered, so it may wait for the disk: not on an async thread.
async fn noted<T: Serialize + Send + 'static>(
    work: impl FnOnce() -> Result<T, NotNoted> + Send + 'static,
) -> Answer<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(Ok(value)) => Ok(Json(value)),
        Ok(Err(error)) => Err(refused(&error)),
        Err(_) => Err((StatusCode::INTERNAL_SERVER_ERROR, Json(json!({ "error": "the work broke off" })))),
    }
}

async fn acknowledge(State(faces): State<Faces>, Path(id): Path<String>, Json(who): Json<Speaker>) -> Answer<Word> {
    faces.known(&id)?;
    let statement = faces.statement(who.by, who.note);
    noted(move || faces.scheduler.say(&id, Said::Acknowledged, statement)).await
}

async fn feedback(State(faces): State<Faces>, Path(id): Path<String>, Json(said): Json<Feedback>) -> Answer<Word> {
    faces.known(&id)?;
    let verdict = match said.verdict {
        Verdict::FalseAlarm => Said::FalseAlarm,
        Verdict::Cause => Said::Cause { service: said.service.unwrap_or_default(), metric: said.metric },
    };
    let statement = faces.statement(said.by, said.note);
    noted(move || faces.scheduler.say(&id, verdict, statement)).await
}

async fn take_back(State(faces): State<Faces>, Path(id): Path<String>, Json(who): Json<Speaker>) -> Answer<Word> {
    let statement = faces.statement(who.by, who.note);
    noted(move || faces.scheduler.take_back(&id, statement)).await
}

async fn words(State(faces): State<Faces>, Path(id): Path<String>) -> Answer<Vec<WordLine>> {
    faces.known(&id)?;
    let people = faces.scheduler.people();
    let line = |word: &Word| WordLine { word: word.clone(), taken_back: people.is_taken_back(word) };
    Ok(Json(people.words_on(&id).map(line).collect()))
}

async fn maintenance(State(faces): State<Faces>) -> Json<Vec<Maintenance>> {
    Json(faces.scheduler.people().maintenance.clone())
}

async fn announce(State(faces): State<Faces>, Json(asked): Json<Announcement>) -> Answer<Maintenance> {
    let statement = faces.statement(asked.by, asked.note);
    let plan = Plan { from: asked.from.unwrap_or(statement.at), to: asked.to, services: asked.services };
    noted(move || faces.scheduler.announce(plan, statement)).await
}

async fn end(State(faces): State<Faces>, Path(id): Path<String>, Json(who): Json<Speaker>) -> Answer<Maintenance> {
    let statement = faces.statement(who.by, who.note);
    noted(move || faces.scheduler.end_maintenance(&id, statement)).await
}

async fn alerts(State(faces): State<Faces>) -> Json<Vec<AlertStatus>> {
    Json(faces.scheduler.view().alerts.clone())
}

async fn track_record(State(faces): State<Faces>) -> Json<TrackRecord> {
    Json(faces.scheduler.track_record())
}

async fn case(State(faces): State<Faces>, Path(id): Path<String>) -> Answer<Case> {
    let incident = faces.known(&id)?;
    let config = faces.config.borrow().predictor();
    let window = inquiry::case(&incident, &config, &faces.engine).await.map_err(|error| {
        (StatusCode::SERVICE_UNAVAILABLE, Json(json!({ "error": format!("the store could not be asked: {error}") })))
    })?;
    Ok(Json(Case::new(&incident, &window, &faces.scheduler.people().standing(&id))))
}
