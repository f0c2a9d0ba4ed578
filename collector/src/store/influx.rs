//! The store of a team that keeps its metrics in InfluxDB 2.

mod config;

pub use config::InfluxConfig;
