//! The store of a team that already runs Prometheus, Thanos, Mimir or VictoriaMetrics: nothing is stored twice.
//!
//! PromQL goes to that server whole; raw samples are asked for by range selectors; what Bellwether itself has to say is
//! written back by remote write, through a queue on disk (`remote`). See `docs/how-to/store-prometheus.md`.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bellwether_models::series::{Labels, Step, Timestamp};
use serde::de::DeserializeOwned;
use tracing::warn;

use super::remote::link::Link;
use super::remote::{LinkError, RemoteStore, Server, WriteError, unavailable};
use super::{Matcher, SampleRefusal, SeriesSamples, Store, StoreError, TimeRange, warnings};
use crate::query::{ErrorKind, Evaluator, Matrix, QueryError, Value};
use crate::remote_write;

mod api;
mod config;
mod write;

pub use config::{Accept, PrometheusConfig};

use api::{Fault, Found, Reply};

/// Greatest relative error of a value that VictoriaMetrics has kept: it stores decimal numbers.
const DECIMAL_ERROR: f64 = 1e-12;

/// Why the store could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The connection cannot be made as configured.
    #[error("could not prepare the connection to the Prometheus store")]
    Link(#[source] LinkError),
    /// The directory of the queue cannot be used.
    #[error("could not open the queue in {path}")]
    Queue {
        /// The directory.
        path: std::path::PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
}

/// The store on a Prometheus-compatible server. It takes up what waits to be sent; the server need not be there yet:
/// [`Store::check`] says whether it is. Must be called inside a tokio runtime.
///
/// # Errors
/// [`OpenError`] when a file of the configuration or the queue's directory cannot be used.
pub async fn open(config: PrometheusConfig) -> Result<impl Store, OpenError> {
    let query = Link::new(config.query_link()).await.map_err(OpenError::Link)?;
    let write = Link::new(config.write_link()).await.map_err(OpenError::Link)?;
    let path = config.path.join("queue");
    let remote = Remote { asked: Asked(Arc::new(query)), written_to: write, request_samples: config.request_samples };
    RemoteStore::open(remote, path.clone(), &config.queue).await.map_err(|source| OpenError::Queue { path, source })
}

struct Remote {
    asked: Asked,
    written_to: Link,
    request_samples: usize,
}

/// The query API of the server.
#[derive(Clone)]
struct Asked(Arc<Link>);

#[async_trait]
impl Server for Remote {
    fn name(&self) -> &'static str {
        "prometheus"
    }

    async fn write(&self, batch: &[SeriesSamples]) -> Result<(), WriteError> {
        let refused =
            |error: snap::Error| WriteError::Refused { refusal: SampleRefusal::Unstorable, detail: error.to_string() };
        let body = remote_write::encode(batch).map_err(refused)?;
        let request = self.written_to.post("").await.map_err(write::fault)?;
        let request = request
            .header("Content-Type", remote_write::V1_CONTENT_TYPE)
            .header("Content-Encoding", "snappy")
            .header("X-Prometheus-Remote-Write-Version", "0.1.0")
            .body(body);
        self.written_to.send("", request).await.map(drop).map_err(write::fault)
    }

    async fn read(
        &self,
        matchers: &[Matcher],
        range: TimeRange,
        limit: usize,
    ) -> Result<Vec<SeriesSamples>, StoreError> {
        let Some((selector, at)) = api::range_selector(matchers, range) else { return Ok(Vec::new()) };
        let form = [("query", selector), ("time", api::seconds(at))];
        let found: Found =
            self.asked.ask("/api/v1/query", &form, None).await.map_err(|error| failed("read samples", error))?;
        let mut found = found.into_matrix().unwrap_or_default();
        for series in &mut found {
            series.samples.retain(|sample| (range.from..=range.to).contains(&sample.at));
        }
        found.retain(|series| !series.samples.is_empty());
        if found.iter().map(|series| series.samples.len()).sum::<usize>() > limit {
            return Err(StoreError::TooLarge { limit });
        }
        Ok(found)
    }

    async fn series(&self, matchers: &[Matcher], range: TimeRange) -> Result<Vec<Labels>, StoreError> {
        let Some(range) = api::within_ever(range) else { return Ok(Vec::new()) };
        let form = [
            ("match[]", api::selector(matchers)),
            ("start", api::seconds(range.from)),
            ("end", api::seconds(range.to)),
        ];
        self.asked.ask("/api/v1/series", &form, None).await.map_err(|error| failed("list series", error))
    }

    async fn check(&self) -> Result<(), StoreError> {
        let form = [("query", "1".to_owned())];
        let found: Result<Found, AskError> = self.asked.ask("/api/v1/query", &form, None).await;
        found.map(drop).map_err(|error| failed("reach the server", error))
    }

    fn is_same(&self, written: f64, read: f64) -> bool {
        let close = (written - read).abs() <= DECIMAL_ERROR * written.abs();
        written == read || close || written.is_nan() && read.is_nan()
    }

    fn request_samples(&self) -> usize {
        self.request_samples
    }

    fn evaluator(&self) -> Option<Arc<dyn Evaluator>> {
        Some(Arc::new(self.asked.clone()))
    }
}

/// Why a question has no answer.
#[derive(Debug, thiserror::Error)]
enum AskError {
    #[error("{}", .0.detail)]
    Answered(Fault),
    #[error(transparent)]
    Link(#[from] LinkError),
}

impl Asked {
    async fn ask<T: DeserializeOwned>(
        &self,
        path: &str,
        form: &[(&str, String)],
        within: Option<Duration>,
    ) -> Result<T, AskError> {
        let mut request = self.0.post(path).await?.form(form);
        if let Some(within) = within {
            request = request.timeout(within);
        }
        // Thanos: a part of the answer is no answer.
        let request = request.query(&[("partial_response", "false")]);
        let response = request.send().await.map_err(|source| self.0.lost(path, source))?;
        let status = response.status();
        let body = self.0.body(path, response).await?;
        let reply: Reply<T> =
            serde_json::from_slice(&body).map_err(|error| self.unreadable(path, status, &body, &error))?;
        for warning in &reply.warnings {
            metrics::counter!("bellwether_store_warnings_total", "store" => "prometheus").increment(1);
            warn!(path, warning, "the store's server warns about an answer");
            warnings::say(warning);
        }
        reply.data().map_err(AskError::Answered)
    }

    fn unreadable(&self, path: &str, status: reqwest::StatusCode, body: &[u8], error: &serde_json::Error) -> LinkError {
        let url = self.0.url(path);
        let said = super::remote::link::shown(body);
        if status.is_success() {
            return LinkError::Answer { url, detail: format!("{error}: {said}") };
        }
        LinkError::Status { url, status: status.as_u16(), detail: said, retry_after: None }
    }
}

fn failed(action: &str, error: AskError) -> StoreError {
    unavailable(action, error)
}

fn about_query(error: AskError, within: Duration) -> QueryError {
    match error {
        AskError::Answered(Fault { kind: ErrorKind::BadData, detail }) => QueryError::Invalid { detail },
        AskError::Answered(Fault { kind: ErrorKind::Execution, detail }) => QueryError::Execution { detail },
        AskError::Answered(Fault { kind: ErrorKind::Timeout, .. }) => QueryError::Timeout { after: within },
        error => QueryError::Store(failed("hand the query to the server", error)),
    }
}

#[async_trait]
impl Evaluator for Asked {
    async fn instant(&self, query: &str, at: Timestamp, within: Duration) -> Result<Value, QueryError> {
        let form =
            [("query", query.to_owned()), ("time", api::seconds(at)), ("timeout", format!("{}ms", within.as_millis()))];
        let found: Result<Found, AskError> = self.ask("/api/v1/query", &form, Some(within)).await;
        found.map(Found::into_value).map_err(|error| about_query(error, within))
    }

    async fn range(
        &self,
        query: &str,
        start: Timestamp,
        end: Timestamp,
        step: Step,
        within: Duration,
    ) -> Result<Matrix, QueryError> {
        let form = [
            ("query", query.to_owned()),
            ("start", api::seconds(start)),
            ("end", api::seconds(end)),
            ("step", step.as_secs_f64().to_string()),
            ("timeout", format!("{}ms", within.as_millis())),
        ];
        let found: Result<Found, AskError> = self.ask("/api/v1/query_range", &form, Some(within)).await;
        let found = found.map_err(|error| about_query(error, within))?;
        found.into_matrix().ok_or_else(|| QueryError::Execution { detail: "the server gave no matrix".to_owned() })
    }
}
