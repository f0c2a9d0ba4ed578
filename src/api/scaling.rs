//! Orders about scaling, and questions of the kind "what if".

use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use bellwether_models::duration::as_optional_text;
use bellwether_models::outlook::{Foresight, Outlook, Snapshot};
use bellwether_scheduler::guard::{Control, Downstream, Stop};
use bellwether_scheduler::plan::{Decision, Direction};
use bellwether_scheduler::{ScaleConfig, Workload};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tracing::info;

use super::Faces;
use super::records::{Answer, not_found};

/// `/api/v1/scaling`, `/api/v1/scaling/{pause,resume}`, `/api/v1/workloads/{name}/{learnt,what-if}`.
pub fn router(faces: Faces) -> Router {
    Router::new()
        .route("/api/v1/scaling", get(control))
        .route("/api/v1/scaling/pause", post(pause))
        .route("/api/v1/scaling/resume", post(resume))
        .route("/api/v1/workloads/{name}/learnt", get(learnt))
        .route("/api/v1/workloads/{name}/what-if", post(what_if))
        .with_state(faces)
}

/// A stop as it is asked for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Pause {
    /// Whose; left out: everybody's.
    #[serde(default)]
    workload: Option<String>,
    /// Left out: both.
    #[serde(default)]
    direction: Option<Direction>,
    by: String,
    #[serde(default)]
    note: String,
    /// Left out: until it is resumed.
    #[serde(default, rename = "for", with = "as_optional_text")]
    lasts: Option<Duration>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Resume {
    #[serde(default)]
    workload: Option<String>,
    by: String,
}

/// Other settings, another demand, or both.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WhatIf {
    /// Part of a `scale` section: what it names takes the place of what is written, what it leaves out stays.
    #[serde(default)]
    scale: Value,
    /// Demand and forecast are multiplied by this.
    #[serde(default = "one")]
    demand_factor: f64,
}

fn one() -> f64 {
    1.0
}

/// What is decided, and what would be.
#[derive(Serialize)]
struct Compared {
    now: Option<Decision>,
    then: Option<Decision>,
    /// The room that is left in what it depends on, under the settings that are asked about.
    downstream: Vec<Downstream>,
}

async fn control(State(faces): State<Faces>) -> Json<Control> {
    Json(faces.scheduler.control())
}

async fn pause(State(faces): State<Faces>, Json(asked): Json<Pause>) -> Answer<Control> {
    let Pause { workload, direction, by, note, lasts } = asked;
    known(&faces, workload.as_deref())?;
    let since = (faces.clock)();
    let note = [named(&by)?, note.trim()].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(": ");
    info!(workload, %by, ?direction, note, "scaling paused");
    let stop = Stop { direction, note, since, until: lasts.map(|lasts| since + lasts) };
    faces.scheduler.stop(workload.as_deref(), stop);
    Ok(Json(faces.scheduler.control()))
}

async fn resume(State(faces): State<Faces>, Json(asked): Json<Resume>) -> Answer<Control> {
    let Resume { workload, by } = asked;
    known(&faces, workload.as_deref())?;
    named(&by)?;
    info!(workload, %by, "scaling resumed");
    faces.scheduler.resume(workload.as_deref());
    Ok(Json(faces.scheduler.control()))
}

async fn learnt(State(faces): State<Faces>, Path(name): Path<String>) -> Answer<Value> {
    let lesson = faces.scheduler.lesson(&name).ok_or_else(|| not_found("scaled workload", &name))?;
    let (verdict, capacity) = (lesson.score.verdict(), lesson.capacity.learnt());
    let ((ours, reactive), tally) = (lesson.trial.minutes(), lesson.contest.tally());
    Ok(Json(json!({
        "startup_seconds": lesson.startup.usual().map(|(usual, _)| usual.as_secs_f64()),
        "startups_seen": lesson.startup.usual().map(|(_, seen)| seen),
        "capacity_per_replica": capacity.map(|c| c.safe),
        "likely_capacity_per_replica": capacity.map(|c| c.likely),
        "forecast_believed": verdict.believed,
        "forecast_cost_ratio": verdict.cost_ratio,
        "forecast_quantile_held": verdict.held,
        "forecast_outcomes": verdict.outcomes,
        "forecast_short_minutes": tally.map(|t| t.forecast_minutes),
        "plain_short_minutes_at_equal_cost": tally.map(|t| t.plain_minutes),
        "plain_target_at_equal_cost": tally.map(|t| t.target.value()),
        "plain_does_better": lesson.contest.outdone().is_some(),
        "short_minutes": ours,
        "reactive_short_minutes": reactive,
        "replica_hours_today": lesson.spending.today((faces.clock)()),
    })))
}

async fn what_if(State(faces): State<Faces>, Path(name): Path<String>, Json(asked): Json<WhatIf>) -> Answer<Compared> {
    let config = faces.config.borrow().clone();
    let scheduler = config.scheduler();
    let workload =
        scheduler.workloads.iter().find(|w| w.name == name).ok_or_else(|| not_found("scaled workload", &name))?;
    if !(asked.demand_factor.is_finite() && asked.demand_factor >= 0.0) {
        return Err(refused(&format!("demand_factor {} is not a finite number of at least 0", asked.demand_factor)));
    }
    let other = Workload { scale: with(&workload.scale, asked.scale)?, ..workload.clone() };
    let (facts, now) = (faces.snapshots.borrow().clone(), (faces.clock)());
    let with_others = |first: &Workload| -> Vec<Workload> {
        let others = scheduler.workloads.iter().filter(|w| w.name != name).cloned();
        std::iter::once(first.clone()).chain(others).collect()
    };
    let (written, changed) = (with_others(workload), with_others(&other));
    let decide = |facts: &Snapshot, workloads: &[Workload]| {
        faces.scheduler.what_if(facts, workloads, config.cadence.duration(), now)
    };
    let then = decide(&multiplied(&facts, &name, asked.demand_factor), &changed);
    let downstream = faces.scheduler.downstream(&facts, &other, &changed, now);
    Ok(Json(Compared { now: decide(&facts, &written), then, downstream }))
}

/// `scale` with what `changes` names.
fn with(scale: &ScaleConfig, changes: Value) -> Result<ScaleConfig, (StatusCode, Json<Value>)> {
    let mut all = serde_json::to_value(scale).unwrap_or(Value::Null);
    merge(&mut all, changes);
    let scale: ScaleConfig = serde_json::from_value(all).map_err(|error| refused(&error.to_string()))?;
    scale.check().map_err(|error| refused(&error.to_string()))?;
    Ok(scale)
}

/// JSON merge patch (RFC 7396), except that nothing is taken out.
fn merge(into: &mut Value, changes: Value) {
    match (into, changes) {
        (Value::Object(into), Value::Object(changes)) => {
            changes.into_iter().for_each(|(key, value)| merge(into.entry(key).or_insert(Value::Null), value));
        }
        (_, Value::Null) => {}
        (into, value) => *into = value,
    }
}

fn multiplied(facts: &Snapshot, name: &str, factor: f64) -> Snapshot {
    let mut facts = facts.clone();
    facts.workloads.iter_mut().filter(|outlook| outlook.workload == name).for_each(|o| multiply(o, factor));
    facts
}

fn multiply(outlook: &mut Outlook, factor: f64) {
    outlook.demand.iter_mut().for_each(|demand| demand.value *= factor);
    if let Foresight::Forecast { forecast, .. } = &mut outlook.foresight {
        let paths = forecast.quantiles.iter_mut().chain(&mut forecast.peaks).chain([&mut forecast.mean]);
        paths.flatten().for_each(|value| *value *= factor);
    }
}

fn known(faces: &Faces, workload: Option<&str>) -> Result<(), (StatusCode, Json<Value>)> {
    let Some(name) = workload else { return Ok(()) };
    let config = faces.config.borrow();
    let scaled = config.workloads.iter().any(|w| w.name == name && w.scale.is_some());
    if scaled { Ok(()) } else { Err(not_found("scaled workload", name)) }
}

fn named(by: &str) -> Result<&str, (StatusCode, Json<Value>)> {
    let by = by.trim();
    if by.is_empty() { Err(refused("say who you are: orders are kept with their name")) } else { Ok(by) }
}

fn refused(why: &str) -> (StatusCode, Json<Value>) {
    (StatusCode::BAD_REQUEST, Json(json!({ "error": why })))
}
