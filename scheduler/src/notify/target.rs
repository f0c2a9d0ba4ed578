//! Receivers, and the bodies each of them takes.

use std::path::PathBuf;

use bellwether_models::incident::Severity;
use serde_json::{Value, json};

use super::config::AlertsConfig;
use super::notice::{Kind, Notice, State, text_of};

/// Slack takes at most this many characters in a section; PagerDuty in a summary.
const MOST_IN_SECTION: usize = 2900;
const MOST_IN_SUMMARY: usize = 1024;

/// One receiver.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    /// Its kind and name: what is remembered of it over a restart. No secret is part of it.
    pub key: String,
    /// How it is reached.
    pub way: Way,
}

/// How a receiver is reached.
#[derive(Clone, Debug, PartialEq)]
pub enum Way {
    /// A member of an Alertmanager cluster.
    Alertmanager {
        /// Its base URL.
        url: String,
    },
    /// A receiver of signed JSON.
    Webhook {
        /// Where to post.
        url: String,
        /// File with the key of the signature.
        secret_file: Option<PathBuf>,
    },
    /// A chat.
    Slack {
        /// File with the address.
        url_file: PathBuf,
    },
    /// A PagerDuty service.
    PagerDuty {
        /// Base URL of the events API.
        url: String,
        /// File with the routing key.
        routing_key_file: PathBuf,
    },
}

impl Target {
    /// Every receiver of `config`.
    #[must_use]
    pub fn all_of(config: &AlertsConfig) -> Vec<Self> {
        let alertmanagers = config.alertmanagers.iter().map(|url| {
            let url = url.trim_end_matches('/').to_owned();
            Self { key: format!("alertmanager {url}"), way: Way::Alertmanager { url } }
        });
        let webhooks = config.webhooks.iter().map(|w| {
            let way = Way::Webhook { url: w.url.clone(), secret_file: w.secret_file.clone() };
            Self { key: format!("webhook {}", w.name), way }
        });
        let chats = config.slack.iter().map(|s| {
            let way = Way::Slack { url_file: s.url_file.clone() };
            Self { key: format!("slack {}", s.name), way }
        });
        let pagers = config.pagerduty.iter().map(|p| {
            let url = p.url.trim_end_matches('/').to_owned();
            let way = Way::PagerDuty { url, routing_key_file: p.routing_key_file.clone() };
            Self { key: format!("pagerduty {}", p.name), way }
        });
        alertmanagers.chain(webhooks).chain(chats).chain(pagers).collect()
    }

    /// Its kind, as a label of our metrics.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self.way {
            Way::Alertmanager { .. } => "alertmanager",
            Way::Webhook { .. } => "webhook",
            Way::Slack { .. } => "slack",
            Way::PagerDuty { .. } => "pagerduty",
        }
    }

    /// Whether it must hear of a firing alert again and again to keep it alive, and of every change.
    #[must_use]
    pub(super) fn forgets(&self) -> bool {
        matches!(self.way, Way::Alertmanager { .. })
    }

    /// Whether it is reminded of what nobody acknowledged. A pager reminds people by itself.
    #[must_use]
    pub(super) fn is_reminded(&self) -> bool {
        matches!(self.way, Way::Webhook { .. } | Way::Slack { .. })
    }
}

/// The body for a chat: a line, the story, and links. `text` alone is what a notification or a terminal shows.
#[must_use]
pub(super) fn slack(notice: &Notice) -> Value {
    let headline = format!("{} {}", badge(notice), notice.title);
    let mut blocks = vec![section(&format!("*{}*", escaped(&headline)))];
    if !notice.is_over() {
        blocks.push(section(&escaped(&notice.text)));
        blocks.extend(not_empty(&notice.similar.join("\n")).map(|similar| section(&escaped(similar))));
    }
    let said = [notice.acknowledged_by.as_ref().map(|by| format!("looked after by {by}")), notice.remark.clone()];
    let links = [link("incident", notice.link.as_deref()), link("runbook", notice.runbook.as_deref())];
    let said = said.into_iter().flatten().map(|text| escaped(&text));
    let footer: Vec<String> = said.chain(links.into_iter().flatten()).chain([escaped(&notice.id)]).collect();
    blocks.push(json!({ "type": "context", "elements": [{ "type": "mrkdwn", "text": footer.join(" · ") }] }));
    json!({ "text": format!("{headline}\n{}", notice.text), "blocks": blocks })
}

/// The event for PagerDuty without its routing key.
#[must_use]
pub(super) fn pagerduty(notice: &Notice) -> Value {
    let action = match notice.state {
        State::Firing => "trigger",
        State::Acknowledged => "acknowledge",
        State::Resolved => "resolve",
    };
    let links = [("incident", &notice.link), ("runbook", &notice.runbook)];
    let links: Vec<Value> =
        links.into_iter().filter_map(|(text, href)| Some(json!({ "href": href.as_ref()?, "text": text }))).collect();
    json!({
        "event_action": action,
        "dedup_key": notice.id,
        "client": "Bellwether",
        "client_url": notice.link,
        "links": links,
        "payload": {
            "summary": cut(&notice.title, MOST_IN_SUMMARY),
            "source": notice.workload,
            "severity": severity(notice),
            "timestamp": text_of(notice.starts_at),
            "component": notice.causes.first().map(|cause| &cause.service),
            "group": notice.workload,
            "class": notice.kind,
            "custom_details": {
                "text": notice.text,
                "affected": notice.affected,
                "confidence": notice.confidence,
                "doubt": notice.doubt,
                "not_sure": notice.not_sure,
                "similar": notice.similar,
            },
        },
    })
}

fn severity(notice: &Notice) -> &'static str {
    match notice.severity {
        Severity::Critical => "critical",
        Severity::Warning => "warning",
    }
}

fn badge(notice: &Notice) -> &'static str {
    match (notice.state, notice.kind, notice.severity) {
        (State::Resolved, ..) => "[over]",
        (State::Acknowledged, ..) => "[acknowledged]",
        (State::Firing, Kind::Forecast, _) => "[foreseen]",
        (State::Firing, Kind::Model, _) => "[model]",
        (State::Firing, Kind::Incident, Severity::Critical) => "[critical]",
        (State::Firing, Kind::Incident, Severity::Warning) => "[warning]",
    }
}

fn section(text: &str) -> Value {
    json!({ "type": "section", "text": { "type": "mrkdwn", "text": cut(text, MOST_IN_SECTION) } })
}

fn link(name: &str, address: Option<&str>) -> Option<String> {
    let address = address?.replace(['<', '>', '|'], "");
    Some(format!("<{address}|{name}>"))
}

/// Slack's three control characters, so that no name of a series becomes a mention or a link.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn not_empty(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
}

fn cut(text: &str, most: usize) -> String {
    if text.chars().count() <= most { text.to_owned() } else { text.chars().take(most - 1).chain(['…']).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chat_message_reads_well_and_mentions_nobody() {
        let title = "checkout is ill; <!channel> & co".to_owned();
        let body = slack(&Notice { title, acknowledged_by: None, remark: None, ..Notice::sample() });
        assert_eq!(body["blocks"][0]["text"]["text"], "*[critical] checkout is ill; &lt;!channel&gt; &amp; co*");
        assert!(body["text"].as_str().is_some_and(|text| text.contains("\nSince 2023-11-14T22:12:20Z: 2 symptoms")));
        let footer = body["blocks"].as_array().and_then(|b| b.last()).expect("a footer")["elements"][0]["text"].clone();
        assert_eq!(
            footer,
            "<https://bellwether.example/incidents/inc-0123456789ab|incident> · \
             <https://wiki.example/checkout|runbook> · inc-0123456789ab"
        );
    }

    #[test]
    fn a_chat_message_keeps_the_limits_of_slack() {
        let body = slack(&Notice { text: "x".repeat(9000), ..Notice::sample() });
        let section = body["blocks"][1]["text"]["text"].as_str().expect("text");
        assert!(section.chars().count() <= 3000 && section.ends_with('…'));
    }

    #[test]
    fn a_page_is_triggered_acknowledged_and_resolved_under_one_key() {
        let event = |state| pagerduty(&Notice { state, ..Notice::sample() });
        let actions = [State::Firing, State::Acknowledged, State::Resolved].map(|s| event(s)["event_action"].clone());
        assert_eq!(actions, ["trigger", "acknowledge", "resolve"]);
        let event = event(State::Firing);
        assert_eq!(event["dedup_key"], "inc-0123456789ab");
        assert_eq!(event["payload"]["severity"], "critical");
        assert_eq!(event["payload"]["component"], "payments");
        assert_eq!(event["payload"]["timestamp"], "2023-11-14T22:13:20Z");
        assert_eq!(event["links"][1]["text"], "runbook");
        let long = pagerduty(&Notice { title: "é".repeat(2000), ..Notice::sample() });
        assert_eq!(long["payload"]["summary"].as_str().map(|s| s.chars().count()), Some(1024));
    }
}
