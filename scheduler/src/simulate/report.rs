//! The outcome of a simulation as people and scorers read it.

use bellwether_models::series::Window;
use serde::{Deserialize, Serialize};

use super::{Archetype, Outcome, Setting};

/// The report on one trace.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Name of the trace.
    pub trace: String,
    /// What kinds of demand it shows.
    #[serde(default)]
    pub archetypes: Vec<Archetype>,
    /// Time from asking for a replica until it serves.
    pub startup_seconds: f64,
    /// Demand that one replica serves.
    pub capacity: f64,
    /// Every policy at every value of its knob.
    pub policies: Vec<Line>,
    /// Every policy but the plain autoscaler, against the best plain autoscaler of the same cost.
    pub equal_cost: Vec<EqualCost>,
}

/// One policy at one value of its knob.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// Which policy.
    pub name: String,
    /// Its knob.
    pub knob: f64,
    /// Minutes in which demand was above the capacity of the ready replicas.
    pub violation_minutes: f64,
    /// Share of the demand that was not served.
    pub unserved_fraction: f64,
    /// Replicas, starting ones included, times hours.
    pub replica_hours: f64,
    /// Changes of the replica count.
    pub scale_events: u64,
    /// Changes in the other direction than the one before.
    pub flips: u64,
}

/// One policy against the plain autoscalers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EqualCost {
    /// Which policy.
    pub policy: String,
    /// Its knob.
    pub knob: f64,
    /// Its cost.
    pub replica_hours: f64,
    /// Its violations.
    pub violation_minutes: f64,
    /// Violations of the best plain autoscaler of that cost. Cheaper than any of them: those of the cheapest.
    pub best_hpa_violation_minutes: f64,
    /// Cost of the cheapest plain autoscaler with as few violations; `None` when none has.
    pub best_hpa_replica_hours: Option<f64>,
}

impl Report {
    /// The report on what came of `demand`.
    #[must_use]
    pub fn new(trace: &str, demand: &Window, setting: &Setting, outcomes: &[Outcome]) -> Self {
        let policies: Vec<Line> = outcomes.iter().map(Line::of).collect();
        let front = Front::of(policies.iter().filter(|line| line.name == "hpa"));
        let others = policies.iter().filter(|line| line.name != "hpa");
        let equal_cost = others.map(|line| front.compare(line)).collect();
        Self {
            trace: trace.to_owned(),
            archetypes: Archetype::of(demand),
            startup_seconds: setting.startup.as_secs_f64(),
            capacity: setting.capacity,
            policies,
            equal_cost,
        }
    }
}

impl Line {
    fn of(outcome: &Outcome) -> Self {
        let tally = &outcome.tally;
        Self {
            name: outcome.name.clone(),
            knob: outcome.knob,
            violation_minutes: tally.violation_minutes(),
            unserved_fraction: tally.unserved_fraction(),
            replica_hours: tally.replica_hours(),
            scale_events: tally.scale_events,
            flips: tally.flips,
        }
    }
}

/// What plain autoscalers can reach: cost and violations, cost ascending, violations descending. Between two targets
/// lie others, so the front is taken as straight in between.
pub(super) struct Front(Vec<(f64, f64)>);

impl Front {
    pub(super) fn of<'a>(lines: impl Iterator<Item = &'a Line>) -> Self {
        let mut points: Vec<(f64, f64)> = lines.map(|l| (l.replica_hours, l.violation_minutes)).collect();
        points.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
        let mut front: Vec<(f64, f64)> = Vec::new();
        for point in points {
            if front.last().is_none_or(|last| point.1 < last.1) {
                front.push(point);
            }
        }
        Self(front)
    }

    fn compare(&self, line: &Line) -> EqualCost {
        EqualCost {
            policy: line.name.clone(),
            knob: line.knob,
            replica_hours: line.replica_hours,
            violation_minutes: line.violation_minutes,
            best_hpa_violation_minutes: self.violations_at(line.replica_hours),
            best_hpa_replica_hours: self.cost_of(line.violation_minutes),
        }
    }

    pub(super) fn violations_at(&self, cost: f64) -> f64 {
        let next = self.0.partition_point(|(c, _)| *c <= cost);
        match (next.checked_sub(1).map(|i| self.0[i]), self.0.get(next)) {
            (Some(a), Some(b)) => between(cost, a, *b),
            (Some(last), None) => last.1,
            (None, Some(first)) => first.1,
            (None, None) => f64::NAN,
        }
    }

    fn cost_of(&self, violations: f64) -> Option<f64> {
        let next = self.0.iter().position(|(_, v)| *v <= violations)?;
        let (cost, fewer) = self.0[next];
        let Some((c, v)) = next.checked_sub(1).map(|i| self.0[i]) else { return Some(cost) };
        Some(between(violations, (v, c), (fewer, cost)))
    }
}

fn between(x: f64, a: (f64, f64), b: (f64, f64)) -> f64 {
    if a.0 == b.0 { b.1 } else { a.1 + (x - a.0) / (b.0 - a.0) * (b.1 - a.1) }
}
