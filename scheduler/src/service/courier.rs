//! Carries decisions to their actuators, and tries again what failed.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bellwether_models::outlook::{Observed, Snapshot};
use bellwether_models::series::Timestamp;
use ipnet::IpNet;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::warn;

use super::cluster::Cluster;
use crate::actuate::command::Program;
use crate::actuate::shadow::Shadow;
use crate::actuate::webhook::Webhook;
use crate::actuate::{ActError, Actuator, Applied, Backoff, Effect};
use crate::config::{ActuatorConfig, Config, Mode, Workload};
use crate::dial::guarded_client;
use crate::plan::{Decision, Plan};
use crate::record::{Attempt, DecisionLog};

/// Longest wait for a count of replicas, and for a decision to be carried out: rounds wait for both.
const OBSERVED_WITHIN: Duration = Duration::from_secs(5);
const APPLIED_WITHIN: Duration = Duration::from_secs(10);

/// Actuators by workload, and what is still under way.
pub(super) struct Courier {
    actuators: HashMap<String, Arc<dyn Actuator>>,
    pending: HashMap<String, Pending>,
    may_act: bool,
}

struct Pending {
    decision: Decision,
    backoff: Backoff,
}

type Outcome = (String, &'static str, Result<Applied, ActError>);

impl Courier {
    /// # Errors
    /// When no HTTP client can be made.
    pub(super) fn new(config: &Config, cluster: &Cluster) -> reqwest::Result<Self> {
        let client = guarded_client(&config.allowed_networks)?;
        let acting = config.workloads.iter().filter(|w| w.scale.mode == Mode::Act);
        let actuators =
            acting.map(|w| (w.name.clone(), actuator(w, &client, &config.allowed_networks, cluster))).collect();
        Ok(Self { actuators, pending: HashMap::new(), may_act: true })
    }

    /// Takes on `after` in place of `before`. What is under way goes on where it is carried out as before.
    ///
    /// # Errors
    /// When no HTTP client can be made; then nothing has changed.
    pub(super) fn follow(&mut self, before: &Config, after: &Config, cluster: &Cluster) -> reqwest::Result<()> {
        self.actuators = Self::new(after, cluster)?.actuators;
        let before = ways(before);
        let after = ways(after);
        self.pending.retain(|workload, _| {
            after.get(workload.as_str()).is_some_and(|way| before.get(workload.as_str()) == Some(way))
        });
        Ok(())
    }

    /// Whether anything is carried out at all: not while another of us is chosen to act.
    pub(super) fn may_act(&mut self, may: bool) {
        self.may_act = may;
    }

    /// Replicas as those tell who carry decisions out, of the workloads of which `snapshot` does not know them.
    pub(super) async fn observe<'a>(&self, snapshot: &'a Snapshot, now: Timestamp) -> Cow<'a, Snapshot> {
        let mut asked = JoinSet::new();
        for outlook in snapshot.workloads.iter().filter(|outlook| outlook.replicas.is_none()) {
            if let Some(actuator) = self.actuators.get(&outlook.workload).cloned() {
                let workload = outlook.workload.clone();
                asked.spawn(async move {
                    let told = timeout(OBSERVED_WITHIN, actuator.observe(&workload)).await;
                    (workload, told.ok().and_then(Result::ok).flatten())
                });
            }
        }
        let mut seen: HashMap<String, u32> = HashMap::new();
        while let Some(told) = asked.join_next().await {
            seen.extend(told.ok().and_then(|(workload, replicas)| Some((workload, replicas?))));
        }
        if seen.is_empty() {
            return Cow::Borrowed(snapshot);
        }
        let mut snapshot = snapshot.clone();
        for outlook in &mut snapshot.workloads {
            let replicas = seen.get(&outlook.workload).map(|n| Observed { at: now, value: f64::from(*n) });
            outlook.replicas = outlook.replicas.or(replicas);
        }
        Cow::Owned(snapshot)
    }

    /// Takes the changes of `plan`, and attempts all that is due.
    pub(super) async fn deliver(&mut self, now: Timestamp, plan: &Plan, log: &Mutex<DecisionLog>) {
        if !self.may_act {
            self.pending.clear(); // whoever acts decides for itself
            return;
        }
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

/// How a decision on each acting workload is carried out, and the bounds it keeps.
fn ways(config: &Config) -> HashMap<&str, (Option<&ActuatorConfig>, u32, u32)> {
    let acting = config.workloads.iter().filter(|w| w.scale.mode == Mode::Act);
    acting.map(|w| (w.name.as_str(), (w.scale.actuator.as_ref(), w.scale.min, w.scale.max))).collect()
}

fn actuator(workload: &Workload, client: &reqwest::Client, allowed: &[IpNet], cluster: &Cluster) -> Arc<dyn Actuator> {
    match &workload.scale.actuator {
        Some(ActuatorConfig::Webhook(config)) => {
            Arc::new(Webhook::new(config.clone(), client.clone(), allowed.to_vec()))
        }
        Some(ActuatorConfig::Command(config)) => Arc::new(Program::new(config.clone())),
        Some(ActuatorConfig::Kubernetes(config)) => cluster.actuator(config),
        Some(ActuatorConfig::Keda(_) | ActuatorConfig::ExternalMetrics(_)) | None => Arc::new(Shadow),
    }
}

async fn attempt(workload: String, actuator: Arc<dyn Actuator>, decision: Decision, now: Timestamp) -> Outcome {
    let result = timeout(APPLIED_WITHIN, actuator.apply(&decision, Effect::Real, now)).await;
    let too_slow = || ActError::TooSlow { workload: workload.clone(), actuator: actuator.name() };
    let result = result.unwrap_or_else(|_| Err(too_slow()));
    (workload, actuator.name(), result)
}
