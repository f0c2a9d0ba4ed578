//! The door before a store that is busy, and after a restart.

use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use bellwether_models::series::Sample;

use super::*;
use crate::store::memory::MemoryStore;
use crate::store::{Matcher, SeriesSamples, Store, StoreStats};

/// Says that it is busy a number of times.
#[derive(Default)]
struct BusyStore {
    times: AtomicUsize,
    behind: MemoryStore,
}

#[async_trait]
impl Store for BusyStore {
    async fn append(&self, batch: Batch) -> Result<Appended, StoreError> {
        let busy = self.times.try_update(Ordering::Relaxed, Ordering::Relaxed, |times| times.checked_sub(1));
        if busy.is_ok() { Err(StoreError::Busy) } else { self.behind.append(batch).await }
    }
    async fn select(&self, m: &[Matcher], range: TimeRange, limit: usize) -> Result<Vec<SeriesSamples>, StoreError> {
        self.behind.select(m, range, limit).await
    }
    async fn series(&self, m: &[Matcher], range: TimeRange) -> Result<Vec<Labels>, StoreError> {
        self.behind.series(m, range).await
    }
    async fn retain(&self, now: Timestamp) -> Result<(), StoreError> {
        self.behind.retain(now).await
    }
    async fn stats(&self) -> Result<StoreStats, StoreError> {
        self.behind.stats().await
    }
}

const NOW: Timestamp = Timestamp::from_secs(1_700_000_000);

fn door(store: SharedStore, config: IngestConfig) -> Ingest {
    Ingest::with_clock(store, config, Arc::new(|| NOW))
}

fn batch(series: &[&str]) -> Batch {
    let one =
        |name: &&str| SeriesSamples { labels: Labels::metric(name), samples: vec![Sample { at: NOW, value: 1.0 }] };
    series.iter().map(one).collect()
}

#[tokio::test]
async fn samples_nobody_sends_again_are_held_while_the_store_is_busy_and_not_for_ever() {
    let store = Arc::new(BusyStore::default());
    let ingest = door(store.clone(), IngestConfig::default());
    store.times.store(2, Ordering::Relaxed);
    let receipt =
        ingest.append_patiently("scrape", batch(&["a", "b"]), Duration::from_secs(60)).await.expect("in time");
    assert_eq!(receipt.written, 2);

    store.times.store(1000, Ordering::Relaxed);
    let lost = ingest.append_patiently("scrape", batch(&["c"]), Duration::from_millis(500)).await;
    assert!(matches!(lost, Err(IngestError::Busy { .. })));
    let tries = 1000 - store.times.load(Ordering::Relaxed);
    assert!((2..5).contains(&tries), "{tries} tries");
}

#[tokio::test]
async fn the_series_limit_holds_across_a_restart() {
    let store: SharedStore = Arc::new(MemoryStore::default());
    let config = IngestConfig { max_series: 2, ..IngestConfig::default() };
    door(store.clone(), config.clone()).append("test", batch(&["a", "b"])).await.expect("append");

    let ingest = door(store, config);
    assert_eq!(ingest.restore().await.expect("restore"), 2);
    let receipt = ingest.append("test", batch(&["c", "a"])).await.expect("append");
    assert_eq!((receipt.repeated, receipt.refused_by), (1, [(Refusal::SeriesLimit, 1)].into()));
}
