//! When the forecast of a workload is believed.

use std::time::Duration;

use bellwether_models::duration::as_text;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// When the forecast of a workload is believed, and when the reactive rule decides alone.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TrustConfig {
    /// Whether forecasts are judged by what came. Default true; false believes them always.
    pub enabled: bool,
    /// How much more following the forecast may have cost than following the demand of the moment before it is believed no
    /// more, as a ratio of costs; at least 1. It is believed again below the square root of that. Default 1.5.
    pub cost_ratio: f64,
    /// How far the share of the time in which demand stayed below the forecast's quantile may fall short of its promise,
    /// beyond what chance allows; from 0 to 1. Believed again within half of that. Default 0.1.
    pub shortfall: f64,
    /// How much longer demand may have been above capacity, following the forecast, than under a plain autoscaler that costs
    /// as much, over two weeks or so, before the reactive rule decides alone at that autoscaler's target. Default 5m.
    #[serde(with = "as_text")]
    #[schemars(with = "String")]
    pub outdone_by: Duration,
    /// In mode `act`: how much longer demand may have been above capacity than under the reactive rule alone, over the last
    /// day, before the reactive rule decides alone. Default 10m.
    #[serde(with = "as_text")]
    #[schemars(with = "String")]
    pub worse_by: Duration,
}

impl Default for TrustConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            cost_ratio: 1.5,
            shortfall: 0.1,
            outdone_by: Duration::from_secs(300),
            worse_by: Duration::from_secs(600),
        }
    }
}
