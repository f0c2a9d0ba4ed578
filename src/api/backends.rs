//! Backends that share a load: their weights, and orders to drain one.

use std::time::Duration;

use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use bellwether_models::duration::as_optional_text;
use bellwether_models::series::Timestamp;
use bellwether_scheduler::route::Weight;
use bellwether_scheduler::route::drain::{Drain, Order, Refusal, Turn};
use bellwether_scheduler::service::NotDrained;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Faces;
use super::records::{Answer, not_found};
use crate::words::chain;

/// Turns that one answer lists when nothing is said.
const USUAL_TURNS: usize = 100;

/// `/api/v1/backends`, `/api/v1/backends/{name}/{drain,undrain}`, `/api/v1/drains`, `/api/v1/drains/{id}`.
pub fn router(faces: Faces) -> Router {
    Router::new()
        .route("/api/v1/backends", get(backends))
        .route("/api/v1/backends/{name}/drain", post(drain))
        .route("/api/v1/backends/{name}/undrain", post(undrain))
        .route("/api/v1/drains", get(turns))
        .route("/api/v1/drains/{id}", get(turn))
        .with_state(faces)
}

/// A backend in one line.
#[derive(Debug, Serialize, Deserialize)]
pub struct BackendLine {
    /// Its weight and why; of the last round.
    pub weight: Weight,
    /// Its drain, when there is one.
    pub drain: Option<Drain>,
}

/// A drain as it is asked for: for a time, or until an instant.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    #[serde(default, rename = "for", with = "as_optional_text")]
    lasts: Option<Duration>,
    #[serde(default)]
    until: Option<Timestamp>,
    /// Left out: as configured.
    #[serde(default, with = "as_optional_text")]
    within: Option<Duration>,
    by: String,
    #[serde(default)]
    reason: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CallOff {
    by: String,
}

#[derive(Deserialize)]
struct Which {
    backend: Option<String>,
    limit: Option<usize>,
}

impl Faces {
    /// The backends as they stood in the last round, with their drains of now.
    pub(super) fn backends(&self) -> Vec<BackendLine> {
        let drains = self.scheduler.drains();
        let line = |weight: &Weight| BackendLine { weight: weight.clone(), drain: drains.of(&weight.backend).cloned() };
        self.scheduler.view().weights.iter().map(line).collect()
    }
}

async fn backends(State(faces): State<Faces>) -> Json<Vec<BackendLine>> {
    Json(faces.backends())
}

async fn drain(State(faces): State<Faces>, Path(backend): Path<String>, Json(asked): Json<Asked>) -> Answer<Drain> {
    let now = (faces.clock)();
    let Asked { lasts, until, within, by, reason } = asked;
    let until = match (lasts, until) {
        (Some(lasts), None) => now + lasts,
        (None, Some(until)) => until,
        _ => {
            return Err(refused(
                StatusCode::BAD_REQUEST,
                "say how long (for) or until when (until): a drain always ends",
            ));
        }
    };
    let order = Order { backend, until, within, by, reason };
    let (snapshot, config) = (faces.snapshots.borrow().clone(), faces.config.borrow().clone());
    ordered(move || faces.scheduler.drain(order, &snapshot, &config.reroute, now)).await
}

async fn undrain(State(faces): State<Faces>, Path(backend): Path<String>, Json(asked): Json<CallOff>) -> Answer<Drain> {
    let now = (faces.clock)();
    ordered(move || faces.scheduler.undrain(&backend, &asked.by, now)).await
}

async fn turns(State(faces): State<Faces>, Query(which): Query<Which>) -> Json<Vec<Turn>> {
    let drains = faces.scheduler.drains();
    let wanted = |turn: &&Turn| which.backend.as_ref().is_none_or(|backend| *backend == turn.drain.backend);
    Json(drains.turns().filter(wanted).take(which.limit.unwrap_or(USUAL_TURNS)).cloned().collect())
}

async fn turn(State(faces): State<Faces>, Path(id): Path<String>) -> Answer<Turn> {
    let found = faces.scheduler.drains().turns().find(|turn| turn.id == id).cloned();
    found.map(Json).ok_or_else(|| not_found("drain", &id))
}

/// An order is durable before it is answered, so it may wait for the disk: not on an async thread.
async fn ordered(work: impl FnOnce() -> Result<Drain, NotDrained> + Send + 'static) -> Answer<Drain> {
    match tokio::task::spawn_blocking(work).await {
        Ok(Ok(drain)) => Ok(Json(drain)),
        Ok(Err(error)) => Err(refused(status(&error), &chain(&error))),
        Err(_) => Err(refused(StatusCode::INTERNAL_SERVER_ERROR, "the work broke off")),
    }
}

fn status(error: &NotDrained) -> StatusCode {
    match error {
        NotDrained::Refused(Refusal::Unknown { .. } | Refusal::NoDrain { .. }) => StatusCode::NOT_FOUND,
        NotDrained::Refused(Refusal::Needed { .. }) => StatusCode::CONFLICT,
        NotDrained::Refused(_) => StatusCode::BAD_REQUEST,
        NotDrained::Kept(_) => StatusCode::SERVICE_UNAVAILABLE,
    }
}

fn refused(status: StatusCode, why: &str) -> (StatusCode, Json<Value>) {
    (status, Json(json!({ "error": why })))
}
