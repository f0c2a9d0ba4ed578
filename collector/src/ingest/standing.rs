//! How the limits stand: what people and programs ask when something is refused.

use std::collections::BTreeMap;

use serde::Serialize;

use super::admit::Gate;
use super::explosion::{self, Explosion};
use super::waiting::Waiting;
use bellwether_models::series::Timestamp;

/// The limits, what is used of them, who uses it, and what was refused.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Standing {
    /// Every limit with what is used of it.
    pub limits: Vec<LimitUse>,
    /// Every source, the one with the most series first.
    pub sources: Vec<SourceUse>,
    /// The metrics with the most series, the largest first.
    pub metrics: Vec<MetricUse>,
    /// What grows without bound, the largest first.
    pub explosions: Vec<Explosion>,
}

/// One limit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LimitUse {
    /// The setting below `ingest`.
    pub limit: &'static str,
    /// Its value; 0 where there is no limit.
    pub value: u64,
    /// How much of it is used: now, or by the largest series so far.
    pub used: u64,
}

/// One source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SourceUse {
    /// Its name.
    pub source: String,
    /// Series alive that it brought first.
    pub series: usize,
    /// Bytes it has waiting for the store.
    pub waiting_bytes: u64,
    /// Samples refused since the start, by reason.
    pub refused: BTreeMap<&'static str, u64>,
}

/// One metric of one source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MetricUse {
    /// The source.
    pub source: String,
    /// The metric.
    pub metric: String,
    /// Series alive.
    pub series: usize,
}

/// How it stands at `now`, with the `most` largest metrics.
pub(super) fn of(gate: &Gate, waiting: &Waiting, now: Timestamp, most: usize) -> Standing {
    let mut sources: Vec<SourceUse> = gate.active.sources().iter().map(|s| of_source(gate, waiting, s)).collect();
    sources.sort_by(|a, b| b.series.cmp(&a.series).then_with(|| a.source.cmp(&b.source)));
    let explosions = explosion::all(&gate.config, &gate.active, now);
    Standing { limits: limits(gate, waiting), sources, metrics: largest(gate, most), explosions }
}

/// Every limit with what is used of it.
pub(super) fn limits(gate: &Gate, waiting: &Waiting) -> Vec<LimitUse> {
    let config = &gate.config;
    let [labels, name, value] = gate.largest;
    let of_source = gate.active.sources().iter().map(|source| source.alive).max().unwrap_or(0);
    let of_metric = gate.active.groups().map(|group| group.alive).max().unwrap_or(0);
    let row = |limit, value: usize, used: usize| LimitUse { limit, value: value as u64, used: used as u64 };
    vec![
        row("max_series", config.max_series, gate.active.len()),
        row("max_series_per_source", config.max_series_per_source, of_source),
        row("max_series_per_metric", config.max_series_per_metric, of_metric),
        row("max_labels", config.max_labels, labels),
        row("max_label_name_bytes", config.max_label_name_bytes, name),
        row("max_label_value_bytes", config.max_label_value_bytes, value),
        LimitUse { limit: "max_in_flight_bytes", value: config.max_in_flight_bytes, used: waiting.total() },
    ]
}

fn of_source(gate: &Gate, waiting: &Waiting, source: &super::active::Source) -> SourceUse {
    let refused = gate.refused.get(&source.name).into_iter().flatten();
    SourceUse {
        source: source.name.to_string(),
        series: source.alive,
        waiting_bytes: waiting.of(&source.name),
        refused: refused.map(|(reason, samples)| (reason.name(), *samples)).collect(),
    }
}

fn largest(gate: &Gate, most: usize) -> Vec<MetricUse> {
    let mut groups: Vec<_> = gate.active.groups().collect();
    let by_size = |a: &&super::active::Group, b: &&super::active::Group| {
        b.alive.cmp(&a.alive).then_with(|| (&a.metric, a.source).cmp(&(&b.metric, b.source)))
    };
    if groups.len() > most && most > 0 {
        groups.select_nth_unstable_by(most - 1, by_size);
    }
    groups.truncate(most);
    groups.sort_by(by_size);
    let row = |group: &super::active::Group| MetricUse {
        source: gate.active.sources()[group.source].name.to_string(),
        metric: group.metric.to_string(),
        series: group.alive,
    };
    groups.into_iter().map(row).collect()
}
