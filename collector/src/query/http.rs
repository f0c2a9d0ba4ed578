//! The query API of Prometheus, as Grafana and other clients call it.

use std::collections::{BTreeMap, BTreeSet};

use axum::Router;
use axum::extract::{Path, State};
use axum::routing::get;
use bellwether_models::series::{Labels, Timestamp};

use self::params::Params;
use self::reply::{Failure, Reply};
use super::plan::{is_label_name, parse, series_matchers};
use super::{Engine, QueryError};
use crate::ingest::{Ingest, wall_clock};
use crate::metadata::Described;
use crate::store::{Matcher, TimeRange, warnings};

mod params;
mod reply;
mod status;

/// The version of Prometheus whose query API this is; clients look at it to learn what they may ask.
const API_VERSION: &str = concat!("2.42.0+bellwether.", env!("CARGO_PKG_VERSION"));

/// The query API over a store alone: nothing is said of metrics, there are no rules, and the time is the wall clock's.
pub fn router(engine: Engine) -> Router {
    answers(Asked { engine, ingest: None })
        .route("/api/v1/rules", get(|| async { Reply::data(r#"{"groups":[]}"#) }))
        .route("/api/v1/alerts", get(|| async { Reply::data(r#"{"alerts":[]}"#) }))
}

/// `/api/v1/query`, `query_range`, `series`, `labels`, `label/{name}/values`, `metadata`, `format_query`, `parse_query`,
/// `status/buildinfo`, `status/tsdb`, and the empty answer of `query_exemplars`. GET and POST; parameters in the address, the
/// form, or both. What senders said of their metrics, and the time of a query that names none, come from `ingest`.
pub fn router_over(engine: Engine, ingest: Ingest) -> Router {
    answers(Asked { engine, ingest: Some(ingest) })
}

/// What the answers come from.
#[derive(Clone)]
struct Asked {
    engine: Engine,
    ingest: Option<Ingest>,
}

impl Asked {
    fn now(&self) -> Timestamp {
        self.ingest.as_ref().map_or_else(|| wall_clock()(), Ingest::now)
    }
}

fn answers(asked: Asked) -> Router {
    Router::new()
        .route("/api/v1/query", get(query).post(query))
        .route("/api/v1/query_range", get(query_range).post(query_range))
        .route("/api/v1/series", get(series).post(series))
        .route("/api/v1/labels", get(labels).post(labels))
        .route("/api/v1/label/{name}/values", get(label_values))
        .route("/api/v1/metadata", get(metadata))
        .route("/api/v1/format_query", get(format_query).post(format_query))
        .route("/api/v1/parse_query", get(parse_query).post(parse_query))
        .route("/api/v1/query_exemplars", get(|| async { Reply::data("[]") }).post(|| async { Reply::data("[]") }))
        .route("/api/v1/status/buildinfo", get(|| async { reply::build_info(API_VERSION) }))
        .route("/api/v1/status/tsdb", get(status::tsdb))
        .with_state(asked)
}

/// An answer with what was said beside it.
async fn heard(answer: impl Future<Output = Result<Reply, Failure>>) -> Result<Reply, Failure> {
    let (reply, warnings) = warnings::heard(answer).await;
    reply.map(|reply| reply.with_warnings(&warnings))
}

async fn query(State(asked): State<Asked>, params: Params) -> Result<Reply, Failure> {
    let at = params.time("time")?.unwrap_or_else(|| asked.now());
    let within = params.duration("timeout")?.unwrap_or(asked.engine.config().timeout);
    heard(async {
        let value = asked.engine.instant_within(params.text("query"), at, within).await.map_err(about_query)?;
        Ok(reply::value(&value, at))
    })
    .await
}

async fn query_range(State(asked): State<Asked>, params: Params) -> Result<Reply, Failure> {
    let (start, end) = (params.required_time("start")?, params.required_time("end")?);
    if end < start {
        return Err(Failure::bad_parameter("end", "end timestamp must not be before start time"));
    }
    let step = params.step()?;
    let engine = &asked.engine;
    let within = params.duration("timeout")?.unwrap_or(engine.config().timeout);
    heard(async {
        let matrix = engine.range_within(params.text("query"), start, end, step, within).await.map_err(about_query)?;
        Ok(reply::matrix(&matrix))
    })
    .await
}

async fn series(State(asked): State<Asked>, params: Params) -> Result<Reply, Failure> {
    let (selectors, limit) = (params.selectors()?, params.limit()?);
    if selectors.is_empty() {
        return Err(Failure::bad_data("no match[] parameter provided"));
    }
    let range = params.range()?;
    heard(async {
        let mut found = find(&asked.engine, &selectors, range).await?;
        truncate(&mut found, limit);
        Ok(reply::series(&found))
    })
    .await
}

async fn labels(State(asked): State<Asked>, params: Params) -> Result<Reply, Failure> {
    texts(&asked, &params, |labels| labels.iter().map(|(name, _)| name).collect()).await
}

async fn label_values(State(asked): State<Asked>, Path(name): Path<String>, params: Params) -> Result<Reply, Failure> {
    if !is_label_name(&name) {
        return Err(Failure::bad_data(&format!("invalid label name: {name:?}")));
    }
    texts(&asked, &params, |labels| labels.get(&name).into_iter().collect()).await
}

/// What `texts_of` finds in the series that are asked for, in order, each once.
async fn texts(asked: &Asked, params: &Params, texts_of: impl Fn(&Labels) -> Vec<&str>) -> Result<Reply, Failure> {
    let (limit, selectors, range) = (params.limit()?, params.selectors()?, params.range()?);
    heard(async {
        let found = find(&asked.engine, &selectors, range).await?;
        let texts: BTreeSet<&str> = found.iter().flat_map(texts_of).collect();
        let mut texts: Vec<&str> = texts.into_iter().collect();
        truncate(&mut texts, limit);
        Ok(reply::texts(texts))
    })
    .await
}

/// Cuts a list to `limit`, and says so.
fn truncate<T>(list: &mut Vec<T>, limit: Option<usize>) {
    if let Some(limit) = limit.filter(|limit| list.len() > *limit) {
        list.truncate(limit);
        warnings::say("results truncated due to limit");
    }
}

/// What senders said of their metrics; `limit` bounds the metrics, `limit_per_metric` what is told of each.
async fn metadata(State(asked): State<Asked>, params: Params) -> Result<Reply, Failure> {
    let (limit, each) = (params.limit()?, params.count("limit_per_metric")?);
    let metric = Some(params.text("metric")).filter(|metric| !metric.is_empty());
    let described = asked.ingest.map(|ingest| ingest.described(metric)).unwrap_or_default();
    let mut metrics: BTreeMap<&str, Vec<&Described>> = BTreeMap::new();
    for one in &described {
        let full = metrics.len() >= limit.unwrap_or(usize::MAX) && !metrics.contains_key(one.metric.as_str());
        if !full {
            metrics.entry(&one.metric).or_default().push(one);
        }
    }
    metrics.values_mut().for_each(|variants| variants.truncate(each.unwrap_or(usize::MAX)));
    Ok(Reply::json(&metrics))
}

async fn format_query(params: Params) -> Result<Reply, Failure> {
    let expression = parsed(&params)?;
    Ok(Reply::json(&expression.prettify()))
}

async fn parse_query(params: Params) -> Result<Reply, Failure> {
    Ok(Reply::json(&parsed(&params)?))
}

fn parsed(params: &Params) -> Result<promql_parser::parser::Expr, Failure> {
    parse(params.text("query")).map_err(about_query)
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
