//! Gathers what the page shows. A question the store cannot answer leaves its chart empty, never the page.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bellwether_models::incident::Status;
use bellwether_models::outlook::Outlook;
use bellwether_models::series::{Sample, Step, Timestamp};
use bellwether_predictor::registry::Registry;

use super::Faces;
use super::page::{self, View, WorkloadView};

/// How far back a chart reaches, and on which grid.
const REACH: Duration = Duration::from_secs(24 * 3600);
const GRID: Step = Step::from_secs(300);
/// Lead and quantile of the earlier forecast that a chart lays over what came.
const LEAD_SECONDS: u64 = 900;
const QUANTILE: &str = "0.9";
const DECISIONS: usize = 20;
const DRAINS: usize = 10;

/// `/`, `/incidents/{id}` and `/decisions/{id}`.
pub fn router(faces: Faces, models: Arc<Registry>) -> Router {
    let first = Router::new().route("/", get(overview)).with_state((faces.clone(), models));
    Router::new()
        .route("/incidents/{id}", get(incident))
        .route("/decisions/{id}", get(decision))
        .with_state(faces)
        .merge(first)
}

async fn overview(State((faces, models)): State<(Faces, Arc<Registry>)>) -> Response {
    let snapshot = faces.snapshots.borrow().clone();
    let mut view = bare_view(&faces);
    for outlook in &snapshot.workloads {
        view.workloads.push(workload(&faces, outlook, view.now).await);
    }
    view.incidents = snapshot.incidents.clone();
    view.detection = snapshot.detection.clone();
    view.models = models.workloads().iter().map(|name| models.standing(name)).collect();
    view.incidents.sort_by_key(|incident| (incident.status != Status::Open, std::cmp::Reverse(incident.onset)));
    let records = faces.scheduler.decisions(DECISIONS, None);
    view.decisions = records.into_iter().map(|record| record.decision).collect();
    view.backends = faces.backends();
    view.drains = faces.scheduler.drains().turns().take(DRAINS).cloned().collect();
    page::overview(&view).into_response()
}

async fn incident(State(faces): State<Faces>, Path(id): Path<String>) -> Response {
    let snapshot = faces.snapshots.borrow().clone();
    match snapshot.incidents.iter().find(|incident| incident.id == id) {
        Some(incident) => page::incident_page(&bare_view(&faces), incident).into_response(),
        None => (StatusCode::NOT_FOUND, format!("there is no incident {id:?}\n")).into_response(),
    }
}

async fn decision(State(faces): State<Faces>, Path(id): Path<String>) -> Response {
    let (handle, wanted) = (faces.scheduler.clone(), id.clone());
    let found = tokio::task::spawn_blocking(move || handle.decision(&wanted)).await.ok().flatten();
    match found {
        Some(record) => page::decision_page(&bare_view(&faces), &record.decision).into_response(),
        None => (StatusCode::NOT_FOUND, format!("there is no decision {id:?}\n")).into_response(),
    }
}

fn bare_view(faces: &Faces) -> View {
    View { now: (faces.clock)(), banner: faces.banner.clone(), ..View::default() }
}

async fn workload(faces: &Faces, outlook: &Outlook, now: Timestamp) -> WorkloadView {
    let config = faces.config.borrow().clone();
    let demand = config.workloads.iter().find(|workload| workload.name == outlook.workload).map(|w| w.demand.clone());
    let earlier = format!(
        "bellwether_forecast{{workload={:?},quantile=\"{QUANTILE}\",horizon_seconds=\"{LEAD_SECONDS}\"}} offset {LEAD_SECONDS}s",
        outlook.workload
    );
    let actual = match demand {
        Some(query) => line(faces, &query, now).await,
        None => Vec::new(),
    };
    let decision = faces.scheduler.view().plan.of(&outlook.workload).cloned();
    WorkloadView { outlook: outlook.clone(), actual, foreseen: line(faces, &earlier, now).await, decision }
}

/// The first series of the answer over the last day.
async fn line(faces: &Faces, query: &str, now: Timestamp) -> Vec<Sample> {
    let points = (REACH.as_millis() as i64 / GRID.as_millis()) as usize;
    let start = now.floor_to(GRID) - GRID.times(points);
    let Ok(answer) = faces.engine.window(query, start, GRID, points + 1).await else { return Vec::new() };
    let Some((_, window)) = answer.into_iter().next() else { return Vec::new() };
    let sample = |(index, value): (usize, &f64)| Sample { at: window.time_of(index), value: *value };
    window.values.iter().enumerate().map(sample).collect()
}
