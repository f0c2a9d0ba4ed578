//! PromQL over any store, with the answers of Prometheus 2.42.
//!
//! A query goes three ways, one after the other: `plan` turns its text into a typed plan, `fetch` brings the samples the
//! plan names, and `eval` computes the answer purely, all steps of a series at once. `http` serves the query API.
//! What is supported, and where it differs, is in `docs/reference/promql.md`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bellwether_models::series::{Labels, Step, Timestamp, Window};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

use crate::store::{SeriesSamples, SharedStore, StoreError};

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

/// Answers PromQL queries from a store. Cloning shares the store and the limits.
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
        let limit = within.min(self.config.timeout);
        let began = Instant::now();
        let answer = tokio::time::timeout(limit, self.evaluate(plan, grid)).await;
        metrics::histogram!("bellwether_query_duration_seconds").record(began.elapsed().as_secs_f64());
        answer.unwrap_or(Err(QueryError::Timeout { after: limit }))
    }

    async fn evaluate(&self, plan: Plan, grid: Grid) -> Result<Outcome, QueryError> {
        let _turn = self.turns.acquire().await.map_err(|_| QueryError::Abandoned)?;
        let mut budget = eval::Budget::new(self.config.max_samples);
        let data = fetch::fetch(&self.store, &plan.selectors, &mut budget).await?;
        let _abandon = StopOnDrop(budget.stop_flag());
        let lookback = grid::millis(self.config.lookback);
        tokio::task::spawn_blocking(move || eval::evaluate(&plan.root, grid, &data, lookback, budget))
            .await
            .map_err(|_| QueryError::Abandoned)?
    }
}

/// Tells an evaluation that nobody waits for it any more.
struct StopOnDrop(Arc<AtomicBool>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
