//! What people say of incidents, and what stands of it. Nothing said is ever erased: who takes a word back says another.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::Incident;
use crate::series::{Labels, Timestamp};

/// One thing that somebody said of an incident.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Word {
    /// Its name, by which it can be taken back.
    pub id: String,
    /// When it was said.
    pub at: Timestamp,
    /// By whom.
    pub by: String,
    /// Of which incident.
    pub incident: String,
    /// What was said.
    pub said: Said,
    /// In the speaker's own words; may be empty.
    #[serde(default)]
    pub note: String,
}

/// What can be said of an incident.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Said {
    /// Somebody looks after it: no more reminders.
    Acknowledged,
    /// There was nothing.
    FalseAlarm,
    /// What it really was.
    Cause {
        /// The service that broke first.
        service: String,
        /// Its telling metric, where known.
        #[serde(default)]
        metric: Option<String>,
    },
    /// An earlier word no longer stands.
    TakenBack {
        /// Which.
        word: String,
    },
}

/// A time in which trouble of some services is expected: it is recorded, but opens no alert.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Maintenance {
    /// Its name.
    pub id: String,
    /// When it was planned.
    pub at: Timestamp,
    /// By whom.
    pub by: String,
    /// Its first instant.
    pub from: Timestamp,
    /// The first instant after it.
    pub to: Timestamp,
    /// Workloads and services it covers; empty for all.
    #[serde(default)]
    pub services: Vec<String>,
    /// What is done; may be empty.
    #[serde(default)]
    pub note: String,
    /// Who ended it early, and when.
    #[serde(default)]
    pub ended: Option<Ended>,
}

/// An early end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// When.
    pub at: Timestamp,
    /// By whom.
    pub by: String,
}

impl Maintenance {
    /// Whether it lasts at `now`.
    #[must_use]
    pub fn lasts(&self, now: Timestamp) -> bool {
        self.from <= now && now < self.to && self.ended.as_ref().is_none_or(|ended| now < ended.at)
    }

    /// Whether it covers every one of `services`.
    #[must_use]
    pub fn covers(&self, services: &[String]) -> bool {
        self.services.is_empty() || services.iter().all(|service| self.services.contains(service))
    }
}

/// Everything people have said, in order of time of arrival.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct People {
    /// Words on incidents, those taken back too.
    pub words: Vec<Word>,
    /// Maintenance, past and planned.
    pub maintenance: Vec<Maintenance>,
}

/// What stands of the words on one incident.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// Who looks after it.
    pub acknowledged: Option<Word>,
    /// The newest of "false alarm" and "the real cause was X".
    pub verdict: Option<Word>,
}

impl Standing {
    /// The word that it was a false alarm.
    #[must_use]
    pub fn false_alarm(&self) -> Option<&Word> {
        self.verdict.as_ref().filter(|word| word.said == Said::FalseAlarm)
    }

    /// Service and metric that people named as the cause.
    #[must_use]
    pub fn cause(&self) -> Option<(&str, Option<&str>)> {
        match &self.verdict.as_ref()?.said {
            Said::Cause { service, metric } => Some((service, metric.as_deref())),
            _ => None,
        }
    }
}

/// Decades that one false alarm raises the bar of each series it was raised by, and the most that many do.
const LENIENCE: f64 = 0.5;
const MOST_LENIENCE: f64 = 2.0;

/// Decades by which the bar of each series is raised, since people said that alarms it raised were false: half a decade
/// for each incident judged so, at most two. A word that was taken back counts no more.
#[must_use]
pub fn leniency<'a>(people: &People, incidents: impl IntoIterator<Item = &'a Incident>) -> BTreeMap<Labels, f64> {
    let mut lenient = BTreeMap::new();
    let judged: BTreeSet<&str> = people.words.iter().map(|word| word.incident.as_str()).collect();
    for incident in incidents.into_iter().filter(|incident| judged.contains(incident.id.as_str())) {
        if people.standing(&incident.id).false_alarm().is_none() {
            continue;
        }
        let series: BTreeSet<&Labels> = incident.anomalies.iter().map(|anomaly| &anomaly.series).collect();
        for labels in series {
            let bar = lenient.entry(labels.clone()).or_insert(0.0);
            *bar = f64::min(*bar + LENIENCE, MOST_LENIENCE);
        }
    }
    lenient
}

impl People {
    /// What stands of the words on `incident`: of each kind the newest that was not taken back.
    #[must_use]
    pub fn standing(&self, incident: &str) -> Standing {
        let mut standing = Standing::default();
        for word in self.words_on(incident).filter(|word| !self.is_taken_back(word)) {
            match &word.said {
                Said::Acknowledged => standing.acknowledged = Some(word.clone()),
                Said::FalseAlarm | Said::Cause { .. } => standing.verdict = Some(word.clone()),
                Said::TakenBack { .. } => {}
            }
        }
        standing
    }

    /// Every word on `incident`, oldest first.
    pub fn words_on<'a>(&'a self, incident: &'a str) -> impl Iterator<Item = &'a Word> {
        self.words.iter().filter(move |word| word.incident == incident)
    }

    /// The word of that name.
    #[must_use]
    pub fn word(&self, id: &str) -> Option<&Word> {
        self.words.iter().find(|word| word.id == id)
    }

    /// Whether somebody took `word` back.
    #[must_use]
    pub fn is_taken_back(&self, word: &Word) -> bool {
        self.words.iter().any(|later| matches!(&later.said, Said::TakenBack { word: id } if *id == word.id))
    }

    /// The maintenance that lasts at `now` and covers all of `services`.
    #[must_use]
    pub fn maintenance_of(&self, services: &[String], now: Timestamp) -> Option<&Maintenance> {
        self.maintenance.iter().find(|m| m.lasts(now) && m.covers(services))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: i64) -> Timestamp {
        Timestamp::from_secs(secs)
    }

    fn word(id: &str, said: Said) -> Word {
        Word {
            id: id.to_owned(),
            at: at(0),
            by: "kim".to_owned(),
            incident: "inc".to_owned(),
            said,
            note: String::new(),
        }
    }

    fn maintenance(services: &[&str]) -> Maintenance {
        let services = services.iter().map(ToString::to_string).collect();
        let (id, by) = ("m-1".to_owned(), "kim".to_owned());
        Maintenance { id, at: at(0), by, from: at(100), to: at(200), services, note: String::new(), ended: None }
    }

    #[test]
    fn the_newest_verdict_stands_until_it_is_taken_back() {
        let cause = Said::Cause { service: "db".to_owned(), metric: None };
        let mut people = People { words: vec![word("1", Said::FalseAlarm), word("2", cause)], ..People::default() };
        assert_eq!(people.standing("inc").cause(), Some(("db", None)));
        assert_eq!(people.standing("another"), Standing::default());
        people.words.push(word("3", Said::TakenBack { word: "2".to_owned() }));
        assert_eq!(people.standing("inc").false_alarm().map(|w| w.id.as_str()), Some("1"));
        assert_eq!(people.words_on("inc").count(), 3, "nothing is erased");
    }

    #[test]
    fn an_acknowledgement_and_a_verdict_stand_beside_one_another() {
        let words = vec![word("1", Said::Acknowledged), word("2", Said::FalseAlarm)];
        let standing = People { words, ..People::default() }.standing("inc");
        assert!(standing.acknowledged.is_some() && standing.false_alarm().is_some());
    }

    #[test]
    fn maintenance_covers_an_incident_only_when_it_covers_all_its_services() {
        let people = People { maintenance: vec![maintenance(&["web", "db"])], ..People::default() };
        let of = |services: &[&str], now| {
            let services: Vec<String> = services.iter().map(ToString::to_string).collect();
            people.maintenance_of(&services, at(now)).is_some()
        };
        assert!(of(&["web"], 100) && of(&["web", "db"], 199));
        assert!(!of(&["web", "mail"], 150), "mail was not announced");
        assert!(!of(&["web"], 99) && !of(&["web"], 200));
    }

    #[test]
    fn maintenance_that_names_nothing_covers_all_and_can_be_ended_early() {
        let mut all = maintenance(&[]);
        assert!(all.lasts(at(150)) && all.covers(&["anything".to_owned()]));
        all.ended = Some(Ended { at: at(120), by: "lee".to_owned() });
        assert!(all.lasts(at(119)) && !all.lasts(at(120)));
    }
}
