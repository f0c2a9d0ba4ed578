//! The API `external.metrics.k8s.io/v1beta1`: a Horizontal Pod Autoscaler asks for a workload's numbers as it asks for any
//! metric from outside the cluster.
//!
//! Written from the public definition of that API. The autoscaler adds up all values of an answer, so there is none where one of
//! them is missing: an error, a `Status` of Kubernetes, is what it holds at.

mod selector;

use std::collections::BTreeMap;
use std::time::Instant;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use bellwether_models::series::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::offer::{NoOffer, Offers};
use selector::{NoSelector, Selector};

/// Replicas decided, one value for each workload.
pub const DESIRED_REPLICAS: &str = "bellwether_desired_replicas";
/// Demand foreseen for when a replica that is asked for now would serve, at the quantile that decides; one value for each workload.
pub const FORECAST: &str = "bellwether_forecast";

const GROUP: &str = "external.metrics.k8s.io";
const VERSION: &str = "external.metrics.k8s.io/v1beta1";
/// Largest number of thousandths that a quantity of Kubernetes holds exactly.
const MOST_MILLIS: f64 = 9e15;

/// Discovery and values, answered from the newest of `offers`. Whom to answer is the affair of whoever serves it.
pub fn router(offers: watch::Receiver<Offers>) -> Router {
    let at = |path: &str| format!("/apis/{VERSION}{path}");
    Router::new()
        .route("/apis", get(async || Json(json!({ "kind": "APIGroupList", "apiVersion": "v1", "groups": [group()] }))))
        .route(&format!("/apis/{GROUP}"), get(async || Json(group())))
        .route(&at(""), get(async || Json(resources())))
        .route(&at("/namespaces/{namespace}/{metric}"), get(values))
        .fallback(async |uri: Uri| status(StatusCode::NOT_FOUND, &format!("there is nothing at {}", uri.path())))
        .method_not_allowed_fallback(async |method: Method| {
            status(StatusCode::METHOD_NOT_ALLOWED, &format!("metrics are read: GET, not {method}"))
        })
        .with_state(offers)
}

/// An error as Kubernetes writes it.
#[must_use]
pub fn status(code: StatusCode, message: &str) -> Response {
    let body = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": reason(code), "code": code.as_u16(),
    });
    (code, Json(body)).into_response()
}

fn reason(code: StatusCode) -> &'static str {
    match code {
        StatusCode::BAD_REQUEST => "BadRequest",
        StatusCode::UNAUTHORIZED => "Unauthorized",
        StatusCode::FORBIDDEN => "Forbidden",
        StatusCode::NOT_FOUND => "NotFound",
        StatusCode::METHOD_NOT_ALLOWED => "MethodNotAllowed",
        StatusCode::SERVICE_UNAVAILABLE => "ServiceUnavailable",
        _ => "InternalError",
    }
}

fn group() -> Value {
    let version = json!({ "groupVersion": VERSION, "version": "v1beta1" });
    json!({
        "kind": "APIGroup", "apiVersion": "v1", "name": GROUP, "versions": [version], "preferredVersion": version,
    })
}

fn resources() -> Value {
    json!({
        "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": VERSION,
        "resources": [{
            "name": "externalmetrics", "singularName": "", "namespaced": true, "kind": "ExternalMetricValueList", "verbs": ["get"],
        }],
    })
}

/// Why there are no values.
#[derive(Debug, thiserror::Error)]
enum NoValues {
    #[error("there is no metric {0:?}; there are {DESIRED_REPLICAS} and {FORECAST}")]
    Metric(String),
    #[error(transparent)]
    Selector(#[from] NoSelector),
    #[error(
        "no workload with the actuator external_metrics is told of in namespace {namespace:?} as {selector:?} selects"
    )]
    Nobody { namespace: String, selector: String },
    #[error(transparent)]
    NoOffer(#[from] NoOffer),
    #[error("the value of workload {0:?} is no number that can be told")]
    NoNumber(String),
}

impl IntoResponse for NoValues {
    fn into_response(self) -> Response {
        let code = match &self {
            Self::Metric(_) | Self::Nobody { .. } => StatusCode::NOT_FOUND,
            Self::Selector(_) => StatusCode::BAD_REQUEST,
            Self::NoOffer(_) | Self::NoNumber(_) => StatusCode::SERVICE_UNAVAILABLE,
        };
        status(code, &self.to_string())
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Asked {
    #[serde(default)]
    label_selector: String,
}

async fn values(
    State(offers): State<watch::Receiver<Offers>>,
    Path((namespace, metric)): Path<(String, String)>,
    asked: Result<Query<Asked>, QueryRejection>,
) -> Response {
    let selector = match asked {
        Ok(Query(asked)) => asked.label_selector,
        Err(fault) => return status(StatusCode::BAD_REQUEST, &fault.body_text()),
    };
    let found = list(&offers.borrow(), &namespace, &metric, &selector, Instant::now());
    let outcome = if found.is_ok() { "answered" } else { "refused" };
    metrics::counter!("bellwether_scheduler_external_metrics_answers_total", "outcome" => outcome).increment(1);
    found.map(Json).into_response()
}

/// The values of `metric` of all the workloads that are selected, or none.
fn list(offers: &Offers, namespace: &str, metric: &str, selector: &str, now: Instant) -> Result<Value, NoValues> {
    let told = match metric {
        DESIRED_REPLICAS => desired_replicas,
        FORECAST => forecast,
        _ => return Err(NoValues::Metric(metric.to_owned())),
    };
    let selects = Selector::parse(selector)?;
    let mut items = Vec::new();
    for workload in offers.in_namespace(namespace) {
        // Further labels are not known where there is no value: its name decides whether it would be missed.
        if !selects.may_match("workload", workload) {
            continue;
        }
        let sample = told(offers, workload, now)?;
        if selects.matches(&sample.labels) {
            let value = quantity(sample.value).ok_or_else(|| NoValues::NoNumber(workload.to_owned()))?;
            items.push(item(metric, &sample.labels, &value, offers.decided()));
        }
    }
    if items.is_empty() {
        return Err(NoValues::Nobody { namespace: namespace.to_owned(), selector: selector.to_owned() });
    }
    Ok(json!({ "kind": "ExternalMetricValueList", "apiVersion": VERSION, "metadata": {}, "items": items }))
}

struct Sample {
    labels: BTreeMap<&'static str, String>,
    value: f64,
}

fn desired_replicas(offers: &Offers, workload: &str, now: Instant) -> Result<Sample, NoOffer> {
    let value = f64::from(offers.metric_replicas(workload, now)?);
    Ok(Sample { labels: BTreeMap::from([("workload", workload.to_owned())]), value })
}

fn forecast(offers: &Offers, workload: &str, now: Instant) -> Result<Sample, NoOffer> {
    let foreseen = offers.metric_demand(workload, now)?;
    let labels = BTreeMap::from([("workload", workload.to_owned()), ("quantile", format!("{:.3}", foreseen.quantile))]);
    Ok(Sample { labels, value: foreseen.demand })
}

fn item(metric: &str, labels: &BTreeMap<&str, String>, value: &str, at: Timestamp) -> Value {
    let at = jiff::Timestamp::from_millisecond(at.as_millis()).unwrap_or_default().strftime("%Y-%m-%dT%H:%M:%SZ");
    json!({ "metricName": metric, "metricLabels": labels, "timestamp": at.to_string(), "value": value })
}

/// Thousandths, rounded up: what is asked for may be too much by that, not too little.
fn quantity(value: f64) -> Option<String> {
    let millis = (value.max(0.0) * 1000.0).ceil();
    (value.is_finite() && millis <= MOST_MILLIS).then(|| format!("{millis:.0}m"))
}

#[cfg(test)]
mod tests;
