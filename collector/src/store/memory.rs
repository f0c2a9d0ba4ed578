//! A store that forgets when it is dropped: for tests, and the measure of every other store.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bellwether_models::series::{Labels, Sample, Timestamp};

use super::{Appended, Batch, Matcher, SampleRefusal, SeriesSamples, Store, StoreError, StoreStats, TimeRange};

type Contents = BTreeMap<Labels, BTreeMap<Timestamp, u64>>;

/// Keeps samples in a map, with the rules of every store and none of their machinery.
#[derive(Debug)]
pub struct MemoryStore {
    out_of_order_window: Duration,
    retention: Duration,
    contents: Mutex<Contents>,
}

impl Default for MemoryStore {
    /// With the embedded store's defaults: an hour out of order, 30 days kept.
    fn default() -> Self {
        Self::new(Duration::from_secs(3600), Duration::from_secs(30 * 86_400))
    }
}

impl MemoryStore {
    /// A store that takes samples up to `out_of_order_window` older than the newest of their series, and that
    /// [`Store::retain`] frees of what is older than `retention`.
    #[must_use]
    pub fn new(out_of_order_window: Duration, retention: Duration) -> Self {
        Self { out_of_order_window, retention, contents: Mutex::default() }
    }

    fn contents(&self) -> MutexGuard<'_, Contents> {
        self.contents.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn append(&self, batch: Batch) -> Result<Appended, StoreError> {
        let mut contents = self.contents();
        let newest = |labels: &Labels| contents.get(labels).and_then(|held| held.keys().next_back().copied());
        let oldest: Vec<Option<Timestamp>> =
            batch.iter().map(|s| newest(&s.labels).map(|newest| newest - self.out_of_order_window)).collect();
        let mut appended = Appended::default();
        for (series, oldest) in batch.into_iter().zip(oldest) {
            for sample in series.samples {
                let bits = sample.value.to_bits();
                match contents.get(&series.labels).and_then(|held| held.get(&sample.at)) {
                    Some(held) if *held == bits => appended.repeated += 1,
                    Some(_) => {
                        appended.refused.push((series.labels.clone(), sample.at, SampleRefusal::DuplicateTimestamp))
                    }
                    None if oldest.is_some_and(|oldest| sample.at < oldest) => {
                        appended.refused.push((series.labels.clone(), sample.at, SampleRefusal::TooOld));
                    }
                    None => {
                        contents.entry(series.labels.clone()).or_default().insert(sample.at, bits);
                        appended.written += 1;
                    }
                }
            }
        }
        Ok(appended)
    }

    async fn select(
        &self,
        matchers: &[Matcher],
        range: TimeRange,
        limit: usize,
    ) -> Result<Vec<SeriesSamples>, StoreError> {
        let mut found = Vec::new();
        let mut total = 0;
        for (labels, held) in self.contents().iter().filter(|(labels, _)| matchers.iter().all(|m| m.matches(labels))) {
            let samples: Vec<Sample> =
                within(held, range).map(|(at, bits)| Sample { at, value: f64::from_bits(bits) }).collect();
            total += samples.len();
            if total > limit {
                return Err(StoreError::TooLarge { limit });
            }
            if !samples.is_empty() {
                found.push(SeriesSamples { labels: labels.clone(), samples });
            }
        }
        Ok(found)
    }

    async fn series(&self, matchers: &[Matcher], range: TimeRange) -> Result<Vec<Labels>, StoreError> {
        let contents = self.contents();
        let matching = contents.iter().filter(|(labels, _)| matchers.iter().all(|m| m.matches(labels)));
        Ok(matching
            .filter(|(_, held)| within(held, range).next().is_some())
            .map(|(labels, _)| labels.clone())
            .collect())
    }

    async fn retain(&self, now: Timestamp) -> Result<(), StoreError> {
        if !self.retention.is_zero() {
            let oldest = now - self.retention;
            self.contents().retain(|_, held| {
                held.retain(|at, _| *at >= oldest);
                !held.is_empty()
            });
        }
        Ok(())
    }

    async fn stats(&self) -> Result<StoreStats, StoreError> {
        let contents = self.contents();
        let first = contents.values().filter_map(|held| held.keys().next()).min();
        let last = contents.values().filter_map(|held| held.keys().next_back()).max();
        Ok(StoreStats {
            series: contents.len() as u64,
            samples: contents.values().map(|held| held.len() as u64).sum(),
            bytes: 0,
            span: first.zip(last).map(|(from, to)| TimeRange { from: *from, to: *to }),
        })
    }
}

fn within(held: &BTreeMap<Timestamp, u64>, range: TimeRange) -> impl Iterator<Item = (Timestamp, u64)> {
    let range = (range.from <= range.to).then_some(range.from..=range.to);
    range.into_iter().flat_map(|range| held.range(range)).map(|(at, bits)| (*at, *bits))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_memory_store_keeps_the_laws_of_stores() {
        super::super::laws::store(async || MemoryStore::default()).await;
    }
}
