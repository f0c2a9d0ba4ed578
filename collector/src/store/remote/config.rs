//! The settings that every store on a server has.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::source::size::ByteSize;

/// What waits on disk while the server cannot be reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct QueueConfig {
    /// Bytes that may wait; beyond it samples are refused as busy, so that senders keep them. About 12 bytes a sample.
    /// Default 1GB; 0 queues nothing.
    pub max_bytes: ByteSize,
}

impl Default for QueueConfig {
    fn default() -> Self {
        Self { max_bytes: ByteSize::from_bytes(1 << 30) }
    }
}
