//! The mathematics of Bellwether: values in, values out.
//!
//! Forecasts, anomaly scores, root causes and the nouns they speak of. Nothing here reads a clock, does IO, spawns a
//! thread or waits; `clippy.toml` beside this crate forbids it. The same functions serve the running system, the
//! offline commands and the notebooks.

pub mod accuracy;
pub mod backtest;
pub mod cause;
pub mod detect;
pub mod duration;
pub mod forecast;
pub mod incident;
#[cfg(any(test, feature = "laws"))]
pub mod laws;
pub mod outlook;
pub mod series;
