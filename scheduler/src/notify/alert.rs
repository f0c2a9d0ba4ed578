//! One matter as one alert of Alertmanager's API v2.

use std::collections::BTreeMap;

use bellwether_models::incident::{Incident, Severity, Similar, Standing};
use bellwether_models::series::Timestamp;
use serde::{Deserialize, Serialize};

use super::config::AlertsConfig;
use super::notice::{Kind, Notice};

/// Name of the alert of an incident.
pub const ALERT_NAME: &str = "BellwetherIncident";
/// Name of the alert of a shortage that is foreseen.
pub const FORECAST_NAME: &str = "BellwetherForecast";
/// The name of alerts of models that were taken back.
pub const MODEL_NAME: &str = "BellwetherModelRolledBack";

/// One element of the body of `POST /api/v2/alerts`. Its labels are its identity, so nothing in them changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Alert {
    /// `alertname`, `workload`, `incident` (or `forecast`) and the configured labels.
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

/// Labels of the alert of a matter: its identity.
#[must_use]
pub(super) fn labels(notice: &Notice, config: &AlertsConfig) -> BTreeMap<String, String> {
    let mut labels = config.labels.clone();
    let (name, id) = match notice.kind {
        Kind::Incident => (ALERT_NAME, "incident"),
        Kind::Forecast => (FORECAST_NAME, "forecast"),
        Kind::Model => (MODEL_NAME, "model"),
    };
    labels.insert("alertname".to_owned(), name.to_owned());
    labels.insert("workload".to_owned(), notice.workload.clone());
    labels.insert(id.to_owned(), notice.id.clone());
    labels
}

impl Alert {
    /// The alert of an incident, with what was said of it and of incidents like it.
    #[must_use]
    pub fn of_incident(incident: &Incident, standing: &Standing, similar: &[Similar], config: &AlertsConfig) -> Self {
        let notice = Notice::of(incident, standing, similar, config);
        Self::of(&notice, &labels(&notice, config))
    }

    /// The alert of `notice` under its `labels`.
    #[must_use]
    pub(super) fn of(notice: &Notice, labels: &BTreeMap<String, String>) -> Self {
        Self {
            labels: labels.clone(),
            annotations: annotations(notice),
            starts_at: notice.starts_at,
            ends_at: notice.ends_at.filter(|_| notice.is_over()),
            generator_url: notice.link.clone(),
        }
    }
}

fn annotations(notice: &Notice) -> BTreeMap<String, String> {
    // An annotation, not a label, is all that changes with the incident: labels are identity.
    let impact = match notice.severity {
        Severity::Warning => "warning",
        Severity::Critical => "critical",
    };
    let mut notes = BTreeMap::from([
        ("summary".to_owned(), notice.title.clone()),
        ("description".to_owned(), notice.text.clone()),
        ("affected".to_owned(), notice.affected.join(", ")),
        ("impact".to_owned(), impact.to_owned()),
    ]);
    for (rank, cause) in notice.causes.iter().enumerate() {
        notes.insert(format!("cause_{}", rank + 1), format!("{} ({}): {}", cause.service, cause.metric, cause.summary));
    }
    let doubt = Some(notice.doubt.clone()).filter(|doubt| !doubt.is_empty());
    let others = [
        ("confidence", notice.confidence.map(|confidence| format!("{confidence:.2}"))),
        ("doubt", doubt),
        ("not_sure", notice.not_sure.clone()),
        ("blast_radius", Some(notice.blast_radius.join(", ")).filter(|reach| !reach.is_empty())),
        ("changes", Some(notice.changes.join("\n")).filter(|changes| !changes.is_empty())),
        ("similar", Some(notice.similar.join("\n")).filter(|similar| !similar.is_empty())),
        ("acknowledged_by", notice.acknowledged_by.clone()),
        ("remark", notice.remark.clone()),
        ("runbook_url", notice.runbook.clone()),
    ];
    notes.extend(others.into_iter().filter_map(|(name, note)| Some((name.to_owned(), note?))));
    notes
}

mod rfc3339 {
    use bellwether_models::series::Timestamp;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn serialize<S: Serializer>(at: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&crate::notify::notice::text_of(*at))
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
