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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bellwether_models::cause::{Cause, Ranking};

    use super::*;
    use crate::config::Mode;
    use crate::plan::Advice;

    fn at(secs: i64) -> Timestamp {
        Timestamp::from_secs(1_000_000 + secs)
    }

    fn workload() -> Workload {
        let scale = ScaleConfig { max: 20, cool_down: Duration::from_secs(60), ..ScaleConfig::default() };
        Workload { name: "shop".to_owned(), depends_on: vec!["db".to_owned()], scale }
    }

    fn decision(from: u32, to: u32) -> Decision {
        Decision {
            id: "shop-1".to_owned(),
            workload: "shop".to_owned(),
            at: at(0),
            mode: Mode::Shadow,
            from: Some(from),
            to: Some(to),
            observed: None,
            reactive: Some(to),
            floor: Some(to),
            predicted: Some(6),
            advice: Advice { ours: Some(to), reactive: Some(to), floor: Some(to) },
            reasons: Vec::new(),
        }
    }

    fn incident(cause: &str, confidence: f64) -> Incident {
        let cause = Cause {
            service: cause.to_owned(),
            metric: "latency".to_owned(),
            score: 1.0,
            evidence: Vec::new(),
            summary: String::new(),
            doubt: String::new(),
        };
        let text = serde_json::json!({
            "id": "7", "workload": "shop", "status": "open", "onset": at(0), "opened_at": at(0), "updated_at": at(0),
            "resolved_at": null, "anomalies": [],
            "ranking": Ranking { causes: vec![cause], confidence, ..Ranking::default() },
            "severity": "critical", "services": ["shop", "db"], "merged_into": null
        });
        serde_json::from_value(text).expect("an incident")
    }

    fn checked(decision: Decision, incidents: Vec<Incident>, control: &Control, now: Timestamp) -> Decision {
        let plan = Plan { made_at: at(0), decisions: vec![decision] };
        let facts = Snapshot { incidents, ..Snapshot::default() };
        let plan = guard(plan, &facts, &Fleet::default(), &[workload()], control, now);
        plan.decisions.into_iter().next().expect("one in, one out")
    }

    #[test]
    fn retries_of_a_broken_dependency_are_not_demand_but_what_was_foreseen_is_met() {
        let kept = checked(decision(4, 12), vec![incident("db", 0.9)], &Control::default(), at(0));
        assert_eq!(kept.to, Some(6));
        assert!(matches!(&kept.reasons[0], Reason::FaultIsNotDemand { wanted: 12, .. }), "{kept}");
    }

    #[test]
    fn an_unsure_cause_or_one_that_is_no_dependency_closes_no_gate() {
        for (cause, confidence) in [("db", 0.79), ("shop", 0.99)] {
            let kept = checked(decision(4, 12), vec![incident(cause, confidence)], &Control::default(), at(0));
            assert_eq!(kept.to, Some(12));
        }
    }

    #[test]
    fn an_incident_is_no_time_to_take_replicas_away() {
        let kept = checked(decision(9, 4), vec![incident("shop", 0.1)], &Control::default(), at(0));
        assert_eq!(kept.to, Some(9));
        let over = Incident { status: Status::Resolved, ..incident("shop", 0.1) };
        assert_eq!(checked(decision(9, 4), vec![over], &Control::default(), at(0)).to, Some(4));
    }

    #[test]
    fn people_stop_everything_or_one_direction_of_one_workload() {
        let stop = |direction| Stop { direction, note: "game day".to_owned(), since: at(0) };
        let freeze = Control { all: Some(stop(None)), ..Control::default() };
        let kept = checked(decision(4, 12), Vec::new(), &freeze, at(0));
        assert_eq!((kept.to, &kept.reasons[0].to_string()[..]), (Some(4), "scaling is paused: game day"));
        let workloads = BTreeMap::from([("shop".to_owned(), stop(Some(Direction::Down)))]);
        let no_less = Control { workloads, ..Control::default() };
        assert_eq!(checked(decision(4, 12), Vec::new(), &no_less, at(0)).to, Some(12));
        assert_eq!(checked(decision(12, 4), Vec::new(), &no_less, at(0)).to, Some(12));
    }

    #[test]
    fn an_old_plan_is_not_carried_out() {
        let kept = checked(decision(4, 12), Vec::new(), &Control::default(), at(301));
        assert_eq!((kept.to, &kept.reasons[0]), (Some(4), &Reason::PlanTooOld { age_seconds: 301.0 }));
    }

    #[test]
    fn bounds_have_the_last_word() {
        assert_eq!(checked(decision(4, 99), Vec::new(), &Control::default(), at(0)).to, Some(20));
    }

    #[test]
    fn just_after_a_change_nothing_is_taken_away() {
        let fleet = Fleet::default().after(
            &Plan { made_at: at(-30), decisions: vec![Decision { at: at(-30), ..decision(4, 9) }] },
            &[workload()],
        );
        let plan = |to| Plan { made_at: at(0), decisions: vec![decision(9, to)] };
        let check = |to| {
            let kept = guard(plan(to), &Snapshot::default(), &fleet, &[workload()], &Control::default(), at(0));
            kept.decisions[0].to
        };
        assert_eq!((check(5), check(12)), (Some(9), Some(12)));
    }
}
