//! What people are told of one matter, whatever the receiver: an incident, or a shortage that is foreseen.

use bellwether_models::cause::Change;
use bellwether_models::incident::{Incident, Outcome, People, Severity, Similar, Standing, Status};
use bellwether_models::outlook::TakenBack;
use bellwether_models::series::Timestamp;
use serde::{Deserialize, Serialize};

use super::config::AlertsConfig;

const CAUSES_SHOWN: usize = 3;
const CHANGES_SHOWN: usize = 5;

/// What people are told. Times are milliseconds since the Unix epoch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Notice {
    /// The incident or warning; the same through its whole life.
    pub id: String,
    /// What kind of matter it is.
    pub kind: Kind,
    /// Where it stands.
    pub state: State,
    /// The workload or quantity concerned.
    pub workload: String,
    /// How bad it is for users.
    pub severity: Severity,
    /// One line.
    pub title: String,
    /// The story in plain text, as it reads in a terminal.
    pub text: String,
    /// Since when.
    pub starts_at: Timestamp,
    /// Until when, once it is over.
    pub ends_at: Option<Timestamp>,
    /// Probability that the first cause is the true one, where causes were sought.
    pub confidence: Option<f64>,
    /// The likeliest causes, first suspect first.
    pub causes: Vec<CauseLine>,
    /// What speaks against the first cause; may be empty.
    pub doubt: String,
    /// Why no cause is named with confidence.
    pub not_sure: Option<String>,
    /// Services out of order.
    pub affected: Vec<String>,
    /// Services that call those out of order: whom it may reach next.
    #[serde(default)]
    pub blast_radius: Vec<String>,
    /// What was changed nearby, a sentence each.
    #[serde(default)]
    pub changes: Vec<String>,
    /// Similar incidents of the past, a sentence each.
    pub similar: Vec<String>,
    /// Who looks after it.
    pub acknowledged_by: Option<String>,
    /// Why it ended, when not by itself.
    pub remark: Option<String>,
    /// Link to it.
    pub link: Option<String>,
    /// What to do.
    pub runbook: Option<String>,
}

/// Kinds of matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Something is wrong.
    Incident,
    /// Something will be short.
    Forecast,
    /// A model that forecasts did worse than the one before it.
    Model,
}

/// Where a matter stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It lasts.
    Firing,
    /// It lasts, and somebody looks after it.
    Acknowledged,
    /// It is over.
    Resolved,
}

/// One suspect in a line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CauseLine {
    /// The service.
    pub service: String,
    /// Its most telling metric.
    pub metric: String,
    /// The evidence in a sentence.
    pub summary: String,
}

impl Notice {
    /// What people are told of a model that was taken back.
    #[must_use]
    pub fn of_model(gone: &TakenBack, people: &People, config: &AlertsConfig) -> Self {
        let TakenBack { workload, at, version, by, why } = gone;
        let part = workload.replace(|c: char| !c.is_ascii_alphanumeric(), "-");
        let id = format!("model-{part}-{:x}", at.as_millis());
        let runbook = config.runbooks.iter().find(|runbook| runbook.is_for(workload, None));
        let notice = Self {
            kind: Kind::Model,
            state: State::Firing,
            severity: Severity::Warning,
            title: format!("{workload}: model {version} was rolled back to {by}"),
            text: format!(
                "The model {workload}/{version} was taken back and {workload}/{by} forecasts again: {why}. \
                 `bellwether models audit {workload}` shows how it came about."
            ),
            starts_at: *at,
            ends_at: None,
            confidence: None,
            causes: Vec::new(),
            doubt: String::new(),
            not_sure: None,
            affected: vec![workload.clone()],
            blast_radius: Vec::new(),
            changes: Vec::new(),
            similar: Vec::new(),
            acknowledged_by: None,
            remark: None,
            link: None,
            runbook: runbook.map(|runbook| runbook.url.clone()),
            workload: workload.clone(),
            id,
        };
        let standing = people.standing(&notice.id);
        config.templates.applied_to(notice.as_people_say(&standing))
    }

    /// What people are told of `incident`, with what was said of it and of incidents like it.
    #[must_use]
    pub fn of(incident: &Incident, standing: &Standing, similar: &[Similar], config: &AlertsConfig) -> Self {
        let ranking = &incident.ranking;
        let line = |cause: &bellwether_models::cause::Cause| CauseLine {
            service: cause.service.clone(),
            metric: cause.metric.clone(),
            summary: cause.summary.clone(),
        };
        let causes: Vec<CauseLine> = ranking.causes.iter().take(CAUSES_SHOWN).map(line).collect();
        let suspect = causes.first().map(|cause| (cause.service.as_str(), cause.metric.as_str()));
        let runbook = config.runbooks.iter().find(|runbook| runbook.is_for(&incident.workload, suspect));
        let notice = Self {
            id: incident.id.clone(),
            kind: Kind::Incident,
            state: if incident.status == Status::Open { State::Firing } else { State::Resolved },
            workload: incident.workload.clone(),
            severity: incident.severity,
            title: title(incident),
            text: text(incident, &causes),
            starts_at: incident.onset,
            ends_at: incident.resolved_at,
            confidence: Some(ranking.confidence),
            doubt: ranking.causes.first().map(|cause| cause.doubt.clone()).unwrap_or_default(),
            not_sure: ranking.abstained.clone(),
            affected: incident.services.clone(),
            blast_radius: incident.blast_radius.clone(),
            changes: incident.changes.iter().rev().take(CHANGES_SHOWN).map(|c| changed(c, incident)).collect(),
            similar: similar.iter().map(remembered).collect(),
            acknowledged_by: None,
            remark: remark(incident),
            link: link(&incident.id, config),
            runbook: runbook.map(|runbook| runbook.url.clone()),
            causes,
        };
        config.templates.applied_to(notice.as_people_say(standing))
    }

    /// The notice in the light of what people said.
    #[must_use]
    pub fn as_people_say(mut self, standing: &Standing) -> Self {
        if self.state != State::Resolved
            && let Some(word) = standing.false_alarm()
        {
            self.state = State::Resolved;
            self.ends_at = Some(word.at);
            self.remark = Some(format!("a false alarm, says {}", word.by));
        }
        if let Some(word) = &standing.acknowledged {
            self.acknowledged_by = Some(word.by.clone());
            if self.state == State::Firing {
                self.state = State::Acknowledged;
            }
        }
        if let Some((service, _)) = standing.cause() {
            let by = standing.verdict.as_ref().map_or("", |word| &word.by);
            self.remark = Some(format!("the cause was {service}, says {by}"));
        }
        self
    }

    /// Whether it is over.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.state == State::Resolved
    }

    /// Whether `later` says something that people should hear at once, and not only find when they look.
    #[must_use]
    pub(super) fn is_news(&self, later: &Self) -> bool {
        let suspect = |notice: &Self| notice.causes.first().map(|cause| cause.service.clone());
        self.state != later.state || self.severity < later.severity || suspect(self) != suspect(later)
    }

    /// A made-up notice with every field filled in, to try templates on.
    #[must_use]
    pub(super) fn sample() -> Self {
        let cause = CauseLine {
            service: "payments".to_owned(),
            metric: "cpu".to_owned(),
            summary: "cpu of payments rose from 0.2 to 1.9.".to_owned(),
        };
        Self {
            id: "inc-0123456789ab".to_owned(),
            kind: Kind::Incident,
            state: State::Firing,
            workload: "checkout".to_owned(),
            severity: Severity::Critical,
            title: "checkout is ill; most likely cause: cpu of payments".to_owned(),
            text: "Since 2023-11-14T22:12:20Z: 2 symptoms of checkout out of line.".to_owned(),
            starts_at: Timestamp::from_secs(1_700_000_000),
            ends_at: Some(Timestamp::from_secs(1_700_000_600)),
            confidence: Some(0.83),
            causes: vec![cause],
            doubt: "latency of cart stands out almost as much.".to_owned(),
            not_sure: Some("several services changed alike".to_owned()),
            affected: vec!["checkout".to_owned(), "payments".to_owned()],
            blast_radius: vec!["web".to_owned()],
            changes: vec!["a deploy of payments 4 min before it began".to_owned()],
            similar: vec!["inc-ba9876543210 of 2023-11-01 was 80 % alike; the cause was payments".to_owned()],
            acknowledged_by: Some("kim".to_owned()),
            remark: Some("a false alarm, says kim".to_owned()),
            link: Some("https://bellwether.example/incidents/inc-0123456789ab".to_owned()),
            runbook: Some("https://wiki.example/checkout".to_owned()),
        }
    }
}

fn title(incident: &Incident) -> String {
    let workload = &incident.workload;
    match (&incident.ranking.abstained, incident.ranking.causes.first()) {
        (None, Some(cause)) => format!("{workload} is ill; most likely cause: {} of {}", cause.metric, cause.service),
        (Some(_), Some(cause)) => format!("{workload} is ill; not sure why, first suspect: {}", cause.service),
        (_, None) => format!("{workload} is ill; no cause found"),
    }
}

fn text(incident: &Incident, causes: &[CauseLine]) -> String {
    let count = incident.anomalies.len();
    let symptoms = if count == 1 { "1 symptom".to_owned() } else { format!("{count} symptoms") };
    let mut text = format!("Since {}: {symptoms} of {} out of line.", text_of(incident.onset), incident.workload);
    for (rank, cause) in causes.iter().enumerate() {
        text.push_str(&format!("\n{}. {} ({}): {}", rank + 1, cause.service, cause.metric, cause.summary));
    }
    text
}

fn changed(change: &Change, incident: &Incident) -> String {
    let seconds = (incident.onset.as_millis() - change.at.as_millis()) / 1000;
    let (minutes, side) = (seconds.abs() / 60, if seconds >= 0 { "before" } else { "after" });
    format!("a {} of {} {minutes} min {side} it began", change.kind, change.service)
}

fn remark(incident: &Incident) -> Option<String> {
    let merged = incident.merged_into.as_ref().map(|into| format!("it is part of {into}"));
    let silent = incident.silent_since.map(|at| format!("its symptoms are silent since {}", text_of(at)));
    merged.or(silent)
}

fn remembered(similar: &Similar) -> String {
    let outcome = match &similar.outcome {
        Outcome::Cause { service } => format!("the cause was {service}"),
        Outcome::FalseAlarm => "it was a false alarm".to_owned(),
        Outcome::Suspected { service } => format!("{service} was suspected"),
        Outcome::Unknown => "its cause is not known".to_owned(),
    };
    let day: String = text_of(similar.onset).chars().take(10).collect();
    format!("{} of {day} was {:.0} % alike; {outcome}", similar.incident, similar.likeness * 100.0)
}

/// The address of a matter on our own page.
pub(super) fn link(id: &str, config: &AlertsConfig) -> Option<String> {
    let base = config.external_url.as_deref()?.trim_end_matches('/');
    Some(format!("{base}/incidents/{}", path_segment(id)))
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
pub(super) fn text_of(at: Timestamp) -> String {
    let end = if at < Timestamp::default() { jiff::Timestamp::MIN } else { jiff::Timestamp::MAX };
    jiff::Timestamp::from_millisecond(at.as_millis()).unwrap_or(end).to_string()
}
