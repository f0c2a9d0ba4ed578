//! What earlier decisions left behind: the only memory of the decision core.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

use bellwether_models::outlook::{Outlook, Snapshot};
use bellwether_models::series::Timestamp;
use serde::{Deserialize, Serialize};

use super::contest::Shadows;
use super::settings::{Breached, Settings};
use crate::config::{Pace, ScaleConfig, Workload};
use crate::learn::{Lesson, Standing};
use crate::plan::{Decision, Plan, Reason};

/// The courses of all workloads.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Fleet {
    courses: BTreeMap<String, History>,
    /// What the past of each workload teaches; kept apart, because it outlives a restart whole.
    lessons: BTreeMap<String, Lesson>,
    /// What others would have done for each workload.
    #[serde(default)]
    shadows: BTreeMap<String, Shadows>,
}

/// The course of one workload.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct History {
    /// As decided.
    pub ours: Track,
    /// As a plain reactive autoscaler would have gone.
    pub reactive: Track,
    /// As the reactive rule that is the floor would have gone.
    pub floor: Track,
    /// When a forecast was last at hand.
    pub last_forecast: Option<Timestamp>,
    /// For how long more than the maximum has been wanted.
    #[serde(default)]
    pub breached: Option<Breached>,
}

/// Replicas over time, with the advice that led there.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Track {
    replicas: Option<u32>,
    last_change: Option<Timestamp>,
    /// Advice before shaping, in order of time.
    pub(super) advice: VecDeque<(Timestamp, u32)>,
    /// Changes of the replica count, in order of time.
    pub(super) changes: VecDeque<(Timestamp, i64)>,
}

impl Fleet {
    /// The course of `workload`, once something has been decided for it.
    #[must_use]
    pub fn of(&self, workload: &str) -> Option<&History> {
        self.courses.get(workload)
    }

    /// What the past of `workload` teaches.
    #[must_use]
    pub fn lesson(&self, workload: &str) -> Option<&Lesson> {
        self.lessons.get(workload)
    }

    /// All that has been learnt, to be written down.
    #[must_use]
    pub fn lessons(&self) -> &BTreeMap<String, Lesson> {
        &self.lessons
    }

    /// Takes up what was learnt before a restart.
    pub fn recall(&mut self, lessons: BTreeMap<String, Lesson>) {
        self.lessons = lessons;
    }

    /// Learns from what `snapshot` shows at `now`; to be called before deciding. What is no workload any more is forgotten.
    pub fn observe(&mut self, snapshot: &Snapshot, workloads: &[Workload], now: Timestamp) {
        let outlooks: HashMap<&str, &Outlook> = snapshot.workloads.iter().map(|o| (o.workload.as_str(), o)).collect();
        let (mut before, mut shadows) = (std::mem::take(&mut self.lessons), std::mem::take(&mut self.shadows));
        for workload in workloads {
            let mut lesson = before.remove(&workload.name).unwrap_or_default();
            let mut beside = shadows.remove(&workload.name).unwrap_or_default();
            let history = self.courses.get(&workload.name);
            if let Some(outlook) = outlooks.get(workload.name.as_str()) {
                let scale = Settings::of(&workload.scale, Some(&lesson), history, now).scale;
                let replicas = |track: fn(&History) -> &Track| history.and_then(|h| track(h).replicas());
                let standing = Standing { asked: replicas(|h| &h.ours), reactive: replicas(|h| &h.reactive) };
                lesson.observe(outlook, &scale, standing, now);
                lesson.contest.observe(&mut beside, outlook, &scale, now);
                lesson.score.judge(scale.cost.quantile(), &scale.trust);
                lesson.contest.judge(scale.trust.outdone_by);
                lesson.trial.judge(scale.trust.worse_by);
            }
            self.lessons.insert(workload.name.clone(), lesson);
            self.shadows.insert(workload.name.clone(), beside);
        }
    }

    /// Goes on from the last decision on each workload, after a restart.
    #[must_use]
    pub fn resume<'a>(decisions: impl IntoIterator<Item = &'a Decision>) -> Self {
        let history = |d: &Decision| History {
            ours: Track::starting_at(d.to),
            reactive: Track::starting_at(d.reactive),
            floor: Track::starting_at(d.floor),
            last_forecast: d.predicted.map(|_| d.at),
            breached: None,
        };
        let courses = decisions.into_iter().map(|d| (d.workload.clone(), history(d))).collect();
        Self { courses, ..Self::default() }
    }

    /// Takes in a plan that has passed the guard; memory is bounded by the windows of `workloads`.
    pub fn settle(&mut self, plan: &Plan, workloads: &[Workload]) {
        for (decision, workload) in plan.decisions.iter().zip(workloads) {
            debug_assert_eq!(decision.workload, workload.name, "a plan has one decision for each workload, in order");
            self.courses.entry(decision.workload.clone()).or_default().settle(decision, &workload.scale);
        }
    }

    /// This fleet after `plan`.
    #[must_use]
    pub fn after(&self, plan: &Plan, workloads: &[Workload]) -> Self {
        let mut next = self.clone();
        next.settle(plan, workloads);
        next
    }
}

impl History {
    fn settle(&mut self, decision: &Decision, scale: &ScaleConfig) {
        let windows = [scale.up(), scale.down()];
        self.ours.record(decision.at, decision.advice.ours, decision.from, decision.to, windows);
        let before = self.reactive.replicas.or(decision.from);
        self.reactive.record(decision.at, decision.advice.reactive, before, decision.reactive, windows);
        let before = self.floor.replicas.or(decision.from);
        self.floor.record(decision.at, decision.advice.floor, before, decision.floor, windows);
        if let Some(breach) = scale.max_breach {
            let refused = decision.reasons.iter().any(|r| matches!(r, Reason::AtMax { .. }));
            let wanted = refused || decision.advice.ours > Some(scale.max);
            self.breached = Breached::follow(self.breached, wanted, breach.lasts, decision.at);
        }
        let silent = |r: &Reason| matches!(r, Reason::ForecastAbstained { .. } | Reason::ForecastTooOld { .. });
        if decision.predicted.is_some() && !decision.reasons.iter().any(silent) {
            self.last_forecast = self.last_forecast.max(Some(decision.at));
        }
    }
}

impl Track {
    /// A course that begins at `replicas`.
    #[must_use]
    pub fn starting_at(replicas: Option<u32>) -> Self {
        Self { replicas, ..Self::default() }
    }

    /// Replicas at its end.
    #[must_use]
    pub fn replicas(&self) -> Option<u32> {
        self.replicas
    }

    /// When they last changed.
    #[must_use]
    pub fn last_change(&self) -> Option<Timestamp> {
        self.last_change
    }

    /// Someone else may have moved the replicas.
    pub(super) fn stand_at(&mut self, replicas: Option<u32>) {
        self.replicas = replicas;
    }

    pub(super) fn record(
        &mut self,
        at: Timestamp,
        advice: Option<u32>,
        from: Option<u32>,
        to: Option<u32>,
        windows: [Pace<'_>; 2],
    ) {
        let since = |span: Duration| at - span;
        let longest = windows.iter().map(|p| p.stabilisation).max().unwrap_or_default();
        while self.advice.front().is_some_and(|(when, _)| *when < since(longest)) {
            self.advice.pop_front();
        }
        // At the beginning of a course, standing there counts as advice: nothing is taken away before the window is over.
        let start = if self.advice.is_empty() { from } else { None };
        for told in start.into_iter().chain(advice) {
            // The same advice again: of a run only the last time counts in any window.
            match self.advice.back_mut() {
                Some((last, same)) if *same == told => *last = at,
                _ => self.advice.push_back((at, told)),
            }
        }
        let period = windows.iter().flat_map(|p| p.policies).map(|p| p.period).max().unwrap_or_default();
        while self.changes.front().is_some_and(|(when, _)| *when < since(period)) {
            self.changes.pop_front();
        }
        if let (Some(from), Some(to)) = (from, to)
            && from != to
        {
            self.changes.push_back((at, i64::from(to) - i64::from(from)));
            self.last_change = Some(at);
        }
        self.replicas = to.or(self.replicas);
    }
}
