//! Facts into a plan: pure, synchronous, deterministic.
//!
//! For each workload two rules advise. The *reactive* rule is that of the Kubernetes Horizontal Pod Autoscaler,
//! `ceil(replicas * metric / target)` with a tolerance. The *forecast* rule covers the demand to come with the
//! probability that the costs of too few and too many replicas call for: it raises for the time when a replica asked
//! for now would serve, and keeps what is needed until then. The greater advice is followed, through stabilisation
//! window and pace, and never below the course that the reactive rule alone would have taken. What is not known can
//! only hold or raise.

pub(crate) mod bridge;
mod contest;
pub(crate) mod demand;
mod fleet;
mod pace;
mod reactive;
pub(crate) mod settings;

use std::collections::HashMap;
use std::time::Duration;

use bellwether_models::outlook::{Outlook, Snapshot};
use bellwether_models::series::Timestamp;

pub use contest::{Contest, Tally};
pub use fleet::{Fleet, History, Track};
pub use reactive::Reactive;

use crate::config::{Fraction, Mode, ScaleConfig, Workload};
use crate::learn::Lesson;
use crate::plan::{Advice, Decision, ForeseenDemand, Plan, Reason};
use demand::{Foreseen, Need, Now};
use settings::Settings;

/// Decides for each of `workloads` how many replicas it shall have from `now` until the next decision, which is due
/// after `cadence`.
#[must_use]
pub fn decide(snapshot: &Snapshot, fleet: &Fleet, workloads: &[Workload], cadence: Duration, now: Timestamp) -> Plan {
    let outlooks: HashMap<&str, &Outlook> = snapshot.workloads.iter().map(|o| (o.workload.as_str(), o)).collect();
    let decisions = workloads.iter().map(|workload| {
        let (history, lesson) = (fleet.of(&workload.name), fleet.lesson(&workload.name));
        let settings = Settings::of(&workload.scale, lesson, history, now);
        let outlook = outlooks.get(workload.name.as_str()).copied();
        let decision = decide_one(&Facts { workload, scale: &settings.scale, outlook, history, lesson, cadence, now });
        explain_settings(decision, settings, outlook, lesson, now)
    });
    Plan { made_at: now, decisions: decisions.collect() }
}

/// All that one decision rests on.
struct Facts<'a> {
    workload: &'a Workload,
    scale: &'a ScaleConfig,
    outlook: Option<&'a Outlook>,
    history: Option<&'a History>,
    lesson: Option<&'a Lesson>,
    cadence: Duration,
    now: Timestamp,
}

impl Facts<'_> {
    fn foreseen(&self) -> Foreseen {
        if let Some(why) = self.distrust() {
            return Foreseen { distrusted: Some(why), ..Foreseen::default() };
        }
        self.outlook.map(|o| Foreseen::read(o, self.scale, self.cadence, self.now)).unwrap_or_default()
    }

    /// Why the forecast is not followed, if it is not.
    fn distrust(&self) -> Option<Reason> {
        let lesson = self.lesson.filter(|_| self.scale.trust.enabled)?;
        if self.scale.mode == Mode::Act && lesson.trial.is_suspended() {
            let (ours_minutes, reactive_minutes) = lesson.trial.minutes();
            return Some(Reason::ActedWorse { ours_minutes, reactive_minutes });
        }
        let verdict = lesson.score.verdict();
        // Who is not believed is no measure of what it may cost: then never hotter than the plain rule as it is set.
        let may_follow = |outdone: &Tally| verdict.believed || outdone.target < self.scale.target_utilisation;
        if let Some(Tally { forecast_minutes, plain_minutes, target }) = lesson.contest.outdone().filter(may_follow) {
            let hottest = self.scale.floor_utilisation.unwrap_or(self.scale.target_utilisation);
            let target = if target < hottest { target } else { hottest };
            return Some(Reason::PlainDoesBetter { forecast_minutes, plain_minutes, target });
        }
        let quantile = self.scale.cost.quantile().value();
        let (cost_ratio, held) = (verdict.cost_ratio, verdict.held);
        (!verdict.believed).then_some(Reason::ForecastDistrusted { cost_ratio, held, quantile })
    }
}

/// One workload: advice, then the shape in which it is followed.
fn decide_one(facts: &Facts<'_>) -> Decision {
    let Facts { workload, scale, outlook, history, now, .. } = *facts;
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
        floor: None,
        predicted: None,
        foreseen: None,
        advice: Advice::default(),
        planned: Vec::new(),
        reasons: Vec::new(),
    };
    if from.is_none() && scale.mode == Mode::Act {
        decision.reasons.push(Reason::ReplicasUnknown);
        return decision;
    }
    match Now::read(outlook, scale, now) {
        Ok(present) => follow(decision, &present, facts),
        Err(missing) => without_demand(decision, missing, facts),
    }
}

/// What was used in place of what is written, and what the budget forbids.
fn explain_settings(
    mut decision: Decision,
    settings: Settings<'_>,
    outlook: Option<&Outlook>,
    lesson: Option<&Lesson>,
    now: Timestamp,
) -> Decision {
    let refused = decision.reasons.iter().position(|r| matches!(r, Reason::AtMax { .. }));
    if let (Some(allowed), Some(index)) = (settings.capped, refused)
        && let Reason::AtMax { wanted, .. } = decision.reasons[index]
    {
        let spent = lesson.map_or(0.0, |lesson| lesson.spending.today(now));
        let short_minutes = outlook.map_or(0.0, |o| demand::short_minutes(o, &settings.scale, allowed, now));
        decision.reasons[index] = Reason::CostCapped { wanted, allowed, spent, short_minutes };
    }
    decision.planned = outlook.map(|o| demand::planned(o, &settings.scale, now)).unwrap_or_default();
    decision.reasons.extend(settings.notes);
    decision
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
fn without_demand(mut decision: Decision, missing: Reason, facts: &Facts<'_>) -> Decision {
    let Facts { history, scale, now, .. } = *facts;
    decision.reactive = history.and_then(|h| h.reactive.replicas()).or(decision.from);
    decision.floor = history.and_then(|h| h.floor.replicas()).or(decision.from);
    decision.reasons.push(missing);
    let Some(band) = facts.foreseen().band else { return decision };
    foresee(&mut decision, &band.raise);
    if decision.from.is_some_and(|from| band.raise.replicas > from) {
        let wanted = band.raise.replicas;
        decision.reasons.push(band.raise.reason);
        let track = history.map(|h| h.ours.clone()).unwrap_or_default();
        shape(&mut decision, wanted, 0, &track, scale, now);
        decision.to = decision.to.max(decision.from);
    }
    decision
}

/// The regular course: both rules advise, the greater is followed.
fn follow(mut decision: Decision, present: &Now, facts: &Facts<'_>) -> Decision {
    let Facts { history, scale, now, .. } = *facts;
    let foreseen = facts.foreseen();
    let may_run_hot = foreseen.band.is_some() && foreseen.missing.is_none();
    let target = match foreseen.distrusted {
        Some(Reason::PlainDoesBetter { target, .. }) => target,
        _ => scale.floor_utilisation.filter(|_| may_run_hot).unwrap_or(scale.target_utilisation),
    };

    let start = Track::starting_at(decision.from);
    let course = |of: fn(&History) -> &Track| history.map_or_else(|| start.clone(), |h| of(h).clone());
    let reactive = Step::of(&course(|h| &h.reactive), present, scale.target_utilisation, scale, now);
    let floor = Step::of(&course(|h| &h.floor), present, target, scale, now);
    (decision.reactive, decision.advice.reactive) = (Some(reactive.replicas), Some(reactive.advised));
    (decision.floor, decision.advice.floor) = (Some(floor.replicas), Some(floor.advised));

    let mut ours = course(|h| &h.ours);
    ours.stand_at(decision.from);
    if let Some(band) = &foreseen.band {
        foresee(&mut decision, &band.raise);
    }
    let coming = foreseen.band.map(|band| band.nearest(ours.replicas()));
    let wanted = winner(&mut decision, present.reactive(ours.replicas(), target, scale), coming);
    let wanted = hold_if_missing(&mut decision, wanted, foreseen.missing, facts);
    decision.reasons.extend(foreseen.distrusted);
    shape(&mut decision, wanted, floor.replicas, &ours, scale, now);
    decision
}

fn foresee(decision: &mut Decision, need: &Need) {
    decision.predicted = Some(need.replicas);
    if let Reason::Forecast { at, demand, quantile, .. } = need.reason {
        decision.foreseen = Some(ForeseenDemand { at, demand, quantile });
    }
}

/// One step of the course that a plain reactive autoscaler would take.
struct Step {
    advised: u32,
    replicas: u32,
}

impl Step {
    fn of(track: &Track, present: &Now, target: Fraction, scale: &ScaleConfig, now: Timestamp) -> Self {
        let advised = present.reactive(track.replicas(), target, scale).replicas.clamp(scale.min, scale.max);
        let stable = pace::stabilised(track, advised, scale, now);
        Self { advised, replicas: pace::limited(track, stable, scale, now) }
    }

    fn record(&self, track: &mut Track, scale: &ScaleConfig, now: Timestamp) {
        let from = track.replicas();
        track.record(now, Some(self.advised), from, Some(self.replicas), [scale.up(), scale.down()]);
    }
}

/// The greater of the two needs, and both reasons, that of the greater first.
fn winner(decision: &mut Decision, present: Need, coming: Option<Need>) -> u32 {
    let Some(coming) = coming else {
        decision.reasons.push(present.reason);
        return present.replicas;
    };
    let wanted = present.replicas.max(coming.replicas);
    let (first, second) = if coming.replicas > present.replicas { (coming, present) } else { (present, coming) };
    decision.reasons.extend([first.reason, second.reason]);
    wanted
}

/// Without a full forecast nothing is taken away, until an abstaining forecaster has been silent for too long.
fn hold_if_missing(decision: &mut Decision, wanted: u32, missing: Option<Reason>, facts: &Facts<'_>) -> u32 {
    let Some(missing) = missing else { return wanted };
    let silence = silence(facts.history, facts.now);
    let abstains = matches!(missing, Reason::ForecastAbstained { .. });
    decision.reasons.push(missing);
    if abstains && silence.is_none_or(|s| s >= facts.scale.fallback_after) {
        decision.reasons.push(Reason::FellBack { silent_seconds: silence.unwrap_or_default().as_secs_f64() });
        return wanted;
    }
    match decision.from {
        Some(from) if from > wanted => {
            decision.reasons.push(Reason::HoldsForLackOfFacts { wanted });
            from
        }
        _ => wanted,
    }
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
