//! The last word before anything is done: people's stops, incidents, cool-down, age of the plan, bounds.
//!
//! The guard only makes a plan milder: it holds, or allows less of a change. It never invents one.

use std::collections::BTreeMap;

use bellwether_models::incident::{Incident, Status};
use bellwether_models::outlook::Snapshot;
use bellwether_models::series::Timestamp;
use serde::{Deserialize, Serialize};

use crate::config::{ScaleConfig, Workload};
use crate::decide::Fleet;
use crate::plan::{Decision, Direction, Plan, Reason};

/// What people have stopped.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Control {
    /// Stops everything: the freeze.
    pub all: Option<Stop>,
    /// Stops single workloads.
    pub workloads: BTreeMap<String, Stop>,
}

/// One stop.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stop {
    /// Which changes are stopped: `None` for both directions.
    pub direction: Option<Direction>,
    /// Who stopped it, or why.
    pub note: String,
    /// When.
    pub since: Timestamp,
}

impl Control {
    /// The stops that hold for `workload`, the general one first.
    pub fn stops<'a>(&'a self, workload: &str) -> impl Iterator<Item = &'a Stop> {
        self.all.iter().chain(self.workloads.get(workload))
    }
}

/// Checks `plan` against the facts of `now`; decisions are in the order of `workloads`.
#[must_use]
pub fn guard(
    mut plan: Plan,
    snapshot: &Snapshot,
    fleet: &Fleet,
    workloads: &[Workload],
    control: &Control,
    now: Timestamp,
) -> Plan {
    let made_at = plan.made_at;
    for (decision, workload) in plan.decisions.iter_mut().zip(workloads) {
        keep_bounds(decision, &workload.scale);
        keep_fresh(decision, made_at, &workload.scale, now);
        keep_cool(decision, fleet, &workload.scale, now);
        mind_incidents(decision, &snapshot.incidents, workload);
        obey(decision, control);
    }
    plan
}

fn keep_bounds(decision: &mut Decision, scale: &ScaleConfig) {
    decision.to = decision.to.map(|to| match decision.from {
        Some(from) if to == from => to, // outside the bounds already: to hold is not ours to forbid
        _ => to.clamp(scale.min, scale.max),
    });
}

fn keep_fresh(decision: &mut Decision, made_at: Timestamp, scale: &ScaleConfig, now: Timestamp) {
    let age = now.since(made_at);
    if decision.changes() && age > scale.max_fact_age {
        hold(decision, Reason::PlanTooOld { age_seconds: age.as_secs_f64() });
    }
}

fn keep_cool(decision: &mut Decision, fleet: &Fleet, scale: &ScaleConfig, now: Timestamp) {
    let Some(change) = fleet.of(&decision.workload).and_then(|h| h.ours.last_change()) else { return };
    let left = scale.cool_down.saturating_sub(now.since(change));
    if direction(decision) == Some(Direction::Down) && !left.is_zero() {
        hold(decision, Reason::CoolingDown { left_seconds: left.as_secs_f64() });
    }
}

/// A fault is not demand: what the forecast foresaw is still met, what only shows now is not, when a dependency is the
/// cause. And an incident is no time to take replicas away.
fn mind_incidents(decision: &mut Decision, incidents: &[Incident], workload: &Workload) {
    let mut open = incidents.iter().filter(|i| i.status == Status::Open && i.workload == workload.name);
    match direction(decision) {
        Some(Direction::Down) => {
            if let Some(incident) = open.next() {
                hold(decision, Reason::IncidentOpen { incident: incident.id.clone() });
            }
        }
        Some(Direction::Up) => {
            if let Some(reason) = open.find_map(|i| broken_dependency(i, workload, decision)) {
                let foreseen = decision.predicted.unwrap_or(0).max(decision.from.unwrap_or(0));
                if decision.to > Some(foreseen) {
                    decision.to = Some(foreseen);
                    decision.reasons.insert(0, reason);
                }
            }
        }
        None => {}
    }
}

fn broken_dependency(incident: &Incident, workload: &Workload, decision: &Decision) -> Option<Reason> {
    let gate = workload.scale.incident_gate;
    let cause = incident.ranking.causes.first()?;
    let sure = gate.enabled && incident.ranking.abstained.is_none() && incident.ranking.confidence >= gate.confidence;
    (sure && workload.depends_on.contains(&cause.service)).then(|| Reason::FaultIsNotDemand {
        incident: incident.id.clone(),
        cause: cause.service.clone(),
        confidence: incident.ranking.confidence,
        wanted: decision.to.unwrap_or(0),
    })
}

fn obey(decision: &mut Decision, control: &Control) {
    let Some(direction) = direction(decision) else { return };
    let stop = control.stops(&decision.workload).find(|s| s.direction.is_none_or(|d| d == direction));
    let Some(stop) = stop else { return };
    let note = stop.note.clone();
    hold(
        decision,
        match stop.direction {
            None => Reason::Paused { note },
            Some(direction) => Reason::DirectionPaused { direction, note },
        },
    );
}

fn hold(decision: &mut Decision, reason: Reason) {
    decision.to = decision.from;
    decision.reasons.insert(0, reason);
}

fn direction(decision: &Decision) -> Option<Direction> {
    let to = decision.to?;
    match decision.from {
        Some(from) if to < from => Some(Direction::Down),
        Some(from) if to == from => None,
        _ => Some(Direction::Up),
    }
}
