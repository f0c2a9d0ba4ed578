//! Task events: what happens to the work of a worker group, told over HTTP and turned into metrics.
//!
//! `POST /api/v1/tasks/events` takes one event or a list. An event told twice counts once. What the metrics are is decided by
//! pure code in `book`; the shell here writes them to the store after every request and at an interval.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::response::Response;
use axum::routing::post;
use bellwether_models::series::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;
use tracing::warn;

use crate::ingest::{Ingest, IngestError, Receipt};
use crate::source::events;
use crate::source::moment::Moment;

mod book;

use book::Book;

const ORIGIN: &str = "tasks";

/// How task events become metrics.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TaskConfig {
    /// A running task not heard of for this long counts as lost. Default 5m; 0: never.
    #[serde(with = "bellwether_models::duration::as_text")]
    #[schemars(with = "String")]
    pub lost_after: Duration,
    /// Time between two samples of every task metric. Default 15s; at least 1s.
    #[serde(with = "bellwether_models::duration::as_text")]
    #[schemars(with = "String")]
    pub interval: Duration,
    /// Tasks waiting or running that are followed at once; events of others are refused. Default 100,000.
    pub max_tasks: usize,
}

impl Default for TaskConfig {
    fn default() -> Self {
        Self { lost_after: Duration::from_secs(300), interval: Duration::from_secs(15), max_tasks: 100_000 }
    }
}

/// What happened to a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Happening {
    /// It waits for a worker.
    Submitted,
    /// A worker has it.
    Started,
    /// It still runs.
    Heartbeat,
    /// It still runs, and how far it is.
    Progress,
    /// It is done.
    Finished,
    /// It ended without success.
    Failed,
}

/// One event.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TaskEvent {
    /// The task's own id.
    pub task: String,
    /// What happened.
    pub event: Happening,
    /// When. Left out: now.
    #[serde(default)]
    pub at: Option<Moment>,
    /// The worker group. Default `default`.
    #[serde(default = "default_group")]
    pub group: String,
    /// The node it runs on, where known.
    #[serde(default)]
    pub node: String,
    /// What it was promised.
    #[serde(default)]
    pub resources: Resources,
    /// How far it is, `0.0..=1.0`.
    #[serde(default)]
    pub progress: Option<f64>,
    /// Why it failed, in a word.
    #[serde(default)]
    pub reason: String,
}

/// What a task was promised.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Resources {
    /// CPU cores.
    pub cpu_cores: f64,
    /// Bytes of memory.
    pub memory_bytes: f64,
}

fn default_group() -> String {
    "default".to_owned()
}

/// Receives task events and keeps their metrics. Cloning it gives another handle.
#[derive(Clone)]
pub struct TaskDesk {
    ingest: Ingest,
    config: TaskConfig,
    state: Arc<Mutex<Shared>>,
    /// Set once the metrics are written at the interval.
    runs: Arc<OnceLock<()>>,
}

struct Shared {
    book: Book,
    /// Samples of one series must not share a time.
    written: Timestamp,
}

impl TaskDesk {
    /// A desk with nothing on it.
    #[must_use]
    pub fn new(ingest: Ingest, config: TaskConfig) -> Self {
        let state = Shared { book: Book::new(config.max_tasks), written: Timestamp::MIN };
        Self { ingest, config, state: Arc::new(Mutex::new(state)), runs: Arc::default() }
    }

    /// `POST /api/v1/tasks/events`; answers 204 when what follows from the events is durable.
    pub fn router(&self) -> Router {
        Router::new().route("/api/v1/tasks/events", post(receive)).with_state(self.clone())
    }

    /// From the first event on the metrics are written at the interval.
    fn ensure_running(&self) {
        if self.runs.set(()).is_ok() {
            tokio::spawn(self.clone().run());
        }
    }

    /// Writes the metrics at the interval and counts lost tasks, until the future is dropped.
    async fn run(self) {
        let interval = self.config.interval.max(Duration::from_secs(1));
        let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + interval, interval);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        loop {
            ticks.tick().await;
            if let Err(error) = self.write(&[]).await {
                warn!(error = &error as &dyn std::error::Error, "task metrics were not kept");
            }
        }
    }

    /// Takes events in and writes the metrics.
    async fn write(&self, events: &[TaskEvent]) -> Result<Receipt, IngestError> {
        let mut state = self.state.lock().await;
        let now = self.ingest.now().max(state.written + Duration::from_millis(1));
        state.written = now;
        for event in events {
            state.book.enter(event, event.at.map_or(now, |moment| moment.0));
        }
        if !self.config.lost_after.is_zero() {
            state.book.count_lost(now - self.config.lost_after);
        }
        self.ingest.append(ORIGIN, state.book.samples(now)).await
    }

    async fn room_for(&self, events: &[TaskEvent]) -> bool {
        self.state.lock().await.book.has_room_for(events.len())
    }
}

async fn receive(State(desk): State<TaskDesk>, body: Bytes) -> Response {
    let events = events::parse::<TaskEvent>(&body).and_then(|events| {
        match events.iter().position(|event| event.task.is_empty() || event.group.is_empty()) {
            Some(index) => Err(format!("event {index}: task and group must not be empty")),
            None => Ok(events),
        }
    });
    match events {
        Err(problem) => events::refuse(ORIGIN, problem),
        Ok(events) if !desk.room_for(&events).await => {
            events::refuse(ORIGIN, format!("{} tasks are followed, the most allowed", desk.config.max_tasks))
        }
        Ok(events) => {
            desk.ensure_running();
            events::answer(ORIGIN, desk.write(&events).await)
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::http::StatusCode;

    use super::*;
    use crate::ingest::IngestConfig;
    use crate::store::memory::MemoryStore;
    use crate::store::{Matcher, Store, TimeRange};

    #[tokio::test]
    async fn events_are_durable_as_metrics_when_they_are_answered() {
        let now = Timestamp::from_secs(1_700_000_000);
        let store = Arc::new(MemoryStore::default());
        let ingest = Ingest::with_clock(store.clone(), IngestConfig::default(), Arc::new(move || now));
        let desk = TaskDesk::new(ingest, TaskConfig::default());
        let post = async |body: &str| receive(State(desk.clone()), Bytes::from(body.to_owned())).await.status();

        assert_eq!(post(r#"{"task": "a", "event": "submitted", "group": "batch"}"#).await, StatusCode::NO_CONTENT);
        assert_eq!(post(r#"[{"task": "a", "event": "started", "group": "batch"}]"#).await, StatusCode::NO_CONTENT);
        for bad in [r#"{"task": "a", "event": "paused"}"#, r#"{"task": "", "event": "started"}"#, "{"] {
            assert_eq!(post(bad).await, StatusCode::BAD_REQUEST, "{bad}");
        }

        let all = TimeRange { from: Timestamp::MIN, to: Timestamp::MAX };
        let running = Matcher::equal("__name__", "bellwether_tasks_running");
        let held = store.select(&[running], all, 100).await.unwrap();
        assert_eq!(held[0].samples.last().unwrap().value, 1.0);
        let submitted = Matcher::equal("__name__", "bellwether_tasks_submitted_total");
        let held = store.select(&[submitted], all, 100).await.unwrap();
        assert_eq!(held[0].samples.len(), 2, "two requests in one millisecond are two samples");
    }
}
