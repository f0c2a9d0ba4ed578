//! Scaling policies on a demand trace: what each would have cost, and what it would have failed to serve.
//!
//! All policies see the same metric, as old as metrics are, and act at the same cadence; a replica serves only after
//! its start-up time but costs from the start. Policies know the past alone, except the oracle. The score is violation
//! minutes *at equal replica-hours*: a policy is compared with the best plain autoscaler of the same cost, whatever
//! that one's target, since lowering a target buys fewer violations for anybody.

mod archetype;
mod foresight;
pub mod html;
pub mod peers;
pub mod policy;
pub mod report;
pub mod world;

use std::time::Duration;

use bellwether_models::series::{Timestamp, Window};

use crate::config::{Fraction, ScaleConfig};
use crate::plan::Decision;
pub use archetype::Archetype;
use foresight::Foresight;
use peers::{Frequencies, HoltWinters, Predictive, Timetable};
use policy::{Policy, Seen};
pub use report::Report;
use world::{Demand, Pods, Tally};

/// What the policies act upon.
#[derive(Clone, Debug, PartialEq)]
pub struct Setting {
    /// Time from asking for a replica until it serves.
    pub startup: Duration,
    /// Demand that one replica serves.
    pub capacity: f64,
    /// Time between two decisions.
    pub cadence: Duration,
    /// Age of the newest demand when a decision is made.
    pub metric_age: Duration,
}

/// Why a simulation cannot be run.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum SettingError {
    /// Without capacity or cadence nothing can be simulated.
    #[error("{what} must be greater than zero")]
    Zero {
        /// Which setting.
        what: &'static str,
    },
    /// The trace has nothing to go by.
    #[error("trace {trace} has no demand above zero; name the capacity")]
    NoDemand {
        /// Which trace.
        trace: String,
    },
    /// What happens within start-up time does not show.
    #[error(
        "trace {trace} has a step of {step_seconds} s, coarser than the start-up time of {startup_seconds} s: demand within it is not known (--coarse simulates it all the same)"
    )]
    TooCoarse {
        /// Which trace.
        trace: String,
        /// Its step.
        step_seconds: f64,
        /// The start-up time.
        startup_seconds: f64,
    },
}

/// A replica's capacity when none is given: a tenth of the 95th percentile of demand, so that about ten are needed.
///
/// # Errors
/// [`SettingError::NoDemand`].
pub fn usual_capacity(trace: &str, demand: &Window) -> Result<f64, SettingError> {
    let mut values: Vec<f64> = demand.values.iter().copied().filter(|v| v.is_finite()).collect();
    values.sort_by(f64::total_cmp);
    let p95 = values.get(values.len() * 95 / 100).copied().unwrap_or(0.0);
    if p95 > 0.0 { Ok(p95 / 10.0) } else { Err(SettingError::NoDemand { trace: trace.to_owned() }) }
}

impl Setting {
    /// Whether `demand` can be simulated under this setting.
    ///
    /// # Errors
    /// [`SettingError`]; a trace coarser than the start-up time passes when `coarse` is set.
    pub fn check(&self, trace: &str, demand: &Window, coarse: bool) -> Result<(), SettingError> {
        if self.cadence.is_zero() {
            return Err(SettingError::Zero { what: "the cadence" });
        }
        if !(self.capacity > 0.0 && self.capacity.is_finite()) {
            return Err(SettingError::Zero { what: "the capacity" });
        }
        if !coarse && demand.step.times(1) > self.startup {
            return Err(SettingError::TooCoarse {
                trace: trace.to_owned(),
                step_seconds: demand.step.as_secs_f64(),
                startup_seconds: self.startup.as_secs_f64(),
            });
        }
        Ok(())
    }
}

/// What one policy did and what came of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// Name of the policy.
    pub name: String,
    /// Its knob.
    pub knob: f64,
    /// What came of it.
    pub tally: Tally,
    /// Ready replicas at each tick; `u32::MAX` where the demand is unknown.
    pub ready: Vec<u32>,
    /// Its decisions that changed something, where they were [recorded](policy::Ours::recorded).
    pub changes: Vec<Decision>,
}

/// The settings of our policy when none are given: a floor that may run hot beside a fresh forecast, and a colder target
/// without one. Otherwise the defaults of a workload, where the floor is as cold as the target until told otherwise.
#[must_use]
pub fn usual_scale() -> ScaleConfig {
    let share = |x: f64| Fraction::try_from(x).ok();
    let plain = ScaleConfig::default();
    ScaleConfig {
        floor_utilisation: share(0.95),
        target_utilisation: share(0.7).unwrap_or(plain.target_utilisation),
        ..plain
    }
}

/// Target utilisations from `from` up to `to`, `step` apart, rounded to the millionth; none where they never end.
#[must_use]
pub fn usual_targets(from: f64, to: f64, step: f64) -> Vec<f64> {
    let count = ((to - from) / step + 1e-9).floor() + 1.0;
    if !(1.0..=1000.0).contains(&count) {
        return Vec::new();
    }
    (0..count as usize).map(|i| ((from + i as f64 * step) * 1e6).round() / 1e6).collect()
}

/// The policies of a report: plain autoscalers, seasonal naive and the [`peers`] at every target of `targets`, ours at every cost
/// ratio of `ratios` with the other settings of `scale` (recorded at the middle one), and the oracle.
#[must_use]
pub fn usual_policies(setting: &Setting, scale: &ScaleConfig, targets: &[f64], ratios: &[f64]) -> Vec<Box<dyn Policy>> {
    let mut policies: Vec<Box<dyn Policy>> = Vec::new();
    for target in targets {
        policies.push(Box::new(policy::Hpa::new(*target, setting)));
    }
    for target in targets {
        policies.push(Box::new(policy::SeasonalNaive::new(*target, setting)));
    }
    for target in targets {
        policies.push(Box::new(Predictive::new(*target, Timetable, setting)));
        policies.push(Box::new(Predictive::new(*target, HoltWinters::default(), setting)));
        policies.push(Box::new(Predictive::new(*target, Frequencies::default(), setting)));
    }
    for (i, ratio) in ratios.iter().enumerate() {
        let ours = policy::Ours::new(*ratio, scale, setting);
        policies.push(Box::new(if i == ratios.len() / 2 { ours.recorded() } else { ours }));
    }
    policies.push(Box::new(policy::Oracle));
    policies
}

/// Runs all `policies` side by side over `demand`; `progress` is told the share that is done.
pub fn run(
    demand: &Window,
    setting: &Setting,
    policies: &mut [Box<dyn Policy>],
    mut progress: impl FnMut(f64),
) -> Vec<Outcome> {
    let truth = Demand::of(demand);
    let mut foresight = Foresight::new(demand, setting, policies.iter().any(|p| p.foresees()));
    let mut lanes: Vec<Lane> = policies.iter().map(|p| Lane::new(p.as_ref())).collect();
    let ticks = truth.span().as_millis() / setting.cadence.as_millis().max(1);
    for tick in 0..u32::try_from(ticks).unwrap_or(u32::MAX) {
        let now = demand.start + setting.cadence * tick;
        foresight.advance(now, &truth);
        for (policy, lane) in policies.iter_mut().zip(&mut lanes) {
            let seen = Seen { now, snapshot: foresight.snapshot(), truth: &truth, setting };
            lane.tick(policy.as_mut(), &seen);
        }
        if tick % 1024 == 0 {
            progress(f64::from(tick) / ticks as f64);
        }
    }
    lanes.into_iter().map(|lane| lane.outcome).collect()
}

/// One policy with its replicas.
struct Lane {
    pods: Pods,
    outcome: Outcome,
}

impl Lane {
    fn new(policy: &dyn Policy) -> Self {
        let outcome = Outcome {
            name: policy.name().to_owned(),
            knob: policy.knob(),
            tally: Tally::default(),
            ready: Vec::new(),
            changes: Vec::new(),
        };
        Self { pods: Pods::default(), outcome }
    }

    fn tick(&mut self, policy: &mut dyn Policy, seen: &Seen<'_>) {
        let Setting { cadence, startup, capacity, .. } = *seen.setting;
        if let Some(wanted) = policy.decide(seen) {
            let change = self.pods.set(wanted.max(1), seen.now, startup);
            self.outcome.tally.changed(change);
        }
        self.outcome.changes.extend(policy.change());
        let demand = seen.truth.at(seen.now + cadence / 2);
        let ready = self.pods.ready(seen.now);
        self.outcome.ready.push(if demand.is_some() { ready } else { u32::MAX });
        if let Some(demand) = demand {
            self.outcome.tally.served(demand, f64::from(ready) * capacity, self.pods.all(), cadence);
        }
    }
}

/// Times of the ticks of `demand` under `setting`.
pub(crate) fn tick_time(demand: &Window, setting: &Setting, tick: usize) -> Timestamp {
    demand.start + setting.cadence * u32::try_from(tick).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
