//! What is told of routes of the Gateway API whose weights we set.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Mode;

/// An `HTTPRoute` of the Gateway API, the weights of whose services follow those of our backends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HttpRouteConfig {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its API. Default `gateway.networking.k8s.io/v1`.
    #[serde(default = "gateway")]
    pub api_version: String,
    /// `act` sets the weights; `shadow` and `recommend` only ask the cluster whether they could be set (a dry run) and log
    /// what would change. Default shadow.
    #[serde(default)]
    pub mode: Mode,
    /// The services among its `backendRefs` whose weights follow a backend. Others are left alone.
    pub services: Vec<ServiceConfig>,
}

/// A service that is one of our backends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ServiceConfig {
    /// Name of the Service, in the namespace of the route.
    pub service: String,
    /// Name of the backend in `reroute.backends`.
    pub backend: String,
    /// Weight of a backend that is given its whole share. From 1 to 1000000; default 100. Beside services that are not named here
    /// choose it to fit their weights, which are 1 where the route says nothing.
    #[serde(default = "hundred")]
    pub weight: u32,
}

/// `HTTPRoute shop/web`.
impl fmt::Display for HttpRouteConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HTTPRoute {}/{}", self.namespace, self.name)
    }
}

fn gateway() -> String {
    "gateway.networking.k8s.io/v1".to_owned()
}

fn hundred() -> u32 {
    100
}
