//! How the limits of the door stand, and what runs away.

use axum::extract::{Query, State};
use axum::routing::get;
use axum::{Json, Router};
use bellwether_collector::ingest::{Ingest, Standing};
use serde::Deserialize;

/// Metrics listed where nothing else is said, and at most.
const USUAL_METRICS: usize = 20;
const MOST_METRICS: usize = 1000;

/// `/api/v1/limits`.
pub fn router(ingest: Ingest) -> Router {
    Router::new().route("/api/v1/limits", get(limits)).with_state(ingest)
}

#[derive(Deserialize)]
struct Wanted {
    limit: Option<usize>,
}

async fn limits(State(ingest): State<Ingest>, Query(wanted): Query<Wanted>) -> Json<Standing> {
    Json(ingest.standing(wanted.limit.unwrap_or(USUAL_METRICS).min(MOST_METRICS)))
}
