//! Anomalies joined in time and topology: one incident instead of forty alerts.

use serde::{Deserialize, Serialize};

use crate::cause::{self, Ranking};
use crate::detect::Anomaly;
use crate::series::Timestamp;

mod cluster;
pub mod past;
mod topology;
pub mod track;
mod tracker;
mod word;

pub use past::{Outcome, Similar};
pub use topology::Topology;
pub use track::{Share, TrackRecord};
pub use tracker::{Change, Grouping, Sighting, Tracker};
pub use word::{Ended, Maintenance, People, Said, Standing, Word, leniency};

/// Whether an incident still lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Still lasting.
    Open,
    /// Over.
    Resolved,
}

/// How bad an incident is for users.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Something is unusual, but no symptom that users feel.
    #[default]
    Warning,
    /// A symptom that users feel is affected.
    Critical,
}

/// Something that is wrong with a workload, with what most likely broke first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Incident {
    /// Stable identity: the same incident keeps it over updates and restarts.
    pub id: String,
    /// The workload whose symptoms opened it.
    pub workload: String,
    /// Every service that shows an anomaly of it, sorted: how far it reaches.
    pub services: Vec<String>,
    /// How bad it is for users.
    pub severity: Severity,
    /// Whether it still lasts.
    pub status: Status,
    /// When the first of its anomalies began.
    pub onset: Timestamp,
    /// When it was opened.
    pub opened_at: Timestamp,
    /// When it was last updated.
    pub updated_at: Timestamp,
    /// When it was resolved.
    pub resolved_at: Option<Timestamp>,
    /// The incident that took it in, when the two turned out to be one.
    pub merged_into: Option<String>,
    /// Its anomalies, in order of onset.
    pub anomalies: Vec<Anomaly>,
    /// Ranked causes.
    pub ranking: Ranking,
    /// Services that call those out of order, directly or through others: whom it may reach next. Sorted.
    #[serde(default)]
    pub blast_radius: Vec<String>,
    /// Changes to its services and what they call, from an hour before its onset on; oldest first.
    #[serde(default)]
    pub changes: Vec<cause::Change>,
    /// Since when the symptoms that opened it are silent: it is then neither seen to last nor seen to be over.
    #[serde(default)]
    pub silent_since: Option<Timestamp>,
    /// The incident it was part of, before the two turned out to have nothing to do with one another.
    #[serde(default)]
    pub split_from: Option<String>,
    /// How often the trouble went away and came back.
    #[serde(default)]
    pub returns: u32,
}

/// What was found out about an incident.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Findings {
    /// See [`Incident::ranking`].
    pub ranking: Ranking,
    /// See [`Incident::changes`].
    pub changes: Vec<cause::Change>,
    /// See [`Incident::blast_radius`].
    pub blast_radius: Vec<String>,
}
