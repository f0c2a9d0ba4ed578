//! What is told of moving load away from backends before they are full.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use bellwether_models::duration::{as_optional_text, as_text};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Fraction, HttpRouteConfig, PlacementConfig, Positive};

/// How load is moved away from backends before they are full.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RerouteConfig {
    /// Answers HAProxy's agent checks. Default: nobody is answered.
    pub haproxy: Option<HaproxyConfig>,
    /// Answers Envoy's endpoint discovery over REST. Default: nobody is answered.
    pub envoy: Option<EnvoyConfig>,
    /// How clients that balance by themselves are told how full the backends are.
    pub orca: OrcaConfig,
    /// Routes of Kubernetes' Gateway API whose weights are set. Default none.
    pub http_routes: Vec<HttpRouteConfig>,
    /// How pods on their way to a node count, where the nodes are backends.
    pub placement: PlacementConfig,
    /// Backends that share the load.
    pub backends: Vec<BackendConfig>,
    /// How far ahead saturation is looked for: the time a change of weight takes to show. Default 2m.
    #[serde(with = "as_text")]
    #[schemars(with = "String")]
    pub lead: Duration,
    /// Saturation at which a backend begins to lose weight. Default 0.8.
    pub cut_above: Fraction,
    /// Saturation below which it gets its weight back; below `cut_above`. Default 0.7.
    pub restore_below: Fraction,
    /// Least weight of a backend, as a share of its full weight. Default 0.1.
    pub least_weight: Fraction,
    /// Largest share of the total weight that is taken away in one step. Default 0.3.
    pub cut_at_once: Fraction,
    /// Share of its full weight that a backend gets back in one step. Default 0.1.
    pub restore_at_once: Fraction,
    /// Time between two steps. Default 15s.
    #[serde(with = "as_text")]
    #[schemars(with = "String")]
    pub step: Duration,
    /// Fewest backends that keep their full weight, and fewest others that must serve for one to be drained. Default 1; 0
    /// counts as 1 for drains.
    pub survivors: usize,
    /// When at least this share of the backends is saturated, moving load only moves the pain: all weights are full.
    /// Default 0.5.
    pub panic_above: Fraction,
    /// How backends are drained on demand.
    pub drain: DrainConfig,
    /// Facts older than this no longer count: weights hold, and are given back after ten times as long. Default 5m.
    #[serde(with = "as_text")]
    #[schemars(with = "String")]
    pub max_fact_age: Duration,
}

impl Default for RerouteConfig {
    fn default() -> Self {
        Self {
            haproxy: None,
            envoy: None,
            orca: OrcaConfig::default(),
            http_routes: Vec::new(),
            placement: PlacementConfig::default(),
            backends: Vec::new(),
            lead: Duration::from_secs(120),
            cut_above: Fraction(0.8),
            restore_below: Fraction(0.7),
            least_weight: Fraction(0.1),
            cut_at_once: Fraction(0.3),
            restore_at_once: Fraction(0.1),
            step: Duration::from_secs(15),
            survivors: 1,
            panic_above: Fraction(0.5),
            drain: DrainConfig::default(),
            max_fact_age: Duration::from_secs(300),
        }
    }
}

/// Greatest weight that a route of the Gateway API takes.
const GREATEST_WEIGHT: u32 = 1_000_000;

impl RerouteConfig {
    /// What single fields cannot know.
    ///
    /// # Errors
    /// [`RerouteFault`], which names the first contradiction.
    pub fn check(&self) -> Result<(), RerouteFault> {
        let names: BTreeSet<&str> = self.backends.iter().map(|backend| backend.name.as_str()).collect();
        let mut called = BTreeMap::new();
        for backend in &self.backends {
            let others = backend.orca.iter().flat_map(|orca| &orca.authorities);
            for name in others.chain([&backend.name]) {
                let before = called.insert(name.to_lowercase(), &backend.name);
                if let Some(first) = before.filter(|before| *before != &backend.name) {
                    let (name, first, second) = (name.clone(), first.clone(), backend.name.clone());
                    return Err(RerouteFault::CalledAlike { name, first, second });
                }
            }
        }
        let services = self.http_routes.iter().flat_map(|route| route.services.iter().map(move |s| (route, s)));
        for (route, service) in services {
            if !names.contains(service.backend.as_str()) {
                let (route, backend) = (route.to_string(), service.backend.clone());
                return Err(RerouteFault::NoBackend { route, backend });
            }
            if !(1..=GREATEST_WEIGHT).contains(&service.weight) {
                let (route, service, weight) = (route.to_string(), service.service.clone(), service.weight);
                return Err(RerouteFault::Weight { route, service, weight });
            }
        }
        if !(self.placement.unasked.is_finite() && self.placement.unasked >= 0.0) {
            return Err(RerouteFault::Unasked { unasked: self.placement.unasked });
        }
        Ok(())
    }

    /// Whether each backend's load is reported at the same address of its own as in `other`.
    #[must_use]
    pub fn same_load_report_addresses(&self, other: &Self) -> bool {
        let of = |config: &Self| -> Vec<(String, SocketAddr)> {
            let own = |b: &BackendConfig| Some((b.name.clone(), b.orca.as_ref()?.listen?));
            config.backends.iter().filter_map(own).collect()
        };
        of(self) == of(other)
    }
}

/// How backends are drained on demand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DrainConfig {
    /// Time in which the weight goes down to nothing, where an order does not say; half of the drain if that is shorter.
    /// Default 1m; 0s: at once, as far as `cut_at_once` lets.
    #[serde(with = "as_text")]
    #[schemars(with = "String")]
    pub within: Duration,
    /// Longest time from an order to its deadline. Default 7d.
    #[serde(with = "as_text")]
    #[schemars(with = "String")]
    pub longest: Duration,
    /// Least time for which a drain stays suspended once its backend was needed. Default 5m.
    #[serde(with = "as_text")]
    #[schemars(with = "String")]
    pub resume_after: Duration,
}

impl Default for DrainConfig {
    fn default() -> Self {
        Self {
            within: Duration::from_secs(60),
            longest: Duration::from_secs(7 * 24 * 3600),
            resume_after: Duration::from_secs(300),
        }
    }
}

/// Why a reroute section cannot be used.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum RerouteFault {
    /// A client could mean either.
    #[error("{name:?} calls both backend {first:?} and backend {second:?}; names and orca.authorities must differ")]
    CalledAlike {
        /// The name or authority.
        name: String,
        /// One.
        first: String,
        /// The other.
        second: String,
    },
    /// A service follows nobody.
    #[error("http_routes: {route} follows backend {backend:?}, which is none; name one of reroute.backends")]
    NoBackend {
        /// Which route.
        route: String,
        /// The name that is not there.
        backend: String,
    },
    /// A full weight of nothing, or one that no route takes.
    #[error(
        "http_routes: in {route} the weight of {service:?} is {weight}; it is that of the whole share, from 1 to {GREATEST_WEIGHT}"
    )]
    Weight {
        /// Which route.
        route: String,
        /// Which service.
        service: String,
        /// As written.
        weight: u32,
    },
    /// The load of a pod that is none.
    #[error("placement.unasked {unasked} is not a finite number of at least 0")]
    Unasked {
        /// As written.
        unasked: f64,
    },
}

/// Where HAProxy's agent checks are answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HaproxyConfig {
    /// Address to listen on, such as `127.0.0.1:9495`; port 0 takes any free one.
    #[schemars(with = "String")]
    pub listen: SocketAddr,
}

/// Where Envoy's endpoint discovery is answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EnvoyConfig {
    /// Address to listen on, such as `127.0.0.1:9496`; port 0 takes any free one. Whoever reaches it may read where the
    /// endpoints are and what they are given.
    #[schemars(with = "String")]
    pub listen: SocketAddr,
}

/// How load reports (ORCA) are streamed over gRPC: at `grpc.listen`, and where a backend has an address of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct OrcaConfig {
    /// Shortest time between two reports of a stream, whatever its client asks for. Default 1s; at least 10ms.
    #[serde(with = "as_text")]
    #[schemars(with = "String")]
    pub least_interval: Duration,
    /// Most streams at once; further ones are refused. Default 1024; 0 refuses all.
    pub most_streams: usize,
}

impl Default for OrcaConfig {
    fn default() -> Self {
        Self { least_interval: Duration::from_secs(1), most_streams: 1024 }
    }
}

/// How clients that ask for load reports tell one backend from another.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct OrcaBackend {
    /// Address on which this backend alone is reported, whatever a client calls it; port 0 takes any free one. TLS is as in
    /// `grpc.tls`. Left out: none.
    #[schemars(with = "Option<String>")]
    pub listen: Option<SocketAddr>,
    /// What clients may call it at `grpc.listen` beside its name: the `:authority` of their request, with its port or
    /// without. Default none.
    pub authorities: Vec<String>,
}

/// An endpoint as Envoy knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EnvoyEndpoint {
    /// Name of Envoy's cluster (its `service_name`, where it has one).
    pub cluster: String,
    /// Where Envoy reaches it: an address and a port, no name, as discovery resolves none.
    #[schemars(with = "String")]
    pub address: SocketAddr,
}

/// One of several backends that share a load.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BackendConfig {
    /// Its name, as sent by HAProxy's `agent-send`.
    pub name: String,
    /// The endpoint it is for Envoy. Left out: Envoy is told nothing of it.
    #[serde(default)]
    pub envoy: Option<EnvoyEndpoint>,
    /// How clients find its load reports. Left out: by its name, at `grpc.listen`.
    #[serde(default)]
    pub orca: Option<OrcaBackend>,
    /// PromQL expression of the load it carries; its forecast is the backend's outlook.
    pub load: String,
    /// Load at which it is full, in the units of `load`.
    pub capacity: Positive,
    /// Time from now on that is looked at for this backend. Left out: the common `lead`.
    #[serde(default, with = "as_optional_text")]
    #[schemars(with = "Option<String>")]
    pub lead: Option<Duration>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backends_that_are_called_alike_and_routes_that_follow_nobody_are_refused() {
        let checked = |text: &str| serde_json::from_str::<RerouteConfig>(text).expect("it parses").check();
        let backends = r#"{"name": "a", "load": "a", "capacity": 1}, {"name": "b", "load": "b", "capacity": 1"#;
        let alike = checked(&format!(r#"{{"backends": [{backends}, "orca": {{"authorities": ["A"]}}}}]}}"#));
        assert!(matches!(alike, Err(RerouteFault::CalledAlike { .. })), "{alike:?}");
        let route = |backend: &str, weight: u32| {
            let service = format!(r#"{{"service": "web", "backend": "{backend}", "weight": {weight}}}"#);
            let route = format!(r#"{{"namespace": "shop", "name": "web", "services": [{service}]}}"#);
            checked(&format!(r#"{{"backends": [{backends}}}], "http_routes": [{route}]}}"#))
        };
        assert_eq!(route("b", 100), Ok(()));
        assert!(matches!(route("c", 100), Err(RerouteFault::NoBackend { .. })));
        assert_eq!(route("b", GREATEST_WEIGHT), Ok(()));
        for weight in [0, GREATEST_WEIGHT + 1] {
            assert!(matches!(route("a", weight), Err(RerouteFault::Weight { .. })));
        }
    }
}
