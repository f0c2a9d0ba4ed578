//! The registry of models: who serves, who runs in the shadow, and the orders of people.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::{get, post};
use axum::{Json, Router};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bellwether_collector::ingest::Clock;
use bellwether_models::series::Timestamp;
use bellwether_predictor::read::chain;
use bellwether_predictor::registry::book::{Action, Order, Refusal};
use bellwether_predictor::registry::manifest::Manifest;
use bellwether_predictor::registry::{Registry, RegistryError, Standing};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::records::Answer;
use crate::config::Config;

/// What the routes look at.
#[derive(Clone)]
pub struct Models {
    /// The registry.
    pub registry: Arc<Registry>,
    /// The configuration in force, which names the workloads.
    pub config: watch::Receiver<Arc<Config>>,
    /// What time it is.
    pub clock: Clock,
}

/// `/api/v1/models…`.
pub fn router(models: Models) -> Router {
    Router::new()
        .route("/api/v1/models", get(all))
        .route("/api/v1/models/{workload}", get(one).post(register))
        .route("/api/v1/models/{workload}/audit", get(audit))
        .route("/api/v1/models/{workload}/verify", get(verify))
        .route("/api/v1/models/{workload}/rollback", post(roll_back))
        .route("/api/v1/models/{workload}/{version}", get(manifest))
        .route("/api/v1/models/{workload}/{version}/weights", get(weights))
        .route("/api/v1/models/{workload}/{version}/{order}", post(order))
        .with_state(models)
}

type Refused = (StatusCode, Json<Value>);

/// The models of every workload.
#[derive(Serialize)]
struct All {
    workloads: Vec<Standing>,
}

/// The models of one workload.
#[derive(Serialize)]
struct One {
    workload: String,
    champion: Value,
    challengers: Value,
    retired: Vec<u64>,
    pinned: bool,
    versions: Vec<Manifest>,
}

/// A model that is sent.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Sent {
    manifest: Manifest,
    /// Standard base64.
    #[serde(default)]
    weights: Option<String>,
}

/// Who gives an order, and why.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct By {
    author: String,
    #[serde(default)]
    note: String,
}

/// What was done to the models of a workload.
#[derive(Serialize)]
struct Audit {
    entries: Vec<Line>,
}

/// One line of it.
#[derive(Serialize)]
struct Line {
    at: Timestamp,
    who: String,
    action: Action,
    from: Option<u64>,
    to: Option<u64>,
    note: String,
}

impl Models {
    /// Workloads of the configuration and those of the registry, in order.
    fn workloads(&self) -> Vec<String> {
        let mut names: Vec<String> = self.config.borrow().workloads.iter().map(|w| w.name.clone()).collect();
        names.extend(self.registry.workloads());
        names.sort();
        names.dedup();
        names
    }

    fn known(&self, workload: &str) -> Result<(), Refused> {
        if self.workloads().iter().any(|name| name == workload) {
            return Ok(());
        }
        Err(refusal(StatusCode::NOT_FOUND, &format!("there is no workload {workload:?}")))
    }
}

fn refusal(status: StatusCode, error: &str) -> Refused {
    (status, Json(json!({ "error": error })))
}

fn refused(error: &RegistryError) -> Refused {
    let status = match error {
        RegistryError::Unknown { .. } | RegistryError::NoWeights { .. } => StatusCode::NOT_FOUND,
        RegistryError::Refused { source: Refusal::Unknown { .. }, .. } => StatusCode::NOT_FOUND,
        RegistryError::Refused { .. } => StatusCode::CONFLICT,
        RegistryError::Unfit { .. } => StatusCode::BAD_REQUEST,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    };
    refusal(status, &chain(error))
}

fn version_of(text: &str) -> Result<u64, Refused> {
    let number = text.parse().ok();
    number.ok_or_else(|| refusal(StatusCode::BAD_REQUEST, &format!("{text:?} is no version; write a number such as 7")))
}

/// What a body says; the reason in the answer when it is not what it should be.
fn read<T: for<'de> Deserialize<'de>>(body: &[u8]) -> Result<T, Refused> {
    let unread =
        |error: serde_json::Error| refusal(StatusCode::BAD_REQUEST, &format!("the body cannot be read: {error}"));
    serde_json::from_slice(body).map_err(unread)
}

async fn all(State(models): State<Models>) -> Json<All> {
    Json(All { workloads: models.workloads().iter().map(|name| models.registry.standing(name)).collect() })
}

async fn one(State(models): State<Models>, Path(workload): Path<String>) -> Answer<One> {
    models.known(&workload)?;
    let standing = models.registry.standing(&workload);
    let known: Vec<u64> = models.registry.book(&workload).manifests().keys().rev().copied().collect();
    let mut versions = Vec::new();
    for version in known {
        versions.extend(models.registry.manifest(&workload, version).await.ok()); // what is damaged is told by `verify`
    }
    let value = |value: Result<Value, serde_json::Error>| value.unwrap_or(Value::Null);
    Ok(Json(One {
        workload,
        champion: value(serde_json::to_value(&standing.champion)),
        challengers: value(serde_json::to_value(&standing.challengers)),
        retired: standing.retired,
        pinned: standing.pinned,
        versions,
    }))
}

async fn manifest(State(models): State<Models>, Path((workload, version)): Path<(String, String)>) -> Answer<Manifest> {
    models.known(&workload)?;
    let found = models.registry.manifest(&workload, version_of(&version)?).await;
    found.map(Json).map_err(|error| refused(&error))
}

async fn weights(
    State(models): State<Models>,
    Path((workload, version)): Path<(String, String)>,
) -> Result<impl IntoResponse, Refused> {
    models.known(&workload)?;
    let found = models.registry.weights(&workload, version_of(&version)?).await;
    let bytes = found.map_err(|error| refused(&error))?;
    Ok(([(header::CONTENT_TYPE, "application/octet-stream")], bytes))
}

async fn register(
    State(models): State<Models>,
    Path(workload): Path<String>,
    body: Bytes,
) -> Result<(StatusCode, Json<Manifest>), Refused> {
    models.known(&workload)?;
    let Sent { manifest, weights } = read(&body)?;
    let no_base64 = |_| refusal(StatusCode::BAD_REQUEST, "weights must be standard base64");
    let weights = weights.map(|text| BASE64_STANDARD.decode(text).map_err(no_base64)).transpose()?;
    let registered = models.registry.register(&workload, manifest, weights, (models.clock)()).await;
    registered.map(|manifest| (StatusCode::CREATED, Json(manifest))).map_err(|error| refused(&error))
}

async fn order(
    State(models): State<Models>,
    Path((workload, version, order)): Path<(String, String, String)>,
    body: Bytes,
) -> Answer<Standing> {
    let version = version_of(&version)?;
    let order = match order.as_str() {
        "promote" => Order::Promote(version),
        "pin" => Order::Pin(version),
        "unpin" => Order::Unpin(version),
        "retire" => Order::Retire(version),
        _ => return Err(refusal(StatusCode::NOT_FOUND, "there are promote, pin, unpin and retire")),
    };
    carry_out(&models, &workload, order, &body).await
}

async fn roll_back(State(models): State<Models>, Path(workload): Path<String>, body: Bytes) -> Answer<Standing> {
    carry_out(&models, &workload, Order::RollBack, &body).await
}

async fn carry_out(models: &Models, workload: &str, order: Order, body: &[u8]) -> Answer<Standing> {
    models.known(workload)?;
    let By { author, note } = read(body)?;
    let done = models.registry.carry_out(workload, order, &author, &note, (models.clock)()).await;
    done.map(Json).map_err(|error| refused(&error))
}

/// Reads every version anew and checks it.
async fn verify(State(models): State<Models>, Path(workload): Path<String>) -> Answer<Value> {
    models.known(&workload)?;
    let good = models.registry.verify(&workload).await.map_err(|error| refused(&error))?;
    Ok(Json(json!({ "good": good })))
}

async fn audit(State(models): State<Models>, Path(workload): Path<String>) -> Answer<Audit> {
    models.known(&workload)?;
    let line = |entry: bellwether_predictor::registry::book::Entry| Line {
        at: entry.at,
        who: entry.who,
        action: entry.action,
        from: entry.from,
        to: entry.to,
        note: entry.note,
    };
    Ok(Json(Audit { entries: models.registry.audit(&workload).into_iter().map(line).collect() }))
}
