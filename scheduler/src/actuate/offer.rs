//! What those are answered who ask for replicas rather than being told: KEDA, and the metrics API of Kubernetes.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::config::{ActuatorConfig, Mode, Workload};
use crate::plan::Plan;

/// The answers of one round.
#[derive(Clone, Debug)]
pub struct Offers {
    made: Instant,
    of: BTreeMap<String, Offer>,
}

/// The answer for one workload.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Offer {
    replicas: Result<u32, String>,
    good_for: Duration,
}

/// Why nothing is answered. Never a zero: whoever asks must be able to fall back.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoOffer {
    /// Nobody of that name is scaled by those who ask.
    #[error("there is no workload {name:?} with an actuator that is asked (keda)")]
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
        Self { made: Instant::now(), of: BTreeMap::new() } // an offer's age is the process's affair: no decision rests on it
    }
}

impl Offers {
    /// The answers that follow from `plan`; decisions are in the order of `workloads`.
    #[must_use]
    pub fn of(plan: &Plan, workloads: &[Workload]) -> Self {
        let asked = workloads.iter().zip(&plan.decisions).filter(|(w, _)| is_asked(w));
        let offer = |(workload, decision): (&Workload, &crate::plan::Decision)| {
            let why = || decision.reasons.first().map(ToString::to_string).unwrap_or_default();
            let replicas = match workload.scale.mode {
                Mode::Act => decision.to.ok_or_else(why),
                Mode::Shadow | Mode::Recommend => Err(String::new()),
            };
            (workload.name.clone(), Offer { replicas, good_for: workload.scale.max_fact_age })
        };
        Self { of: asked.map(offer).collect(), ..Self::default() }
    }

    /// Replicas for `workload` at `now`.
    ///
    /// # Errors
    /// [`NoOffer`].
    pub fn replicas(&self, workload: &str, now: Instant) -> Result<u32, NoOffer> {
        let name = || workload.to_owned();
        let offer = self.of.get(workload).ok_or_else(|| NoOffer::Unknown { name: name() })?;
        let age = now.saturating_duration_since(self.made);
        if age > offer.good_for {
            return Err(NoOffer::Stale { age });
        }
        match &offer.replicas {
            Ok(replicas) => Ok(*replicas),
            Err(why) if why.is_empty() => Err(NoOffer::NotActing { name: name() }),
            Err(why) => Err(NoOffer::Undecided { name: name(), why: why.clone() }),
        }
    }

    /// Whether anybody may ask for `workload`.
    #[must_use]
    pub fn knows(&self, workload: &str) -> bool {
        self.of.contains_key(workload)
    }
}

fn is_asked(workload: &Workload) -> bool {
    matches!(workload.scale.actuator, Some(ActuatorConfig::Keda(_)))
}
