//! The HTTP faces: the pushes of senders, Prometheus' query API, our own records, health, and the page.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use bellwether_collector::ingest::Clock;
use bellwether_collector::query::Engine;
use bellwether_collector::source::push;
use bellwether_collector::source::scrape::Targets;
use bellwether_models::outlook::Snapshot;
use bellwether_models::series::Timestamp;
use bellwether_scheduler::Handle;
use tokio::sync::watch;
use tower_http::timeout::TimeoutLayer;

use crate::config::Config;
use crate::pipeline::Pipeline;

pub mod backends;
pub mod backup;
pub mod chart;
mod export;
mod extender;
mod limits;
mod load_report;
pub mod models;
mod overview;
pub mod page;
mod people;
mod prometheus;
mod records;
mod scaling;
pub mod system;

pub use system::{Reload, Reloads};

/// Longest time a request may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(120);

/// What the faces of a running system look at.
#[derive(Clone)]
pub struct Faces {
    /// Answers PromQL.
    pub engine: Engine,
    /// The newest snapshot.
    pub snapshots: watch::Receiver<Arc<Snapshot>>,
    /// Decisions and orders.
    pub scheduler: Handle,
    /// The configuration in force.
    pub config: watch::Receiver<Arc<Config>>,
    /// How the scrape targets stand.
    pub targets: Arc<dyn Fn() -> Targets + Send + Sync>,
    /// Whether the store takes samples and the first round is done.
    pub ready: watch::Receiver<bool>,
    /// How the configuration was read last.
    pub loaded: watch::Receiver<Loaded>,
    /// Asks for the configuration to be read again; `None` where there is no file.
    pub reloads: Option<Reloads>,
    /// What time it is: the wall clock's, or the replay's.
    pub clock: Clock,
    /// A line under the page's title.
    pub banner: Option<String>,
}

/// How the configuration was read.
#[derive(Clone, Copy, Debug)]
pub struct Loaded {
    /// When the one in force was read.
    pub at: Timestamp,
    /// Whether the last reading of all gave a configuration to go by.
    pub successful: bool,
}

/// Every route, behind the limits and the token of `config`.
///
/// # Errors
/// When the token's file cannot be read.
pub fn router(pipeline: &Pipeline, faces: Faces, config: &Config) -> anyhow::Result<Router> {
    let open = system::health_router(faces.clone());
    let models =
        models::Models { registry: pipeline.models(), config: faces.config.clone(), clock: faces.clock.clone() };
    let received = match config.store.refuses_others() {
        None => push::router_with(pipeline.ingest.clone(), config.push.clone()),
        Some(why) => push::events_router(pipeline.ingest.clone(), config.push.clone(), &why),
    };
    let mut guarded = received
        .merge(bellwether_collector::source::changes::reader(pipeline.store.clone(), pipeline.ingest.clone()))
        .merge(bellwether_collector::query::http::router_over(pipeline.engine.clone(), pipeline.ingest.clone()))
        .merge(backup::router(pipeline.store.clone(), config.store.embedded.backup_root.clone()))
        .merge(system::router(faces.clone()))
        .merge(records::router(faces.clone()))
        .merge(people::router(faces.clone()))
        .merge(scaling::router(faces.clone()))
        .merge(backends::router(faces.clone()))
        .merge(extender::router(faces.clone()))
        .merge(load_report::router(faces.clone()))
        .merge(prometheus::router(faces.clone()))
        .merge(limits::router(pipeline.ingest.clone()))
        .merge(models::router(models.clone()))
        .merge(export::router(pipeline.engine.clone(), faces.clock.clone()))
        .merge(overview::router(faces, models.registry))
        .fallback(|| async { (StatusCode::NOT_FOUND, "there is nothing here; the page is at /\n") });
    if let Some(token) = config.server.bearer_token()? {
        let token: Arc<str> = token.into();
        guarded = guarded.layer(middleware::from_fn(move |request, next| admit(token.clone(), request, next)));
    }
    Ok(guarded
        .merge(open)
        .layer(DefaultBodyLimit::max(config.server.max_body_bytes))
        .layer(TimeoutLayer::with_status_code(StatusCode::SERVICE_UNAVAILABLE, REQUEST_TIMEOUT)))
}

async fn admit(token: Arc<str>, request: Request, next: Next) -> Response {
    let shown = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    // Influx clients write `Token`, everybody else `Bearer`.
    let shown = shown.and_then(|value| value.strip_prefix("Bearer ").or_else(|| value.strip_prefix("Token ")));
    if shown.is_some_and(|shown| same(shown.trim().as_bytes(), token.as_bytes())) {
        return next.run(request).await;
    }
    let challenge = [(header::WWW_AUTHENTICATE, "Bearer")];
    (StatusCode::UNAUTHORIZED, challenge, "show the bearer token of server.bearer_token_file\n").into_response()
}

/// Compares in a time that does not depend on where the two differ.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |differing, (x, y)| differing | (x ^ y)) == 0
}
