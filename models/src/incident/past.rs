//! Incidents like this one, and what they turned out to be.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{Incident, People};
use crate::series::Timestamp;

/// Past incidents less alike than this are not told.
const LEAST_LIKENESS: f64 = 0.3;
/// Most that are told.
const MOST: usize = 3;
/// First suspects that are part of what an incident looks like.
const SUSPECTS: usize = 3;
/// Confidence from which our own first suspect is passed on, where nobody said what it was.
const CONFIDENT: f64 = 0.8;

/// A past incident like the one at hand.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Similar {
    /// Its id.
    pub incident: String,
    /// When it began.
    pub onset: Timestamp,
    /// How alike the two are, `0.0..=1.0`.
    pub likeness: f64,
    /// What it turned out to be, where that is known.
    pub outcome: Outcome,
}

/// What became known of a past incident.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Outcome {
    /// People said what broke first.
    Cause {
        /// The service.
        service: String,
    },
    /// People said there was nothing.
    FalseAlarm,
    /// Nobody said anything; our first suspect was likely.
    Suspected {
        /// The service.
        service: String,
    },
    /// Nothing.
    Unknown,
}

/// Those of `past` most like `incident`, most alike first; the newest wins a tie.
///
/// # Source
/// Jaccard (1901): shared over all features. Features are the services out of order, the series out of line, and the
/// first three suspects with their metrics.
#[must_use]
pub fn similar<'a>(incident: &Incident, past: impl IntoIterator<Item = &'a Incident>, people: &People) -> Vec<Similar> {
    let own = features(incident);
    let others = past.into_iter().filter(|other| other.id != incident.id && other.onset < incident.onset);
    let measured = others.map(|other| (jaccard(&own, &features(other)), other));
    let mut alike: Vec<_> = measured.filter(|(likeness, _)| *likeness >= LEAST_LIKENESS).collect();
    alike.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| (b.1.onset, &a.1.id).cmp(&(a.1.onset, &b.1.id))));
    alike.truncate(MOST);
    let told = |(likeness, other): (f64, &Incident)| Similar {
        incident: other.id.clone(),
        onset: other.onset,
        likeness,
        outcome: outcome(other, people),
    };
    alike.into_iter().map(told).collect()
}

/// What is known of the cause of `incident`.
#[must_use]
pub fn outcome(incident: &Incident, people: &People) -> Outcome {
    let standing = people.standing(&incident.id);
    if standing.false_alarm().is_some() {
        return Outcome::FalseAlarm;
    }
    if let Some((service, _)) = standing.cause() {
        return Outcome::Cause { service: service.to_owned() };
    }
    match incident.ranking.causes.first().filter(|_| incident.ranking.confidence >= CONFIDENT) {
        Some(cause) => Outcome::Suspected { service: cause.service.clone() },
        None => Outcome::Unknown,
    }
}

fn features(incident: &Incident) -> BTreeSet<String> {
    let services = incident.services.iter().map(|service| format!("service {service}"));
    let series = incident.anomalies.iter().map(|anomaly| format!("series {}", anomaly.series));
    let causes = incident.ranking.causes.iter().take(SUSPECTS);
    let suspects = causes.map(|cause| format!("suspect {} {}", cause.service, cause.metric));
    services.chain(series).chain(suspects).collect()
}

fn jaccard(a: &BTreeSet<String>, b: &BTreeSet<String>) -> f64 {
    let shared = a.intersection(b).count() as f64;
    let all = a.union(b).count() as f64;
    if all > 0.0 { shared / all } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cause::{Cause, Ranking};
    use crate::incident::{Said, Severity, Status, Word, leniency};
    use crate::series::Labels;

    fn incident(id: &str, onset: i64, services: &[&str], suspect: &str, confidence: f64) -> Incident {
        let cause = Cause {
            service: suspect.to_owned(),
            metric: "cpu".to_owned(),
            score: 1.0,
            evidence: Vec::new(),
            summary: String::new(),
            doubt: String::new(),
        };
        Incident {
            id: id.to_owned(),
            workload: services[0].to_owned(),
            services: services.iter().map(ToString::to_string).collect(),
            severity: Severity::Warning,
            status: Status::Resolved,
            onset: Timestamp::from_secs(onset),
            opened_at: Timestamp::from_secs(onset),
            updated_at: Timestamp::from_secs(onset),
            resolved_at: None,
            merged_into: None,
            anomalies: Vec::new(),
            ranking: Ranking { causes: vec![cause], confidence, ..Ranking::default() },
            blast_radius: Vec::new(),
            changes: Vec::new(),
            silent_since: None,
            split_from: None,
            returns: 0,
        }
    }

    #[test]
    fn a_false_alarm_raises_the_bar_of_its_series_until_it_is_taken_back() {
        let anomaly = |name: &str| crate::detect::Anomaly {
            series: Labels::metric(name),
            onset: Timestamp::from_secs(0),
            last_seen: Timestamp::from_secs(0),
            surprise: 5.0,
            kind: None,
            observed: 1.0,
            expected: 0.0,
        };
        let word = |id: &str, said| Word {
            id: id.to_owned(),
            at: Timestamp::from_secs(9),
            by: "kim".to_owned(),
            incident: "inc".to_owned(),
            said,
            note: String::new(),
        };
        let anomalies = vec![anomaly("latency"), anomaly("latency"), anomaly("errors")];
        let told = Incident { anomalies, ..incident("inc", 0, &["web"], "web", 0.5) };
        let mut people = People { words: vec![word("1", Said::FalseAlarm)], ..People::default() };
        let (errors, latency) = (Labels::metric("errors"), Labels::metric("latency"));
        assert_eq!(leniency(&people, [&told]), [(errors.clone(), 0.5), (latency, 0.5)].into());
        assert_eq!(leniency(&people, std::iter::repeat_n(&told, 9))[&errors], 2.0, "there is a limit");
        people.words.push(word("2", Said::TakenBack { word: "1".to_owned() }));
        assert!(leniency(&people, [&told]).is_empty());
    }

    #[test]
    fn the_most_alike_come_first_with_what_people_said_of_them() {
        let now = incident("now", 900, &["web", "db"], "db", 0.9);
        let past = [
            incident("same", 100, &["web", "db"], "db", 0.1),
            incident("near", 200, &["web", "db"], "cart", 0.9),
            incident("stranger", 300, &["mail"], "queue", 0.9),
            incident("later", 901, &["web", "db"], "db", 0.9),
        ];
        let said = Said::Cause { service: "disk".to_owned(), metric: None };
        let (id, by, note) = ("w".to_owned(), "kim".to_owned(), String::new());
        let word = Word { id, at: Timestamp::from_secs(150), by, incident: "same".to_owned(), said, note };
        let people = People { words: vec![word], ..People::default() };
        let found = similar(&now, &past, &people);
        let told: Vec<_> = found.iter().map(|s| (s.incident.as_str(), &s.outcome)).collect();
        assert_eq!(
            told,
            [
                ("same", &Outcome::Cause { service: "disk".to_owned() }),
                ("near", &Outcome::Suspected { service: "cart".to_owned() })
            ]
        );
        assert_eq!(found[0].likeness, 1.0);
    }

    #[test]
    fn an_incident_without_features_is_like_nothing() {
        let empty =
            Incident { services: Vec::new(), ranking: Ranking::default(), ..incident("a", 9, &["x"], "x", 0.0) };
        let other = Incident { id: "b".to_owned(), onset: Timestamp::from_secs(1), ..empty.clone() };
        assert!(similar(&empty, [&other], &People::default()).is_empty());
    }
}
