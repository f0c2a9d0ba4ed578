//! Carries decisions to their actuators, and tries again what failed.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use bellwether_models::series::Timestamp;
use ipnet::IpNet;
use tokio::task::JoinSet;
use tracing::warn;

use crate::actuate::shadow::Shadow;
use crate::actuate::webhook::Webhook;
use crate::actuate::{ActError, Actuator, Applied, Backoff, Effect};
use crate::config::{ActuatorConfig, Config, Mode, Workload};
use crate::dial::guarded_client;
use crate::plan::{Decision, Plan};
use crate::record::{Attempt, DecisionLog};

/// Actuators by workload, and what is still under way.
pub(super) struct Courier {
    actuators: HashMap<String, Arc<dyn Actuator>>,
    pending: HashMap<String, Pending>,
}

struct Pending {
    decision: Decision,
    backoff: Backoff,
}

type Outcome = (String, &'static str, Result<Applied, ActError>);

impl Courier {
    /// # Errors
    /// When no HTTP client can be made.
    pub(super) fn new(config: &Config) -> reqwest::Result<Self> {
        let client = guarded_client(&config.allowed_networks)?;
        let acting = config.workloads.iter().filter(|w| w.scale.mode == Mode::Act);
        let actuators = acting.map(|w| (w.name.clone(), actuator(w, &client, &config.allowed_networks))).collect();
        Ok(Self { actuators, pending: HashMap::new() })
    }

    /// Takes the changes of `plan`, and attempts all that is due.
    pub(super) async fn deliver(&mut self, now: Timestamp, plan: &Plan, log: &Mutex<DecisionLog>) {
        self.take(plan);
        let mut attempts = JoinSet::new();
        for (workload, pending) in self.pending.iter().filter(|(_, p)| p.backoff.is_due(now)) {
            if let Some(actuator) = self.actuators.get(workload).cloned() {
                attempts.spawn(attempt(workload.clone(), actuator, pending.decision.clone(), now));
            }
        }
        while let Some(done) = attempts.join_next().await {
            let Ok(outcome) = done else { continue };
            self.note(now, outcome, log);
        }
    }

    /// A new decision replaces the one under way, and is tried at once; a decision to stay where we are ends it.
    fn take(&mut self, plan: &Plan) {
        for decision in plan.decisions.iter().filter(|d| self.actuators.contains_key(&d.workload)) {
            if decision.changes() {
                let pending = Pending { decision: decision.clone(), backoff: Backoff::default() };
                self.pending.insert(decision.workload.clone(), pending);
            }
        }
    }

    fn note(&mut self, now: Timestamp, (workload, actuator, result): Outcome, log: &Mutex<DecisionLog>) {
        let Some(pending) = self.pending.get_mut(&workload) else { return };
        let attempt = Attempt {
            at: now,
            actuator: actuator.to_owned(),
            applied: result.as_ref().ok().copied(),
            error: result.as_ref().err().map(ToString::to_string),
        };
        let id = pending.decision.id.clone();
        if let Err(error) = log.lock().unwrap_or_else(PoisonError::into_inner).record_attempt(&id, attempt) {
            warn!(error = &error as &dyn std::error::Error, "attempt not durable");
        }
        let outcome = if result.is_ok() { "applied" } else { "failed" };
        metrics::counter!("bellwether_scheduler_attempts_total", "actuator" => actuator, "outcome" => outcome)
            .increment(1);
        match result {
            Err(error) if error.is_transient() => {
                warn!(%workload, decision = %id, error = &error as &dyn std::error::Error, "decision not carried out, will be tried again");
                pending.backoff.failed(now);
            }
            Err(error) => {
                warn!(%workload, decision = %id, error = &error as &dyn std::error::Error, "decision refused by its receiver");
                self.pending.remove(&workload);
            }
            Ok(_) => drop(self.pending.remove(&workload)),
        }
    }
}

fn actuator(workload: &Workload, client: &reqwest::Client, allowed: &[IpNet]) -> Arc<dyn Actuator> {
    match &workload.scale.actuator {
        Some(ActuatorConfig::Webhook(config)) => {
            Arc::new(Webhook::new(config.clone(), client.clone(), allowed.to_vec()))
        }
        Some(ActuatorConfig::Keda(_) | ActuatorConfig::ExternalMetrics(_)) | None => Arc::new(Shadow),
    }
}

async fn attempt(workload: String, actuator: Arc<dyn Actuator>, decision: Decision, now: Timestamp) -> Outcome {
    let result = actuator.apply(&decision, Effect::Real, now).await;
    (workload, actuator.name(), result)
}
