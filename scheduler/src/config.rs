//! What a user writes about scaling, alerts and rerouting.

mod bounds;
mod cluster;
mod gateway;
mod placement;
mod reroute;
mod trust;

use std::path::PathBuf;
use std::time::Duration;

use bellwether_models::duration::{as_optional_text, as_text};
use bellwether_models::forecast::Quantile;
use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::bounds::{BudgetConfig, Day, MaxBreach, WindowConfig, Zone};
pub use self::cluster::{KubernetesConfig, LeaseConfig};
pub use self::gateway::{HttpRouteConfig, ServiceConfig};
pub use self::placement::{PlacementConfig, PodRequest};
pub use self::reroute::{
    BackendConfig, DrainConfig, EnvoyConfig, EnvoyEndpoint, HaproxyConfig, OrcaBackend, OrcaConfig, RerouteConfig,
    RerouteFault,
};
pub use self::trust::TrustConfig;
pub use crate::grpc::{GrpcConfig, GrpcTls};
pub use crate::limit::Limit;
pub use crate::notify::config::AlertsConfig;

/// Everything the scheduler is told by its composer.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Workloads that are to be scaled.
    pub workloads: Vec<Workload>,
    /// Where incidents are sent.
    pub alerts: AlertsConfig,
    /// Quantities that must not pass a limit.
    pub limits: Vec<Limit>,
    /// How load is moved away from backends before they are full.
    pub reroute: RerouteConfig,
    /// Where KEDA and others are answered over gRPC. Default: nowhere.
    pub grpc: Option<GrpcConfig>,
    /// Networks that webhooks of decisions may lead into beside the public internet.
    pub allowed_networks: Vec<IpNet>,
    /// Time between two decisions; a decision must hold until the next one.
    pub cadence: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            workloads: Vec::new(),
            alerts: AlertsConfig::default(),
            limits: Vec::new(),
            reroute: RerouteConfig::default(),
            grpc: None,
            allowed_networks: Vec::new(),
            cadence: Duration::from_secs(15),
        }
    }
}

/// One workload as the scheduler sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct Workload {
    /// Its name, unique among workloads.
    pub name: String,
    /// Names of the workloads it calls.
    pub depends_on: Vec<String>,
    /// How it is scaled.
    pub scale: ScaleConfig,
}

/// How one workload is scaled.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ScaleConfig {
    /// What is done with a decision: `shadow` records it, `recommend` also shows it as advice, `act` carries it out.
    /// Default shadow.
    pub mode: Mode,
    /// Fewest replicas. Default 1; 0 allows scaling to nothing.
    pub min: u32,
    /// Most replicas. Default 10; not below `min`.
    pub max: u32,
    /// Other bounds at certain times of the day, the week or the year. Default none.
    pub windows: Vec<WindowConfig>,
    /// What it may cost. Default: no limit.
    pub budget: BudgetConfig,
    /// What happens when more than `max` are wanted. Left out: `max` is honoured.
    pub max_breach: Option<MaxBreach>,
    /// Demand that one replica serves at full load, in the units of the demand query. Left out: learnt from the workload's
    /// `utilisation`; until that is known no decision is made, and the reason says so.
    pub capacity_per_replica: Option<Positive>,
    /// Share of its capacity at which the reactive rule wants a replica to run. Above 0, up to 1; default 0.8.
    pub target_utilisation: Fraction,
    /// The same while a fresh forecast is at hand: replicas may run hotter when the demand to come is known. Left out:
    /// as `target_utilisation`.
    pub floor_utilisation: Option<Fraction>,
    /// Share of its capacity up to which the forecast's quantile may fill a replica. Above 0, up to 1; default 1: the
    /// safety lies in the quantile.
    pub forecast_utilisation: Fraction,
    /// Time from asking for a replica until it serves. Default 5m. Where the workload's `ready` tells when replicas became
    /// ready, nine of ten measured start-up times lie below the one that is used.
    #[serde(with = "as_text")]
    #[schemars(with = "String")]
    pub startup: Duration,
    /// Whether measured start-up times take the place of `startup`. Default true.
    pub learn_startup: bool,
    /// Growth that is foreseen for this long is asked for in one step rather than dribbled. Default 0s: for the time to the
    /// next decision.
    #[serde(with = "as_text")]
    #[schemars(with = "String")]
    pub batch: Duration,
    /// What too few replicas cost against too many; chooses the quantile.
    pub cost: CostConfig,
    /// Relative deviation from the target that the reactive rule lets pass. Default 0.1; 0 reacts to everything.
    pub tolerance: Tolerance,
    /// How fast replicas may be added.
    pub scale_up: PaceConfig,
    /// How fast replicas may be taken away.
    pub scale_down: PaceConfig,
    /// Facts older than this no longer count; a decision without them can only hold or raise. Default 5m.
    #[serde(with = "as_text")]
    #[schemars(with = "String")]
    pub max_fact_age: Duration,
    /// For how long an abstaining forecaster may keep replicas from being taken away; afterwards the reactive rule
    /// decides alone. Default 1h.
    #[serde(with = "as_text")]
    #[schemars(with = "String")]
    pub fallback_after: Duration,
    /// Time after one of our own changes in which replicas are not taken away. Default 0s: the stabilisation window
    /// does that work.
    #[serde(with = "as_text")]
    #[schemars(with = "String")]
    pub cool_down: Duration,
    /// Whether an open incident caused by a dependency keeps the workload from growing: retries are not demand.
    pub incident_gate: IncidentGate,
    /// When the forecast is believed.
    pub trust: TrustConfig,
    /// Time after a deploy or a change of configuration (a change event of that kind) in which nothing is taken away and
    /// growth stops at what was foreseen: the load of starting up is not demand. Default 0s: such changes do not matter.
    #[serde(with = "as_text")]
    #[schemars(with = "String")]
    pub deploy_freeze: Duration,
    /// Share of the greatest capacity of a dependency (its `max` times its capacity per replica) above which we do not grow:
    /// more replicas would only send more into it. Left out: dependencies do not limit growth.
    pub downstream_headroom: Option<Fraction>,
    /// Who carries decisions out in mode `act`. Left out: they are only recorded and written as series.
    pub actuator: Option<ActuatorConfig>,
}

impl Default for ScaleConfig {
    fn default() -> Self {
        Self {
            mode: Mode::Shadow,
            min: 1,
            max: 10,
            windows: Vec::new(),
            budget: BudgetConfig::default(),
            max_breach: None,
            capacity_per_replica: None,
            target_utilisation: Fraction(0.8),
            floor_utilisation: None,
            forecast_utilisation: Fraction(1.0),
            startup: Duration::from_secs(300),
            learn_startup: true,
            batch: Duration::ZERO,
            cost: CostConfig::default(),
            tolerance: Tolerance(0.1),
            scale_up: PaceConfig::default(),
            scale_down: PaceConfig::default(),
            max_fact_age: Duration::from_secs(300),
            fallback_after: Duration::from_secs(3600),
            cool_down: Duration::ZERO,
            incident_gate: IncidentGate::default(),
            trust: TrustConfig::default(),
            deploy_freeze: Duration::ZERO,
            downstream_headroom: None,
            actuator: None,
        }
    }
}

impl ScaleConfig {
    /// How fast replicas may be added.
    #[must_use]
    pub fn up(&self) -> Pace<'_> {
        self.scale_up.or(Duration::ZERO, &UP)
    }

    /// How fast replicas may be taken away.
    #[must_use]
    pub fn down(&self) -> Pace<'_> {
        self.scale_down.or(Duration::from_secs(300), &DOWN)
    }

    /// What single fields cannot know.
    ///
    /// # Errors
    /// [`NotUsable`], which names the first contradiction.
    pub fn check(&self) -> Result<(), NotUsable> {
        if self.min > self.max {
            return Err(NotUsable::MinAboveMax { min: self.min, max: self.max });
        }
        let windows = self.windows.iter().map(|w| (w.min.unwrap_or(self.min), w.max.unwrap_or(self.max)));
        if let Some((min, max)) = windows.into_iter().find(|(min, max)| min > max) {
            return Err(NotUsable::WindowCrosses { min, max });
        }
        if let Some(breach) = self.max_breach.filter(|breach| breach.raise_to <= self.max) {
            return Err(NotUsable::NoBreach { raise_to: breach.raise_to, max: self.max });
        }
        let TrustConfig { cost_ratio, shortfall, .. } = self.trust;
        if !(cost_ratio >= 1.0 && (0.0..=1.0).contains(&shortfall)) {
            return Err(NotUsable::Trust { cost_ratio, shortfall });
        }
        if self.mode == Mode::Act && self.actuator.is_none() {
            return Err(NotUsable::NobodyActs);
        }
        Ok(())
    }
}

/// Why a scale section cannot be used.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum NotUsable {
    /// Bounds cross.
    #[error("min {min} lies above max {max}; lower min or raise max")]
    MinAboveMax {
        /// Fewest replicas.
        min: u32,
        /// Most replicas.
        max: u32,
    },
    /// Bounds cross within a window.
    #[error("in one of its windows min {min} lies above max {max}; what a window leaves out is that of the workload")]
    WindowCrosses {
        /// Fewest replicas.
        min: u32,
        /// Most replicas.
        max: u32,
    },
    /// A breach of the maximum that is none.
    #[error("max_breach.raise_to {raise_to} does not lie above max {max}; raise it, or leave max_breach out")]
    NoBreach {
        /// The raised maximum.
        raise_to: u32,
        /// The maximum.
        max: u32,
    },
    /// A measure of trust out of its range.
    #[error("trust.cost_ratio {cost_ratio} must be at least 1, and trust.shortfall {shortfall} lie between 0 and 1")]
    Trust {
        /// As written.
        cost_ratio: f64,
        /// As written.
        shortfall: f64,
    },
    /// Mode `act` without an actuator.
    #[error("mode act needs an actuator; name one, or use shadow or recommend")]
    NobodyActs,
}

/// What is done with a decision.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Record it.
    #[default]
    Shadow,
    /// Record it and show it as advice.
    Recommend,
    /// Carry it out.
    Act,
}

/// The two costs of the newsvendor: their ratio chooses the quantile `too_few / (too_few + too_many)`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CostConfig {
    /// Cost of one replica too few. Default 20.
    pub too_few: Positive,
    /// Cost of one replica too many for the same time. Default 1.
    pub too_many: Positive,
}

impl Default for CostConfig {
    fn default() -> Self {
        Self { too_few: Positive(20.0), too_many: Positive(1.0) }
    }
}

impl CostConfig {
    /// The probability with which demand shall be covered: the critical fractile of the newsvendor problem
    /// (Arrow, Harris and Marschak 1951).
    #[must_use]
    pub fn quantile(self) -> Quantile {
        let (few, many) = (self.too_few.0, self.too_many.0);
        let fractile = 1.0 / (1.0 + many / few);
        Quantile::try_from(fractile.clamp(1e-6, 1.0 - 1e-6)).unwrap_or(Quantile::STANDARD[3])
    }
}

/// How fast replicas may change in one direction, with the meaning of a Kubernetes HPA `behavior`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PaceConfig {
    /// The mildest advice of this long is followed: going up the least of it, going down the most. Default 0s up, 5m
    /// down.
    #[serde(with = "as_optional_text")]
    #[schemars(with = "Option<String>")]
    pub stabilisation: Option<Duration>,
    /// Limits of change; an empty list means no limit. Default up: 4 replicas or 100 % in 15s; down: 100 % in 15s.
    pub policies: Option<Vec<PacePolicy>>,
    /// Which of several policies counts. Default max.
    pub select: Select,
}

const PERIOD: Duration = Duration::from_secs(15);
const UP: [PacePolicy; 2] = [
    PacePolicy { limit: PaceLimit::Replicas(4), period: PERIOD },
    PacePolicy { limit: PaceLimit::Percent(100), period: PERIOD },
];
const DOWN: [PacePolicy; 1] = [PacePolicy { limit: PaceLimit::Percent(100), period: PERIOD }];

/// [`PaceConfig`] with its defaults filled in.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pace<'a> {
    /// The mildest advice of this long is followed.
    pub stabilisation: Duration,
    /// Limits of change; empty for none.
    pub policies: &'a [PacePolicy],
    /// Which of several policies counts.
    pub select: Select,
}

impl PaceConfig {
    fn or<'a>(&'a self, stabilisation: Duration, policies: &'a [PacePolicy]) -> Pace<'a> {
        Pace {
            stabilisation: self.stabilisation.unwrap_or(stabilisation),
            policies: self.policies.as_deref().unwrap_or(policies),
            select: self.select,
        }
    }
}

/// At most so much change in so much time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PacePolicy {
    /// How much.
    pub limit: PaceLimit,
    /// In how long.
    #[serde(with = "as_text")]
    #[schemars(with = "String")]
    pub period: Duration,
}

/// An amount of change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PaceLimit {
    /// Replicas.
    Replicas(u32),
    /// Percent of the replicas at the beginning of the period.
    Percent(u32),
}

/// Which policy counts when there are several.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Select {
    /// The one that allows most.
    #[default]
    Max,
    /// The one that allows least.
    Min,
    /// No change in this direction at all.
    Disabled,
}

/// When an incident keeps a workload from growing.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct IncidentGate {
    /// Whether the gate exists. Default true.
    pub enabled: bool,
    /// Least confidence in the cause for the gate to close, from 0 to 1. Default 0.8.
    pub confidence: f64,
}

impl Default for IncidentGate {
    fn default() -> Self {
        Self { enabled: true, confidence: 0.8 }
    }
}

/// Who carries decisions out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ActuatorConfig {
    /// Posts each decision as signed JSON.
    Webhook(WebhookConfig),
    /// Runs a program for each decision.
    Command(CommandConfig),
    /// Sets the replicas of an object of Kubernetes: see `kubernetes`.
    Kubernetes(KubernetesConfig),
    /// KEDA asks for them: see `grpc`.
    Keda(Asked),
    /// A HorizontalPodAutoscaler of Kubernetes asks for them: see `external_metrics`.
    ExternalMetrics(AskedFrom),
}

/// A program that carries decisions out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CommandConfig {
    /// Which one; without a path it is looked for where programs are. It has ten seconds.
    pub program: PathBuf,
    /// What it is started with. Default nothing.
    #[serde(default)]
    pub arguments: Vec<String>,
}

/// Nothing to say: whoever asks knows what for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Asked {}

/// Who may ask.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AskedFrom {
    /// Namespace whose autoscalers are answered. Left out: those of every namespace.
    pub namespace: Option<String>,
}

/// A receiver of signed decisions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WebhookConfig {
    /// Where to post.
    pub url: String,
    /// File whose content, without trailing line breaks, is the key of the HMAC-SHA256 signature. Left out: unsigned.
    #[serde(default)]
    pub secret_file: Option<PathBuf>,
    /// Longest wait for an answer. Default 5s.
    #[serde(default = "five_seconds", with = "as_text")]
    #[schemars(with = "String")]
    pub timeout: Duration,
}

fn five_seconds() -> Duration {
    Duration::from_secs(5)
}

/// A finite number above zero.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "f64", into = "f64")]
pub struct Positive(f64);

/// The reason why a number is not [`Positive`].
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[error("{0} is not a finite number above zero")]
pub struct NotPositive(f64);

impl Positive {
    /// The number.
    #[must_use]
    pub fn value(self) -> f64 {
        self.0
    }
}

impl TryFrom<f64> for Positive {
    type Error = NotPositive;
    fn try_from(x: f64) -> Result<Self, NotPositive> {
        if x.is_finite() && x > 0.0 { Ok(Self(x)) } else { Err(NotPositive(x)) }
    }
}

impl From<Positive> for f64 {
    fn from(x: Positive) -> Self {
        x.0
    }
}

/// A share above 0 and up to 1.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "f64", into = "f64")]
pub struct Fraction(f64);

/// The reason why a number is not a [`Fraction`].
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[error("a share lies above 0 and not above 1 (0.8 for 80 %), not at {0}")]
pub struct NotAFraction(f64);

impl Fraction {
    /// The share, above 0 and up to 1.
    #[must_use]
    pub fn value(self) -> f64 {
        self.0
    }
}

impl TryFrom<f64> for Fraction {
    type Error = NotAFraction;
    fn try_from(x: f64) -> Result<Self, NotAFraction> {
        if x > 0.0 && x <= 1.0 { Ok(Self(x)) } else { Err(NotAFraction(x)) }
    }
}

impl From<Fraction> for f64 {
    fn from(x: Fraction) -> Self {
        x.0
    }
}

/// A relative deviation that is let pass: from 0 up to, but not including, 1.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "f64", into = "f64")]
pub struct Tolerance(f64);

/// The reason why a number is not a [`Tolerance`].
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[error("a tolerance lies between 0 and 1 (0.1 for 10 %), not at {0}")]
pub struct NotATolerance(f64);

impl Tolerance {
    /// The deviation, at least 0 and below 1.
    #[must_use]
    pub fn value(self) -> f64 {
        self.0
    }
}

impl TryFrom<f64> for Tolerance {
    type Error = NotATolerance;
    fn try_from(x: f64) -> Result<Self, NotATolerance> {
        if (0.0..1.0).contains(&x) { Ok(Self(x)) } else { Err(NotATolerance(x)) }
    }
}

impl From<Tolerance> for f64 {
    fn from(x: Tolerance) -> Self {
        x.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cost_ratio_chooses_the_quantile() {
        let cost = CostConfig { too_few: Positive(19.0), too_many: Positive(1.0) };
        assert!((cost.quantile().value() - 0.95).abs() < 1e-12);
    }

    #[test]
    fn extreme_costs_still_give_a_quantile() {
        let cost = CostConfig { too_few: Positive(1e300), too_many: Positive(1e-300) };
        assert!(cost.quantile().value() < 1.0);
    }

    #[test]
    fn an_unknown_key_and_a_senseless_number_are_refused() {
        assert!(serde_json::from_str::<ScaleConfig>(r#"{"maximum": 3}"#).is_err());
        assert!(serde_json::from_str::<ScaleConfig>(r#"{"capacity_per_replica": 0}"#).is_err());
        assert!(serde_json::from_str::<ScaleConfig>(r#"{"target_utilisation": 80}"#).is_err());
        let plain: ScaleConfig = serde_json::from_str("{}").expect("everything has a default");
        assert_eq!(plain, ScaleConfig::default());
    }

    #[test]
    fn crossed_bounds_and_an_act_without_actuator_are_refused() {
        let crossed = ScaleConfig { min: 5, max: 3, ..ScaleConfig::default() };
        assert_eq!(crossed.check(), Err(NotUsable::MinAboveMax { min: 5, max: 3 }));
        let nobody = ScaleConfig { mode: Mode::Act, ..ScaleConfig::default() };
        assert_eq!(nobody.check(), Err(NotUsable::NobodyActs));
    }
}
