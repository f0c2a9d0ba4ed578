//! Bellwether: watches a cluster, knows its rhythm, acts before the load arrives, and names what broke first.
//!
//! This crate composes the others: configuration, the pipeline, the HTTP faces and the command line.

pub mod api;
pub mod case;
pub mod cli;
pub mod cluster;
pub mod config;
pub mod demo;
#[cfg_attr(not(feature = "kubernetes"), path = "discovery/absent.rs")]
pub mod discovery;
pub mod front_proxy;
pub mod pipeline;
pub mod run;
pub mod server;
pub mod store;
pub mod table;
pub mod telemetry;
pub mod words;
