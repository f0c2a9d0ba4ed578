//! Receives samples that others send: remote write and line protocol over HTTP.
//!
//! [`router`] answers only when what it says is written is durable. A body is bounded before it is held in memory, and
//! its declared length before it is unpacked.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::{get, post};
use bytes::Bytes;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ingest::Ingest;
use crate::source::changes;
use crate::source::otlp::Totals;
use crate::source::secret::Secret;
use crate::source::size::ByteSize;
use crate::source::tasks::{TaskConfig, TaskDesk};

mod decoded;
mod influx;
mod known;
mod native;
mod otlp_http;
mod otlp_weight;
mod refusal;
mod remote_write;
mod tenant;
mod unpack;
mod wire;
mod write_v1;
mod write_v2;

use known::Known;
use refusal::PushRefusal;
use tenant::Tenants;

/// What is received, and from whom.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PushConfig {
    /// Largest body as sent; larger ones are answered 413. Default 32MB.
    pub max_body: ByteSize,
    /// Largest body after unpacking; larger ones are answered 413. Default 128MB.
    pub max_unpacked_body: ByteSize,
    /// A sender that takes longer over its body is answered 503, and may send again. Default 30s.
    #[serde(with = "bellwether_models::duration::as_text")]
    #[schemars(with = "String")]
    pub body_timeout: Duration,
    /// Who sends must show one of these as `Authorization: Bearer …` or `Token …`. Default none: anybody may send.
    pub tokens: Vec<Secret>,
    /// File with further tokens, one a line, read at every request.
    pub token_file: Option<PathBuf>,
    /// Header that names a tenant. The samples of each tenant count as a source of its own (`remote_write/team-a`) in
    /// `ingest.max_series_per_source`, in its share of `ingest.max_in_flight_bytes` and in metrics; they are stored as any
    /// others. Default `X-Scope-OrgID`; empty: the header is not looked at.
    pub tenant_header: String,
    /// How task events become metrics.
    pub tasks: TaskConfig,
}

impl Default for PushConfig {
    fn default() -> Self {
        Self {
            max_body: ByteSize::from_bytes(32 << 20),
            max_unpacked_body: ByteSize::from_bytes(128 << 20),
            body_timeout: Duration::from_secs(30),
            tokens: Vec::new(),
            token_file: None,
            tenant_header: "X-Scope-OrgID".to_owned(),
            tasks: TaskConfig::default(),
        }
    }
}

/// The routes that receive samples, open to anybody:
/// `POST /api/v1/write` (remote write), `POST /api/v2/write` and `/write` (line protocol), `GET /ping` (for its clients),
/// `POST /v1/metrics` and gRPC `MetricsService/Export` (OTLP), `POST /api/v1/changes`, `POST /api/v1/tasks/events`.
pub fn router(ingest: Ingest) -> Router {
    router_with(ingest, PushConfig::default())
}

/// As [`router`], with limits and tokens.
pub fn router_with(ingest: Ingest, config: PushConfig) -> Router {
    let routes = Router::new()
        .route("/api/v1/write", post(remote_write::receive))
        .route("/api/v2/write", post(influx::receive_v2))
        .route("/write", post(influx::receive_v1))
        .route("/v1/metrics", post(otlp_http::receive))
        .route(otlp_http::GRPC_PATH, post(otlp_http::receive_grpc));
    let events = events(&ingest, &config);
    let door = Door {
        ingest,
        config: Arc::new(config.clone()),
        deltas: Arc::default(),
        tenants: Tenants::default(),
        known: Arc::default(),
    };
    guarded(routes.with_state(door).merge(events), config).route("/ping", get(influx::ping))
}

/// As [`router_with`], for a store that has the samples of others already: only events are received, samples are answered
/// 403 with `why`, which their senders do not repeat.
pub fn events_router(ingest: Ingest, config: PushConfig, why: &str) -> Router {
    let why: Arc<str> = why.into();
    let paths = ["/api/v1/write", "/api/v2/write", "/write", "/v1/metrics", otlp_http::GRPC_PATH];
    let refusing = paths.into_iter().fold(Router::new(), |routes, path| {
        let why = why.clone();
        let refuse = async move || PushRefusal::KeptElsewhere(why.to_string()).answer("any", |text| text + "\n");
        routes.route(path, post(refuse))
    });
    guarded(refusing.merge(events(&ingest, &config)), config)
}

fn events(ingest: &Ingest, config: &PushConfig) -> Router {
    let desk = TaskDesk::new(ingest.clone(), config.tasks.clone());
    changes::receiver(ingest.clone()).merge(desk.router())
}

/// `router`, open only to who shows a token of `config`; to anybody where there is none.
pub fn guarded(router: Router, config: PushConfig) -> Router {
    if config.tokens.is_empty() && config.token_file.is_none() {
        return router;
    }
    router.layer(middleware::from_fn_with_state(Arc::new(config), admit))
}

async fn admit(State(config): State<Arc<PushConfig>>, request: Request, next: Next) -> Response {
    if shows_token(&config, request.headers()).await {
        return next.run(request).await;
    }
    PushRefusal::Unauthorized.answer("any", |text| text + "\n")
}

async fn shows_token(config: &PushConfig, headers: &HeaderMap) -> bool {
    let Some(shown) = shown_token(headers) else { return false };
    let listed = match &config.token_file {
        Some(path) => tokio::fs::read_to_string(path).await.unwrap_or_default(),
        None => String::new(),
    };
    let lines = listed.lines().map(str::trim).filter(|line| !line.is_empty());
    config.tokens.iter().map(Secret::reveal).chain(lines).any(|token| same(token, shown))
}

/// What every handler works with.
#[derive(Clone)]
struct Door {
    ingest: Ingest,
    config: Arc<PushConfig>,
    deltas: Arc<Mutex<Totals>>,
    tenants: Tenants,
    known: Arc<Known>,
}

impl Door {
    /// The source that samples of a request count for.
    fn source(&self, kind: &str, headers: &HeaderMap) -> Result<String, PushRefusal> {
        self.tenants.source(kind, &self.config.tenant_header, headers)
    }

    /// The body, within bounds of size and time.
    async fn body(&self, body: Body) -> Result<Bytes, PushRefusal> {
        let limit = usize::try_from(self.config.max_body.bytes()).unwrap_or(usize::MAX);
        let timeout = self.config.body_timeout;
        match tokio::time::timeout(timeout, axum::body::to_bytes(body, limit)).await {
            Err(_) => Err(PushRefusal::TooSlow { timeout }),
            Ok(Ok(bytes)) => Ok(bytes),
            Ok(Err(error)) if is_too_large(&error) => Err(PushRefusal::TooLarge { what: "body", limit: limit as u64 }),
            Ok(Err(error)) => Err(PushRefusal::BrokenOff(error)),
        }
    }
}

fn shown_token(headers: &HeaderMap) -> Option<&str> {
    let (kind, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    (kind.eq_ignore_ascii_case("bearer") || kind.eq_ignore_ascii_case("token")).then(|| token.trim())
}

/// Compares without telling by its duration where two tokens differ.
fn same(ours: &str, theirs: &str) -> bool {
    let differences = ours.bytes().zip(theirs.bytes()).fold(0, |all, (a, b)| all | (a ^ b));
    ours.len() == theirs.len() && differences == 0
}

fn is_too_large(error: &axum::Error) -> bool {
    let mut cause: Option<&dyn std::error::Error> = Some(error);
    while let Some(error) = cause {
        if error.to_string().contains("length limit exceeded") {
            return true;
        }
        cause = error.source();
    }
    false
}
