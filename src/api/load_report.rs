//! How full a backend is and will be, in the words of a response's header: for servers that report their load themselves.

use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::get;
use bellwether_scheduler::route::orca::NoReport;

use super::Faces;

/// `/api/v1/backends/{name}/load-report`.
pub fn router(faces: Faces) -> Router {
    Router::new().route("/api/v1/backends/{name}/load-report", get(load_report)).with_state(faces)
}

async fn load_report(State(faces): State<Faces>, Path(name): Path<String>) -> Result<String, (StatusCode, String)> {
    match faces.scheduler.load_report(&name) {
        Ok(report) => Ok(report.header() + "\n"),
        Err(NoReport::Unknown) => Err((StatusCode::NOT_FOUND, format!("there is no backend {name:?}\n"))),
        Err(NoReport::Silent) => {
            Err((StatusCode::SERVICE_UNAVAILABLE, format!("nothing fresh is known of backend {name:?}\n")))
        }
    }
}
