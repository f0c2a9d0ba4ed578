//! The query API of Prometheus, as Grafana and other clients call it.

use std::time::SystemTime;

use axum::Router;
use axum::extract::{Path, State};
use axum::routing::get;
use bellwether_models::series::{Labels, Timestamp};

use self::params::Params;
use self::reply::{Failure, Reply};
use super::plan::{is_label_name, series_matchers};
use super::{Engine, QueryError};
use crate::store::{Matcher, TimeRange};

mod params;
mod reply;

/// The version of Prometheus whose query API this is; clients look at it to learn what they may ask.
const API_VERSION: &str = concat!("2.42.0+bellwether.", env!("CARGO_PKG_VERSION"));

/// `/api/v1/query`, `query_range`, `series`, `labels`, `label/{name}/values`, `metadata`, `status/buildinfo`, and the
/// empty answers of `rules`, `alerts` and `query_exemplars`. GET and POST; parameters in the address, the form, or both.
pub fn router(engine: Engine) -> Router {
    Router::new()
        .route("/api/v1/query", get(query).post(query))
        .route("/api/v1/query_range", get(query_range).post(query_range))
        .route("/api/v1/series", get(series).post(series))
        .route("/api/v1/labels", get(labels).post(labels))
        .route("/api/v1/label/{name}/values", get(label_values))
        .route("/api/v1/metadata", get(|| async { Reply::data("{}") }))
        .route("/api/v1/rules", get(|| async { Reply::data(r#"{"groups":[]}"#) }))
        .route("/api/v1/alerts", get(|| async { Reply::data(r#"{"alerts":[]}"#) }))
        .route("/api/v1/query_exemplars", get(|| async { Reply::data("[]") }).post(|| async { Reply::data("[]") }))
        .route("/api/v1/status/buildinfo", get(|| async { reply::build_info(API_VERSION) }))
        .with_state(engine)
}

async fn query(State(engine): State<Engine>, params: Params) -> Result<Reply, Failure> {
    let at = params.time("time")?.unwrap_or_else(now);
    let within = params.duration("timeout")?.unwrap_or(engine.config().timeout);
    let value = engine.instant_within(params.text("query"), at, within).await.map_err(about_query)?;
    Ok(reply::value(&value, at))
}

async fn query_range(State(engine): State<Engine>, params: Params) -> Result<Reply, Failure> {
    let (start, end) = (params.required_time("start")?, params.required_time("end")?);
    if end < start {
        return Err(Failure::bad_parameter("end", "end timestamp must not be before start time"));
    }
    let step = params.step()?;
    let within = params.duration("timeout")?.unwrap_or(engine.config().timeout);
    let matrix = engine.range_within(params.text("query"), start, end, step, within).await.map_err(about_query)?;
    Ok(reply::matrix(&matrix))
}

async fn series(State(engine): State<Engine>, params: Params) -> Result<Reply, Failure> {
    let selectors = params.selectors()?;
    if selectors.is_empty() {
        return Err(Failure::bad_data("no match[] parameter provided"));
    }
    Ok(reply::series(&find(&engine, &selectors, params.range()?).await?))
}

async fn labels(State(engine): State<Engine>, params: Params) -> Result<Reply, Failure> {
    let found = find(&engine, &params.selectors()?, params.range()?).await?;
    Ok(reply::texts(found.iter().flat_map(|labels| labels.iter().map(|(name, _)| name)).collect()))
}

async fn label_values(
    State(engine): State<Engine>,
    Path(name): Path<String>,
    params: Params,
) -> Result<Reply, Failure> {
    if !is_label_name(&name) {
        return Err(Failure::bad_data(&format!("invalid label name: {name:?}")));
    }
    let found = find(&engine, &params.selectors()?, params.range()?).await?;
    Ok(reply::texts(found.iter().filter_map(|labels| labels.get(&name)).collect()))
}

/// The series that any of the selectors names, in order; all series without a selector.
async fn find(engine: &Engine, selectors: &[Vec<Matcher>], range: TimeRange) -> Result<Vec<Labels>, Failure> {
    let all = [Vec::new()];
    let selectors = if selectors.is_empty() { &all } else { selectors };
    let mut found = Vec::new();
    for matchers in selectors {
        found.extend(engine.store().series(matchers, range).await.map_err(QueryError::Store)?);
    }
    found.sort_unstable();
    found.dedup();
    Ok(found)
}

fn about_query(error: QueryError) -> Failure {
    match error {
        QueryError::Invalid { .. } => Failure::about("query", error),
        other => Failure::from(other),
    }
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(0) + since
}
