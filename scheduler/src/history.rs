//! What people said, and incidents that are over: kept for good, so that both can be looked up and learnt from.

use std::path::Path;
use std::sync::Arc;

use bellwether_models::incident::{Ended, Incident, Maintenance, People, Said, Word};
use bellwether_models::series::Timestamp;
use serde::{Deserialize, Serialize};

use crate::lines::{self, Lines, LogError};

const WORDS: &str = "people.jsonl";
const INCIDENTS: &str = "incidents.jsonl";
const OLD_INCIDENTS: &str = "incidents.1.jsonl";
const ROTATE_AT_BYTES: u64 = 32 << 20;
/// Past incidents held in memory.
const MOST_INCIDENTS: usize = 2000;
/// Anomalies and causes kept of each.
const MOST_ANOMALIES: usize = 20;
const MOST_CAUSES: usize = 5;

/// Everything people said and every incident that is over, on disk where a directory was given.
#[derive(Debug, Default)]
pub struct History {
    people: Arc<People>,
    past: Vec<Arc<Incident>>,
    words: Option<Lines>,
    incidents: Option<Lines>,
}

/// Something that people ask to be noted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// Who says it.
    pub by: String,
    /// When.
    pub at: Timestamp,
    /// In their own words; may be empty.
    pub note: String,
}

/// A time of maintenance as it is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Its first instant.
    pub from: Timestamp,
    /// The first instant after it.
    pub to: Timestamp,
    /// What it covers; empty for all.
    pub services: Vec<String>,
}

/// Why something people said was not noted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NotNoted {
    /// Nobody is named.
    #[error("say who you are: what people say is kept with their name")]
    Anonymous,
    /// A word, an incident or a maintenance that is not known.
    #[error("there is no {what} {id:?}")]
    Unknown {
        /// What was looked for.
        what: &'static str,
        /// Under which name.
        id: String,
    },
    /// It is so already.
    #[error("{id} was taken back or ended already")]
    Over {
        /// What.
        id: String,
    },
    /// The cause has no name.
    #[error("name the service that was the real cause")]
    Nameless,
    /// An end that is not after the beginning, or lies in the past.
    #[error("a maintenance must end after it begins, and not in the past")]
    EmptySpan,
    /// It could not be made durable.
    #[error("could not keep what was said")]
    Kept(#[from] LogError),
}

/// One line of the file of words.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    Word(Word),
    Maintenance(Maintenance),
    MaintenanceEnded { id: String, ended: Ended },
}

impl History {
    /// Opens what is kept under `dir`, or begins in memory alone.
    ///
    /// # Errors
    /// [`LogError`] when a file can be neither read nor made.
    pub fn open(dir: Option<&Path>) -> Result<Self, LogError> {
        let mut history = Self::default();
        let Some(dir) = dir else { return Ok(history) };
        let mut people = People::default();
        lines::read(&dir.join(WORDS), |line| take_in(&mut people, line))?;
        history.people = Arc::new(people);
        for name in [OLD_INCIDENTS, INCIDENTS] {
            lines::read(&dir.join(name), |incident| history.remember(incident))?;
        }
        history.words = Some(Lines::open(dir, WORDS)?);
        history.incidents = Some(Lines::open(dir, INCIDENTS)?);
        Ok(history)
    }

    /// Everything people said.
    #[must_use]
    pub fn people(&self) -> Arc<People> {
        self.people.clone()
    }

    /// Incidents that are over, in the order in which they ended.
    #[must_use]
    pub fn past(&self) -> &[Arc<Incident>] {
        &self.past
    }

    /// Keeps an incident that is over; the same one again, after it had come back, replaces what was kept. Says whether
    /// it was news.
    ///
    /// # Errors
    /// [`LogError`] when it could not be made durable; it is kept in memory all the same.
    pub fn archive(&mut self, incident: &Incident) -> Result<bool, LogError> {
        let known = self.past.iter().rev().find(|past| past.id == incident.id);
        if known.is_some_and(|past| past.resolved_at == incident.resolved_at) {
            return Ok(false);
        }
        let kept = shortened(incident);
        if let Some(file) = &mut self.incidents {
            file.rotate(OLD_INCIDENTS, ROTATE_AT_BYTES)?;
            file.append_value(&kept)?;
        }
        self.remember(kept);
        Ok(true)
    }

    /// Notes a word on an incident, which the caller knows to exist.
    ///
    /// # Errors
    /// [`NotNoted`].
    pub fn say(&mut self, incident: &str, said: Said, statement: Statement) -> Result<Word, NotNoted> {
        let statement = named(statement)?;
        if let Said::Cause { service, .. } = &said
            && service.trim().is_empty()
        {
            return Err(NotNoted::Nameless);
        }
        let Statement { by, at, note } = statement;
        let id = format!("w-{}", self.people.words.len() + 1);
        let word = Word { id, at, by, incident: incident.to_owned(), said, note };
        self.note(Line::Word(word.clone()))?;
        Ok(word)
    }

    /// Takes back the word `id`.
    ///
    /// # Errors
    /// [`NotNoted`]: a word that is not known, or was taken back before.
    pub fn take_back(&mut self, id: &str, statement: Statement) -> Result<Word, NotNoted> {
        let unknown = || NotNoted::Unknown { what: "word", id: id.to_owned() };
        let word = self.people.word(id).ok_or_else(unknown)?;
        if self.people.is_taken_back(word) || matches!(word.said, Said::TakenBack { .. }) {
            return Err(NotNoted::Over { id: id.to_owned() });
        }
        let incident = word.incident.clone();
        self.say(&incident, Said::TakenBack { word: id.to_owned() }, statement)
    }

    /// Announces a maintenance.
    ///
    /// # Errors
    /// [`NotNoted`].
    pub fn announce(&mut self, plan: Plan, statement: Statement) -> Result<Maintenance, NotNoted> {
        let Statement { by, at, note } = named(statement)?;
        if plan.to <= plan.from || plan.to <= at {
            return Err(NotNoted::EmptySpan);
        }
        let id = format!("m-{}", self.people.maintenance.len() + 1);
        let Plan { from, to, services } = plan;
        let maintenance = Maintenance { id, at, by, from, to, services, note, ended: None };
        self.note(Line::Maintenance(maintenance.clone()))?;
        Ok(maintenance)
    }

    /// Ends a maintenance early, or calls it off before it begins.
    ///
    /// # Errors
    /// [`NotNoted`]: one that is not known, or is over.
    pub fn end_maintenance(&mut self, id: &str, statement: Statement) -> Result<Maintenance, NotNoted> {
        let Statement { by, at, .. } = named(statement)?;
        let unknown = || NotNoted::Unknown { what: "maintenance", id: id.to_owned() };
        let planned = self.people.maintenance.iter().find(|m| m.id == id).ok_or_else(unknown)?;
        if planned.ended.is_some() || planned.to <= at {
            return Err(NotNoted::Over { id: id.to_owned() });
        }
        self.note(Line::MaintenanceEnded { id: id.to_owned(), ended: Ended { at, by } })?;
        self.people.maintenance.iter().find(|m| m.id == id).cloned().ok_or_else(unknown)
    }

    /// Durable first, then known.
    fn note(&mut self, line: Line) -> Result<(), LogError> {
        if let Some(file) = &mut self.words {
            file.append_value(&line)?;
        }
        take_in(Arc::make_mut(&mut self.people), line);
        Ok(())
    }

    fn remember(&mut self, incident: Incident) {
        self.past.retain(|past| past.id != incident.id);
        if self.past.len() >= MOST_INCIDENTS {
            self.past.remove(0);
        }
        self.past.push(Arc::new(incident));
    }
}

fn named(statement: Statement) -> Result<Statement, NotNoted> {
    if statement.by.trim().is_empty() { Err(NotNoted::Anonymous) } else { Ok(statement) }
}

fn take_in(people: &mut People, line: Line) {
    match line {
        Line::Word(word) => people.words.push(word),
        Line::Maintenance(maintenance) => people.maintenance.push(maintenance),
        Line::MaintenanceEnded { id, ended } => {
            if let Some(maintenance) = people.maintenance.iter_mut().find(|m| m.id == id) {
                maintenance.ended = Some(ended);
            }
        }
    }
}

/// What is worth keeping of an incident for years: not every rank of hundreds of metrics.
fn shortened(incident: &Incident) -> Incident {
    let mut kept = incident.clone();
    kept.ranking.metrics.clear();
    kept.ranking.causes.truncate(MOST_CAUSES);
    kept.anomalies.truncate(MOST_ANOMALIES);
    kept
}

#[cfg(test)]
mod tests {
    use bellwether_models::incident::Status;

    use super::*;

    fn at(secs: i64) -> Timestamp {
        Timestamp::from_secs(secs)
    }

    fn kim(secs: i64) -> Statement {
        Statement { by: "kim".to_owned(), at: at(secs), note: "seen".to_owned() }
    }

    fn incident(id: &str, resolved: i64) -> Incident {
        let text = serde_json::json!({
            "id": id, "workload": "shop", "services": ["shop"], "severity": "critical", "status": "resolved",
            "onset": at(0), "opened_at": at(0), "updated_at": at(resolved), "resolved_at": at(resolved),
            "merged_into": null, "anomalies": [],
            "ranking": { "causes": [], "metrics": [[0, 1.0]], "confidence": 0.0, "abstained": null }
        });
        serde_json::from_value(text).expect("an incident")
    }

    #[test]
    fn what_was_said_is_there_after_a_restart_with_who_and_when() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut history = History::open(Some(dir.path())).expect("opens");
        history.say("inc", Said::Acknowledged, kim(5)).expect("noted");
        let word = history.say("inc", Said::FalseAlarm, kim(6)).expect("noted");
        history.take_back(&word.id, kim(7)).expect("noted");
        let span = Plan { from: at(10), to: at(20), services: vec!["shop".to_owned()] };
        let maintenance = history.announce(span, kim(8)).expect("noted");
        history.end_maintenance(&maintenance.id, kim(12)).expect("noted");
        let again = History::open(Some(dir.path())).expect("opens again");
        assert_eq!(again.people(), history.people());
        let standing = again.people().standing("inc");
        assert_eq!(standing.acknowledged.map(|w| (w.by, w.at)), Some(("kim".to_owned(), at(5))));
        assert_eq!(standing.verdict, None);
        assert!(!again.people().maintenance[0].lasts(at(15)));
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_its_reason() {
        let mut history = History::default();
        let nobody = Statement { by: " ".to_owned(), ..kim(0) };
        assert!(matches!(history.say("inc", Said::Acknowledged, nobody), Err(NotNoted::Anonymous)));
        let nameless = Said::Cause { service: String::new(), metric: None };
        assert!(matches!(history.say("inc", nameless, kim(0)), Err(NotNoted::Nameless)));
        assert!(matches!(history.take_back("w-9", kim(0)), Err(NotNoted::Unknown { .. })));
        let word = history.say("inc", Said::FalseAlarm, kim(0)).expect("noted");
        let back = history.take_back(&word.id, kim(1)).expect("noted");
        assert!(matches!(history.take_back(&word.id, kim(2)), Err(NotNoted::Over { .. })));
        assert!(matches!(history.take_back(&back.id, kim(2)), Err(NotNoted::Over { .. })));
        let empty = Plan { from: at(9), to: at(9), services: Vec::new() };
        assert!(matches!(history.announce(empty, kim(0)), Err(NotNoted::EmptySpan)));
        let past = Plan { from: at(1), to: at(2), services: Vec::new() };
        assert!(matches!(history.announce(past, kim(3)), Err(NotNoted::EmptySpan)));
        assert!(matches!(history.end_maintenance("m-1", kim(0)), Err(NotNoted::Unknown { .. })));
    }

    #[test]
    fn an_incident_is_kept_once_for_each_end_and_found_after_a_restart() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut history = History::open(Some(dir.path())).expect("opens");
        assert!(history.archive(&incident("a", 10)).expect("kept"));
        assert!(!history.archive(&incident("a", 10)).expect("known"));
        history.archive(&incident("b", 20)).expect("kept");
        history.archive(&incident("a", 30)).expect("it came back and ended again");
        let again = History::open(Some(dir.path())).expect("opens again");
        let ends: Vec<_> = again.past().iter().map(|i| (i.id.as_str(), i.resolved_at)).collect();
        assert_eq!(ends, [("b", Some(at(20))), ("a", Some(at(30)))]);
        assert!(again.past().iter().all(|i| i.status == Status::Resolved && i.ranking.metrics.is_empty()));
    }
}
