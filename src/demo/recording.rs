//! The recorded data that the demo replays, as series on one timeline.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use bellwether_collector::store::{Batch, SeriesSamples};
use bellwether_models::series::{Labels, Sample, Timestamp};

use crate::table::{self, Table};

const DEMAND: &[u8] = include_bytes!("../../demo/data/demand.csv.gz");
const FAULT: &[u8] = include_bytes!("../../demo/data/fault/metrics.csv.gz");
const INJECTED_AT: &str = include_str!("../../demo/data/fault/inject_time.txt");

/// What the recording's authors broke; shown beside the ranking and used for nothing else.
pub const TRUTH: &str = "currencyservice";

/// How long before the end of the demand the replay ends: when the last morning's ramp is over.
const CUT: Duration = Duration::from_secs(20 * 3600 + 1800);

/// How long the replay goes on after the fault's last row, so that all of it is seen.
const AFTER: Duration = Duration::from_secs(2 * 60);

/// Both recordings on the demand's timeline.
#[derive(Debug)]
pub struct Recording {
    /// Every sample, in order of time.
    samples: BTreeMap<Timestamp, Vec<(Labels, f64)>>,
    /// When the fault was injected, on this timeline.
    pub injected_at: Timestamp,
    /// Number of the fault's series.
    pub fault_series: usize,
}

impl Recording {
    /// Reads what the binary carries.
    ///
    /// # Errors
    /// When the files are not what they should be: the build is broken.
    pub fn load() -> anyhow::Result<Self> {
        let demand = table::read_bytes(Path::new("demand.csv.gz"), DEMAND)?;
        let fault = table::read_bytes(Path::new("metrics.csv.gz"), FAULT)?;
        let injected = table::parse_time(INJECTED_AT.trim()).context("inject_time.txt holds no time")?;
        let newest = |table: &Table| table.times.last().copied().context("a recording is empty");
        let end = newest(&demand)? - CUT;
        let shift_ms = (end - AFTER).as_millis() - newest(&fault)?.as_millis();
        let injected_at = shifted(injected, shift_ms);
        let mut recording = Self { samples: BTreeMap::new(), injected_at, fault_series: fault.names.len() };
        recording.add(&Labels::metric("http_requests_per_second").with("service", "shop"), &demand, 0, 0);
        for (column, name) in fault.names.iter().enumerate() {
            recording.add(&fault_labels(name), &fault, column, shift_ms);
        }
        // What lies after the end is cut off.
        drop(recording.samples.split_off(&(end + Duration::from_millis(1))));
        Ok(recording)
    }

    fn add(&mut self, labels: &Labels, table: &Table, column: usize, shift_ms: i64) {
        let values = table.times.iter().zip(&table.columns[column]).filter(|(_, value)| value.is_finite());
        for (at, value) in values {
            self.samples.entry(shifted(*at, shift_ms)).or_default().push((labels.clone(), *value));
        }
    }

    /// Times of the first and the last sample.
    #[must_use]
    pub fn span(&self) -> (Timestamp, Timestamp) {
        let first = self.samples.first_key_value().map(|(at, _)| *at).unwrap_or_default();
        (first, self.samples.last_key_value().map(|(at, _)| *at).unwrap_or(first))
    }

    /// The samples after `from`, up to and including `to`, one entry a series.
    #[must_use]
    pub fn between(&self, from: Timestamp, to: Timestamp) -> Batch {
        let mut series: BTreeMap<&Labels, Vec<Sample>> = BTreeMap::new();
        for (at, values) in self.samples.range((std::ops::Bound::Excluded(from), std::ops::Bound::Included(to))) {
            for (labels, value) in values {
                series.entry(labels).or_default().push(Sample { at: *at, value: *value });
            }
        }
        series.into_iter().map(|(labels, samples)| SeriesSamples { labels: labels.clone(), samples }).collect()
    }
}

fn shifted(at: Timestamp, by_ms: i64) -> Timestamp {
    Timestamp::from_millis(at.as_millis() + by_ms)
}

/// `cartservice_clat-p90` becomes `clat_p90{service="cartservice"}`; where users enter, `entry`, is the shop itself.
fn fault_labels(column: &str) -> Labels {
    let (service, metric) = column.rsplit_once('_').unwrap_or((column, "value"));
    let service = if service == "entry" { "boutique" } else { service };
    Labels::metric(&metric.replace(|c: char| !c.is_ascii_alphanumeric(), "_")).with("service", service)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fault_falls_on_the_last_hour_of_the_demand() {
        let recording = Recording::load().unwrap();
        let (first, last) = recording.span();
        assert!(last.since(first) > Duration::from_secs(14 * 86_400));
        assert!(last.since(recording.injected_at) < Duration::from_secs(3600));
    }

    #[test]
    fn nothing_is_given_twice_and_nothing_is_left_out() {
        let recording = Recording::load().unwrap();
        let (first, last) = recording.span();
        let middle = first + last.since(first) / 2;
        let count = |batch: Batch| batch.iter().map(|series| series.samples.len()).sum::<usize>();
        let before = first - Duration::from_secs(1);
        let halves = count(recording.between(before, middle)) + count(recording.between(middle, last));
        assert_eq!(halves, count(recording.between(before, last)));
    }

    #[test]
    fn columns_of_the_recording_become_series_with_a_service() {
        assert_eq!(fault_labels("cartservice_clat-p90").to_string(), "clat_p90{service=\"cartservice\"}");
    }
}
