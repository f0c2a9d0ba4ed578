//! The store of a team that keeps its metrics in InfluxDB 2.
//!
//! Written through the crate `influxdb2`, read by Flux with our own client and reader of annotated CSV: why is in
//! `docs/adr/0005-influxdb-client.md`. While the server is away samples wait on disk (`remote`). How series look in the
//! bucket is in `docs/how-to/store-influxdb.md`.

mod annotated;
mod config;
mod flux;
mod line;
#[cfg(feature = "influx")]
mod server;

pub use annotated::{AnswerError, read};
pub use config::InfluxConfig;
pub use line::lines;
#[cfg(feature = "influx")]
pub use server::{OpenError, open};
