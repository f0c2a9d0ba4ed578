//! Where samples come from: scrapes, remote write, line protocol, this machine.

pub mod changes;
mod events;
mod exponential;
pub mod exposition;
pub mod host;
pub mod line_protocol;
pub mod moment;
pub mod otlp;
pub mod push;
pub mod relabel;
pub mod scrape;
pub mod secret;
pub mod size;
pub mod tasks;
