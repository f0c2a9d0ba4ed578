//! Carrying decisions out.

pub mod keda;
pub mod offer;
mod retry;
pub mod shadow;
pub mod webhook;

use async_trait::async_trait;
use bellwether_models::series::{Labels, Timestamp};
use serde::{Deserialize, Serialize};

use crate::plan::Decision;
pub use retry::Backoff;

/// Something that can give a workload its replicas. Applying twice is applying once.
#[async_trait]
pub trait Actuator: Send + Sync {
    /// The name users see.
    fn name(&self) -> &'static str;

    /// Replicas of `workload` as the world behind the actuator tells them; `None` when it does not tell.
    ///
    /// # Errors
    /// [`ActError`] when it should tell and could not be asked: an error is never zero.
    async fn observe(&self, workload: &str) -> Result<Option<u32>, ActError>;

    /// Gives the workload `decision.to` replicas. `now` is the time that the receiver is told.
    ///
    /// # Errors
    /// [`ActError`], which says whether another attempt makes sense.
    async fn apply(&self, decision: &Decision, effect: Effect, now: Timestamp) -> Result<Applied, ActError>;
}

/// Whether something shall really happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It shall.
    Real,
    /// It shall only be tried as far as nothing happens.
    DryRun,
}

/// What became of a decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Applied {
    /// It was only written down.
    Recorded,
    /// The receiver took it.
    Accepted,
    /// It could have been carried out.
    WouldApply,
}

/// Why a decision could not be carried out.
#[derive(Debug, thiserror::Error)]
pub enum ActError {
    /// The receiver could not be reached.
    #[error("could not reach the receiver of decisions for {workload} at {url}")]
    Unreachable {
        /// Whose decision.
        workload: String,
        /// Where.
        url: String,
        /// Why.
        source: reqwest::Error,
    },
    /// The receiver said no.
    #[error("the receiver of decisions for {workload} at {url} answered {status}")]
    Refused {
        /// Whose decision.
        workload: String,
        /// Where.
        url: String,
        /// With which HTTP status.
        status: u16,
    },
    /// The receiver may not be dialled.
    #[error(
        "the receiver of decisions for {workload} at {url} is not dialled: {why}; scaling.allowed_networks names more networks"
    )]
    Forbidden {
        /// Whose decision.
        workload: String,
        /// Where.
        url: String,
        /// Why.
        why: String,
    },
    /// The signing key could not be read.
    #[error("could not read the signing key {path} for {workload}; check secret_file")]
    Key {
        /// Whose decision.
        workload: String,
        /// Which file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
}

impl ActError {
    /// Whether the same attempt may succeed later: not so when the receiver finds fault with the request itself.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Key { .. } => true,
            Self::Forbidden { .. } => false,
            Self::Refused { status, .. } => !(400..500).contains(status) || matches!(status, 408 | 425 | 429),
        }
    }
}

/// Where decisions are written as series; the composer hands it in.
#[async_trait]
pub trait SeriesSink: Send + Sync {
    /// Writes one value for each series at `at`.
    ///
    /// # Errors
    /// [`SinkError`] when they were not taken.
    async fn write(&self, at: Timestamp, values: Vec<(Labels, f64)>) -> Result<(), SinkError>;
}

/// The series could not be written.
#[derive(Debug, thiserror::Error)]
#[error("could not write decisions as series")]
pub struct SinkError(#[source] pub Box<dyn std::error::Error + Send + Sync>);

/// The decisions of a plan as series: `bellwether_desired_replicas{workload}`, and what a plain reactive autoscaler
/// would run, `bellwether_reactive_replicas{workload}`. What is unknown is not written.
#[must_use]
pub fn as_series(decisions: &[Decision]) -> Vec<(Labels, f64)> {
    let series = |name: &str, workload: &str| Labels::metric(name).with("workload", workload);
    decisions
        .iter()
        .flat_map(|d| {
            [("bellwether_desired_replicas", d.to), ("bellwether_reactive_replicas", d.reactive)]
                .into_iter()
                .filter_map(move |(name, value)| Some((series(name, &d.workload), f64::from(value?))))
        })
        .collect()
}
