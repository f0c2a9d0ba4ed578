//! Carrying decisions out.

pub mod command;
pub mod external_metrics;
pub mod keda;
#[cfg(feature = "kubernetes")]
pub mod kubernetes;
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
    /// The program could not be started.
    #[error(
        "could not run {program}, which carries out decisions for {workload}; check that it is there and may be run"
    )]
    NotRun {
        /// Whose decision.
        workload: String,
        /// Which program.
        program: String,
        /// Why.
        source: std::io::Error,
    },
    /// The program did not succeed.
    #[error("{program}, which carries out decisions for {workload}, ended with {code}")]
    Unsuccessful {
        /// Whose decision.
        workload: String,
        /// Which program.
        program: String,
        /// Its exit code; -1 for a signal.
        code: i32,
        /// Whether it asks for another attempt.
        again: bool,
    },
    /// There is no cluster to ask.
    #[error("no cluster is known in which {workload} could be scaled; this build has no feature kubernetes")]
    NoCluster {
        /// Whose decision.
        workload: String,
    },
    /// The object is not there.
    #[error("there is no {object}, which is to be scaled for {workload}")]
    Missing {
        /// Whose decision.
        workload: String,
        /// Which object.
        object: String,
    },
    /// We may not.
    #[error(
        "{object} may not be scaled for {workload}: {why}; deploy/kubernetes/rbac.yaml has the rights that are needed"
    )]
    NotPermitted {
        /// Whose decision.
        workload: String,
        /// Which object.
        object: String,
        /// As the cluster says it.
        why: String,
    },
    /// It is not ours to scale.
    #[error("{object} is left alone, not scaled for {workload}: {why}")]
    LeftAlone {
        /// Whose decision.
        workload: String,
        /// Which object.
        object: String,
        /// Who scales it, or who said so.
        why: String,
    },
    /// Somebody else set its replicas at the same time.
    #[error("somebody else changed {object} at the same time; {workload} is decided anew")]
    Contested {
        /// Whose decision.
        workload: String,
        /// Which object.
        object: String,
    },
    /// Another of us has been chosen to act since the decision was made.
    #[error("{object} is not scaled for {workload}: the lease was lost before the decision was carried out")]
    NotChosen {
        /// Whose decision.
        workload: String,
        /// Which object.
        object: String,
    },
    /// The cluster's API did not answer as it should.
    #[error("the cluster did not answer about {object}, which is to be scaled for {workload}")]
    Cluster {
        /// Whose decision.
        workload: String,
        /// Which object.
        object: String,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// No answer in time.
    #[error("{actuator} did not carry out a decision for {workload} in time")]
    TooSlow {
        /// Whose decision.
        workload: String,
        /// By whom.
        actuator: &'static str,
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
            Self::Unsuccessful { again, .. } => *again,
            Self::Unreachable { .. }
            | Self::NotRun { .. }
            | Self::Key { .. }
            | Self::Missing { .. }
            | Self::NotPermitted { .. }
            | Self::Cluster { .. }
            | Self::TooSlow { .. } => true,
            Self::Forbidden { .. }
            | Self::NoCluster { .. }
            | Self::LeftAlone { .. }
            | Self::Contested { .. }
            | Self::NotChosen { .. } => false,
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
