//! What every reader must keep, whatever bytes it is given: one function a reader. The fuzzer looks for bytes that make
//! one of them panic; the tests replay the bytes that are known.

mod annotated_csv;
mod door;
mod events;
mod exposition;
mod files;
mod line_protocol;
mod matchers;
mod numbers;
mod otlp;
mod promql;
mod relabel;
mod remote_write;
mod tables;
mod yaml;

/// Takes any bytes; panics where a reader breaks its word.
pub type Target = fn(&[u8]);

/// All targets by the names of their corpora.
pub const ALL: &[(&str, Target)] = &[
    ("annotated_csv", annotated_csv::annotated_csv),
    ("config", yaml::config),
    ("events", events::events),
    ("exposition", exposition::exposition),
    ("line_protocol", line_protocol::line_protocol),
    ("matchers", matchers::matchers),
    ("numbers", numbers::numbers),
    ("otlp", otlp::otlp),
    ("promql", promql::promql),
    ("query_api", promql::query_api),
    ("relabel", relabel::relabel),
    ("remote_write_body", remote_write::body),
    ("remote_write_v1", remote_write::v1),
    ("remote_write_v2", remote_write::v2),
    ("store_block", files::block),
    ("store_journal", files::journal),
    ("tables", tables::tables),
];

/// The first byte chooses, the others are what is read.
fn choice(bytes: &[u8]) -> (u8, &[u8]) {
    bytes.split_first().map_or((0, bytes), |(first, rest)| (*first, rest))
}
