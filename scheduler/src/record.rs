//! Decisions on record: a bounded memory of the newest, and a durable file of JSON lines that outlives the process.

use std::collections::{HashMap, VecDeque};
use std::path::Path;

use bellwether_models::series::Timestamp;
use serde::{Deserialize, Serialize};
use tracing::warn;

use crate::actuate::Applied;
pub use crate::lines::LogError;
use crate::lines::{self, Lines};
use crate::plan::{Decision, Plan};

const KEPT_IN_MEMORY: usize = 10_000;
const ROTATE_AT_BYTES: u64 = 32 << 20;
const FILE: &str = "decisions.jsonl";
const ROTATED: &str = "decisions.1.jsonl";

/// A decision with what became of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DecisionRecord {
    /// What was decided.
    pub decision: Decision,
    /// Attempts to carry it out, in order of time.
    pub attempts: Vec<Attempt>,
}

/// One attempt to carry a decision out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Attempt {
    /// When.
    pub at: Timestamp,
    /// By which actuator.
    pub actuator: String,
    /// What became of it, when it succeeded.
    pub applied: Option<Applied>,
    /// What went wrong, when it failed.
    pub error: Option<String>,
}

/// The log of decisions.
#[derive(Debug, Default)]
pub struct DecisionLog {
    newest: VecDeque<DecisionRecord>,
    last_of: HashMap<String, Decision>,
    file: Option<Lines>,
}

/// One line of the file.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    Decision(Decision),
    Attempt { decision: String, attempt: Attempt },
}

impl DecisionLog {
    /// Opens the log under `dir`, or in memory alone. Lines that cannot be read, such as one torn by a crash, are
    /// skipped with a warning.
    ///
    /// # Errors
    /// [`LogError`] when the file can be neither read nor made.
    pub fn open(dir: Option<&Path>) -> Result<Self, LogError> {
        let mut log = Self::default();
        let Some(dir) = dir else { return Ok(log) };
        for name in [ROTATED, FILE] {
            lines::read(&dir.join(name), |line| log.remember(line))?;
        }
        log.file = Some(Lines::open(dir, FILE)?);
        Ok(log)
    }

    /// Takes note of the decisions that say something new about their workload.
    ///
    /// # Errors
    /// [`LogError`] when they could not be made durable; they are kept in memory all the same.
    pub fn record(&mut self, plan: &Plan) -> Result<usize, LogError> {
        let is_news =
            |d: &&Decision| d.changes() || self.last_of.get(&d.workload).is_none_or(|last| !last.says_the_same_as(d));
        let news: Vec<Line> = plan.decisions.iter().filter(is_news).cloned().map(Line::Decision).collect();
        let count = news.len();
        self.write(news).map(|()| count)
    }

    /// Takes note of an attempt to carry out the decision `id`.
    ///
    /// # Errors
    /// [`LogError`] when it could not be made durable.
    pub fn record_attempt(&mut self, id: &str, attempt: Attempt) -> Result<(), LogError> {
        self.write(vec![Line::Attempt { decision: id.to_owned(), attempt }])
    }

    /// The newest `limit` decisions, newest first, of one workload or of all.
    #[must_use]
    pub fn recent(&self, limit: usize, workload: Option<&str>) -> Vec<DecisionRecord> {
        let of_it = |r: &&DecisionRecord| workload.is_none_or(|w| r.decision.workload == w);
        self.newest.iter().rev().filter(of_it).take(limit).cloned().collect()
    }

    /// The decision `id`: from memory, or else from the file.
    #[must_use]
    pub fn find(&self, id: &str) -> Option<DecisionRecord> {
        let known = self.newest.iter().rev().find(|r| r.decision.id == id).cloned();
        known.or_else(|| self.find_in_file(id))
    }

    /// The last recorded decision on each workload.
    pub fn last_decisions(&self) -> impl Iterator<Item = &Decision> {
        self.last_of.values()
    }

    fn find_in_file(&self, id: &str) -> Option<DecisionRecord> {
        let dir = self.file.as_ref()?.dir();
        let mut found: Option<DecisionRecord> = None;
        for name in [ROTATED, FILE] {
            let read = lines::read(&dir.join(name), |line| match line {
                Line::Decision(decision) if decision.id == id => {
                    found = Some(DecisionRecord { decision, attempts: Vec::new() });
                }
                Line::Attempt { decision, attempt } if decision == id => {
                    found.iter_mut().for_each(|r| r.attempts.push(attempt.clone()));
                }
                _ => {}
            });
            if let Err(error) = read {
                warn!(%error, "decision file not searched");
            }
        }
        found
    }

    fn write(&mut self, lines: Vec<Line>) -> Result<(), LogError> {
        if lines.is_empty() {
            return Ok(());
        }
        let mut text = Vec::new();
        for line in lines {
            if serde_json::to_writer(&mut text, &line).is_ok() {
                text.push(b'\n');
            }
            self.remember(line);
        }
        let Some(file) = &mut self.file else { return Ok(()) };
        file.rotate(ROTATED, ROTATE_AT_BYTES)?;
        file.append(&text)
    }

    fn remember(&mut self, line: Line) {
        match line {
            Line::Decision(decision) => {
                self.last_of.insert(decision.workload.clone(), decision.clone());
                self.newest.push_back(DecisionRecord { decision, attempts: Vec::new() });
                if self.newest.len() > KEPT_IN_MEMORY {
                    self.newest.pop_front();
                }
            }
            Line::Attempt { decision, attempt } => {
                if let Some(record) = self.newest.iter_mut().rev().find(|r| r.decision.id == decision) {
                    record.attempts.push(attempt);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;
    use std::io::Write;

    use super::*;
    use crate::config::Mode;
    use crate::plan::{Advice, Reason};

    fn decision(at: i64, from: u32, to: u32) -> Decision {
        Decision {
            id: format!("shop-{at}"),
            workload: "shop".to_owned(),
            at: Timestamp::from_secs(at),
            mode: Mode::Shadow,
            from: Some(from),
            to: Some(to),
            observed: None,
            reactive: Some(from),
            floor: Some(from),
            predicted: Some(to),
            foreseen: None,
            advice: Advice::default(),
            planned: Vec::new(),
            reasons: vec![Reason::ReactiveFloor { replicas: from }],
        }
    }

    fn plan(decision: Decision) -> Plan {
        Plan { made_at: decision.at, decisions: vec![decision] }
    }

    #[test]
    fn only_what_says_something_new_is_recorded() {
        let mut log = DecisionLog::default();
        assert_eq!(log.record(&plan(decision(1, 2, 3))).expect("in memory"), 1);
        assert_eq!(log.record(&plan(decision(2, 3, 3))).expect("in memory"), 0, "the same three replicas");
        let refused = Decision { reasons: vec![Reason::DemandUnknown], ..decision(3, 3, 3) };
        assert_eq!(log.record(&plan(refused)).expect("in memory"), 1, "a refusal is news");
        assert_eq!(log.recent(9, None).len(), 2);
        assert_eq!(log.recent(1, Some("shop"))[0].decision.id, "shop-3");
        assert!(log.recent(9, Some("cart")).is_empty());
    }

    #[test]
    fn decisions_and_attempts_are_found_after_a_restart_and_a_torn_line() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut log = DecisionLog::open(Some(dir.path())).expect("a new log");
        log.record(&plan(decision(1, 2, 3))).expect("durable");
        let attempt = Attempt {
            at: Timestamp::from_secs(1),
            actuator: "webhook".to_owned(),
            applied: Some(Applied::Accepted),
            error: None,
        };
        log.record_attempt("shop-1", attempt.clone()).expect("durable");
        drop(log);
        let path = dir.path().join(FILE);
        let mut torn = OpenOptions::new().append(true).open(&path).expect("the file");
        torn.write_all(b"{\"decision\":{\"id\":\"sho").expect("torn on purpose");

        let mut log = DecisionLog::open(Some(dir.path())).expect("opens in spite of the torn line");
        log.record(&plan(decision(2, 3, 4))).expect("durable");
        let log = DecisionLog::open(Some(dir.path())).expect("opens again");
        let found = log.find("shop-1").expect("still there");
        assert_eq!((found.decision, found.attempts), (decision(1, 2, 3), vec![attempt]));
        assert!(log.find("shop-2").is_some(), "the line after the torn one is whole");
    }

    #[test]
    fn the_file_answers_for_what_memory_has_forgotten() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut log = DecisionLog::open(Some(dir.path())).expect("a new log");
        log.record(&plan(decision(1, 2, 3))).expect("durable");
        log.newest.clear();
        assert_eq!(log.find("shop-1").expect("in the file").decision, decision(1, 2, 3));
    }
}
