//! Tells Envoy how much each endpoint is to be given: endpoint discovery (EDS) over REST.
//!
//! Envoy posts a `DiscoveryRequest` to `/v3/discovery:endpoints` every `refresh_delay` and reads a `DiscoveryResponse`
//! with a `ClusterLoadAssignment` for each cluster it names (Envoy API v3, "xDS REST and gRPC protocol", REST-JSON
//! polling). Of a cluster we do not know we say nothing, and Envoy leaves it as it is; so it does while nobody answers. A weight
//! of nothing is not allowed there: a drained endpoint has the health `DRAINING`, and gets no new requests.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;

use axum::Json;
use axum::Router;
use axum::extract::State;
use axum::routing::post;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::Routing;
use crate::config::BackendConfig;

const PATH: &str = "/v3/discovery:endpoints";
const KIND: &str = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment";
/// The weight of an endpoint that is given its whole share.
const FULL: f64 = 100.0;

/// Endpoints with their weights, up to 100 and 0 for one that is drained, by the name of Envoy's cluster.
pub type Clusters = BTreeMap<String, Vec<(SocketAddr, u32)>>;

/// The endpoints of each cluster with the weights of `routing`.
#[must_use]
pub fn clusters(backends: &[BackendConfig], routing: &Routing) -> Clusters {
    let mut clusters = Clusters::new();
    for backend in backends {
        if let Some(endpoint) = &backend.envoy {
            let share = routing.weight(&backend.name);
            let weight = if share > 0.0 { (share * FULL).round().clamp(1.0, FULL) as u32 } else { 0 };
            clusters.entry(endpoint.cluster.clone()).or_default().push((endpoint.address, weight));
        }
    }
    clusters
}

/// The answer to a `DiscoveryRequest`: the clusters it names, or all of them when it names none.
#[must_use]
pub fn answer(clusters: &Clusters, request: &Value) -> Value {
    // Envoy writes field names as they are in the protocol; JSON of protocol buffers allows the other form as well.
    let named = request.get("resource_names").or_else(|| request.get("resourceNames"));
    let named: Vec<&str> = named.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
    let wanted = clusters.iter().filter(|(name, _)| named.is_empty() || named.contains(&name.as_str()));
    let resources: Vec<Value> = wanted.map(|(name, endpoints)| assignment(name, endpoints)).collect();
    json!({ "version_info": version(&resources), "type_url": KIND, "resources": resources })
}

fn assignment(cluster: &str, endpoints: &[(SocketAddr, u32)]) -> Value {
    let endpoint = |(address, weight): &(SocketAddr, u32)| {
        let address = json!({ "address": address.ip().to_string(), "port_value": address.port() });
        let endpoint = json!({ "address": { "socket_address": address } });
        match weight {
            0 => json!({ "endpoint": endpoint, "health_status": "DRAINING" }),
            weight => json!({ "endpoint": endpoint, "load_balancing_weight": weight }),
        }
    };
    let endpoints: Vec<Value> = endpoints.iter().map(endpoint).collect();
    json!({ "@type": KIND, "cluster_name": cluster, "endpoints": [{ "lb_endpoints": endpoints }] })
}

/// The same for the same answer, so that Envoy's own `version` metric tells when weights changed.
fn version(resources: &[Value]) -> String {
    let digest = Sha256::digest(Value::from(resources.to_vec()).to_string());
    digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// A server of endpoints that runs until it is dropped.
#[derive(Debug)]
pub struct Discovery {
    address: SocketAddr,
    task: JoinHandle<io::Result<()>>,
}

impl Discovery {
    /// Listens on `address` and answers with the newest of `clusters`.
    ///
    /// # Errors
    /// When the address cannot be bound.
    pub async fn start(address: SocketAddr, clusters: watch::Receiver<Clusters>) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let router = Router::new().route(PATH, post(discover)).with_state(clusters);
        Ok(Self { address, task: tokio::spawn(async move { axum::serve(listener, router).await }) })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Discovery {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn discover(State(clusters): State<watch::Receiver<Clusters>>, Json(request): Json<Value>) -> Json<Value> {
    let answer = answer(&clusters.borrow(), &request);
    let known = answer["resources"].as_array().is_some_and(|resources| !resources.is_empty());
    let known = if known { "true" } else { "false" };
    metrics::counter!("bellwether_scheduler_endpoint_discoveries_total", "known" => known).increment(1);
    Json(answer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::RerouteConfig;

    fn known() -> Clusters {
        let config: RerouteConfig = serde_json::from_value(json!({ "backends": [
            { "name": "a", "load": "a", "capacity": 1.0, "envoy": { "cluster": "pool", "address": "10.0.0.1:80" } },
            { "name": "b", "load": "b", "capacity": 1.0, "envoy": { "cluster": "pool", "address": "[::1]:81" } },
            { "name": "c", "load": "c", "capacity": 1.0 },
        ] }))
        .expect("a configuration");
        let routing = Routing { weights: [("b".to_owned(), 0.001)].into(), ..Routing::default() };
        clusters(&config.backends, &routing)
    }

    #[test]
    fn endpoints_are_told_with_their_weights_of_which_none_is_nothing() {
        let told = answer(&known(), &json!({ "resource_names": ["pool"] }));
        let endpoints = &told["resources"][0]["endpoints"][0]["lb_endpoints"];
        assert_eq!(endpoints.as_array().map(Vec::len), Some(2));
        assert_eq!(endpoints[0]["load_balancing_weight"], 100);
        assert_eq!(endpoints[1]["load_balancing_weight"], 1);
        assert_eq!(
            endpoints[1]["endpoint"]["address"]["socket_address"],
            json!({ "address": "::1", "port_value": 81 })
        );
    }

    #[test]
    fn a_drained_endpoint_is_told_as_draining_with_no_weight() {
        let mut clusters = known();
        clusters.values_mut().flatten().take(1).for_each(|endpoint| endpoint.1 = 0);
        let told = answer(&clusters, &json!({}));
        let endpoint = &told["resources"][0]["endpoints"][0]["lb_endpoints"][0];
        assert_eq!(
            (&endpoint["health_status"], &endpoint["load_balancing_weight"]),
            (&json!("DRAINING"), &Value::Null)
        );
    }

    #[test]
    fn of_a_cluster_nobody_knows_nothing_is_said_and_a_version_changes_with_the_weights() {
        let of = |clusters: &Clusters, request: Value| answer(clusters, &request);
        assert_eq!(of(&known(), json!({ "resourceNames": ["other"] }))["resources"], json!([]));
        let all = of(&known(), json!({}));
        assert_eq!(all["version_info"], of(&known(), json!({ "resource_names": ["pool"] }))["version_info"]);
        let mut moved = known();
        moved.values_mut().flatten().for_each(|endpoint| endpoint.1 = 50);
        assert_ne!(all["version_info"], of(&moved, json!({}))["version_info"]);
    }
}
