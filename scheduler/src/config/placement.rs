//! What is told of pods that were placed a moment ago.

use std::time::Duration;

use bellwether_models::duration::as_text;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How pods on their way to a node count against its room, for the extender of Kubernetes' scheduler.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PlacementConfig {
    /// Which request of a pod says how much load it brings, in the units of the nodes' `load`: `cpu` in cores, `memory` in
    /// bytes. Default cpu.
    pub request: PodRequest,
    /// The load of a pod that requests nothing. Default 0.1; 0 does not count it.
    pub unasked: f64,
    /// How long a pod counts when its load does not show before. Default 2m; 0s counts none.
    #[serde(with = "as_text")]
    #[schemars(with = "String")]
    pub settle: Duration,
    /// Most places that are remembered; of more the oldest are forgotten. Default 10000.
    pub most: usize,
}

/// A request of a pod.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PodRequest {
    /// Cores.
    #[default]
    Cpu,
    /// Bytes.
    Memory,
}

impl Default for PlacementConfig {
    fn default() -> Self {
        Self { request: PodRequest::Cpu, unasked: 0.1, settle: Duration::from_secs(120), most: 10_000 }
    }
}
