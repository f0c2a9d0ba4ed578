//! Where samples come from: scrapes, remote write, line protocol, this machine.

pub mod exposition;
pub mod relabel;
pub mod scrape;
