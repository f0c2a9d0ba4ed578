//! Where people are told of incidents, how often, and in which words.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use bellwether_models::duration::as_text;
use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::template::{TemplateError, Templates};

/// Where incidents are sent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AlertsConfig {
    /// Base URLs of all members of an Alertmanager cluster. Default none: incidents are only shown and logged.
    pub alertmanagers: Vec<String>,
    /// Receivers of signed JSON. Default none.
    pub webhooks: Vec<AlertWebhookConfig>,
    /// Chats that take Slack's incoming webhooks. Default none.
    pub slack: Vec<SlackConfig>,
    /// PagerDuty services (Events API v2). Default none.
    pub pagerduty: Vec<PagerDutyConfig>,
    /// Time between two sends of a firing alert to Alertmanager; must stay below its `resolve_timeout`. Default 1m.
    #[serde(with = "as_text")]
    #[schemars(with = "String")]
    pub resend_interval: Duration,
    /// Time after which chats and webhooks are reminded of an incident that nobody acknowledged. Default 4h.
    #[serde(with = "as_text")]
    #[schemars(with = "String")]
    pub repeat_interval: Duration,
    /// For how long the end of an alert is repeated to Alertmanager. Default 5m.
    #[serde(with = "as_text")]
    #[schemars(with = "String")]
    pub resolve_repeat: Duration,
    /// Longest wait for an answer. Default 5s.
    #[serde(with = "as_text")]
    #[schemars(with = "String")]
    pub timeout: Duration,
    /// Alerts under way at most; further incidents wait, and are counted, until there is room. Default 1000.
    pub most_alerts: usize,
    /// Address under which people reach this server; alerts link to it. Default none: alerts carry no link.
    pub external_url: Option<String>,
    /// Labels added to every alert. Default `severity: warning`.
    pub labels: BTreeMap<String, String>,
    /// Runbooks; the first whose patterns all match is linked. Default none.
    pub runbooks: Vec<Runbook>,
    /// Own words for titles and texts. Default ours.
    pub templates: Templates,
    /// When shortages that are foreseen are told.
    pub foresight: ForesightConfig,
    /// Networks that webhooks, chats and PagerDuty may lie in besides the public internet, such as `10.2.0.0/16`.
    /// Default none: an address of the machine itself, of its own networks or of a cloud's metadata service is refused
    /// when it is dialled, whatever name led there. Alertmanagers may lie anywhere.
    #[schemars(with = "Vec<String>")]
    pub allowed_networks: Vec<IpNet>,
}

impl Default for AlertsConfig {
    fn default() -> Self {
        Self {
            alertmanagers: Vec::new(),
            webhooks: Vec::new(),
            slack: Vec::new(),
            pagerduty: Vec::new(),
            resend_interval: Duration::from_secs(60),
            repeat_interval: Duration::from_secs(4 * 3600),
            resolve_repeat: Duration::from_secs(300),
            timeout: Duration::from_secs(5),
            most_alerts: 1000,
            external_url: None,
            labels: BTreeMap::from([("severity".to_owned(), "warning".to_owned())]),
            runbooks: Vec::new(),
            templates: Templates::default(),
            foresight: ForesightConfig::default(),
            allowed_networks: Vec::new(),
        }
    }
}

/// When shortages that are foreseen are told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ForesightConfig {
    /// Whether they are told at all. Default true.
    pub enabled: bool,
    /// For how long every forecast must foresee a shortage before it is told, and for how long none before it is over.
    /// Default 5m.
    #[serde(with = "as_text")]
    #[schemars(with = "String")]
    pub persist: Duration,
}

impl Default for ForesightConfig {
    fn default() -> Self {
        Self { enabled: true, persist: Duration::from_secs(300) }
    }
}

/// A receiver of each notice as signed JSON.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AlertWebhookConfig {
    /// Its name, unique among webhooks.
    pub name: String,
    /// Where to post.
    pub url: String,
    /// File whose content, without trailing line breaks, is the key of the HMAC-SHA256 signature. Left out: unsigned.
    #[serde(default)]
    pub secret_file: Option<PathBuf>,
}

/// A chat that takes Slack's incoming webhooks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SlackConfig {
    /// Its name, unique among chats.
    pub name: String,
    /// File that holds the webhook's address, which is a secret.
    pub url_file: PathBuf,
}

/// A PagerDuty service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PagerDutyConfig {
    /// Its name, unique among PagerDuty services.
    pub name: String,
    /// File that holds the integration's routing key.
    pub routing_key_file: PathBuf,
    /// Base URL of the events API. Default `https://events.pagerduty.com`.
    #[serde(default = "events_api")]
    pub url: String,
}

fn events_api() -> String {
    "https://events.pagerduty.com".to_owned()
}

/// A runbook and what it is for. A pattern is a regular expression that must match the whole; left out, anything matches.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Runbook {
    /// The workload that is ill.
    pub workload: Option<String>,
    /// The service of the first suspect.
    pub service: Option<String>,
    /// The metric of the first suspect.
    pub metric: Option<String>,
    /// Its address. Required.
    pub url: String,
}

impl Runbook {
    /// Whether it is for an illness of `workload` with this first suspect, `(service, metric)`.
    #[must_use]
    pub fn is_for(&self, workload: &str, suspect: Option<(&str, &str)>) -> bool {
        let fits = |pattern: &Option<String>, text: Option<&str>| match pattern {
            None => true,
            Some(pattern) => text.is_some_and(|text| whole(pattern).is_ok_and(|regex| regex.is_match(text))),
        };
        fits(&self.workload, Some(workload))
            && fits(&self.service, suspect.map(|(service, _)| service))
            && fits(&self.metric, suspect.map(|(_, metric)| metric))
    }
}

fn whole(pattern: &str) -> Result<regex::Regex, regex::Error> {
    regex::Regex::new(&format!("^(?:{pattern})$"))
}

/// Why alerts cannot be sent as configured.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AlertsFault {
    /// Two receivers of a kind share a name, or one has none.
    #[error("alerts.{kind}: the name {name:?} is empty or there already; names must differ")]
    Name {
        /// Which list.
        kind: &'static str,
        /// The name.
        name: String,
    },
    /// An address that is none.
    #[error("alerts.{at}: {url:?} is no http or https address")]
    Url {
        /// Where.
        at: &'static str,
        /// What stands there.
        url: String,
    },
    /// A pattern that is no regular expression.
    #[error("alerts.runbooks[{index}]: a pattern is no regular expression")]
    Pattern {
        /// Which runbook.
        index: usize,
        /// Why.
        #[source]
        source: regex::Error,
    },
    /// A template that cannot be filled in.
    #[error("alerts.templates.{which} cannot be filled in")]
    Template {
        /// Which.
        which: &'static str,
        /// Why.
        #[source]
        source: TemplateError,
    },
}

impl AlertsConfig {
    /// Whether alerts can be sent as configured. Reads no file and no network.
    ///
    /// # Errors
    /// The first fault.
    pub fn check(&self) -> Result<(), AlertsFault> {
        unique("webhooks", self.webhooks.iter().map(|w| &w.name))?;
        unique("slack", self.slack.iter().map(|s| &s.name))?;
        unique("pagerduty", self.pagerduty.iter().map(|p| &p.name))?;
        self.alertmanagers.iter().try_for_each(|url| address("alertmanagers", url))?;
        self.webhooks.iter().try_for_each(|w| address("webhooks", &w.url))?;
        self.pagerduty.iter().try_for_each(|p| address("pagerduty", &p.url))?;
        for (index, runbook) in self.runbooks.iter().enumerate() {
            let patterns = [&runbook.workload, &runbook.service, &runbook.metric];
            let checked = patterns.into_iter().flatten().try_for_each(|pattern| whole(pattern).map(drop));
            checked.map_err(|source| AlertsFault::Pattern { index, source })?;
        }
        self.templates.check().map_err(|(which, source)| AlertsFault::Template { which, source })
    }
}

fn unique<'a>(kind: &'static str, names: impl Iterator<Item = &'a String>) -> Result<(), AlertsFault> {
    let mut seen = BTreeSet::new();
    for name in names {
        if name.is_empty() || !seen.insert(name) {
            return Err(AlertsFault::Name { kind, name: name.clone() });
        }
    }
    Ok(())
}

fn address(at: &'static str, url: &str) -> Result<(), AlertsFault> {
    let parsed = reqwest::Url::parse(url).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
    parsed.filter(reqwest::Url::has_host).map(drop).ok_or_else(|| AlertsFault::Url { at, url: url.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runbook(workload: Option<&str>, service: Option<&str>) -> Runbook {
        let own = |text: Option<&str>| text.map(str::to_owned);
        Runbook { workload: own(workload), service: own(service), url: "https://wiki/x".to_owned(), metric: None }
    }

    #[test]
    fn a_runbook_is_for_what_all_its_patterns_match_whole() {
        assert!(runbook(None, None).is_for("shop", None));
        assert!(runbook(Some("sh.*"), None).is_for("shop", Some(("db", "cpu"))));
        assert!(!runbook(Some("sho"), None).is_for("shop", None));
        assert!(runbook(Some("shop"), Some("db|cache")).is_for("shop", Some(("cache", "cpu"))));
        assert!(!runbook(None, Some("db")).is_for("shop", None), "there is no suspect");
    }

    #[test]
    fn every_fault_is_named_with_its_place() {
        let webhook = |name: &str, url: &str| AlertWebhookConfig {
            name: name.to_owned(),
            url: url.to_owned(),
            secret_file: None,
        };
        let fault = |config: AlertsConfig| config.check().expect_err("a fault").to_string();
        let twice = vec![webhook("a", "http://x/"), webhook("a", "http://y/")];
        assert!(fault(AlertsConfig { webhooks: twice, ..AlertsConfig::default() }).contains("alerts.webhooks"));
        let odd = vec!["ftp://am".to_owned()];
        assert!(fault(AlertsConfig { alertmanagers: odd, ..AlertsConfig::default() }).contains("\"ftp://am\""));
        let broken = vec![runbook(Some("("), None)];
        assert!(fault(AlertsConfig { runbooks: broken, ..AlertsConfig::default() }).contains("runbooks[0]"));
        let templates = Templates { title: Some("{{ incident.".to_owned()), text: None };
        assert!(fault(AlertsConfig { templates, ..AlertsConfig::default() }).contains("templates.title"));
        assert!(AlertsConfig::default().check().is_ok());
    }
}
