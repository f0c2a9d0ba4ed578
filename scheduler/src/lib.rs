//! Turns outlooks and incidents into explained decisions, actions and alerts.
//!
//! `decide`, `guard` and `route` are pure: facts and a time go in, a plan comes out. `notify` is a state machine that is
//! told what happened and asked what to send. [`service`] is the one shell that reads the snapshot, asks them, and
//! carries out what they say; it makes no choice of its own.

pub mod actuate;
pub mod config;
pub mod decide;
mod dial;
pub mod grpc;
pub mod guard;
pub mod history;
pub mod learn;
pub mod lease;
pub mod limit;
mod lines;
pub mod notify;
pub mod plan;
pub mod record;
pub mod route;
pub mod service;
pub mod simulate;

pub use config::{AlertsConfig, Config, RerouteConfig, ScaleConfig, Workload};
pub use grpc::GrpcConfig;
pub use service::{Handle, Service};
