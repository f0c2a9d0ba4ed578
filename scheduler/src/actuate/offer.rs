//! What those are answered who ask for replicas rather than being told: KEDA, and the metrics API of Kubernetes.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bellwether_models::series::Timestamp;

use crate::config::{ActuatorConfig, AskedFrom, Mode, Workload};
use crate::plan::{Decision, ForeseenDemand, Plan, Reason};

/// The answers of one round.
#[derive(Clone, Debug)]
pub struct Offers {
    made: Instant,
    decided: Timestamp,
    of: BTreeMap<String, Offer>,
}

/// The answer for one workload.
#[derive(Clone, Debug, PartialEq)]
struct Offer {
    to: Asker,
    replicas: Result<u32, Silence>,
    demand: Result<ForeseenDemand, Silence>,
    good_for: Duration,
}

/// Whom a workload's actuator names.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Asker {
    Keda,
    MetricsApi(AskedFrom),
}

/// Why there is no number.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Silence {
    NotActing,
    Undecided(String),
}

/// Why nothing is answered. Never a zero: whoever asks must be able to fall back.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoOffer {
    /// Nobody of that name is scaled by those who ask.
    #[error("there is no workload {name:?} with an actuator that is asked here")]
    Unknown {
        /// What was asked for.
        name: String,
    },
    /// Decisions are only recorded.
    #[error("workload {name:?} is not in mode act: its decisions are only recorded")]
    NotActing {
        /// What was asked for.
        name: String,
    },
    /// Nothing is known that a number could rest on.
    #[error("workload {name:?} is undecided: {why}")]
    Undecided {
        /// What was asked for.
        name: String,
        /// What is missing.
        why: String,
    },
    /// No round for too long.
    #[error("the last decision is {} s old", age.as_secs())]
    Stale {
        /// Its age.
        age: Duration,
    },
}

impl Default for Offers {
    fn default() -> Self {
        // An offer's age is the process's affair: no decision rests on it.
        Self { made: Instant::now(), decided: Timestamp::from_millis(0), of: BTreeMap::new() }
    }
}

impl Offers {
    /// The answers that follow from `plan`; decisions are in the order of `workloads`.
    #[must_use]
    pub fn of(plan: &Plan, workloads: &[Workload]) -> Self {
        let of = workloads.iter().zip(&plan.decisions).filter_map(|(workload, decision)| {
            Some((workload.name.clone(), Offer::of(asker(workload)?, workload, decision)))
        });
        Self { decided: plan.made_at, of: of.collect(), ..Self::default() }
    }

    /// Replicas of `workload` for KEDA at `now`.
    ///
    /// # Errors
    /// [`NoOffer`].
    pub fn replicas(&self, workload: &str, now: Instant) -> Result<u32, NoOffer> {
        let offer = self.of.get(workload).filter(|offer| offer.to == Asker::Keda);
        let offer = offer.ok_or_else(|| NoOffer::Unknown { name: workload.to_owned() })?;
        self.fresh(offer, now)?;
        offer.replicas.clone().map_err(|why| why.of(workload))
    }

    /// Replicas of `workload` for the metrics API at `now`.
    ///
    /// # Errors
    /// [`NoOffer`].
    pub fn metric_replicas(&self, workload: &str, now: Instant) -> Result<u32, NoOffer> {
        self.metric(workload, now)?.replicas.clone().map_err(|why| why.of(workload))
    }

    /// The demand of `workload` that is foreseen for when a replica asked for now would serve, for the metrics API at `now`.
    ///
    /// # Errors
    /// [`NoOffer`].
    pub fn metric_demand(&self, workload: &str, now: Instant) -> Result<ForeseenDemand, NoOffer> {
        self.metric(workload, now)?.demand.clone().map_err(|why| why.of(workload))
    }

    /// Names of the workloads that the metrics API tells of in `namespace`.
    pub fn in_namespace(&self, namespace: &str) -> impl Iterator<Item = &str> {
        let told = move |offer: &Offer| match &offer.to {
            Asker::MetricsApi(asked) => asked.namespace.as_ref().is_none_or(|own| own == namespace),
            Asker::Keda => false,
        };
        self.of.iter().filter(move |(_, offer)| told(offer)).map(|(name, _)| name.as_str())
    }

    /// When it was decided.
    #[must_use]
    pub fn decided(&self) -> Timestamp {
        self.decided
    }

    /// Whether KEDA may ask for `workload`.
    #[must_use]
    pub fn knows(&self, workload: &str) -> bool {
        self.of.get(workload).is_some_and(|offer| offer.to == Asker::Keda)
    }

    fn metric(&self, workload: &str, now: Instant) -> Result<&Offer, NoOffer> {
        let offer = self.of.get(workload).filter(|offer| offer.to != Asker::Keda);
        let offer = offer.ok_or_else(|| NoOffer::Unknown { name: workload.to_owned() })?;
        self.fresh(offer, now).map(|()| offer)
    }

    fn fresh(&self, offer: &Offer, now: Instant) -> Result<(), NoOffer> {
        let age = now.saturating_duration_since(self.made);
        if age > offer.good_for { Err(NoOffer::Stale { age }) } else { Ok(()) }
    }
}

impl Offer {
    fn of(to: Asker, workload: &Workload, decision: &Decision) -> Self {
        let good_for = workload.scale.max_fact_age;
        if workload.scale.mode != Mode::Act {
            return Self { to, replicas: Err(Silence::NotActing), demand: Err(Silence::NotActing), good_for };
        }
        let undecided = || Silence::Undecided(decision.reasons.first().map(ToString::to_string).unwrap_or_default());
        // Who follows a demand decides for itself: it must not while people said stop.
        let stopped = |reason: &&Reason| matches!(reason, Reason::Paused { .. } | Reason::DirectionPaused { .. });
        let demand = match decision.reasons.iter().find(stopped) {
            Some(stop) => Err(Silence::Undecided(stop.to_string())),
            None => {
                decision.foreseen.clone().ok_or_else(|| Silence::Undecided("no forecast is followed now".to_owned()))
            }
        };
        Self { to, replicas: decision.to.ok_or_else(undecided), demand, good_for }
    }
}

impl Silence {
    fn of(self, workload: &str) -> NoOffer {
        let name = workload.to_owned();
        match self {
            Self::NotActing => NoOffer::NotActing { name },
            Self::Undecided(why) => NoOffer::Undecided { name, why },
        }
    }
}

fn asker(workload: &Workload) -> Option<Asker> {
    match &workload.scale.actuator {
        Some(ActuatorConfig::Keda(_)) => Some(Asker::Keda),
        Some(ActuatorConfig::ExternalMetrics(asked)) => Some(Asker::MetricsApi(asked.clone())),
        _ => None,
    }
}
