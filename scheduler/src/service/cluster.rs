//! The cluster that is scaled, if there is one, and whether it is ours to scale.

use std::sync::Arc;

#[cfg(feature = "kubernetes")]
use tracing::{info, warn};

use crate::actuate::Actuator;
use crate::config::{HttpRouteConfig, KubernetesConfig};
use crate::route::Routing;

/// Longest wait for one route: rounds wait for it.
#[cfg(feature = "kubernetes")]
const STEERED_WITHIN: std::time::Duration = std::time::Duration::from_secs(5);

/// See the module.
#[derive(Default)]
pub(super) struct Cluster {
    #[cfg(feature = "kubernetes")]
    client: Option<kube::Client>,
    #[cfg(feature = "kubernetes")]
    election: Option<Arc<crate::actuate::kubernetes::Election>>,
}

#[cfg(feature = "kubernetes")]
impl Cluster {
    pub(super) fn join(client: kube::Client, lease: Option<&crate::config::LeaseConfig>) -> Self {
        let stand = |lease| Arc::new(crate::actuate::kubernetes::Election::stand(client.clone(), lease, identity()));
        Self { election: lease.map(stand), client: Some(client) }
    }

    /// Whether nobody is chosen, or we are.
    pub(super) fn may_act(&self) -> bool {
        self.election.as_ref().is_none_or(|election| election.fence().is_some())
    }

    pub(super) fn actuator(&self, config: &KubernetesConfig) -> Arc<dyn Actuator> {
        match &self.client {
            Some(client) => {
                let actuator = crate::actuate::kubernetes::Kubernetes::new(client.clone(), config.clone());
                Arc::new(actuator.chosen_by(self.election.clone()))
            }
            None => Arc::new(absent::Absent),
        }
    }
}

/// Ours alone, even among processes of one machine and starts of one process.
#[cfg(feature = "kubernetes")]
fn identity() -> String {
    let host = std::env::var("HOSTNAME").unwrap_or_else(|_| "bellwether".to_owned());
    let begun = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    format!("{host}-{}-{:x}", std::process::id(), begun.as_nanos())
}

#[cfg(feature = "kubernetes")]
impl Cluster {
    /// Brings `routes` to the weights of `routing`, if it is ours to do so. What fails is logged, and tried again in the
    /// next round.
    pub(super) async fn steer(&self, routes: &[HttpRouteConfig], routing: &Routing) {
        let Some(client) = self.client.as_ref().filter(|_| self.may_act()) else { return };
        futures::future::join_all(routes.iter().map(|route| self.steer_one(client, route, routing))).await;
    }

    async fn steer_one(&self, client: &kube::Client, route: &HttpRouteConfig, routing: &Routing) {
        use crate::route::gateway::{Steered, steer};
        let steered = steer(client, route, routing, || self.may_act());
        let outcome = match tokio::time::timeout(STEERED_WITHIN, steered).await {
            Ok(Ok(Steered::Unchanged)) => "unchanged",
            Ok(Ok(Steered::LeftAlone)) => "left_alone",
            Ok(Ok(Steered::Changed(changes))) => {
                info!(%route, ?changes, mode = ?route.mode, "weights of a route");
                if route.mode == crate::config::Mode::Act { "changed" } else { "would_change" }
            }
            Ok(Ok(Steered::Contested)) => {
                warn!(%route, "somebody else kept changing a route; its weights are set in the next round");
                "contested"
            }
            Ok(Ok(Steered::NotChosen)) => "not_chosen",
            Ok(Err(error)) => {
                let error = &error as &dyn std::error::Error;
                warn!(%route, error, "weights of a route not set; deploy/kubernetes/rbac.yaml has the rights that are needed");
                "failed"
            }
            Err(_) => {
                warn!(%route, "weights of a route not set in time");
                "failed"
            }
        };
        metrics::counter!("bellwether_scheduler_http_routes_total", "outcome" => outcome).increment(1);
    }
}

#[cfg(not(feature = "kubernetes"))]
impl Cluster {
    #[allow(clippy::unused_async, reason = "as with a cluster")]
    pub(super) async fn steer(&self, _: &[HttpRouteConfig], _: &Routing) {}

    pub(super) fn may_act(&self) -> bool {
        true
    }

    pub(super) fn actuator(&self, _: &KubernetesConfig) -> Arc<dyn Actuator> {
        Arc::new(absent::Absent)
    }
}

mod absent {
    use async_trait::async_trait;
    use bellwether_models::series::Timestamp;

    use crate::actuate::{ActError, Actuator, Applied, Effect};
    use crate::plan::Decision;

    /// Stands for an object of which no cluster is known.
    pub(super) struct Absent;

    #[async_trait]
    impl Actuator for Absent {
        fn name(&self) -> &'static str {
            "kubernetes"
        }

        async fn observe(&self, workload: &str) -> Result<Option<u32>, ActError> {
            Err(ActError::NoCluster { workload: workload.to_owned() })
        }

        async fn apply(&self, decision: &Decision, _: Effect, _: Timestamp) -> Result<Applied, ActError> {
            Err(ActError::NoCluster { workload: decision.workload.clone() })
        }
    }
}
