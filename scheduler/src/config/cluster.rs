//! What is told of Kubernetes: which object a workload is, and who of several of us may act.

use std::fmt;
use std::time::Duration;

use bellwether_models::duration::as_text;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// An object with a scale subresource.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KubernetesConfig {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its API. Default `apps/v1`.
    #[serde(default = "apps")]
    pub api_version: String,
    /// Its kind. Default `Deployment`.
    #[serde(default = "deployment")]
    pub kind: String,
    /// Its kind in the plural, as in addresses. Left out: made of the kind by the rules of English.
    #[serde(default)]
    pub plural: Option<String>,
}

/// `Deployment shop/web`.
impl fmt::Display for KubernetesConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}", self.kind, self.namespace, self.name)
    }
}

fn apps() -> String {
    "apps/v1".to_owned()
}

fn deployment() -> String {
    "Deployment".to_owned()
}

/// A Lease by which one of several is chosen to act.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LeaseConfig {
    /// Its namespace.
    pub namespace: String,
    /// Its name. Default `bellwether`.
    #[serde(default = "bellwether")]
    pub name: String,
    /// How long who holds it may be silent before another takes it; whole seconds, at least 1s. Default 30s.
    #[serde(default = "half_a_minute", with = "as_text")]
    #[schemars(with = "String")]
    pub duration: Duration,
}

fn bellwether() -> String {
    "bellwether".to_owned()
}

fn half_a_minute() -> Duration {
    Duration::from_secs(30)
}
