//! Health, readiness, reload and metrics of the process itself.

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{get, post};
use tokio::sync::{mpsc, oneshot};

use super::Faces;
use crate::telemetry;

/// A request to read the configuration again; the answer says what is wrong with it, if anything.
#[derive(Debug)]
pub struct Reload(pub oneshot::Sender<Result<(), String>>);

/// The way to ask for a reload.
pub type Reloads = mpsc::Sender<Reload>;

/// Routes that need no token: a probe has none.
pub fn health_router(faces: Faces) -> Router {
    Router::new().route("/-/healthy", get(async || "ok\n")).route("/-/ready", get(ready)).with_state(faces)
}

/// Reload and metrics.
pub fn router(faces: Faces) -> Router {
    Router::new().route("/-/reload", post(reload)).route("/metrics", get(metrics)).with_state(faces)
}

async fn ready(State(faces): State<Faces>) -> (StatusCode, &'static str) {
    if *faces.ready.borrow() {
        (StatusCode::OK, "ready\n")
    } else {
        (
            StatusCode::SERVICE_UNAVAILABLE,
            "not ready: the store does not take samples, or the first round is under way\n",
        )
    }
}

async fn reload(State(faces): State<Faces>) -> (StatusCode, String) {
    let Some(reloads) = faces.reloads else {
        return (StatusCode::CONFLICT, "this system runs without a configuration file\n".to_owned());
    };
    let (answer, outcome) = oneshot::channel();
    if reloads.send(Reload(answer)).await.is_err() {
        return (StatusCode::SERVICE_UNAVAILABLE, "the system is shutting down\n".to_owned());
    }
    match outcome.await {
        Ok(Ok(())) => (StatusCode::OK, "reloaded\n".to_owned()),
        Ok(Err(fault)) => (StatusCode::BAD_REQUEST, format!("{fault}\nthe configuration in force stays\n")),
        Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "the system is shutting down\n".to_owned()),
    }
}

async fn metrics() -> String {
    telemetry::metrics().render()
}
