//! What the door lets in.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Limits on what enters. Where nothing else is said, 0 means "no limit".
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct IngestConfig {
    /// Series that may be active at once; a new one beyond is refused, those known keep flowing. The last tenth is kept for
    /// sources that hold less than an equal share. Default 2,000,000.
    pub max_series: usize,
    /// As `max_series`, for each source (a scrape job, remote write, a tenant of it, …). Default 0: no limit.
    pub max_series_per_source: usize,
    /// As `max_series`, for each metric of each source: contains a label that takes ever new values. Default 100,000.
    pub max_series_per_metric: usize,
    /// A series without samples for this long no longer counts as active. Default 1h; 0 keeps it until restart.
    #[serde(with = "bellwether_models::duration::as_text")]
    #[schemars(with = "String")]
    pub active_for: Duration,
    /// Labels of one series, the metric's name included. Default 64.
    pub max_labels: usize,
    /// Bytes of a label's name. Default 1024.
    pub max_label_name_bytes: usize,
    /// Bytes of a label's value, and of the metric's name. Default 4096.
    pub max_label_value_bytes: usize,
    /// How far ahead of the clock a sample may be. Default 10m; 0: any distance.
    #[serde(with = "bellwether_models::duration::as_text")]
    #[schemars(with = "String")]
    pub max_ahead: Duration,
    /// How far behind the clock a sample may be. Default 0: as far as the store's out-of-order window lets it.
    #[serde(with = "bellwether_models::duration::as_text")]
    #[schemars(with = "String")]
    pub max_age: Duration,
    /// Bytes that may wait for the store at once; more is answered "come back later". A source may hold at most as much as is
    /// still free, so that one alone gets half and none is starved. Default 268,435,456 (256 MiB); 0: one batch at a time. A
    /// batch alone is let in whatever its size.
    pub max_in_flight_bytes: u64,
    /// Metrics whose type, help and unit are kept. Default 20,000; 0 keeps none.
    pub max_described_metrics: usize,
}

impl Default for IngestConfig {
    fn default() -> Self {
        Self {
            max_series: 2_000_000,
            max_series_per_source: 0,
            max_series_per_metric: 100_000,
            active_for: Duration::from_secs(3600),
            max_labels: 64,
            max_label_name_bytes: 1024,
            max_label_value_bytes: 4096,
            max_ahead: Duration::from_secs(600),
            max_age: Duration::ZERO,
            max_in_flight_bytes: 256 << 20,
            max_described_metrics: 20_000,
        }
    }
}
