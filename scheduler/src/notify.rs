//! Incidents into alerts: a state machine that is told of incidents and answers, and asked what to send.
//!
//! Alertmanager (API v2) is the hub. Each of its members gets every alert: on news at once, then again while it fires,
//! so that it stays alive; and when it is over its end is repeated for a while, so that no lost request leaves it
//! hanging. What a member has not confirmed is sent again after a back-off. Delivery is at least once: the state can be
//! kept over a restart.

pub mod alert;

use std::collections::BTreeMap;
use std::time::Duration;

use bellwether_models::incident::{Incident, Status};
use bellwether_models::series::Timestamp;
use serde::{Deserialize, Serialize};

use crate::actuate::Backoff;
use crate::config::AlertsConfig;
pub use alert::Alert;

/// The state machine.
#[derive(Debug)]
pub struct Notifier {
    config: AlertsConfig,
    alerts: BTreeMap<String, Tracked>,
    members: Vec<Member>,
}

/// One alert under way, by incident id.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Tracked {
    alert: Alert,
    /// When the incident was last changed: a change is news.
    version: Timestamp,
    /// When it ended.
    ended: Option<Timestamp>,
}

#[derive(Debug, Default)]
struct Member {
    url: String,
    backoff: Backoff,
    /// What it has confirmed, by incident: which version, whether as ended, and when.
    confirmed: BTreeMap<String, Confirmed>,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Confirmed {
    version: Timestamp,
    ended: bool,
    at: Timestamp,
}

/// One request to send.
#[derive(Clone, Debug, PartialEq)]
pub struct Delivery {
    /// Which member, as an index into the configured Alertmanagers.
    pub member: usize,
    /// Its base URL.
    pub url: String,
    /// The incidents behind the alerts, in the same order.
    pub incidents: Vec<String>,
    /// The alerts.
    pub alerts: Vec<Alert>,
}

/// How an alert stands, for people.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AlertStatus {
    /// The incident behind it.
    pub incident: String,
    /// Whether it fires or has ended.
    pub firing: bool,
    /// When each member last confirmed it, by URL; `None` for not yet.
    pub confirmed: BTreeMap<String, Option<Timestamp>>,
    /// What was or will be sent.
    pub alert: Alert,
}

/// What outlives a restart.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Memory {
    alerts: BTreeMap<String, Tracked>,
}

impl Notifier {
    /// A notifier that goes on where `memory` ends. Which member had confirmed what is not remembered: all is sent
    /// once more.
    #[must_use]
    pub fn new(config: AlertsConfig, memory: Memory) -> Self {
        let member = |url: &String| Member { url: url.trim_end_matches('/').to_owned(), ..Member::default() };
        let members = config.alertmanagers.iter().map(member).collect();
        Self { config, alerts: memory.alerts, members }
    }

    /// What must outlive a restart.
    #[must_use]
    pub fn memory(&self) -> Memory {
        Memory { alerts: self.alerts.clone() }
    }

    /// Looks at all incidents, open and lately resolved; one that fires and is no longer among them has ended.
    /// Returns whether [`Notifier::memory`] has changed.
    pub fn on_incidents(&mut self, now: Timestamp, incidents: &[Incident]) -> bool {
        let before = self.alerts.clone();
        for incident in incidents {
            self.on_incident(now, incident);
        }
        for (id, tracked) in &mut self.alerts {
            if tracked.ended.is_none() && !incidents.iter().any(|i| i.id == *id) {
                tracked.end(now);
            }
        }
        self.forget_the_ended(now);
        self.alerts != before
    }

    fn on_incident(&mut self, now: Timestamp, incident: &Incident) {
        let known = self.alerts.get(&incident.id);
        match incident.status {
            Status::Resolved => {
                // One that never fired here, or has ended long ago, is no news.
                if let Some(tracked) = self.alerts.get_mut(&incident.id).filter(|t| t.ended.is_none()) {
                    tracked.end(incident.resolved_at.unwrap_or(now).min(now));
                }
            }
            Status::Open if known.is_none_or(|t| t.ended.is_some() || t.version != incident.updated_at) => {
                let alert = alert::of(incident, &self.config);
                self.alerts.insert(incident.id.clone(), Tracked { alert, version: incident.updated_at, ended: None });
            }
            Status::Open => {}
        }
    }

    fn forget_the_ended(&mut self, now: Timestamp) {
        let repeat = self.config.resolve_repeat;
        let members = &self.members;
        self.alerts.retain(|id, tracked| {
            let told = members.iter().all(|m| m.confirmed.get(id).is_some_and(|c| c.ended));
            let Some(ended) = tracked.ended else { return true };
            let patience = if told { repeat } else { repeat.saturating_mul(12) };
            now < ended + patience
        });
        for member in &mut self.members {
            member.confirmed.retain(|id, _| self.alerts.contains_key(id));
        }
    }

    /// What is to be sent now: at most one request for each member.
    #[must_use]
    pub fn poll(&self, now: Timestamp) -> Vec<Delivery> {
        let deliveries = self.members.iter().enumerate().filter_map(|(index, member)| {
            let due: Vec<_> = self.alerts.iter().filter(|(id, t)| self.is_due(member, id, t, now)).collect();
            (member.backoff.is_due(now) && !due.is_empty()).then(|| Delivery {
                member: index,
                url: member.url.clone(),
                incidents: due.iter().map(|(id, _)| (*id).clone()).collect(),
                alerts: due.iter().map(|(_, t)| t.alert.clone()).collect(),
            })
        });
        deliveries.collect()
    }

    /// An alert is due when it is news to the member, or its last confirmation has grown old.
    fn is_due(&self, member: &Member, id: &str, tracked: &Tracked, now: Timestamp) -> bool {
        let Some(confirmed) = member.confirmed.get(id) else { return true };
        let is_news = confirmed.version != tracked.version || confirmed.ended != tracked.ended.is_some();
        is_news || now >= confirmed.at + self.resend_interval()
    }

    fn resend_interval(&self) -> Duration {
        self.config.resend_interval.max(Duration::from_secs(1))
    }

    /// Takes note of the answer to `delivery`.
    pub fn on_answer(&mut self, now: Timestamp, delivery: &Delivery, delivered: bool) {
        let Some(member) = self.members.get_mut(delivery.member) else { return };
        if !delivered {
            member.backoff.failed(now);
            return;
        }
        member.backoff.succeeded();
        for (id, alert) in delivery.incidents.iter().zip(&delivery.alerts) {
            if let Some(tracked) = self.alerts.get(id) {
                // What changed while the request was under way is still news.
                let version = if tracked.alert == *alert { tracked.version } else { Timestamp::MIN };
                let confirmed = Confirmed { version, ended: alert.ends_at.is_some(), at: now };
                member.confirmed.insert(id.clone(), confirmed);
            }
        }
    }

    /// How all alerts stand.
    #[must_use]
    pub fn status(&self) -> Vec<AlertStatus> {
        let confirmed =
            |id: &String| self.members.iter().map(|m| (m.url.clone(), m.confirmed.get(id).map(|c| c.at))).collect();
        let status = self.alerts.iter().map(|(id, t)| AlertStatus {
            incident: id.clone(),
            firing: t.ended.is_none(),
            confirmed: confirmed(id),
            alert: t.alert.clone(),
        });
        status.collect()
    }
}

impl Tracked {
    fn end(&mut self, at: Timestamp) {
        self.ended = Some(at);
        self.alert.ends_at = Some(at);
    }
}

#[cfg(test)]
mod tests;
