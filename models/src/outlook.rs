//! What is known of one workload at one instant: the predictor's word to the scheduler.

use serde::{Deserialize, Serialize};

use crate::detect::{Anomaly, Vigilance};
use crate::forecast::Forecast;
use crate::incident::Incident;
use crate::series::Timestamp;

/// Forecast, scores and state of one workload at one instant.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outlook {
    /// The workload's name.
    pub workload: String,
    /// When it was made; an outlook grows stale.
    pub made_at: Timestamp,
    /// Which model of the workload's registry made the forecast.
    #[serde(default)]
    pub model: ModelRef,
    /// Newest demand with the time it was observed; `None` when there is no recent data (which is not zero).
    pub demand: Option<Observed>,
    /// Newest replica count with the time it was observed.
    pub replicas: Option<Observed>,
    /// The demand to come, or why nothing is said of it.
    pub foresight: Foresight,
    /// Anomalies of its symptoms that still last.
    pub anomalies: Vec<Anomaly>,
    /// How its replicas run.
    #[serde(default)]
    pub running: Running,
}

/// A model of a workload's registry.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ModelRef {
    /// What it is: `automatic`, `lstm` or `arima`.
    pub kind: String,
    /// Which of the workload's models; 0 for the combination that comes with the program.
    pub version: u64,
}

impl Default for ModelRef {
    fn default() -> Self {
        Self { kind: "automatic".to_owned(), version: 0 }
    }
}

/// How the replicas of a workload run, as far as anybody measures it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Running {
    /// Replicas that are ready to serve.
    pub ready: Option<Observed>,
    /// How full the ready ones are: 1 is all they can bear.
    pub utilisation: Option<Observed>,
    /// When it was last deployed or configured anew, within the last hour.
    pub changed_at: Option<Timestamp>,
}

/// A value with the time of its observation.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Observed {
    /// When.
    pub at: Timestamp,
    /// What; always finite.
    pub value: f64,
}

/// A forecast, or an abstention with its reason.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Foresight {
    /// The demand to come.
    Forecast {
        /// Its distribution.
        forecast: Forecast,
        /// Which model made it.
        model: String,
        /// The models compared, with their mean scaled pinball loss over the rolling origins; best first.
        scores: Vec<ModelScore>,
    },
    /// No forecast is better than a bad one.
    Abstained {
        /// What stands in the way, for people.
        reason: String,
    },
}

/// How well a model did on the recent past of a workload.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelScore {
    /// The model's name.
    pub model: String,
    /// Mean pinball loss over the rolling origins divided by that of seasonal naive; lower is better.
    pub relative_pinball_loss: f64,
}

/// Everything the predictor knows at one instant: the scheduler's facts.
#[derive(Clone, Debug, PartialEq, Default, Serialize, Deserialize)]
pub struct Snapshot {
    /// When it was made.
    pub made_at: Timestamp,
    /// One outlook for each configured workload.
    pub workloads: Vec<Outlook>,
    /// One outlook for each configured backend: its demand is the load it carries.
    pub backends: Vec<Outlook>,
    /// One outlook for each quantity that must not pass a limit.
    #[serde(default)]
    pub quantities: Vec<Outlook>,
    /// Open incidents, and those resolved lately, newest onset first.
    pub incidents: Vec<Incident>,
    /// How watchful detection is, and how often it raised an alarm.
    #[serde(default)]
    pub detection: Vigilance,
    /// Models that were lately taken back because they did worse than their predecessors.
    #[serde(default)]
    pub taken_back: Vec<TakenBack>,
}

/// A model that was rolled back by its record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TakenBack {
    /// The workload it forecast.
    pub workload: String,
    /// When.
    pub at: Timestamp,
    /// Which version.
    pub version: u64,
    /// Which version serves in its place.
    pub by: u64,
    /// In what way it did worse.
    pub why: String,
}
