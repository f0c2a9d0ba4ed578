//! Which incidents there are, and when their causes are sought (again). Pure.

use std::collections::BTreeMap;

use bellwether_models::incident::{Findings, Grouping, Incident, Sighting, Status, Topology, Tracker};
use bellwether_models::series::{Labels, Timestamp};
use serde::{Deserialize, Serialize};

use crate::config::DetectionConfig;
use crate::stream::{lasting, thresholds};

/// Incidents with the state of the search for their causes.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Incidents {
    tracker: Tracker,
    searches: BTreeMap<String, Search>,
}

/// When causes were sought, and on what grounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Search {
    again_at: Timestamp,
    services: usize,
    anomalies: usize,
}

impl Incidents {
    /// Takes in the anomalies seen at `now`, over `series` series in all; gives the incidents whose causes are to be
    /// sought: new ones, those that spread, and all again each time their age has doubled, while evidence still grows.
    pub fn observe(
        &mut self,
        now: Timestamp,
        seen: &[Sighting],
        topology: &Topology,
        config: &DetectionConfig,
        series: usize,
    ) -> Vec<Incident> {
        for change in self.tracker.observe(now, seen, topology, &grouping(config, series)) {
            tracing::info!(?change, "incident changed");
        }
        let open: Vec<Incident> = self.open().cloned().collect();
        self.searches.retain(|id, _| open.iter().any(|incident| incident.id == *id));
        open.into_iter().filter(|incident| self.is_due(incident, now, config)).collect()
    }

    /// Takes note until when the symptom behind each series has spoken.
    pub fn hear(&mut self, heard: &BTreeMap<Labels, Timestamp>) {
        self.tracker.hear(heard);
    }

    /// Notes what was found for `incident` at `now`.
    pub fn attach(&mut self, incident: &Incident, findings: Findings, now: Timestamp, config: &DetectionConfig) {
        let again_at = now + now.since(incident.onset).max(config.grid().times(1));
        let (services, anomalies) = (incident.services.len(), incident.anomalies.len());
        self.searches.insert(incident.id.clone(), Search { again_at, services, anomalies });
        self.tracker.note(&incident.id, findings);
    }

    /// Open incidents and those resolved lately, newest onset first.
    #[must_use]
    pub fn all(&self) -> Vec<Incident> {
        self.tracker.incidents().into_iter().cloned().collect()
    }

    /// Open incidents.
    pub fn open(&self) -> impl Iterator<Item = &Incident> {
        self.tracker.incidents().into_iter().filter(|incident| incident.status == Status::Open)
    }

    fn is_due(&self, incident: &Incident, now: Timestamp, config: &DetectionConfig) -> bool {
        let Some(last) = self.searches.get(&incident.id) else { return true };
        let spread = (incident.services.len(), incident.anomalies.len()) != (last.services, last.anomalies);
        let evidence_grows = now.since(incident.onset) <= config.reference;
        spread || (evidence_grows && now >= last.again_at)
    }
}

/// How anomalies are joined: by the usual spans where the grid is fine enough to tell them. One anomaly is enough for an
/// incident, since each was dear enough for the budget.
fn grouping(config: &DetectionConfig, series: usize) -> Grouping {
    let usual = Grouping::default();
    Grouping {
        join_window: lasting(config, usual.join_window),
        resolve_after: lasting(config, usual.resolve_after),
        reopen_within: lasting(config, usual.reopen_within),
        min_evidence: thresholds(config, series).opens,
        hold_silent: config.hold_silent,
        ..usual
    }
}
