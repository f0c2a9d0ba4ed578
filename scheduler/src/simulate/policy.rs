//! The policies that are compared.

use std::time::Duration;

use bellwether_models::outlook::Snapshot;
use bellwether_models::series::Timestamp;

use super::Setting;
use super::foresight::WORKLOAD;
use super::world::Demand;
use crate::config::{CostConfig, Fraction, Mode, Positive, ScaleConfig, Workload};
use crate::decide::{Fleet, Reactive, decide};
use crate::plan::Decision;

/// Far more replicas than any trace needs: bounds are not what is compared.
const PLENTY: u32 = 1_000_000;

/// What a policy may look at.
pub struct Seen<'a> {
    /// The time.
    pub now: Timestamp,
    /// Demand and forecast, from the past alone.
    pub snapshot: &'a Snapshot,
    /// What really comes: for the oracle, and for the past of those who know how far they may look.
    pub truth: &'a Demand,
    /// The setting.
    pub setting: &'a Setting,
}

impl Seen<'_> {
    /// The demand of now, as old as it is; `None` when too old.
    pub(super) fn demand(&self) -> Option<f64> {
        let outlook = self.snapshot.workloads.first()?;
        let demand = outlook.demand?;
        (self.now.since(demand.at) <= Duration::from_secs(300)).then_some(demand.value)
    }
}

/// Decides on replicas at each tick.
pub trait Policy {
    /// Its name; the same for all values of its knob.
    fn name(&self) -> &str;
    /// Its knob.
    fn knob(&self) -> f64;
    /// Whether it looks at forecasts.
    fn foresees(&self) -> bool {
        false
    }
    /// Replicas wanted from now on; `None` to leave them.
    fn decide(&mut self, seen: &Seen<'_>) -> Option<u32>;
    /// The decision just made, if it changed something and this policy keeps a record.
    fn change(&mut self) -> Option<Decision> {
        None
    }
}

/// The Kubernetes Horizontal Pod Autoscaler on the demand per replica, with its defaults; the knob is its target
/// utilisation.
pub struct Hpa {
    target: f64,
    rule: Reactive,
}

impl Hpa {
    /// At one target.
    #[must_use]
    pub fn new(target: f64, setting: &Setting) -> Self {
        Self { target, rule: Reactive::new(plain(target, setting), None) }
    }
}

impl Policy for Hpa {
    fn name(&self) -> &str {
        "hpa"
    }

    fn knob(&self) -> f64 {
        self.target
    }

    fn decide(&mut self, seen: &Seen<'_>) -> Option<u32> {
        self.rule.step(seen.demand(), seen.now)
    }
}

/// The same rule on what demand was a day before the time when a replica asked for now would serve, and until the next
/// decision; on the present demand in the first day. The knob is its target utilisation.
pub struct SeasonalNaive {
    target: f64,
    rule: Reactive,
}

const SEASON: Duration = Duration::from_secs(86_400);

impl SeasonalNaive {
    /// At one target.
    #[must_use]
    pub fn new(target: f64, setting: &Setting) -> Self {
        Self { target, rule: Reactive::new(plain(target, setting), None) }
    }
}

impl Policy for SeasonalNaive {
    fn name(&self) -> &str {
        "seasonal_naive"
    }

    fn knob(&self) -> f64 {
        self.target
    }

    fn decide(&mut self, seen: &Seen<'_>) -> Option<u32> {
        let ahead = seen.setting.startup + seen.setting.cadence;
        let known = seen.now - seen.setting.metric_age;
        let before = |at: Timestamp| at.min(known + SEASON) - SEASON;
        let expected = seen.truth.peak(before(seen.now), before(seen.now + ahead));
        self.rule.step(expected.or(seen.demand()), seen.now)
    }
}

/// The scheduler's own decisions, by the code that runs live. The knob is the cost ratio of too few against too many.
pub struct Ours {
    ratio: f64,
    workload: Workload,
    fleet: Fleet,
    recorded: bool,
    last: Option<Decision>,
}

impl Ours {
    /// With the settings of `scale`, except capacity, start-up, bounds and costs.
    #[must_use]
    pub fn new(ratio: f64, scale: &ScaleConfig, setting: &Setting) -> Self {
        let costs = Positive::try_from(ratio).map(|too_few| CostConfig { too_few, ..CostConfig::default() });
        let scale = ScaleConfig {
            mode: Mode::Shadow,
            min: 1,
            max: PLENTY,
            capacity_per_replica: Positive::try_from(setting.capacity).ok(),
            startup: setting.startup,
            cost: costs.unwrap_or(scale.cost),
            ..scale.clone()
        };
        let workload = Workload { name: WORKLOAD.to_owned(), depends_on: Vec::new(), scale };
        Self { ratio, workload, fleet: Fleet::default(), recorded: false, last: None }
    }

    /// Keeps its decisions that change something, with their reasons.
    #[must_use]
    pub fn recorded(self) -> Self {
        Self { recorded: true, ..self }
    }
}

impl Policy for Ours {
    fn name(&self) -> &str {
        "bellwether"
    }

    fn knob(&self) -> f64 {
        self.ratio
    }

    fn foresees(&self) -> bool {
        true
    }

    fn decide(&mut self, seen: &Seen<'_>) -> Option<u32> {
        let all = std::slice::from_ref(&self.workload);
        self.fleet.observe(seen.snapshot, all, seen.now);
        let plan = decide(seen.snapshot, &self.fleet, all, seen.setting.cadence, seen.now);
        self.fleet.settle(&plan, all);
        let decision = plan.decisions.into_iter().next()?;
        let to = decision.to;
        self.last = Some(decision).filter(|d| self.recorded && d.changes());
        to
    }

    fn change(&mut self) -> Option<Decision> {
        self.last.take()
    }
}

/// Knows what comes: as many replicas as will be needed until others could be had, and not one more.
pub struct Oracle;

impl Policy for Oracle {
    fn name(&self) -> &str {
        "oracle"
    }

    fn knob(&self) -> f64 {
        1.0
    }

    fn decide(&mut self, seen: &Seen<'_>) -> Option<u32> {
        let until = seen.now + seen.setting.startup + seen.setting.cadence * 2;
        let peak = seen.truth.peak(seen.now, until)?;
        Some((peak / seen.setting.capacity).ceil() as u32)
    }
}

/// The settings of a plain autoscaler at one target.
pub(super) fn plain(target: f64, setting: &Setting) -> ScaleConfig {
    ScaleConfig {
        min: 1,
        max: PLENTY,
        capacity_per_replica: Positive::try_from(setting.capacity).ok(),
        target_utilisation: Fraction::try_from(target).unwrap_or(ScaleConfig::default().target_utilisation),
        ..ScaleConfig::default()
    }
}
