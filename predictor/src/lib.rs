//! Turns windows of the store into outlooks and incidents.

pub mod config;
pub mod due;
pub mod foresee;
pub mod publish;

pub use config::{Backend, Config, ConfigError, DetectionConfig, ForecastConfig, Workload};
