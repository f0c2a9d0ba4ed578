//! The last word before anything is done: people's stops, incidents, cool-down, age of the plan, bounds.
//!
//! The guard only makes a plan milder: it holds, or allows less of a change. It never invents one.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};

use bellwether_models::incident::{Incident, Status};
use bellwether_models::outlook::{Outlook, Snapshot};
use bellwether_models::series::Timestamp;
use serde::{Deserialize, Serialize};

use crate::config::{ScaleConfig, Workload};
use crate::decide::Fleet;
use crate::decide::settings::Settings;
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
    /// Until when; `None` until it is resumed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
}

impl Control {
    /// The stops that hold for `workload` at `now`, the general one first.
    pub fn stops<'a>(&'a self, workload: &str, now: Timestamp) -> impl Iterator<Item = &'a Stop> {
        self.all.iter().chain(self.workloads.get(workload)).filter(move |stop| stop.holds(now))
    }

    /// Without the stops that are over.
    pub fn forget_what_is_over(&mut self, now: Timestamp) {
        self.all.take_if(|stop| !stop.holds(now));
        self.workloads.retain(|_, stop| stop.holds(now));
    }
}

impl Stop {
    /// Whether it holds at `now`.
    #[must_use]
    pub fn holds(&self, now: Timestamp) -> bool {
        self.until.is_none_or(|until| now < until)
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
    let outlooks = snapshot.workloads.iter().map(|o| (o.workload.as_str(), o)).collect();
    let around = Surroundings { outlooks, fleet, workloads };
    for (decision, workload) in plan.decisions.iter_mut().zip(workloads) {
        let scale = settings(fleet, workload, now);
        keep_bounds(decision, &scale);
        keep_fresh(decision, made_at, &scale, now);
        keep_cool(decision, fleet, &scale, now);
        mind_incidents(decision, &snapshot.incidents, workload);
        mind_deploys(decision, &around, &scale, now);
        mind_dependencies(decision, workload, &around, now);
        obey(decision, control, now);
    }
    plan
}

/// The room that is left in a dependency.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Downstream {
    /// Which.
    pub dependency: String,
    /// Demand made of it; `None` when nothing fresh is known.
    pub demand: Option<f64>,
    /// What all the replicas it may have can serve; `None` until that is known.
    pub capacity: Option<f64>,
    /// The demand above which the workload does not grow: `downstream_headroom` of the capacity; `None` without one.
    pub limit: Option<f64>,
    /// Whether it keeps the workload from growing.
    pub is_full: bool,
}

/// The room that is left in what `workload` depends on, as far as we scale it: it is one of `workloads`.
#[must_use]
pub fn downstream(
    workload: &Workload,
    snapshot: &Snapshot,
    fleet: &Fleet,
    workloads: &[Workload],
    now: Timestamp,
) -> Vec<Downstream> {
    let outlooks = snapshot.workloads.iter().map(|o| (o.workload.as_str(), o)).collect();
    rooms(workload, &Surroundings { outlooks, fleet, workloads }, now)
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

/// What starts anew uses more than demand asks for: what was foreseen is still met, what only shows now is not.
fn mind_deploys(decision: &mut Decision, around: &Surroundings<'_>, scale: &ScaleConfig, now: Timestamp) {
    if scale.deploy_freeze.is_zero() {
        return;
    }
    let Some(outlook) = around.outlooks.get(decision.workload.as_str()) else { return };
    let age = outlook.running.changed_at.map_or(scale.deploy_freeze, |at| now.since(at));
    let left_seconds = scale.deploy_freeze.saturating_sub(age).as_secs_f64();
    let Some(direction) = direction(decision).filter(|_| left_seconds > 0.0) else { return };
    let reason = Reason::DeployFreeze { left_seconds, wanted: decision.to.unwrap_or(0) };
    let foreseen = decision.predicted.unwrap_or(0).max(decision.from.unwrap_or(0));
    match direction {
        Direction::Down => hold(decision, reason),
        Direction::Up if decision.to > Some(foreseen) => {
            decision.to = Some(foreseen);
            decision.reasons.insert(0, reason);
        }
        Direction::Up => {}
    }
}

/// All that is known of all workloads.
struct Surroundings<'a> {
    outlooks: HashMap<&'a str, &'a Outlook>,
    fleet: &'a Fleet,
    workloads: &'a [Workload],
}

/// More of us would only send more into a dependency that is nearly full and cannot grow.
fn mind_dependencies(decision: &mut Decision, workload: &Workload, around: &Surroundings<'_>, now: Timestamp) {
    let Some(headroom) = workload.scale.downstream_headroom else { return };
    if direction(decision) != Some(Direction::Up) {
        return;
    }
    let full = rooms(workload, around, now).into_iter().filter_map(|room| {
        let (demand, capacity) = room.demand.zip(room.capacity)?;
        (demand > headroom.value() * capacity).then_some((room.dependency, demand, capacity))
    });
    if let Some((dependency, demand, capacity)) = full.max_by(|a, b| (a.1 / a.2).total_cmp(&(b.1 / b.2))) {
        let wanted = decision.to.unwrap_or(0);
        hold(decision, Reason::DownstreamSaturated { dependency, demand, capacity, wanted });
    }
}

fn rooms(workload: &Workload, around: &Surroundings<'_>, now: Timestamp) -> Vec<Downstream> {
    let dependencies = around.workloads.iter().filter(|w| workload.depends_on.contains(&w.name));
    let room = |dependency: &Workload| {
        let scale = settings(around.fleet, dependency, now);
        let demand = around.outlooks.get(dependency.name.as_str()).and_then(|outlook| outlook.demand);
        let fresh = |at: Timestamp| now.since(at).max(at.since(now)) <= scale.max_fact_age;
        let capacity = scale.capacity_per_replica.map(|one| one.value() * f64::from(scale.max));
        let demand = demand.filter(|demand| fresh(demand.at)).map(|demand| demand.value);
        let limit = capacity.zip(workload.scale.downstream_headroom).map(|(all, share)| share.value() * all);
        let is_full = demand.zip(limit).is_some_and(|(demand, limit)| demand > limit);
        Downstream { dependency: dependency.name.clone(), demand, capacity, limit, is_full }
    };
    dependencies.map(room).collect()
}

fn settings<'a>(fleet: &Fleet, workload: &'a Workload, now: Timestamp) -> Cow<'a, ScaleConfig> {
    let (history, lesson) = (fleet.of(&workload.name), fleet.lesson(&workload.name));
    Settings::of(&workload.scale, lesson, history, now).scale
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

fn obey(decision: &mut Decision, control: &Control, now: Timestamp) {
    let Some(direction) = direction(decision) else { return };
    let stop = control.stops(&decision.workload, now).find(|s| s.direction.is_none_or(|d| d == direction));
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
    use bellwether_models::outlook::{Foresight, Observed, Running};

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
            foreseen: None,
            advice: Advice { ours: Some(to), reactive: Some(to), floor: Some(to) },
            planned: Vec::new(),
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
        let stop = |direction| Stop { direction, note: "game day".to_owned(), since: at(0), until: None };
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

    /// The shop beside its database, which has `demand`.
    fn beside(demand: f64, shop: ScaleConfig) -> (Snapshot, Vec<Workload>) {
        let capacity_per_replica = 10.0.try_into().ok();
        let db = Workload {
            name: "db".to_owned(),
            depends_on: Vec::new(),
            scale: ScaleConfig { max: 10, capacity_per_replica, ..ScaleConfig::default() },
        };
        let outlook = |name: &str, value: f64| Outlook {
            workload: name.to_owned(),
            made_at: at(0),
            demand: Some(Observed { at: at(0), value }),
            replicas: None,
            foresight: Foresight::Abstained { reason: "none".to_owned() },
            model: bellwether_models::outlook::ModelRef::default(),
            anomalies: Vec::new(),
            running: Running { changed_at: Some(at(-60)), ..Running::default() },
        };
        let snapshot = Snapshot { workloads: vec![outlook("shop", 1.0), outlook("db", demand)], ..Snapshot::default() };
        (snapshot, vec![Workload { scale: shop, ..workload() }, db])
    }

    fn decided_beside(demand: f64, shop: ScaleConfig, from: u32, to: u32) -> Decision {
        let (snapshot, workloads) = beside(demand, shop);
        let plan = Plan { made_at: at(0), decisions: vec![decision(from, to)] };
        let plan = guard(plan, &snapshot, &Fleet::default(), &workloads, &Control::default(), at(0));
        plan.decisions.into_iter().next().expect("one in, one out")
    }

    #[test]
    fn who_depends_on_something_full_does_not_grow_but_may_shrink() {
        let headroom = |share: f64| ScaleConfig { downstream_headroom: share.try_into().ok(), ..workload().scale };
        let kept = decided_beside(95.0, headroom(0.9), 4, 8);
        assert_eq!(kept.to, Some(4), "{kept}");
        assert!(matches!(&kept.reasons[0], Reason::DownstreamSaturated { wanted: 8, .. }), "{kept}");
        assert_eq!(decided_beside(85.0, headroom(0.9), 4, 8).to, Some(8), "there is room");
        assert_eq!(decided_beside(95.0, headroom(0.9), 8, 4).to, Some(4));
        assert_eq!(decided_beside(95.0, workload().scale, 4, 8).to, Some(8), "unless it is told to, it does not look");
    }

    #[test]
    fn just_after_a_deploy_only_what_was_foreseen_is_met_and_nothing_is_taken_away() {
        let frozen = || ScaleConfig { deploy_freeze: Duration::from_secs(300), ..workload().scale };
        let kept = decided_beside(1.0, frozen(), 4, 12);
        assert_eq!((kept.to, &kept.reasons[0]), (Some(6), &Reason::DeployFreeze { left_seconds: 240.0, wanted: 12 }));
        assert_eq!(decided_beside(1.0, frozen(), 9, 4).to, Some(9));
        let short = ScaleConfig { deploy_freeze: Duration::from_secs(60), ..workload().scale };
        assert_eq!(decided_beside(1.0, short, 4, 12).to, Some(12), "it is over");
    }

    #[test]
    fn a_stop_with_an_end_ends() {
        let stop = Stop { direction: None, note: "load test".to_owned(), since: at(0), until: Some(at(600)) };
        let mut control = Control { all: Some(stop), ..Control::default() };
        let kept = |control: &Control, secs: i64| {
            let plan = Plan { made_at: at(secs), decisions: vec![decision(4, 12)] };
            let plan = guard(plan, &Snapshot::default(), &Fleet::default(), &[workload()], control, at(secs));
            plan.decisions[0].to
        };
        assert_eq!((kept(&control, 599), kept(&control, 600)), (Some(4), Some(12)));
        control.forget_what_is_over(at(600));
        assert_eq!(control, Control::default());
    }
}
