//! Change events: deploys, configuration changes, scalings.
//!
//! A change is kept as a sample of the series `bellwether_change{service,kind,…}` at its time, so it is durable, lives as
//! long as other samples, shows in PromQL and dashboards, and is at hand when the cause of an incident is looked for.

use std::collections::BTreeMap;

use axum::body::Bytes;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use bellwether_models::cause::Change;
use bellwether_models::series::{Labels, METRIC_NAME, Sample, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::ingest::{Ingest, is_label_name};
use crate::source::events;
use crate::source::moment::Moment;
use crate::store::{Matcher, SeriesSamples, SharedStore, Store, StoreError, TimeRange};

/// The metric under which changes are kept.
pub const METRIC: &str = "bellwether_change";

/// Most changes one question is answered with.
const MAX_CHANGES: usize = 10_000;

/// Something was changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChangeEvent {
    /// What was changed.
    pub service: String,
    /// How: `deploy`, `config`, `scale`, or a word of your own.
    pub kind: String,
    /// When. Left out: now.
    #[serde(default)]
    pub at: Option<Moment>,
    /// What else is worth knowing: `version`, `author`, `from`, `to`. Not `service` or `kind`.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
}

impl ChangeEvent {
    /// The change as a sample; `now` where it has no time.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn to_samples(&self, now: Timestamp) -> Result<SeriesSamples, String> {
        if self.service.is_empty() || self.kind.is_empty() {
            return Err("service and kind must not be empty".to_owned());
        }
        let reserved = |name: &str| matches!(name, "service" | "kind" | METRIC_NAME);
        if let Some(name) = self.labels.keys().find(|name| reserved(name) || !is_label_name(name)) {
            return Err(format!("{name:?} cannot be a label of a change"));
        }
        let own = [(METRIC_NAME, METRIC), ("service", &self.service), ("kind", &self.kind)];
        let others = self.labels.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let at = self.at.map_or(now, |moment| moment.0);
        Ok(SeriesSamples {
            labels: Labels::new(own.into_iter().chain(others)),
            samples: vec![Sample { at, value: 1.0 }],
        })
    }

    /// The change as the ranking of causes takes it.
    #[must_use]
    pub fn to_change(&self) -> Change {
        let at = self.at.map_or(Timestamp::MIN, |moment| moment.0);
        Change { service: self.service.clone(), kind: self.kind.clone(), at }
    }
}

/// The changes in `range`, oldest first.
///
/// # Errors
/// Those of the store.
pub async fn between(store: &dyn Store, range: TimeRange) -> Result<Vec<ChangeEvent>, StoreError> {
    let found = store.select(&[Matcher::equal(METRIC_NAME, METRIC)], range, MAX_CHANGES).await?;
    let mut changes: Vec<ChangeEvent> = found.iter().flat_map(events_of).collect();
    changes.sort_by_key(|change| change.at);
    Ok(changes)
}

fn events_of(series: &SeriesSamples) -> impl Iterator<Item = ChangeEvent> {
    let label = |name: &str| series.labels.get(name).unwrap_or("").to_owned();
    let others = series.labels.without(|name| matches!(name, "service" | "kind" | METRIC_NAME));
    let labels: BTreeMap<String, String> =
        others.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    series.samples.iter().map(move |sample| ChangeEvent {
        service: label("service"),
        kind: label("kind"),
        at: Some(Moment(sample.at)),
        labels: labels.clone(),
    })
}

/// `POST /api/v1/changes`: one change or a list of them; answers 204 when they are durable, all or none.
pub fn receiver(ingest: Ingest) -> Router {
    Router::new().route("/api/v1/changes", post(receive)).with_state(ingest)
}

/// `GET /api/v1/changes?start=…&end=…`: the changes in between, the last day by default.
pub fn reader(store: SharedStore, ingest: Ingest) -> Router {
    Router::new().route("/api/v1/changes", get(read)).with_state((store, ingest))
}

const ORIGIN: &str = "changes";

async fn receive(State(ingest): State<Ingest>, body: Bytes) -> Response {
    let now = ingest.now();
    let samples = events::parse::<ChangeEvent>(&body).and_then(|changes| {
        let samples = changes
            .iter()
            .enumerate()
            .map(|(index, change)| change.to_samples(now).map_err(|problem| format!("change {index}: {problem}")));
        samples.collect::<Result<Vec<_>, _>>()
    });
    match samples {
        Ok(batch) => events::answer(ORIGIN, ingest.append(ORIGIN, batch).await),
        Err(problem) => events::refuse(ORIGIN, problem),
    }
}

#[derive(Deserialize)]
struct Asked {
    start: Option<String>,
    end: Option<String>,
}

async fn read(State((store, ingest)): State<(SharedStore, Ingest)>, Query(asked): Query<Asked>) -> Response {
    let now = ingest.now();
    let day = std::time::Duration::from_secs(86_400);
    let range = match (moment(asked.start, now - day), moment(asked.end, now)) {
        (Ok(from), Ok(to)) => TimeRange { from, to },
        (Err(problem), _) | (_, Err(problem)) => return events::refuse(ORIGIN, problem),
    };
    match between(&*store, range).await {
        Ok(changes) => Json(json!({ "status": "success", "data": changes })).into_response(),
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")).into_response(),
    }
}

/// A query parameter as an instant: a number of seconds, or RFC 3339.
fn moment(text: Option<String>, otherwise: Timestamp) -> Result<Timestamp, String> {
    let Some(text) = text else { return Ok(otherwise) };
    let json = if text.parse::<f64>().is_ok() { text.clone() } else { format!("{text:?}") };
    serde_json::from_str::<Moment>(&json).map(|moment| moment.0).map_err(|_| format!("{text:?} is not a time"))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::ingest::IngestConfig;
    use crate::store::memory::MemoryStore;

    const NOW: Timestamp = Timestamp::from_secs(1_700_000_000);

    fn door() -> (SharedStore, Ingest) {
        let store: SharedStore = Arc::new(MemoryStore::default());
        (store.clone(), Ingest::with_clock(store, IngestConfig::default(), Arc::new(|| NOW)))
    }

    async fn post(ingest: &Ingest, body: &str) -> StatusCode {
        receive(State(ingest.clone()), Bytes::from(body.to_owned())).await.status()
    }

    #[tokio::test]
    async fn changes_are_kept_and_given_back_in_order_of_time() {
        let (store, ingest) = door();
        let body = r#"[{"service": "cart", "kind": "deploy", "at": "2023-11-14T22:00:00Z", "labels": {"version": "2"}},
                       {"service": "payments", "kind": "config", "at": 1699999000}]"#;
        assert_eq!(post(&ingest, body).await, StatusCode::NO_CONTENT);
        assert_eq!(post(&ingest, r#"{"service": "cart", "kind": "scale"}"#).await, StatusCode::NO_CONTENT);

        let all = TimeRange { from: Timestamp::MIN, to: Timestamp::MAX };
        let changes = between(&*store, all).await.unwrap();

        let told: Vec<_> = changes.iter().map(|c| (c.service.as_str(), c.kind.as_str(), c.to_change().at)).collect();
        let at = Timestamp::from_secs;
        assert_eq!(
            told,
            [("payments", "config", at(1_699_999_000)), ("cart", "deploy", at(1_699_999_200)), ("cart", "scale", NOW)]
        );
        assert_eq!(changes[1].labels["version"], "2");
    }

    #[tokio::test]
    async fn a_list_with_one_bad_change_is_refused_whole() {
        let (store, ingest) = door();
        for bad in [
            r#"[{"service": "cart", "kind": "deploy"}, {"service": "", "kind": "deploy"}]"#,
            r#"[{"service": "cart", "kind": "deploy"}, {"service": "x", "kind": "deploy", "labels": {"kind": "y"}}]"#,
            r#"{"service": "cart", "kind": "deploy", "when": 1}"#,
            r#"{"service": "cart"}"#,
            "",
            "[",
        ] {
            assert_eq!(post(&ingest, bad).await, StatusCode::BAD_REQUEST, "{bad}");
        }
        assert_eq!(store.stats().await.unwrap().samples, 0);
    }
}
