//! The settings of the embedded store.

use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Settings of the store in a local directory.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EmbeddedConfig {
    /// The directory that holds everything; made if it is not there. Default `./data`.
    pub path: PathBuf,
    /// How long samples are kept. What is older goes as a whole partition, so up to one partition more stays. Default
    /// `30d`; `0` keeps all.
    #[serde(with = "bellwether_models::duration::as_text")]
    #[schemars(with = "String")]
    pub retention: Duration,
    /// Most bytes the store may take on disk; above it the oldest partitions go first, the newest never. Default 0: no
    /// bound.
    pub max_bytes: u64,
    /// How much older than the newest sample of its series a sample may be. Default `1h`; `0` takes samples in order
    /// only.
    #[serde(with = "bellwether_models::duration::as_text")]
    #[schemars(with = "String")]
    pub out_of_order_window: Duration,
    /// The span of time that is kept, and deleted, as one. Fixed when the store is made: a later change is passed over.
    /// Default `1d`; at least `1m`.
    #[serde(with = "bellwether_models::duration::as_text")]
    #[schemars(with = "String")]
    pub partition: Duration,
    /// How many batches may wait for the disk before further ones are refused as busy. Default 256; at least 1.
    pub queue: usize,
    /// Bytes of unsealed samples held in memory at most; at half of it sealing begins, at all of it batches are refused
    /// as busy until sealing has caught up. Default 512 MiB.
    pub memory_bytes: u64,
    /// Samples per series, on average, that gather in memory before they are sealed. More make smaller files and a longer
    /// start after a crash, and take more memory. Default 120 (half an hour at 15 s).
    pub samples_per_chunk: u32,
    /// The directory under which a running server may put backups; one on the same file system takes no room. Default
    /// none: a running server makes no backups.
    pub backup_root: Option<PathBuf>,
}

impl Default for EmbeddedConfig {
    fn default() -> Self {
        Self {
            path: PathBuf::from("./data"),
            retention: Duration::from_secs(30 * 86_400),
            max_bytes: 0,
            out_of_order_window: Duration::from_secs(3600),
            partition: Duration::from_secs(86_400),
            queue: 256,
            memory_bytes: 512 << 20,
            samples_per_chunk: 120,
            backup_root: None,
        }
    }
}
