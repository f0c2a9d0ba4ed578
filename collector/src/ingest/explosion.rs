//! Names what grows without bound: which label, of which metric, from which source.

use std::time::Duration;

use bellwether_models::series::Timestamp;
use serde::Serialize;

use super::active::{ActiveSeries, Group, Refusing, runaway_names};
use super::config::IngestConfig;

/// The same explosion is told to an operator again after this time, and counts as contained for as long after a refusal.
const TELL_AGAIN: Duration = Duration::from_secs(600);

/// A metric or a source that nears its limit of series, or was refused new ones.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Explosion {
    /// Where the series come from.
    pub source: String,
    /// The metric with the most of them; none where the metrics' names themselves run away.
    pub metric: Option<String>,
    /// The labels that take the most values, the widest first.
    pub labels: Vec<LabelValues>,
    /// Series alive.
    pub series: usize,
    /// The most allowed.
    pub limit: usize,
    /// Which setting says so.
    pub setting: &'static str,
    /// Whether new series were refused lately; those known keep flowing.
    pub contained: bool,
}

/// A label and how many values it takes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LabelValues {
    /// The label.
    pub label: String,
    /// About how many different values were seen, refused ones included.
    pub values: u64,
}

impl Explosion {
    /// The labels in one line: `request_id (about 5120 values)`.
    #[must_use]
    pub fn labels_in_words(&self) -> String {
        let word = |label: &LabelValues| format!("{} (about {} values)", label.label, label.values);
        self.labels.iter().take(3).map(word).collect::<Vec<_>>().join(", ")
    }
}

/// All explosions at `now`, the largest first.
pub(super) fn all(config: &IngestConfig, active: &ActiveSeries, now: Timestamp) -> Vec<Explosion> {
    let metrics = active.groups().filter_map(|group| of_metric(config, active, group, now));
    let sources = (0..active.sources().len()).filter_map(|source| of_source(config, active, source, now));
    let mut all: Vec<Explosion> = metrics.chain(sources).collect();
    all.sort_by(|a, b| b.series.cmp(&a.series).then_with(|| (&a.source, &a.metric).cmp(&(&b.source, &b.metric))));
    all
}

/// How a metric of a source stands, when it is worth telling.
pub(super) fn of_metric(
    config: &IngestConfig,
    active: &ActiveSeries,
    group: &Group,
    now: Timestamp,
) -> Option<Explosion> {
    let limit = config.max_series_per_metric;
    let contained = refused_lately(group.refusing, now);
    (contained || nears(group.alive, limit)).then(|| Explosion {
        source: active.sources()[group.source].name.to_string(),
        metric: Some(group.metric.to_string()),
        labels: named(group.widest()),
        series: group.alive,
        limit,
        setting: "max_series_per_metric",
        contained,
    })
}

/// How a source stands, when it is worth telling.
pub(super) fn of_source(
    config: &IngestConfig,
    active: &ActiveSeries,
    source: usize,
    now: Timestamp,
) -> Option<Explosion> {
    let known = &active.sources()[source];
    let own = config.max_series_per_source;
    let (limit, setting) = if own > 0 { (own, "max_series_per_source") } else { (config.max_series, "max_series") };
    let contained = refused_lately(known.refusing, now);
    if !contained && !nears(known.alive, own) {
        return None;
    }
    let names = runaway_names(known);
    let largest = active.largest(source).filter(|_| names.is_none());
    Some(Explosion {
        source: known.name.to_string(),
        metric: largest.map(|group| group.metric.to_string()),
        labels: named(names.into_iter().chain(largest.map(Group::widest).unwrap_or_default()).collect()),
        series: known.alive,
        limit,
        setting,
        contained,
    })
}

/// Whether it is time to tell an operator, who may have been told before.
pub(super) fn is_news(refusing: Refusing, now: Timestamp) -> bool {
    refusing.told.is_none_or(|told| now < told || now.since(told) >= TELL_AGAIN)
}

/// More than half of the limit is used.
pub(super) fn nears(alive: usize, limit: usize) -> bool {
    limit > 0 && alive.saturating_mul(2) >= limit
}

fn refused_lately(refusing: Refusing, now: Timestamp) -> bool {
    refusing.refused.is_some_and(|refused| now.since(refused) < TELL_AGAIN)
}

fn named(labels: Vec<(String, u64)>) -> Vec<LabelValues> {
    labels.into_iter().map(|(label, values)| LabelValues { label, values }).collect()
}
