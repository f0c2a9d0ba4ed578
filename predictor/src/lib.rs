//! Turns windows of the store into outlooks and incidents.

pub mod config;
pub mod due;
pub mod evidence;
pub mod foresee;
pub mod publish;
pub mod state;

pub use config::{Backend, Config, ConfigError, DetectionConfig, ForecastConfig, Service, Workload};
