//! One incident as one alert of Alertmanager's API v2.

use std::collections::BTreeMap;

use bellwether_models::incident::{Incident, Severity};
use bellwether_models::series::Timestamp;
use serde::{Deserialize, Serialize};

use crate::config::AlertsConfig;

/// Name of the alert of an incident.
pub const ALERT_NAME: &str = "BellwetherIncident";

const CAUSES_SHOWN: usize = 3;

/// One element of the body of `POST /api/v2/alerts`. Its labels are its identity, so nothing in them changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Alert {
    /// `alertname`, `workload`, `incident` and the configured labels.
    pub labels: BTreeMap<String, String>,
    /// What people read.
    pub annotations: BTreeMap<String, String>,
    /// Onset of the incident.
    #[serde(with = "rfc3339")]
    pub starts_at: Timestamp,
    /// Its end; left out while it fires, so that Alertmanager's `resolve_timeout` applies.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "optional_rfc3339")]
    pub ends_at: Option<Timestamp>,
    /// Link to the incident.
    #[serde(rename = "generatorURL", default, skip_serializing_if = "Option::is_none")]
    pub generator_url: Option<String>,
}

/// The alert of an incident that fires.
#[must_use]
pub fn of(incident: &Incident, config: &AlertsConfig) -> Alert {
    let mut labels = config.labels.clone();
    labels.insert("alertname".to_owned(), ALERT_NAME.to_owned());
    labels.insert("workload".to_owned(), incident.workload.clone());
    labels.insert("incident".to_owned(), incident.id.clone());
    Alert {
        labels,
        annotations: annotations(incident, config),
        starts_at: incident.onset,
        ends_at: None,
        generator_url: link(incident, config),
    }
}

fn annotations(incident: &Incident, config: &AlertsConfig) -> BTreeMap<String, String> {
    let mut notes = BTreeMap::from([
        ("summary".to_owned(), summary(incident)),
        ("description".to_owned(), description(incident)),
        ("affected".to_owned(), incident.services.join(", ")),
        ("impact".to_owned(), impact(incident).to_owned()),
        ("confidence".to_owned(), format!("{:.2}", incident.ranking.confidence)),
    ]);
    for (rank, cause) in incident.ranking.causes.iter().take(CAUSES_SHOWN).enumerate() {
        notes.insert(format!("cause_{}", rank + 1), format!("{} ({}): {}", cause.service, cause.metric, cause.summary));
    }
    if let Some(cause) = incident.ranking.causes.first().filter(|c| !c.doubt.is_empty()) {
        notes.insert("doubt".to_owned(), cause.doubt.clone());
    }
    if let Some(why) = &incident.ranking.abstained {
        notes.insert("not_sure".to_owned(), why.clone());
    }
    if let Some(runbook) = config.runbooks.get(&incident.workload) {
        notes.insert("runbook_url".to_owned(), runbook.clone());
    }
    notes
}

/// An annotation, not a label: it changes with the incident, and labels are identity.
fn impact(incident: &Incident) -> &'static str {
    match incident.severity {
        Severity::Warning => "warning",
        Severity::Critical => "critical",
    }
}

fn summary(incident: &Incident) -> String {
    let workload = &incident.workload;
    match (&incident.ranking.abstained, incident.ranking.causes.first()) {
        (None, Some(cause)) => format!("{workload} is ill; most likely cause: {} of {}", cause.metric, cause.service),
        (Some(_), Some(cause)) => format!("{workload} is ill; not sure why, first suspect: {}", cause.service),
        (_, None) => format!("{workload} is ill; no cause found"),
    }
}

/// The whole story in plain text, as it reads in a terminal.
fn description(incident: &Incident) -> String {
    let count = incident.anomalies.len();
    let symptoms = if count == 1 { "1 symptom".to_owned() } else { format!("{count} symptoms") };
    let mut text = format!("Since {}: {symptoms} of {} out of line.", text_of(incident.onset), incident.workload);
    for (rank, cause) in incident.ranking.causes.iter().take(CAUSES_SHOWN).enumerate() {
        text.push_str(&format!("\n{}. {} ({}): {}", rank + 1, cause.service, cause.metric, cause.summary));
    }
    text
}

fn link(incident: &Incident, config: &AlertsConfig) -> Option<String> {
    let base = config.external_url.as_deref()?.trim_end_matches('/');
    Some(format!("{base}/incidents/{}", path_segment(&incident.id)))
}

/// Percent-encodes what may not stand in a path segment (RFC 3986, section 3.3).
fn path_segment(text: &str) -> String {
    let mut segment = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => segment.push(byte as char),
            other => segment.push_str(&format!("%{other:02X}")),
        }
    }
    segment
}

/// RFC 3339 in UTC; what lies outside the calendar is clamped to it.
fn text_of(at: Timestamp) -> String {
    let end = if at < Timestamp::default() { jiff::Timestamp::MIN } else { jiff::Timestamp::MAX };
    jiff::Timestamp::from_millisecond(at.as_millis()).unwrap_or(end).to_string()
}

mod rfc3339 {
    use bellwether_models::series::Timestamp;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn serialize<S: Serializer>(at: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&super::text_of(*at))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
        let text = String::deserialize(deserializer)?;
        let at: jiff::Timestamp = text.parse().map_err(D::Error::custom)?;
        Ok(Timestamp::from_millis(at.as_millisecond()))
    }
}

mod optional_rfc3339 {
    use bellwether_models::series::Timestamp;
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(at: &Option<Timestamp>, serializer: S) -> Result<S::Ok, S::Error> {
        match at {
            Some(at) => super::rfc3339::serialize(at, serializer),
            None => serializer.serialize_none(),
        }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Timestamp>, D::Error> {
        #[derive(Deserialize)]
        struct Wrapped(#[serde(with = "super::rfc3339")] Timestamp);
        Ok(Option::<Wrapped>::deserialize(deserializer)?.map(|w| w.0))
    }
}
