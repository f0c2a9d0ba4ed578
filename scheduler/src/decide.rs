//! Facts into a plan: pure, synchronous, deterministic.
//!
//! For each workload two rules advise. The *reactive* rule is that of the Kubernetes Horizontal Pod Autoscaler,
//! `ceil(replicas * metric / target)` with a tolerance. The *forecast* rule covers the demand to come, until a replica
//! asked for now would serve and the next decision is due, with the probability that the costs of too few and too many
//! replicas call for. The greater advice is followed, through stabilisation window and pace, and never below the course
//! that the reactive rule alone would have taken. What is not known can only hold or raise.

mod demand;
mod fleet;
mod pace;

use std::collections::HashMap;
use std::time::Duration;

use bellwether_models::outlook::{Outlook, Snapshot};
use bellwether_models::series::Timestamp;

pub use fleet::{Fleet, History, Track};

use crate::config::{Mode, ScaleConfig, Workload};
use crate::plan::{Advice, Decision, Plan, Reason};
use demand::{Foreseen, Need, Now};

/// Decides for each of `workloads` how many replicas it shall have from `now` until the next decision, which is due
/// after `cadence`.
#[must_use]
pub fn decide(snapshot: &Snapshot, fleet: &Fleet, workloads: &[Workload], cadence: Duration, now: Timestamp) -> Plan {
    let outlooks: HashMap<&str, &Outlook> = snapshot.workloads.iter().map(|o| (o.workload.as_str(), o)).collect();
    let decisions = workloads.iter().map(|workload| {
        let outlook = outlooks.get(workload.name.as_str()).copied();
        decide_one(workload, outlook, fleet.of(&workload.name), cadence, now)
    });
    Plan { made_at: now, decisions: decisions.collect() }
}

/// One workload: advice, then the shape in which it is followed.
fn decide_one(
    workload: &Workload,
    outlook: Option<&Outlook>,
    history: Option<&History>,
    cadence: Duration,
    now: Timestamp,
) -> Decision {
    let scale = &workload.scale;
    let observed = outlook.and_then(|o| demand::observed_replicas(o, scale, now));
    let from = base(scale, observed, history);
    let mut decision = Decision {
        id: format!("{}-{}", workload.name, now.as_millis()),
        workload: workload.name.clone(),
        at: now,
        mode: scale.mode,
        from,
        to: from,
        observed: observed.map(|(_, replicas)| replicas),
        reactive: None,
        predicted: None,
        advice: Advice::default(),
        reasons: Vec::new(),
    };
    if from.is_none() && scale.mode == Mode::Act {
        decision.reasons.push(Reason::ReplicasUnknown);
        return decision;
    }
    let facts = match Now::read(outlook, scale, now) {
        Ok(facts) => facts,
        Err(missing) => return without_demand(decision, missing, outlook, history, scale, cadence, now),
    };
    follow(decision, &facts, outlook, history, scale, cadence, now)
}

/// Where the next step starts. A shadow runs its own course: it starts from what was decided before. Who acts starts
/// from what is observed, unless a change of ours may not show yet.
fn base(scale: &ScaleConfig, observed: Option<(Timestamp, u32)>, history: Option<&History>) -> Option<u32> {
    let decided = history.and_then(|h| h.ours.replicas());
    let changed = history.and_then(|h| h.ours.last_change());
    let seen = observed.map(|(_, replicas)| replicas);
    let settled = observed.is_some_and(|(at, _)| changed.is_none_or(|change| at > change + scale.startup));
    if scale.mode == Mode::Act && settled { seen.or(decided) } else { decided.or(seen) }
}

/// Without the demand of now the forecast may still raise; nothing lowers.
fn without_demand(
    mut decision: Decision,
    missing: Reason,
    outlook: Option<&Outlook>,
    history: Option<&History>,
    scale: &ScaleConfig,
    cadence: Duration,
    now: Timestamp,
) -> Decision {
    decision.reactive = history.and_then(|h| h.reactive.replicas()).or(decision.from);
    decision.reasons.push(missing);
    let Some(Foreseen { need: Some(need), .. }) = outlook.map(|o| Foreseen::read(o, scale, cadence, now)) else {
        return decision;
    };
    decision.predicted = Some(need.replicas);
    if decision.from.is_some_and(|from| need.replicas > from) {
        decision.reasons.push(need.reason.clone());
        let track = history.map(|h| h.ours.clone()).unwrap_or_default();
        shape(&mut decision, need.replicas, 0, &track, scale, now);
        decision.to = decision.to.max(decision.from);
    }
    decision
}

/// The regular course: both rules advise, the greater is followed.
fn follow(
    mut decision: Decision,
    facts: &Now,
    outlook: Option<&Outlook>,
    history: Option<&History>,
    scale: &ScaleConfig,
    cadence: Duration,
    now: Timestamp,
) -> Decision {
    let (ours, reactive) = tracks(history, &decision);
    let floor = floor_of(&reactive, facts, scale, now);
    decision.reactive = Some(floor.replicas);
    decision.advice.reactive = Some(floor.advised);

    let foreseen = outlook.map(|o| Foreseen::read(o, scale, cadence, now)).unwrap_or_default();
    decision.predicted = foreseen.need.as_ref().map(|n| n.replicas);
    let present = facts.reactive(ours.replicas(), scale);
    let wanted = winner(&mut decision, present, foreseen.need);
    let held = foreseen.missing.and_then(|reason| {
        let silence = silence(history, now);
        let gives_up =
            matches!(reason, Reason::ForecastAbstained { .. }) && silence.is_none_or(|s| s >= scale.fallback_after);
        decision.reasons.push(reason);
        if gives_up {
            decision.reasons.push(Reason::FellBack { silent_seconds: silence.unwrap_or_default().as_secs_f64() });
        }
        (!gives_up).then_some(()).and(decision.from)
    });
    let wanted = match held {
        Some(from) if from > wanted => {
            decision.reasons.push(Reason::HoldsForLackOfFacts { wanted });
            from
        }
        _ => wanted,
    };
    shape(&mut decision, wanted, floor.replicas, &ours, scale, now);
    decision
}

/// Both courses; a workload seen for the first time starts both where it stands.
fn tracks(history: Option<&History>, decision: &Decision) -> (Track, Track) {
    let fresh = || Track::starting_at(decision.from);
    let mut ours = history.map_or_else(fresh, |h| h.ours.clone());
    ours.stand_at(decision.from);
    (ours, history.map_or_else(fresh, |h| h.reactive.clone()))
}

struct Floor {
    advised: u32,
    replicas: u32,
}

/// One step of the course that a plain reactive autoscaler would take.
fn floor_of(track: &Track, facts: &Now, scale: &ScaleConfig, now: Timestamp) -> Floor {
    let advised = facts.reactive(track.replicas(), scale).replicas.clamp(scale.min, scale.max);
    let stable = pace::stabilised(track, advised, scale, now);
    Floor { advised, replicas: pace::limited(track, stable, scale, now) }
}

/// The greater of the two needs; its reason first, the other's as well when it asks for a change.
fn winner(decision: &mut Decision, present: Need, foreseen: Option<Need>) -> u32 {
    let Some(foreseen) = foreseen else {
        decision.reasons.push(present.reason);
        return present.replicas;
    };
    let wanted = present.replicas.max(foreseen.replicas);
    if foreseen.replicas > present.replicas {
        decision.reasons.extend([foreseen.reason, present.reason]);
    } else {
        decision.reasons.extend([present.reason, foreseen.reason]);
    }
    wanted
}

/// How long the forecaster has given nothing; `None` when it never has given anything.
fn silence(history: Option<&History>, now: Timestamp) -> Option<Duration> {
    history.and_then(|h| h.last_forecast).map(|at| now.since(at))
}

/// From what is wanted to what is done: bounds, stabilisation, floor, pace.
fn shape(decision: &mut Decision, wanted: u32, floor: u32, track: &Track, scale: &ScaleConfig, now: Timestamp) {
    let bounded = wanted.clamp(scale.min, scale.max);
    if wanted < bounded {
        decision.reasons.push(Reason::AtMin { wanted, min: scale.min });
    } else if wanted > bounded {
        decision.reasons.push(Reason::AtMax { wanted, max: scale.max });
    }
    decision.advice.ours = Some(bounded);
    let stable = pace::stabilised(track, bounded, scale, now);
    if stable != bounded {
        let window = if stable > bounded { scale.down() } else { scale.up() }.stabilisation;
        let window_seconds = window.as_secs_f64();
        decision.reasons.push(Reason::Stabilising { wanted: bounded, followed: stable, window_seconds });
    }
    let least = stable.max(floor);
    if floor > stable {
        decision.reasons.push(Reason::ReactiveFloor { replicas: floor });
    }
    let allowed = pace::limited(track, least, scale, now);
    if allowed != least {
        decision.reasons.push(Reason::Paced { wanted: least, allowed });
    }
    decision.to = Some(allowed);
}

#[cfg(test)]
mod tests;
