//! Opens, updates, merges and resolves incidents as anomalies come and go. Told the time, it keeps none.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::cluster::{Disturbance, clusters};
use super::{Findings, Incident, Severity, Status, Topology};
use crate::cause::Ranking;
use crate::detect::Anomaly;
use crate::series::{Labels, Timestamp};

/// Most anomalies an incident carries along; of more, the earliest and then the most surprising are kept.
const MOST_ANOMALIES: usize = 100;
/// Quiet needed to resolve doubles with every return of the trouble, at most this often.
const MOST_DOUBLINGS: u32 = 3;

/// How anomalies are joined into incidents.
#[derive(Clone, Debug, PartialEq)]
pub struct Grouping {
    /// Anomalies of near services whose onsets lie this close are one incident.
    pub join_window: Duration,
    /// How many calls apart services may be to count as near.
    pub join_hops: usize,
    /// Surprise (`-log10 p`), added over distinct series, below which no incident is opened.
    pub min_evidence: f64,
    /// Quiet after which an incident is resolved; it doubles with every return of the trouble, at most eightfold.
    pub resolve_after: Duration,
    /// Trouble on the same services within this time of a resolution reopens the incident.
    pub reopen_within: Duration,
    /// How long an incident stays open whose symptoms say nothing any more, neither good nor bad.
    pub hold_silent: Duration,
    /// How long a resolved incident is remembered.
    pub remember: Duration,
}

impl Default for Grouping {
    fn default() -> Self {
        Self {
            join_window: Duration::from_secs(300),
            join_hops: 2,
            min_evidence: 4.0,
            resolve_after: Duration::from_secs(300),
            reopen_within: Duration::from_secs(900),
            hold_silent: Duration::from_secs(3600),
            remember: Duration::from_secs(24 * 3600),
        }
    }
}

/// An anomaly with the place where it was seen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sighting {
    /// The workload or service that its series belongs to.
    pub service: String,
    /// Whether its series is something that users feel.
    pub symptom: bool,
    /// What was seen.
    pub anomaly: Anomaly,
}

/// What became of an incident; each carries its id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Change {
    /// A new one.
    Opened {
        /// Which.
        id: String,
    },
    /// Another anomaly or service, or a graver severity.
    Updated {
        /// Which.
        id: String,
    },
    /// The trouble came back soon after it had been resolved.
    Reopened {
        /// Which.
        id: String,
    },
    /// Two turned out to be one.
    Merged {
        /// The one that is closed.
        id: String,
        /// The one that goes on.
        into: String,
    },
    /// Part of one turned out to be another.
    Split {
        /// The new one.
        id: String,
        /// The one it was part of.
        from: String,
    },
    /// Over.
    Resolved {
        /// Which.
        id: String,
    },
}

/// The incidents of an installation. The same sightings at the same times give the same incidents and ids, in whatever
/// order the sightings of one call are given; a sighting repeated changes nothing. A service is part of at most one open
/// incident. Save and load it whole.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Tracker {
    /// Sightings recent enough to join others, in order of key.
    live: Vec<Sighting>,
    /// Open incidents and those resolved lately, in order of opening.
    tracked: Vec<Tracked>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Tracked {
    incident: Incident,
    last_seen: Timestamp,
    /// Until when its symptoms have spoken, where that is known.
    #[serde(default)]
    heard: Option<Timestamp>,
}

impl Tracker {
    /// Takes in the anomalies flagged at `now` and says what changed. To be called regularly, with no sightings too: only
    /// then do incidents resolve.
    pub fn observe(
        &mut self,
        now: Timestamp,
        sightings: &[Sighting],
        topology: &Topology,
        how: &Grouping,
    ) -> Vec<Change> {
        self.take_in(now, sightings, how);
        let mut changes = Vec::new();
        let live = std::mem::take(&mut self.live);
        self.split_strangers(now, &live, topology, how, &mut changes);
        for group in groups(&live, topology, how) {
            self.settle(now, &group, how, &mut changes);
        }
        self.live = live;
        self.resolve_quiet(now, how, &mut changes);
        changes
    }

    /// Open incidents, and those resolved lately; newest onset first.
    #[must_use]
    pub fn incidents(&self) -> Vec<&Incident> {
        let mut incidents: Vec<&Incident> = self.tracked.iter().map(|t| &t.incident).collect();
        incidents.sort_by(|a, b| b.onset.cmp(&a.onset).then_with(|| a.id.cmp(&b.id)));
        incidents
    }

    /// The incident of that id, if it is still remembered.
    #[must_use]
    pub fn incident(&self, id: &str) -> Option<&Incident> {
        self.tracked.iter().map(|t| &t.incident).find(|incident| incident.id == id)
    }

    /// Notes what was found out about an incident; unknown ids are passed over. An answer without causes does not
    /// replace one that has some.
    pub fn note(&mut self, id: &str, findings: Findings) {
        let Some(tracked) = self.tracked.iter_mut().find(|t| t.incident.id == id) else { return };
        let Findings { ranking, changes, blast_radius } = findings;
        if !ranking.causes.is_empty() || tracked.incident.ranking.causes.is_empty() {
            tracked.incident.ranking = ranking;
        }
        tracked.incident.changes = changes;
        tracked.incident.blast_radius = blast_radius;
    }

    /// Takes note until when the symptom behind each series has spoken, for the next [`Tracker::observe`]: an incident
    /// does not resolve because nothing is heard of it. Of a series that is not among `heard`, nothing is known, and its
    /// silence counts as quiet.
    pub fn hear(&mut self, heard: &BTreeMap<Labels, Timestamp>) {
        for tracked in self.tracked.iter_mut().filter(|t| t.incident.status == Status::Open) {
            let of_it = tracked.incident.anomalies.iter().filter_map(|anomaly| heard.get(&anomaly.series));
            tracked.heard = of_it.copied().max();
        }
    }

    /// Adds sightings to the live ones and forgets those too old to matter.
    fn take_in(&mut self, now: Timestamp, sightings: &[Sighting], how: &Grouping) {
        let mut live: BTreeMap<Key, Sighting> =
            std::mem::take(&mut self.live).into_iter().map(|s| (key(&s), s)).collect();
        for sighting in sightings {
            live.entry(key(sighting)).and_modify(|known| refresh(known, sighting)).or_insert_with(|| sighting.clone());
        }
        let horizon = now - how.join_window.max(how.resolve_after);
        self.live = live.into_values().filter(|s| s.anomaly.last_seen >= horizon).collect();
    }

    /// Parts that the topology no longer joins with the rest of their incident, and that are strong enough to stand
    /// alone, become incidents of their own.
    fn split_strangers(
        &mut self,
        now: Timestamp,
        live: &[Sighting],
        topology: &Topology,
        how: &Grouping,
        changes: &mut Vec<Change>,
    ) {
        let mut parts = Vec::new();
        for (index, tracked) in self.tracked.iter().enumerate().filter(|(_, t)| t.incident.status == Status::Open) {
            let incident = &tracked.incident;
            for part in topology.parts(&incident.services, how.join_hops) {
                let group: Vec<&Sighting> = live.iter().filter(|s| part.contains(s.service.as_str())).collect();
                if !part.contains(incident.workload.as_str()) && evidence(&group) >= how.min_evidence {
                    parts.push((index, Tracked::new(now, &group)));
                }
            }
        }
        for (index, mut part) in parts {
            let whole = &mut self.tracked[index].incident;
            whole.services.retain(|service| !part.incident.services.contains(service));
            let gone: BTreeSet<&Labels> = part.incident.anomalies.iter().map(|a| &a.series).collect();
            whole.anomalies.retain(|anomaly| !gone.contains(&anomaly.series));
            whole.updated_at = now;
            part.incident.split_from = Some(whole.id.clone());
            let from = whole.id.clone();
            changes.push(Change::Split { id: self.adopt(part), from });
        }
    }

    /// Lets a group join the incidents of its services, or open one.
    fn settle(&mut self, now: Timestamp, group: &[&Sighting], how: &Grouping, changes: &mut Vec<Change>) {
        let services: BTreeSet<&str> = group.iter().map(|s| s.service.as_str()).collect();
        let last_seen = group.iter().map(|s| s.anomaly.last_seen).max().unwrap_or(now);
        let strong = evidence(group) >= how.min_evidence;
        let concerned = |t: &Tracked| {
            t.incident.merged_into.is_none()
                && t.incident.services.iter().any(|s| services.contains(s.as_str()))
                && match t.incident.resolved_at {
                    None => true,
                    Some(at) => strong && last_seen > t.last_seen && last_seen.since(at) <= how.reopen_within,
                }
        };
        let mut matches: Vec<usize> = (0..self.tracked.len()).filter(|i| concerned(&self.tracked[*i])).collect();
        if matches.is_empty() {
            let covered = self.tracked.iter().any(|t| t.incident.resolved_at.is_some() && t.explains(group));
            if strong && !covered {
                changes.push(self.open(now, group));
            }
            return;
        }
        // the open one that is oldest goes on; a resolved one only when none is open
        matches.sort_by_key(|i| {
            let incident = &self.tracked[*i].incident;
            (incident.status != Status::Open, incident.opened_at, incident.id.clone())
        });
        let kept = matches[0];
        for other in &matches[1..] {
            if self.tracked[*other].incident.status == Status::Open {
                changes.push(self.merge(now, *other, kept));
            }
        }
        changes.extend(self.tracked[kept].update(now, group, how));
    }

    fn open(&mut self, now: Timestamp, group: &[&Sighting]) -> Change {
        Change::Opened { id: self.adopt(Tracked::new(now, group)) }
    }

    /// Keeps a new incident under an id of its own.
    fn adopt(&mut self, mut tracked: Tracked) -> String {
        while self.incident(&tracked.incident.id).is_some() {
            tracked.incident.id.push('x'); // the same workload and onset again: a clock that was set back
        }
        let id = tracked.incident.id.clone();
        self.tracked.push(tracked);
        id
    }

    fn merge(&mut self, now: Timestamp, from: usize, into: usize) -> Change {
        let id = self.tracked[into].incident.id.clone();
        let gone = &mut self.tracked[from];
        gone.incident.status = Status::Resolved;
        gone.incident.resolved_at = Some(now);
        gone.incident.updated_at = now;
        gone.incident.merged_into = Some(id.clone());
        let (gone_id, gone) = (gone.incident.id.clone(), gone.clone());
        self.tracked[into].absorb(&gone);
        Change::Merged { id: gone_id, into: id }
    }

    fn resolve_quiet(&mut self, now: Timestamp, how: &Grouping, changes: &mut Vec<Change>) {
        for tracked in self.tracked.iter_mut().filter(|t| t.incident.status == Status::Open) {
            let id = tracked.incident.id.clone();
            let silent = tracked.listen(now, how);
            if tracked.is_over(now, how) {
                tracked.incident.status = Status::Resolved;
                tracked.incident.resolved_at = Some(now);
                tracked.incident.updated_at = now;
                changes.push(Change::Resolved { id });
            } else if silent {
                tracked.incident.updated_at = now;
                changes.push(Change::Updated { id });
            }
        }
        self.tracked.retain(|t| t.incident.resolved_at.is_none_or(|at| now.since(at) <= how.remember));
    }
}

impl Tracked {
    fn new(now: Timestamp, group: &[&Sighting]) -> Self {
        let onset = group.iter().map(|s| s.anomaly.onset).min().unwrap_or(now);
        let first = group.iter().min_by_key(|s| (!s.symptom, s.anomaly.onset, &s.service));
        let workload = first.map(|s| s.service.clone()).unwrap_or_default();
        let incident = Incident {
            id: id(&workload, onset),
            workload,
            services: Vec::new(),
            severity: Severity::Warning,
            status: Status::Open,
            onset,
            opened_at: now,
            updated_at: now,
            resolved_at: None,
            merged_into: None,
            anomalies: Vec::new(),
            ranking: Ranking::default(),
            blast_radius: Vec::new(),
            changes: Vec::new(),
            silent_since: None,
            split_from: None,
            returns: 0,
        };
        let mut tracked = Self { incident, last_seen: Timestamp::MIN, heard: None };
        tracked.add(group);
        tracked
    }

    /// Takes the group in; says so when something about the incident changed that people should know.
    fn update(&mut self, now: Timestamp, group: &[&Sighting], how: &Grouping) -> Option<Change> {
        let before = (self.incident.services.len(), self.incident.severity, self.incident.anomalies.len());
        let silent_since = self.last_seen;
        self.add(group);
        if self.last_seen.since(silent_since) >= how.resolve_after / 2 {
            self.incident.returns = self.incident.returns.saturating_add(1);
        }
        let id = self.incident.id.clone();
        if self.incident.status == Status::Resolved {
            self.incident.status = Status::Open;
            self.incident.resolved_at = None;
            self.incident.updated_at = now;
            return Some(Change::Reopened { id });
        }
        let after = (self.incident.services.len(), self.incident.severity, self.incident.anomalies.len());
        (after != before).then(|| {
            self.incident.updated_at = now;
            Change::Updated { id }
        })
    }

    fn add(&mut self, group: &[&Sighting]) {
        for sighting in group {
            self.last_seen = self.last_seen.max(sighting.anomaly.last_seen);
            self.incident.onset = self.incident.onset.min(sighting.anomaly.onset);
        }
        self.join_services(group.iter().map(|s| s.service.clone()));
        self.incident.severity = self.incident.severity.max(severity(group, self.incident.services.len()));
        self.join_anomalies(group.iter().map(|s| &s.anomaly));
    }

    fn absorb(&mut self, other: &Self) {
        self.last_seen = self.last_seen.max(other.last_seen);
        self.incident.onset = self.incident.onset.min(other.incident.onset);
        self.incident.severity = self.incident.severity.max(other.incident.severity);
        self.join_services(other.incident.services.iter().cloned());
        self.join_anomalies(other.incident.anomalies.iter());
    }

    fn join_services(&mut self, services: impl Iterator<Item = String>) {
        let all: BTreeSet<String> = self.incident.services.drain(..).chain(services).collect();
        self.incident.services = all.into_iter().collect();
    }

    /// One entry for each series and onset, in order of onset; the first and the most surprising stay.
    fn join_anomalies<'a>(&mut self, anomalies: impl Iterator<Item = &'a Anomaly>) {
        let mut all: BTreeMap<(Timestamp, Labels), Anomaly> =
            self.incident.anomalies.drain(..).map(|a| ((a.onset, a.series.clone()), a)).collect();
        for anomaly in anomalies {
            all.insert((anomaly.onset, anomaly.series.clone()), anomaly.clone());
        }
        let mut kept: Vec<Anomaly> = all.into_values().collect();
        if kept.len() > MOST_ANOMALIES {
            kept[1..].sort_by(|a, b| b.surprise.total_cmp(&a.surprise));
            kept.truncate(MOST_ANOMALIES);
            kept.sort_by(|a, b| a.onset.cmp(&b.onset).then_with(|| a.series.cmp(&b.series)));
        }
        self.incident.anomalies = kept;
    }

    /// Whether every sighting of the group is older than the end of this incident and on its services: its afterglow.
    fn explains(&self, group: &[&Sighting]) -> bool {
        let inside =
            |s: &&Sighting| s.anomaly.last_seen <= self.last_seen && self.incident.services.contains(&s.service);
        group.iter().all(inside)
    }

    fn quiet_needed(&self, how: &Grouping) -> Duration {
        how.resolve_after.saturating_mul(1 << self.incident.returns.min(MOST_DOUBLINGS))
    }

    /// Notes since when nothing is heard of it; says whether that has begun or ended.
    fn listen(&mut self, now: Timestamp, how: &Grouping) -> bool {
        let before = self.incident.silent_since;
        self.incident.silent_since = self.heard.filter(|heard| now.since(*heard) >= how.resolve_after);
        before.is_some() != self.incident.silent_since.is_some()
    }

    /// Whether quiet was heard for long enough, or nothing at all for longer than is worth waiting.
    fn is_over(&self, now: Timestamp, how: &Grouping) -> bool {
        let spoken = if self.incident.silent_since.is_some() { self.heard.unwrap_or(now) } else { now };
        let quiet = spoken.since(self.last_seen) >= self.quiet_needed(how);
        quiet || now.since(spoken.max(self.last_seen)) >= how.hold_silent.max(self.quiet_needed(how))
    }
}

/// Live sightings that belong together, in order of first member.
fn groups<'a>(live: &'a [Sighting], topology: &Topology, how: &Grouping) -> Vec<Vec<&'a Sighting>> {
    // onsets close together on one service are one point, so that a flood of series stays a handful of points
    let grain = (how.join_window.as_secs_f64() / 8.0).max(1e-3);
    let mut points: BTreeMap<(&str, i64), (Disturbance, Vec<&Sighting>)> = BTreeMap::new();
    for sighting in live {
        let onset = sighting.anomaly.onset.as_secs_f64();
        let last_seen = sighting.anomaly.last_seen.as_secs_f64();
        let fresh = || (Disturbance { service: sighting.service.clone(), onset, last_seen }, Vec::new());
        let slot = points.entry((&sighting.service, (onset / grain).floor() as i64)).or_insert_with(fresh);
        slot.0.onset = slot.0.onset.min(onset);
        slot.0.last_seen = slot.0.last_seen.max(last_seen);
        slot.1.push(sighting);
    }
    let (disturbances, members): (Vec<_>, Vec<_>) = points.into_values().unzip();
    let numbers = clusters(&disturbances, topology, how.join_window.as_secs_f64(), how.join_hops);
    let mut groups: Vec<Vec<&Sighting>> = vec![Vec::new(); numbers.iter().max().map_or(0, |most| most + 1)];
    for (number, sightings) in numbers.into_iter().zip(members) {
        groups[number].extend(sightings);
    }
    groups
}

/// Critical once a symptom that users feel is out of line together with another symptom or another service, or by as
/// much as it should be at all. A lone symptom that is a little off is a warning.
fn severity(group: &[&Sighting], services: usize) -> Severity {
    let symptoms: Vec<&Anomaly> = group.iter().filter(|s| s.symptom).map(|s| &s.anomaly).collect();
    let distinct: BTreeSet<&Labels> = symptoms.iter().map(|anomaly| &anomaly.series).collect();
    let broad = distinct.len() > 1 || (services > 1 && !distinct.is_empty());
    let grave = broad || symptoms.iter().any(|anomaly| anomaly.effect() >= 1.0);
    if grave { Severity::Critical } else { Severity::Warning }
}

type Key = (String, Labels, Timestamp);

fn key(sighting: &Sighting) -> Key {
    (sighting.service.clone(), sighting.anomaly.series.clone(), sighting.anomaly.onset)
}

/// What is known of one anomaly from two sightings of it, whichever came first.
fn refresh(known: &mut Sighting, news: &Sighting) {
    let last_seen = known.anomaly.last_seen.max(news.anomaly.last_seen);
    known.symptom |= news.symptom;
    if news.anomaly.surprise.total_cmp(&known.anomaly.surprise).is_gt() {
        known.anomaly = news.anomaly.clone();
    }
    known.anomaly.last_seen = last_seen;
}

/// Surprise added over distinct series.
fn evidence(group: &[&Sighting]) -> f64 {
    let mut greatest: BTreeMap<&Labels, f64> = BTreeMap::new();
    for sighting in group {
        let most = greatest.entry(&sighting.anomaly.series).or_default();
        *most = most.max(sighting.anomaly.surprise);
    }
    greatest.values().sum()
}

/// A name for the incident of `workload` that began at `onset`: FNV-1a (Fowler, Noll, Vo 1991), 48 bits of it.
fn id(workload: &str, onset: Timestamp) -> String {
    let bytes = workload.bytes().chain(onset.as_millis().to_le_bytes());
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
    format!("inc-{:012x}", hash >> 16)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn t(secs: i64) -> Timestamp {
        Timestamp::from_secs(1_700_000_000 + secs)
    }

    fn seen(service: &str, name: &str, onset: i64, last_seen: i64, surprise: f64) -> Sighting {
        let series = Labels::metric(name).with("service", service);
        let (onset, last_seen) = (t(onset), t(last_seen));
        let anomaly = Anomaly { series, onset, last_seen, surprise, kind: None, observed: 9.0, expected: 1.0 };
        Sighting { service: service.to_owned(), symptom: name == "latency", anomaly }
    }

    fn shop() -> Topology {
        Topology::new([("web", "cart"), ("cart", "db"), ("mail", "queue")])
    }

    fn how() -> Grouping {
        Grouping::default()
    }

    fn ids(changes: &[Change]) -> Vec<&str> {
        changes
            .iter()
            .map(|change| match change {
                Change::Opened { .. } => "opened",
                Change::Updated { .. } => "updated",
                Change::Reopened { .. } => "reopened",
                Change::Merged { .. } => "merged",
                Change::Split { .. } => "split",
                Change::Resolved { .. } => "resolved",
            })
            .collect()
    }

    #[test]
    fn forty_anomalies_of_one_fault_are_one_incident_of_the_workload_with_the_symptom() {
        let mut tracker = Tracker::default();
        let mut all: Vec<Sighting> = (0..39).map(|i| seen("db", &format!("m{i}"), i, 60, 5.0)).collect();
        all.push(seen("web", "latency", 30, 60, 5.0));
        let changes = tracker.observe(t(60), &all, &shop(), &how());
        assert_eq!(ids(&changes), ["opened"]);
        let incident = tracker.incidents()[0];
        assert_eq!((incident.workload.as_str(), incident.severity), ("web", Severity::Critical));
        assert_eq!(incident.services, ["db", "web"]);
        assert_eq!(incident.onset, t(0));
        assert_eq!(incident.anomalies.len(), 40);
    }

    #[test]
    fn strangers_in_topology_are_two_incidents() {
        let mut tracker = Tracker::default();
        let all = [seen("web", "latency", 0, 60, 5.0), seen("mail", "latency", 0, 60, 5.0)];
        assert_eq!(ids(&tracker.observe(t(60), &all, &shop(), &how())), ["opened", "opened"]);
    }

    #[test]
    fn weak_evidence_opens_nothing_until_a_second_series_agrees() {
        let mut tracker = Tracker::default();
        let weak = seen("web", "cpu", 0, 60, 2.5);
        assert!(tracker.observe(t(60), std::slice::from_ref(&weak), &shop(), &how()).is_empty());
        let changes = tracker.observe(t(70), &[seen("web", "latency", 20, 70, 2.5)], &shop(), &how());
        assert_eq!(ids(&changes), ["opened"]);
    }

    #[test]
    fn the_same_facts_again_change_nothing() {
        let mut tracker = Tracker::default();
        let all = [seen("web", "latency", 0, 60, 5.0)];
        tracker.observe(t(60), &all, &shop(), &how());
        let before = tracker.clone();
        assert!(tracker.observe(t(60), &all, &shop(), &how()).is_empty());
        assert_eq!(tracker, before);
    }

    #[test]
    fn two_incidents_that_turn_out_to_be_one_are_merged_into_the_older() {
        let mut tracker = Tracker::default();
        let how = Grouping { join_hops: 1, ..how() };
        tracker.observe(t(10), &[seen("web", "latency", 0, 10, 5.0)], &shop(), &how);
        tracker.observe(t(20), &[seen("db", "latency", 15, 20, 5.0)], &shop(), &how);
        assert_eq!(tracker.incidents().len(), 2);
        let changes = tracker.observe(t(40), &[seen("cart", "errors", 30, 40, 5.0)], &shop(), &how);
        assert_eq!(ids(&changes), ["merged", "updated"]);
        let open: Vec<&Incident> = tracker.incidents().into_iter().filter(|i| i.status == Status::Open).collect();
        assert_eq!(open.len(), 1);
        assert_eq!(open[0].services, ["cart", "db", "web"]);
        assert_eq!(open[0].workload, "web");
        let gone = tracker.incidents().into_iter().find(|i| i.status == Status::Resolved).unwrap();
        assert_eq!(gone.merged_into.as_ref(), Some(&open[0].id));
    }

    #[test]
    fn quiet_resolves_and_each_return_asks_for_a_longer_quiet() {
        let mut tracker = Tracker::default();
        tracker.observe(t(0), &[seen("web", "latency", 0, 0, 5.0)], &shop(), &how());
        assert!(tracker.observe(t(299), &[], &shop(), &how()).is_empty());
        assert_eq!(ids(&tracker.observe(t(300), &[], &shop(), &how())), ["resolved"]);
        let back = tracker.observe(t(400), &[seen("web", "latency", 400, 400, 5.0)], &shop(), &how());
        assert_eq!(ids(&back), ["reopened"]);
        assert!(tracker.observe(t(800), &[], &shop(), &how()).is_empty(), "ten minutes are needed now");
        assert_eq!(ids(&tracker.observe(t(1000), &[], &shop(), &how())), ["resolved"]);
        let late = tracker.observe(t(3000), &[seen("web", "latency", 3000, 3000, 5.0)], &shop(), &how());
        assert_eq!(ids(&late), ["opened"], "long after, it is another incident");
    }

    #[test]
    fn a_flapping_symptom_is_one_incident_that_stays_open() {
        let mut tracker = Tracker::default();
        let mut all = Vec::new();
        for minute in 0..60 {
            let at = minute * 60;
            let sightings = if minute % 4 == 0 { vec![seen("web", "latency", at, at, 5.0)] } else { Vec::new() };
            all.extend(tracker.observe(t(at), &sightings, &shop(), &how()));
        }
        assert_eq!(ids(&all).iter().filter(|c| **c == "opened").count(), 1);
        assert!(!ids(&all).contains(&"resolved"));
    }

    #[test]
    fn an_incident_whose_data_vanished_is_held_open_and_says_so() {
        let mut tracker = Tracker::default();
        let trouble = seen("web", "latency", 0, 0, 5.0);
        tracker.observe(t(0), std::slice::from_ref(&trouble), &shop(), &how());
        let series = trouble.anomaly.series.clone();
        let heard = |until: i64| BTreeMap::from([(series.clone(), t(until))]);
        tracker.hear(&heard(60));
        let changes = tracker.observe(t(600), &[], &shop(), &how());
        assert_eq!((ids(&changes), tracker.incidents()[0].silent_since), (vec!["updated"], Some(t(60))));
        assert!(tracker.observe(t(3000), &[], &shop(), &how()).is_empty());
        let mut back = tracker.clone();
        back.hear(&heard(3060));
        assert_eq!(ids(&back.observe(t(3060), &[], &shop(), &how())), ["resolved"], "it speaks again, and is well");
        assert_eq!(ids(&tracker.observe(t(3660), &[], &shop(), &how())), ["resolved"], "an hour of silence is enough");
    }

    #[test]
    fn a_part_that_a_corrected_topology_cuts_off_is_split_from_its_incident() {
        let mut tracker = Tracker::default();
        let believed = Topology::new([("web", "cart"), ("cart", "db"), ("mail", "queue"), ("web", "mail")]);
        let all = [seen("web", "latency", 0, 60, 5.0), seen("mail", "latency", 5, 60, 5.0)];
        assert_eq!(ids(&tracker.observe(t(60), &all, &believed, &how())), ["opened"]);
        let changes = tracker.observe(t(120), &[], &shop(), &how());
        assert_eq!(ids(&changes), ["split"]);
        let services: Vec<_> =
            tracker.incidents().iter().map(|i| (i.services.join(","), i.split_from.is_some())).collect();
        assert_eq!(services, [("mail".to_owned(), true), ("web".to_owned(), false)]);
        assert!(tracker.incidents().iter().all(|i| i.anomalies.len() == 1));
        assert!(tracker.observe(t(130), &[], &shop(), &how()).is_empty(), "once");
    }

    #[test]
    fn a_lone_symptom_that_is_a_little_off_is_a_warning_until_it_spreads_or_grows() {
        let slightly = |name: &str| {
            let sighting = seen("web", name, 0, 60, 5.0);
            Sighting { symptom: true, anomaly: Anomaly { observed: 1.2, ..sighting.anomaly }, ..sighting }
        };
        let after = |all: &[Sighting]| {
            let mut tracker = Tracker::default();
            tracker.observe(t(60), all, &shop(), &how());
            tracker.incidents()[0].severity
        };
        assert_eq!(after(&[slightly("latency")]), Severity::Warning);
        assert_eq!(after(&[slightly("latency"), slightly("errors")]), Severity::Critical);
        assert_eq!(after(&[slightly("latency"), seen("db", "cpu", 0, 60, 5.0)]), Severity::Critical);
        assert_eq!(after(&[seen("web", "latency", 0, 60, 5.0)]), Severity::Critical, "nine times what it should be");
        assert_eq!(after(&[seen("web", "cpu", 0, 60, 5.0)]), Severity::Warning, "nothing that users feel");
    }

    #[test]
    fn a_flood_of_anomalies_is_grouped_without_losing_the_quiet_incident_beside_it() {
        let mut tracker = Tracker::default();
        let mut all: Vec<Sighting> = (0..5000).map(|i| seen("db", &format!("m{i}"), i % 50, 60, 5.0)).collect();
        all.push(seen("mail", "latency", 10, 60, 5.0));
        tracker.observe(t(60), &all, &shop(), &how());
        let services: Vec<&[String]> = tracker.incidents().iter().map(|i| i.services.as_slice()).collect();
        assert_eq!(services.len(), 2);
        assert!(tracker.incidents().iter().all(|i| i.anomalies.len() <= MOST_ANOMALIES));
    }

    fn any_sighting() -> impl Strategy<Value = Sighting> {
        let place = prop::sample::select(vec!["web", "cart", "db", "mail", "queue", "lone"]);
        let name = prop::sample::select(vec!["latency", "cpu", "errors"]);
        let surprise = prop_oneof![4 => 0.0..9.0_f64, 1 => Just(f64::NAN), 1 => Just(f64::INFINITY)];
        (place, name, -900..900_i64, -60..600_i64, surprise)
            .prop_map(|(s, n, onset, d, p)| seen(s, n, onset, onset + d, p))
    }

    fn replay(rounds: &[Vec<Sighting>]) -> (Tracker, Vec<Change>) {
        let mut tracker = Tracker::default();
        let mut changes = Vec::new();
        for (i, sightings) in rounds.iter().enumerate() {
            changes.extend(tracker.observe(t(i as i64 * 97), sightings, &shop(), &how()));
        }
        (tracker, changes)
    }

    proptest! {
        #[test]
        fn a_replay_gives_the_same_incidents_whatever_the_order_within_a_round(
            rounds in prop::collection::vec(prop::collection::vec(any_sighting(), 0..8), 0..12)
        ) {
            let turned: Vec<Vec<Sighting>> = rounds.iter().map(|r| r.iter().rev().cloned().collect()).collect();
            let (a, b) = (replay(&rounds), replay(&turned));
            prop_assert_eq!(format!("{a:?}"), format!("{b:?}"));
        }

        #[test]
        fn a_service_is_part_of_at_most_one_open_incident(
            rounds in prop::collection::vec(prop::collection::vec(any_sighting(), 0..8), 0..12)
        ) {
            let (tracker, _) = replay(&rounds);
            let open = tracker.incidents().into_iter().filter(|i| i.status == Status::Open);
            let mut seen = BTreeSet::new();
            for service in open.flat_map(|i| i.services.iter()) {
                prop_assert!(seen.insert(service.clone()), "{} is in two open incidents", service);
            }
        }

        #[test]
        fn every_change_is_about_an_incident_with_a_unique_id(
            rounds in prop::collection::vec(prop::collection::vec(any_sighting(), 0..8), 0..12)
        ) {
            let (_, changes) = replay(&rounds);
            let opened: Vec<&String> =
                changes.iter().filter_map(|c| if let Change::Opened { id } = c { Some(id) } else { None }).collect();
            let unique: BTreeSet<&&String> = opened.iter().collect();
            prop_assert_eq!(unique.len(), opened.len());
        }
    }
}
