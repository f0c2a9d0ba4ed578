//! How much the store holds, as Prometheus' own status page tells it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use axum::extract::State;
use bellwether_models::series::Labels;
use serde_json::json;

use super::Asked;
use super::params::Params;
use super::reply::{Failure, Reply};
use crate::query::QueryError;
use crate::store::TimeRange;

/// Entries of each list where no `limit` says otherwise, as in Prometheus.
const USUAL: usize = 10;

/// Series with samples in this time count as present.
const PRESENT: Duration = Duration::from_secs(3600);

/// The series of the last hour by metric, label and pair, the largest first.
pub(super) async fn tsdb(State(asked): State<Asked>, params: Params) -> Result<Reply, Failure> {
    let most = params.limit()?.unwrap_or(USUAL);
    let (now, store) = (asked.now(), asked.engine.store());
    let range = TimeRange { from: now - PRESENT, to: now };
    let series = store.series(&[], range).await.map_err(QueryError::Store)?;
    let stats = store.stats().await.map_err(QueryError::Store)?;
    let span = stats.span.map_or((0, 0), |span| (span.from.as_millis(), span.to.as_millis()));
    let counts =
        tokio::task::spawn_blocking(move || Counts::of(&series, most)).await.map_err(|_| QueryError::Abandoned)?;
    Ok(Reply::json(&json!({
        "headStats": {
            "numSeries": counts.series, "numLabelPairs": counts.pairs, "chunkCount": 0, "minTime": span.0, "maxTime": span.1,
        },
        "seriesCountByMetricName": counts.by_metric,
        "labelValueCountByLabelName": counts.values_by_label,
        "memoryInBytesByLabelName": counts.bytes_by_label,
        "seriesCountByLabelValuePair": counts.by_pair,
    })))
}

struct Counts {
    series: usize,
    pairs: usize,
    by_metric: serde_json::Value,
    values_by_label: serde_json::Value,
    bytes_by_label: serde_json::Value,
    by_pair: serde_json::Value,
}

impl Counts {
    fn of(series: &[Labels], most: usize) -> Self {
        let mut by_metric: HashMap<&str, u64> = HashMap::new();
        let mut by_pair: HashMap<(&str, &str), u64> = HashMap::new();
        for labels in series {
            *by_metric.entry(labels.metric_name()).or_default() += 1;
            for pair in labels.iter() {
                *by_pair.entry(pair).or_default() += 1;
            }
        }
        let (mut values, mut bytes): (BTreeMap<&str, HashSet<&str>>, BTreeMap<&str, u64>) = Default::default();
        for (name, value) in by_pair.keys() {
            values.entry(name).or_default().insert(value);
            *bytes.entry(name).or_default() += value.len() as u64;
        }
        Self {
            series: series.len(),
            pairs: by_pair.len(),
            by_metric: largest(by_metric.into_iter().map(|(name, count)| (name.to_owned(), count)), most),
            values_by_label: largest(values.into_iter().map(|(name, all)| (name.to_owned(), all.len() as u64)), most),
            bytes_by_label: largest(bytes.into_iter().map(|(name, count)| (name.to_owned(), count)), most),
            by_pair: largest(by_pair.into_iter().map(|((name, value), n)| (format!("{name}={value}"), n)), most),
        }
    }
}

fn largest(counts: impl Iterator<Item = (String, u64)>, most: usize) -> serde_json::Value {
    let mut counts: Vec<(String, u64)> = counts.collect();
    counts.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    counts.truncate(most);
    counts.into_iter().map(|(name, value)| json!({ "name": name, "value": value })).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_are_counted_by_metric_label_and_pair() {
        let series = ["a", "b", "c"].map(|pod| Labels::metric("m").with("pod", pod).with("job", "j"));
        let counts = Counts::of(&series, 1);
        assert_eq!((counts.series, counts.pairs), (3, 5));
        assert_eq!(counts.by_metric, json!([{ "name": "m", "value": 3 }]));
        assert_eq!(counts.values_by_label, json!([{ "name": "pod", "value": 3 }]));
        assert_eq!(counts.by_pair, json!([{ "name": "__name__=m", "value": 3 }]));
    }
}
