//! A store in memory that can be made to fail.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;
use bellwether_collector::ingest::{Ingest, IngestConfig};
use bellwether_collector::query::{Engine, EngineConfig};
use bellwether_collector::store::{
    Appended, Batch, Matcher, SeriesSamples, SharedStore, Store, StoreError, StoreStats, TimeRange,
};
use bellwether_models::series::{Labels, Sample, Timestamp};

type Kept = BTreeMap<Labels, BTreeMap<Timestamp, f64>>;

/// Keeps everything, loses nothing, and fails on demand.
#[derive(Default)]
pub struct MemoryStore {
    series: Mutex<Kept>,
    down: AtomicBool,
}

impl MemoryStore {
    /// From now on every call fails, or none.
    pub fn set_down(&self, down: bool) {
        self.down.store(down, Ordering::SeqCst);
    }

    /// Puts one sample in.
    pub fn put(&self, labels: &Labels, at: Timestamp, value: f64) {
        self.kept().entry(labels.clone()).or_default().insert(at, value);
    }

    /// The samples of one series.
    pub fn samples(&self, labels: &Labels) -> Vec<Sample> {
        let series = self.kept();
        series.get(labels).into_iter().flatten().map(|(at, value)| Sample { at: *at, value: *value }).collect()
    }

    /// A query engine and a door to this store.
    pub fn doors(self: &Arc<Self>) -> (Engine, Ingest) {
        let store: SharedStore = Arc::clone(self) as SharedStore;
        let far_ahead = IngestConfig { max_ahead: std::time::Duration::ZERO, ..IngestConfig::default() };
        (Engine::new(Arc::clone(&store), EngineConfig::default()), Ingest::new(store, far_ahead))
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.series.lock().expect("nobody panics while holding it")
    }

    fn fail_when_down(&self, action: &str) -> Result<(), StoreError> {
        match self.down.load(Ordering::SeqCst) {
            false => Ok(()),
            true => Err(StoreError::Unavailable { action: action.to_owned(), source: "the disk is gone".into() }),
        }
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn append(&self, batch: Batch) -> Result<Appended, StoreError> {
        self.fail_when_down("append")?;
        let mut appended = Appended::default();
        for SeriesSamples { labels, samples } in batch {
            for sample in samples {
                self.put(&labels, sample.at, sample.value);
                appended.written += 1;
            }
        }
        Ok(appended)
    }

    async fn select(&self, matchers: &[Matcher], range: TimeRange, _: usize) -> Result<Vec<SeriesSamples>, StoreError> {
        self.fail_when_down("select")?;
        let series = self.kept();
        let chosen = series.iter().filter(|(labels, _)| matchers.iter().all(|m| m.matches(labels)));
        let found = chosen.map(|(labels, samples)| SeriesSamples {
            labels: labels.clone(),
            samples: samples
                .range(range.from..=range.to)
                .map(|(at, value)| Sample { at: *at, value: *value })
                .collect(),
        });
        Ok(found.filter(|series| !series.samples.is_empty()).collect())
    }

    async fn series(&self, matchers: &[Matcher], range: TimeRange) -> Result<Vec<Labels>, StoreError> {
        Ok(self.select(matchers, range, usize::MAX).await?.into_iter().map(|series| series.labels).collect())
    }

    async fn retain(&self, _: Timestamp) -> Result<(), StoreError> {
        Ok(())
    }

    async fn stats(&self) -> Result<StoreStats, StoreError> {
        Ok(StoreStats::default())
    }
}
