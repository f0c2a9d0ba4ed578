//! PromQL over any store, with the answers of Prometheus 2.42.
//!
//! A query goes three ways, one after the other: `plan` turns its text into a typed plan, `fetch` brings the samples the
//! plan names, and `eval` computes the answer purely, all steps of a series at once. `http` serves the query API.
//! What is supported, and where it differs, is in `docs/reference/promql.md`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bellwether_models::series::{Labels, Step, Timestamp, Window};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

use crate::store::{Matcher, SeriesSamples, SharedStore, StoreError};

mod eval;
mod fetch;
mod grid;
pub mod http;
mod metric;
mod number;
mod plan;

#[cfg(test)]
mod tests;

use eval::Outcome;
use grid::Grid;
use plan::{Plan, Root};

/// How queries are answered, and how much one of them may cost.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EngineConfig {
    /// How far back an instant selector looks for the last sample. Default 5m, as in Prometheus.
    #[serde(with = "bellwether_models::duration::as_text")]
    #[schemars(with = "String")]
    pub lookback: Duration,
    /// Step of a subquery that names none, as in `[1h:]`. Default 1m.
    #[serde(with = "bellwether_models::duration::as_text")]
    #[schemars(with = "String")]
    pub subquery_step: Duration,
    /// Greatest number of samples and intermediate values held for one query. Default 50000000 (about 800 MB); a query
    /// that needs more is refused.
    pub max_samples: usize,
    /// Longest time for one query, waiting included. Default 2m.
    #[serde(with = "bellwether_models::duration::as_text")]
    #[schemars(with = "String")]
    pub timeout: Duration,
    /// Greatest number of steps of a range query. Default 11000, as in Prometheus.
    pub max_points: usize,
    /// Queries answered at the same time; others wait. Default 20; 0 counts as 1.
    pub concurrency: usize,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            lookback: Duration::from_secs(300),
            subquery_step: Duration::from_secs(60),
            max_samples: 50_000_000,
            timeout: Duration::from_secs(120),
            max_points: 11_000,
            concurrency: 20,
        }
    }
}

/// One element of an instant vector.
#[derive(Clone, Debug, PartialEq)]
pub struct InstantSample {
    /// Its labels.
    pub labels: Labels,
    /// Its value at the time of the query.
    pub value: f64,
}

/// The answer to an instant query.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A number.
    Scalar(f64),
    /// A text.
    Text(String),
    /// One value for each series; ordered only where the query orders (`sort`, `topk`).
    Vector(Vec<InstantSample>),
    /// Samples over a range, as a range selector gives them.
    Matrix(Matrix),
}

/// Series with their samples, in order of labels.
pub type Matrix = Vec<SeriesSamples>;

/// What a query's failure means to the one who asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The query, or a parameter, is wrong.
    BadData,
    /// The query is right, but the data do not allow it.
    Execution,
    /// It took too long.
    Timeout,
    /// The store failed.
    Internal,
}

/// Why a query has no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QueryError {
    /// The text is not a query.
    #[error("invalid query: {detail}")]
    Invalid {
        /// What is wrong with it.
        detail: String,
    },
    /// A function or operator that is not provided.
    #[error("{name} is not supported; docs/reference/promql.md lists what is")]
    Unsupported {
        /// Its name.
        name: String,
    },
    /// The range holds more steps than allowed.
    #[error(
        "exceeded maximum resolution of {limit} points per timeseries; try decreasing the query resolution (?step=XX)"
    )]
    TooManyPoints {
        /// Greatest number of steps.
        limit: usize,
    },
    /// The end lies before the start.
    #[error("end timestamp must not be before start time")]
    EndBeforeStart,
    /// The data do not allow what is asked.
    #[error("{detail}")]
    Execution {
        /// What was found.
        detail: String,
    },
    /// More samples than allowed.
    #[error(
        "query processing would load too many samples into memory: more than {limit}; narrow the range or the matchers"
    )]
    TooManySamples {
        /// Greatest number of samples.
        limit: usize,
    },
    /// Not answered in time.
    #[error("query timed out after {} in query execution", bellwether_models::duration::format(*.after))]
    Timeout {
        /// The longest time allowed.
        after: Duration,
    },
    /// The store failed.
    #[error("could not read the samples of the query")]
    Store(#[source] StoreError),
    /// The evaluation was abandoned.
    #[error("the query was abandoned")]
    Abandoned,
}

impl QueryError {
    /// What the failure means to the one who asked.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Invalid { .. } | Self::Unsupported { .. } | Self::TooManyPoints { .. } | Self::EndBeforeStart => {
                ErrorKind::BadData
            }
            Self::Execution { .. } | Self::TooManySamples { .. } => ErrorKind::Execution,
            Self::Timeout { .. } => ErrorKind::Timeout,
            Self::Store(_) | Self::Abandoned => ErrorKind::Internal,
        }
    }

    fn invalid(detail: impl Into<String>) -> Self {
        Self::Invalid { detail: detail.into() }
    }

    fn execution(detail: impl Into<String>) -> Self {
        Self::Execution { detail: detail.into() }
    }
}

/// A server that evaluates PromQL over the samples of a store.
#[async_trait]
pub trait Evaluator: Send + Sync {
    /// The value of `query` at one instant.
    ///
    /// # Errors
    /// [`QueryError`]: a wrong query, data that do not allow it, a limit of the server, or a server that fails.
    async fn instant(&self, query: &str, at: Timestamp, within: Duration) -> Result<Value, QueryError>;

    /// The values of `query` at `start`, `start + step` and so on up to `end`.
    ///
    /// # Errors
    /// As [`Evaluator::instant`].
    async fn range(
        &self,
        query: &str,
        start: Timestamp,
        end: Timestamp,
        step: Step,
        within: Duration,
    ) -> Result<Matrix, QueryError>;
}

/// The matchers of a series selector such as `up{job="node"}`.
///
/// # Errors
/// [`QueryError::Invalid`] when the text is none.
pub fn matchers(selector: &str) -> Result<Vec<Matcher>, QueryError> {
    plan::series_matchers(selector)
}

/// Answers PromQL queries from a store. Where the store's server evaluates PromQL itself, queries go there whole. Cloning
/// shares the store and the limits.
#[derive(Clone)]
pub struct Engine {
    store: SharedStore,
    config: Arc<EngineConfig>,
    turns: Arc<Semaphore>,
}

impl Engine {
    /// An engine over `store`.
    #[must_use]
    pub fn new(store: SharedStore, config: EngineConfig) -> Self {
        let turns = Arc::new(Semaphore::new(config.concurrency.max(1)));
        Self { store, config: Arc::new(config), turns }
    }

    /// The store the answers come from.
    #[must_use]
    pub fn store(&self) -> &SharedStore {
        &self.store
    }

    /// The limits in force.
    #[must_use]
    pub fn config(&self) -> &EngineConfig {
        &self.config
    }

    /// The value of `query` at one instant.
    ///
    /// # Errors
    /// [`QueryError`]: a wrong query, data that do not allow it, a limit, or a store that fails.
    pub async fn instant(&self, query: &str, at: Timestamp) -> Result<Value, QueryError> {
        self.instant_within(query, at, self.config.timeout).await
    }

    /// As [`Engine::instant`], with a shorter timeout; a longer one has no effect.
    ///
    /// # Errors
    /// As [`Engine::instant`].
    pub async fn instant_within(&self, query: &str, at: Timestamp, within: Duration) -> Result<Value, QueryError> {
        if let Some(server) = self.store.evaluator() {
            let within = within.min(self.config.timeout);
            return self.timed(within, self.in_turn(server.instant(query, at, within))).await;
        }
        let grid = Grid::instant(at.as_millis());
        let plan = plan::plan(query, grid, at.as_millis(), &self.config)?;
        let outcome = self.answer(plan, grid, within).await?;
        Ok(outcome.into_value())
    }

    /// The values of `query` at `start`, `start + step` and so on up to `end`; a scalar becomes one series without labels.
    ///
    /// # Errors
    /// [`QueryError`], also when the query is not a scalar or an instant vector, or has too many steps.
    pub async fn range(&self, query: &str, start: Timestamp, end: Timestamp, step: Step) -> Result<Matrix, QueryError> {
        self.range_within(query, start, end, step, self.config.timeout).await
    }

    /// As [`Engine::range`], with a shorter timeout; a longer one has no effect.
    ///
    /// # Errors
    /// As [`Engine::range`].
    pub async fn range_within(
        &self,
        query: &str,
        start: Timestamp,
        end: Timestamp,
        step: Step,
        within: Duration,
    ) -> Result<Matrix, QueryError> {
        let grid = self.grid_between(start, end, step)?;
        if let Some(server) = self.store.evaluator() {
            let within = within.min(self.config.timeout);
            return self.timed(within, self.in_turn(server.range(query, start, end, step, within))).await;
        }
        Ok(self.steps(query, grid, end, within).await?.into_matrix(grid))
    }

    /// The values of `query` on the grid of `len` points from `start`: one window for each series, in order of labels.
    /// A point without a value is NaN.
    ///
    /// # Errors
    /// As [`Engine::range`].
    pub async fn window(
        &self,
        query: &str,
        start: Timestamp,
        step: Step,
        len: usize,
    ) -> Result<Vec<(Labels, Window)>, QueryError> {
        if len == 0 {
            return Ok(Vec::new());
        }
        let end = start + step.times(len - 1);
        let grid = self.grid_between(start, end, step)?;
        if self.store.evaluator().is_some() {
            let matrix = self.range(query, start, end, step).await?;
            return Ok(matrix.into_iter().map(|series| on_grid(series, start, step, len)).collect());
        }
        Ok(self.steps(query, grid, end, self.config.timeout).await?.into_windows(start, step))
    }

    fn grid_between(&self, start: Timestamp, end: Timestamp, step: Step) -> Result<Grid, QueryError> {
        let grid =
            Grid::between(start.as_millis(), end.as_millis(), step.as_millis()).ok_or(QueryError::EndBeforeStart)?;
        // Prometheus compares the whole steps between the ends: one point more is allowed.
        if grid.len > self.config.max_points.saturating_add(1) {
            return Err(QueryError::TooManyPoints { limit: self.config.max_points });
        }
        Ok(grid)
    }

    async fn steps(&self, query: &str, grid: Grid, end: Timestamp, within: Duration) -> Result<Outcome, QueryError> {
        let plan = plan::plan(query, grid, end.as_millis(), &self.config)?;
        match plan.root {
            Root::Scalar(_) | Root::Vector(_) => self.answer(plan, grid, within).await,
            Root::Range(_) | Root::Text(_) => Err(QueryError::invalid(format!(
                "invalid expression type {:?} for range query, must be Scalar or instant Vector",
                plan.root.type_name()
            ))),
        }
    }

    async fn answer(&self, plan: Plan, grid: Grid, within: Duration) -> Result<Outcome, QueryError> {
        self.timed(within.min(self.config.timeout), self.in_turn(self.evaluate(plan, grid))).await
    }

    async fn timed<T>(
        &self,
        limit: Duration,
        answer: impl Future<Output = Result<T, QueryError>>,
    ) -> Result<T, QueryError> {
        let began = Instant::now();
        let answer = tokio::time::timeout(limit, answer).await;
        metrics::histogram!("bellwether_query_duration_seconds").record(began.elapsed().as_secs_f64());
        answer.unwrap_or(Err(QueryError::Timeout { after: limit }))
    }

    async fn in_turn<T>(&self, answer: impl Future<Output = Result<T, QueryError>>) -> Result<T, QueryError> {
        let _turn = self.turns.acquire().await.map_err(|_| QueryError::Abandoned)?;
        answer.await
    }

    async fn evaluate(&self, plan: Plan, grid: Grid) -> Result<Outcome, QueryError> {
        let mut budget = eval::Budget::new(self.config.max_samples);
        let data = fetch::fetch(&self.store, &plan.selectors, &mut budget).await?;
        let _abandon = StopOnDrop(budget.stop_flag());
        let lookback = grid::millis(self.config.lookback);
        tokio::task::spawn_blocking(move || {
            on_ample_stack(move || eval::evaluate(&plan.root, grid, &data, lookback, budget))
        })
        .await
        .map_err(|_| QueryError::Abandoned)?
    }
}

/// The samples of a series as a window of `len` points; NaN where the grid has none.
fn on_grid(series: SeriesSamples, start: Timestamp, step: Step, len: usize) -> (Labels, Window) {
    let mut values = vec![f64::NAN; len];
    for sample in &series.samples {
        let offset = sample.at.as_millis().saturating_sub(start.as_millis());
        let place = usize::try_from(offset / step.as_millis()).ok().filter(|_| offset % step.as_millis() == 0);
        if let Some(value) = place.and_then(|place| values.get_mut(place)) {
            *value = sample.value;
        }
    }
    (series.labels, Window { start, step, values })
}

/// Bytes of stack for an evaluation, which follows the nesting of its query: several times what the deepest one needs.
const STACK_BYTES: usize = 32 << 20;

/// Runs `evaluate` on a thread of its own, whose stack does not depend on who asks.
fn on_ample_stack(
    evaluate: impl FnOnce() -> Result<Outcome, QueryError> + Send + 'static,
) -> Result<Outcome, QueryError> {
    let thread = std::thread::Builder::new().name("query".to_owned()).stack_size(STACK_BYTES).spawn(evaluate);
    thread.ok().and_then(|thread| thread.join().ok()).unwrap_or(Err(QueryError::Abandoned))
}

/// Tells an evaluation that nobody waits for it any more.
struct StopOnDrop(Arc<AtomicBool>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
