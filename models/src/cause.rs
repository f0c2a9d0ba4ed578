//! What broke first: the question, and the shape of the answer.

use serde::{Deserialize, Serialize};

use crate::series::Timestamp;

mod columns;
pub mod correlation;
mod dependence;
pub mod graph;
mod measure;
pub mod onset;
mod rank;
pub mod shift;
pub mod signal;
mod trust;
mod words;

pub use columns::NotAnIncident;
pub use rank::rank;
pub use trust::{Trust, Verdict};

/// Below this confidence a ranker says that it would rather not say.
const ABSTAIN_BELOW: f64 = 0.5;

/// One metric of one service over the window of an incident.
#[derive(Clone, Debug, PartialEq)]
pub struct Metric {
    /// The service it belongs to.
    pub service: String,
    /// The metric's own name: `latency`, `cpu`, …
    pub name: String,
    /// One value for each time of the window; NaN where there was no sample.
    pub values: Vec<f64>,
}

/// Everything a ranker may look at.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct IncidentWindow {
    /// Times of the rows, strictly ascending, not necessarily regular.
    pub times: Vec<Timestamp>,
    /// Metrics, each with `times.len()` values.
    pub metrics: Vec<Metric>,
    /// Index of the first row of the incident; rows before it are the reference.
    pub onset_row: usize,
    /// Index into `metrics` of the symptom that raised the alarm, where known.
    pub symptom: Option<usize>,
    /// Who calls whom: `(caller, callee)`.
    pub calls: Vec<(String, String)>,
    /// Changes near the onset.
    pub changes: Vec<Change>,
}

/// A deploy, a configuration change, a scaling action.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// The service that was changed.
    pub service: String,
    /// What kind: `deploy`, `config`, `scale`.
    pub kind: String,
    /// When.
    pub at: Timestamp,
}

/// One suspected cause with what speaks for it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cause {
    /// The suspected service.
    pub service: String,
    /// Its most telling metric.
    pub metric: String,
    /// Fused score; comparable only within one ranking.
    pub score: f64,
    /// What speaks for it, strongest first.
    pub evidence: Vec<Evidence>,
    /// The evidence as one plain sentence.
    pub summary: String,
    /// What would speak against it, as one plain sentence; empty when nothing stands out.
    pub doubt: String,
}

/// One piece of evidence, in numbers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Evidence {
    /// The metric's level moved.
    Shift {
        /// Robust level before the onset.
        before: f64,
        /// Robust level after it.
        after: f64,
        /// Size of the move in robust standard deviations, signed.
        sigmas: f64,
    },
    /// When the metric began to move, seconds after the onset of the incident (negative: before it).
    Onset {
        /// Seconds relative to the onset.
        seconds: f64,
    },
    /// It moves with the symptom.
    Correlation {
        /// Lagged Pearson correlation, `-1.0..=1.0`.
        r: f64,
        /// By how many seconds it leads the symptom.
        lead_seconds: f64,
    },
    /// Where it stands in the call graph.
    Topology {
        /// Calls between the symptom's service and this one.
        hops: usize,
        /// Whether none of its own callees is unhealthy.
        deepest: bool,
    },
    /// Before the incident the symptom used to follow it. A weak hint, learnt from ordinary times where no call graph says
    /// who depends on whom; it does not move the order of causes.
    Precedence {
        /// Correlation of changes from row to row, `-1.0..=1.0`.
        r: f64,
        /// By how many seconds the symptom followed.
        lead_seconds: f64,
    },
    /// A change was made to it nearby.
    Change {
        /// What kind of change.
        change: String,
        /// Seconds from the change to the onset.
        seconds_before: f64,
    },
}

/// The answer of a ranker.
#[derive(Clone, Debug, PartialEq, Default, Serialize, Deserialize)]
pub struct Ranking {
    /// Suspected services with their evidence, best first, one entry per service.
    pub causes: Vec<Cause>,
    /// Every metric as an index into [`IncidentWindow::metrics`], best first, with its score.
    pub metrics: Vec<(usize, f64)>,
    /// Probability that the first cause is the true one, `0.0..=1.0`.
    pub confidence: f64,
    /// The confidence before people's verdicts on earlier incidents moved it, when they did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unmoved_confidence: Option<f64>,
    /// Why the ranker would rather not say, when it abstains; the ranking is given all the same.
    pub abstained: Option<String>,
}
