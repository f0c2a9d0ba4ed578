//! Incidents into alerts: a state machine that is told of incidents and answers, and asked what to send.
//!
//! Alertmanager (API v2) is the hub. Each of its members gets every alert: on news at once, then again while it fires,
//! so that it stays alive; and when it is over its end is repeated for a while, so that no lost request leaves it
//! hanging. Webhooks, chats and PagerDuty get each piece of news once, and webhooks and chats a reminder of what nobody
//! acknowledged. What a receiver has not confirmed is sent again after a back-off. Delivery is at least once: what is
//! under way, and what each receiver has confirmed, is kept over a restart.

pub mod alert;
pub mod config;
pub mod notice;
pub mod target;
pub mod template;
pub mod warning;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bellwether_models::incident::People;
use bellwether_models::series::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::actuate::Backoff;
pub use alert::Alert;
pub use config::AlertsConfig;
pub use notice::{Notice, State};
pub use target::{Target, Way};

/// Most alerts in one request to Alertmanager.
const MOST_IN_REQUEST: usize = 200;
/// For how long what has ended is kept for a receiver that does not answer.
const PATIENCE: Duration = Duration::from_secs(24 * 3600);

/// The state machine.
#[derive(Debug)]
pub struct Notifier {
    config: AlertsConfig,
    targets: Vec<Target>,
    receivers: BTreeSet<String>,
    backoff: BTreeMap<String, Backoff>,
    alerts: BTreeMap<String, Tracked>,
    now: Timestamp,
}

/// One alert under way, by the id of its matter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Tracked {
    labels: BTreeMap<String, String>,
    notice: Notice,
    edition: Edition,
    /// The maintenance that keeps it from being opened.
    held_by: Option<String>,
    /// What each receiver has confirmed.
    told: BTreeMap<String, Told>,
}

/// Which edition of a notice: it changes with every change, and with those that are news.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Edition {
    change: u64,
    news: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Told {
    edition: Edition,
    at: Timestamp,
}

/// One request to send.
#[derive(Clone, Debug, PartialEq)]
pub struct Delivery {
    /// To whom.
    pub target: Target,
    /// The matters it is about.
    pub ids: Vec<String>,
    /// What the receiver takes; secrets are added on the way.
    pub body: Value,
    editions: Vec<Edition>,
}

/// How a receiver answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It took it.
    Delivered,
    /// It could not be reached, or asks to come back, possibly not before some time.
    Failed {
        /// How long it asks to be left alone.
        retry_after: Option<Duration>,
    },
    /// It finds fault with the request itself: the same again is of no use.
    Refused,
}

/// How an alert stands, for people.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AlertStatus {
    /// The incident or warning behind it.
    pub incident: String,
    /// Whether it fires or has ended.
    pub firing: bool,
    /// The maintenance that keeps it from being opened.
    pub held_by: Option<String>,
    /// When each receiver last confirmed it; `None` for not yet.
    pub confirmed: BTreeMap<String, Option<Timestamp>>,
    /// What was or will be sent to Alertmanager.
    pub alert: Alert,
}

/// What outlives a restart.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Memory {
    alerts: BTreeMap<String, Tracked>,
    /// Receivers there were.
    receivers: BTreeSet<String>,
}

impl Notifier {
    /// A notifier that goes on where `memory` ends. A receiver that is new does not hear of what is over.
    #[must_use]
    pub fn new(config: AlertsConfig, memory: Memory) -> Self {
        let mut notifier = Self {
            config: AlertsConfig::default(),
            targets: Vec::new(),
            receivers: memory.receivers,
            backoff: BTreeMap::new(),
            alerts: memory.alerts,
            now: Timestamp::MIN,
        };
        notifier.follow(config);
        notifier
    }

    /// Takes on another configuration. Alerts under way keep their labels, and with them their identity.
    pub fn follow(&mut self, config: AlertsConfig) {
        self.targets = Target::all_of(&config);
        self.config = config;
        let keys: BTreeSet<String> = self.targets.iter().map(|target| target.key.clone()).collect();
        self.backoff.retain(|key, _| keys.contains(key));
        for tracked in self.alerts.values_mut() {
            tracked.told.retain(|key, _| keys.contains(key));
            for new in keys.difference(&self.receivers).filter(|_| tracked.notice.is_over()) {
                tracked.told.insert(new.clone(), Told { edition: tracked.edition, at: self.now });
            }
        }
        self.receivers = keys;
    }

    /// What must outlive a restart.
    #[must_use]
    pub fn memory(&self) -> Memory {
        Memory { alerts: self.alerts.clone(), receivers: self.receivers.clone() }
    }

    /// Looks at all matters, lasting and lately over; one that fires and is no longer among them has ended. What people
    /// said is part of the notices already; here it says what maintenance holds back. Returns whether
    /// [`Notifier::memory`] has changed.
    pub fn on_notices(&mut self, now: Timestamp, notices: &[Notice], people: &People) -> bool {
        self.now = now;
        let before = self.alerts.clone();
        let mut waiting = 0;
        for notice in notices {
            let held_by = people.maintenance_of(&notice.affected, now).map(|m| m.id.clone());
            waiting += usize::from(!self.on_notice(notice, held_by));
        }
        metrics::gauge!("bellwether_scheduler_alerts_waiting").set(waiting as f64);
        let present: BTreeSet<&str> = notices.iter().map(|notice| notice.id.as_str()).collect();
        for tracked in self.alerts.iter_mut().filter(|(id, _)| !present.contains(id.as_str())).map(|(_, t)| t) {
            tracked.vanish(now);
        }
        self.alerts.retain(|_, tracked| tracked.held_by.is_none() || !tracked.notice.is_over());
        self.forget_the_ended(now);
        metrics::gauge!("bellwether_scheduler_alerts_under_way").set(self.alerts.len() as f64);
        self.alerts != before
    }

    /// Says whether there was room for it.
    fn on_notice(&mut self, notice: &Notice, held_by: Option<String>) -> bool {
        if let Some(tracked) = self.alerts.get_mut(&notice.id) {
            tracked.update(notice, held_by);
            return true;
        }
        if notice.is_over() {
            return true; // it never fired here, or has ended long ago: no news
        }
        if self.alerts.len() >= self.config.most_alerts {
            return false;
        }
        if let Some(maintenance) = &held_by {
            metrics::counter!("bellwether_scheduler_alerts_held_total").increment(1);
            tracing::info!(incident = %notice.id, %maintenance, "alert held back by maintenance");
        }
        let labels = alert::labels(notice, &self.config);
        let (edition, told) = (Edition::default(), BTreeMap::new());
        self.alerts.insert(notice.id.clone(), Tracked { labels, notice: notice.clone(), edition, held_by, told });
        true
    }

    fn forget_the_ended(&mut self, now: Timestamp) {
        let targets = &self.targets;
        let settled = |tracked: &Tracked| targets.iter().all(|target| tracked.is_up_to_date(target));
        let patience = |settled| if settled { self.config.resolve_repeat } else { PATIENCE };
        let over = self.alerts.iter().filter_map(|(id, tracked)| {
            let (ended, settled) = (tracked.over_since()?, settled(tracked));
            (now >= ended + patience(settled)).then(|| (id.clone(), settled))
        });
        for (id, settled) in over.collect::<Vec<_>>() {
            self.alerts.remove(&id);
            if !settled {
                metrics::counter!("bellwether_scheduler_alerts_given_up_total").increment(1);
                tracing::warn!(incident = %id, "gave up telling of an end to a receiver that never answered");
            }
        }
    }

    /// What is to be sent now: at most one request for each receiver.
    #[must_use]
    pub fn poll(&self, now: Timestamp) -> Vec<Delivery> {
        self.targets.iter().filter_map(|target| self.due(target, now)).collect()
    }

    /// What is to be sent to the receiver of that key, at the time that was told last.
    #[must_use]
    pub fn next_for(&self, key: &str) -> Option<Delivery> {
        self.due(self.targets.iter().find(|target| target.key == key)?, self.now)
    }

    /// Receivers for which something is to be sent.
    #[must_use]
    pub fn waiting(&self) -> Vec<String> {
        self.poll(self.now).into_iter().map(|delivery| delivery.target.key).collect()
    }

    fn due(&self, target: &Target, now: Timestamp) -> Option<Delivery> {
        if self.backoff.get(&target.key).is_some_and(|backoff| !backoff.is_due(now)) {
            return None;
        }
        let most = if target.forgets() { MOST_IN_REQUEST } else { 1 };
        let due: Vec<_> = self.alerts.iter().filter(|(_, t)| self.is_due(target, t, now)).take(most).collect();
        let (_, first) = due.first()?;
        let body = match &target.way {
            Way::Alertmanager { .. } => json!(due.iter().map(|(_, t)| t.alert()).collect::<Vec<Alert>>()),
            Way::Webhook { .. } => json!(first.notice),
            Way::Slack { .. } => target::slack(&first.notice),
            Way::PagerDuty { .. } => target::pagerduty(&first.notice),
        };
        let ids = due.iter().map(|(id, _)| (*id).clone()).collect();
        let editions = due.iter().map(|(_, t)| t.edition).collect();
        Some(Delivery { target: target.clone(), ids, body, editions })
    }

    /// An alert is due when it is news to the receiver, or its last confirmation has grown old.
    fn is_due(&self, target: &Target, tracked: &Tracked, now: Timestamp) -> bool {
        if tracked.held_by.is_some() {
            return false;
        }
        let Some(told) = tracked.told.get(&target.key) else { return true };
        if !tracked.is_up_to_date(target) {
            return true;
        }
        if target.forgets() {
            return now >= told.at + self.config.resend_interval.max(Duration::from_secs(1));
        }
        let unattended = tracked.notice.state == State::Firing;
        target.is_reminded() && unattended && now >= told.at + self.config.repeat_interval.max(Duration::from_secs(60))
    }

    /// Takes note of the answer to `delivery`; returns whether [`Notifier::memory`] has changed in what matters.
    pub fn on_answer(&mut self, now: Timestamp, delivery: &Delivery, answer: Answer) -> bool {
        let key = &delivery.target.key;
        if let Answer::Failed { retry_after } = answer {
            let backoff = self.backoff.entry(key.clone()).or_default();
            backoff.failed(now);
            backoff.wait_until(retry_after.map(|wait| now + wait));
            return false;
        }
        self.backoff.remove(key);
        let mut news = false;
        for (id, edition) in delivery.ids.iter().zip(&delivery.editions) {
            if let Some(tracked) = self.alerts.get_mut(id) {
                let told = tracked.told.insert(key.clone(), Told { edition: *edition, at: now });
                news |= !delivery.target.forgets() || told.is_none_or(|told| told.edition != *edition);
            }
        }
        news
    }

    /// How all alerts stand.
    #[must_use]
    pub fn status(&self) -> Vec<AlertStatus> {
        let confirmed = |tracked: &Tracked| {
            let of = |target: &Target| (target.key.clone(), tracked.told.get(&target.key).map(|told| told.at));
            self.targets.iter().map(of).collect()
        };
        let status = self.alerts.iter().map(|(id, tracked)| AlertStatus {
            incident: id.clone(),
            firing: !tracked.notice.is_over(),
            held_by: tracked.held_by.clone(),
            confirmed: confirmed(tracked),
            alert: tracked.alert(),
        });
        status.collect()
    }

    /// The time that was told last.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.now
    }
}

impl Tracked {
    fn alert(&self) -> Alert {
        Alert::of(&self.notice, &self.labels)
    }

    fn update(&mut self, notice: &Notice, held_by: Option<String>) {
        if self.held_by.is_some() {
            self.held_by = held_by; // what was opened before the maintenance goes on
        }
        let settled = self.notice.is_over() && notice.is_over();
        if settled || self.notice == *notice {
            return;
        }
        self.edition.change += 1;
        self.edition.news += u64::from(self.notice.is_news(notice));
        self.notice = notice.clone();
    }

    fn vanish(&mut self, now: Timestamp) {
        if !self.notice.is_over() {
            let (state, ends_at) = (State::Resolved, Some(now));
            self.update(&Notice { state, ends_at, ..self.notice.clone() }, None);
        }
    }

    fn over_since(&self) -> Option<Timestamp> {
        self.notice.ends_at.filter(|_| self.notice.is_over())
    }

    fn is_up_to_date(&self, target: &Target) -> bool {
        let Some(told) = self.told.get(&target.key) else { return false };
        if target.forgets() { told.edition == self.edition } else { told.edition.news == self.edition.news }
    }
}

#[cfg(test)]
mod tests;
