//! Brings metrics in, keeps them, and answers questions about them.
//!
//! Sources (`source`) yield batches; `ingest` checks them against limits and hands them to a `Store`, which answers only
//! when they are durable; `query` evaluates PromQL over any store.

pub mod access;
pub mod ingest;
#[cfg(feature = "kubernetes")]
pub mod kubernetes;
pub mod metadata;
pub mod query;
pub mod remote_write;
pub mod source;
pub mod store;
