//! The embedded store as a whole: the laws, the oracle, restarts, sealing.

use std::ops::Range;
use std::time::Duration;

use bellwether_models::series::{Sample, stale_marker};
use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::store::memory::MemoryStore;
use crate::store::{Batch, laws};

mod backups;
mod crashes;
mod damage;
mod faults;
mod sim_disk;

/// A store in a directory of its own, gone when dropped.
struct Scratch {
    store: EmbeddedStore,
    _dir: TempDir,
}

#[async_trait]
impl Store for Scratch {
    async fn append(&self, batch: Batch) -> Result<Appended, StoreError> {
        self.store.append(batch).await
    }
    async fn select(&self, m: &[Matcher], range: TimeRange, limit: usize) -> Result<Vec<SeriesSamples>, StoreError> {
        self.store.select(m, range, limit).await
    }
    async fn series(&self, m: &[Matcher], range: TimeRange) -> Result<Vec<Labels>, StoreError> {
        self.store.series(m, range).await
    }
    async fn retain(&self, now: Timestamp) -> Result<(), StoreError> {
        self.store.retain(now).await
    }
    async fn stats(&self) -> Result<StoreStats, StoreError> {
        self.store.stats().await
    }
}

fn config(dir: &TempDir) -> EmbeddedConfig {
    EmbeddedConfig { path: dir.path().to_owned(), ..EmbeddedConfig::default() }
}

/// Seals all the time, into partitions of ten minutes.
fn eager(dir: &TempDir) -> EmbeddedConfig {
    EmbeddedConfig { memory_bytes: 1 << 14, partition: Duration::from_secs(600), ..config(dir) }
}

fn open(config: &EmbeddedConfig) -> EmbeddedStore {
    EmbeddedStore::open(config.clone()).unwrap()
}

const ALL: TimeRange = TimeRange { from: Timestamp::MIN, to: Timestamp::MAX };

async fn contents(store: &impl Store) -> Vec<(String, Vec<(i64, u64)>)> {
    let found = store.select(&[], ALL, usize::MAX).await.unwrap();
    let points = |samples: Vec<Sample>| samples.iter().map(|s| (s.at.as_millis(), s.value.to_bits())).collect();
    found.into_iter().map(|series| (series.labels.to_string(), points(series.samples))).collect()
}

/// Appends, waiting while the store is busy.
async fn append(store: &impl Store, batch: &Batch) -> Appended {
    loop {
        match store.append(batch.clone()).await {
            Err(StoreError::Busy) => tokio::time::sleep(Duration::from_millis(1)).await,
            answer => return answer.unwrap(),
        }
    }
}

/// Waits until nothing is being sealed.
async fn settled(store: &EmbeddedStore) {
    while store.shared.read().frozen.is_some() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn the_embedded_store_keeps_the_laws_of_stores() {
    laws::store(async || {
        let dir = TempDir::new().unwrap();
        Scratch { store: open(&config(&dir)), _dir: dir }
    })
    .await;
}

fn scrape(round: i64, series: i64) -> Batch {
    let labels = |i: i64| Labels::metric("cpu_seconds_total").with("cpu", &i.to_string()).with("instance", "a:9100");
    let sample = |i| Sample { at: Timestamp::from_millis(round * 15_000 + i % 3), value: (round * i) as f64 * 0.25 };
    (0..series).map(|i| SeriesSamples { labels: labels(i), samples: vec![sample(i)] }).collect()
}

#[tokio::test]
async fn what_was_acknowledged_is_there_after_a_restart_sealed_or_not() {
    let dir = TempDir::new().unwrap();
    let oracle = MemoryStore::default();
    for restart in 0..6 {
        let store = open(&eager(&dir));
        assert_eq!(contents(&store).await, contents(&oracle).await, "after restart {restart}");
        for round in 0..60 {
            let batch = scrape(restart * 60 + round, 40);
            assert_eq!(append(&store, &batch).await, oracle.append(batch).await.unwrap());
        }
        assert_eq!(contents(&store).await, contents(&oracle).await);
    }
    let store = open(&eager(&dir));
    assert_eq!(append(&store, &scrape(3, 40)).await.repeated, 40);
    let stats = store.stats().await.unwrap();
    assert_eq!((stats.samples, stats.span), (6 * 60 * 40, oracle.stats().await.unwrap().span));
    assert!(!store.shared.read().blocks.is_empty(), "nothing was sealed");
    assert_eq!(store.damage(), Vec::<String>::new());
}

#[tokio::test]
async fn a_second_process_is_refused_with_a_clear_word() {
    let dir = TempDir::new().unwrap();
    let _first = open(&config(&dir));
    let second = EmbeddedStore::open(config(&dir)).unwrap_err();
    assert!(matches!(second, OpenError::Locked { .. }));
    assert!(second.to_string().contains("in use by another process"), "{second}");
}

#[tokio::test]
async fn series_without_samples_left_are_forgotten_and_their_partitions_deleted() {
    let dir = TempDir::new().unwrap();
    let config = EmbeddedConfig { retention: Duration::from_secs(3600), ..eager(&dir) };
    let store = open(&config);
    for round in 0..400 {
        append(&store, &scrape(round, 20)).await;
    }
    settled(&store).await;
    store.retain(Timestamp::from_secs(400 * 15)).await.unwrap();
    let oldest = contents(&store).await.iter().flat_map(|(_, points)| points[0].0.checked_div(1000)).min().unwrap();
    assert_eq!(oldest, 2400, "an hour and up to one partition stays");
    let refused = append(&store, &scrape(5, 1)).await.refused;
    assert_eq!(refused.len(), 1, "what is beyond the retention does not come back");
    store.retain(Timestamp::from_secs(1_000_000)).await.unwrap();
    settled(&store).await;
    assert_eq!(contents(&store).await, []);
    let left = store.shared.read().blocks.len();
    assert_eq!(left, 0);
}

#[tokio::test]
async fn above_its_size_the_store_drops_its_oldest_partitions() {
    let dir = TempDir::new().unwrap();
    let store = open(&EmbeddedConfig { max_bytes: 60_000, ..eager(&dir) });
    for round in 0..2000 {
        append(&store, &scrape(round, 20)).await;
        if round % 100 == 99 {
            settled(&store).await;
            store.retain(Timestamp::from_secs(0)).await.unwrap();
        }
    }
    let stats = store.stats().await.unwrap();
    assert!(stats.bytes < 200_000, "{} bytes", stats.bytes);
    assert_eq!(stats.span.unwrap().to.as_millis() / 1000, 1999 * 15);
}

#[derive(Clone, Debug)]
enum Step {
    Append(Vec<(u8, i64, u64)>),
    Reopen,
    Ask(i64, i64),
}

fn any_step() -> impl Strategy<Value = Step> {
    let value = prop_oneof![
        (0..5u32).prop_map(|v| f64::from(v).to_bits()),
        any::<u64>(),
        Just(stale_marker().to_bits()),
        Just(f64::NAN.to_bits())
    ];
    let sample = (0u8..6, 0i64..20_000, value);
    prop_oneof![
        8 => prop::collection::vec(sample, 1..60).prop_map(Step::Append),
        1 => Just(Step::Reopen),
        2 => (0i64..20_000, 0i64..20_000).prop_map(|(a, b)| Step::Ask(a, b)),
    ]
}

fn batch_of(samples: &[(u8, i64, u64)], drift: i64) -> Batch {
    let series = |(series, at, bits): &(u8, i64, u64)| SeriesSamples {
        labels: Labels::metric("m").with("series", &series.to_string()),
        samples: vec![Sample { at: Timestamp::from_millis((drift + at) * 1000), value: f64::from_bits(*bits) }],
    };
    samples.iter().map(series).collect()
}

fn sorted(mut appended: Appended) -> Appended {
    appended.refused.sort();
    appended
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    #[test]
    fn whatever_is_done_to_it_the_store_answers_as_the_oracle(steps in prop::collection::vec(any_step(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let dir = TempDir::new().unwrap();
            let (mut store, oracle) = (open(&eager(&dir)), MemoryStore::default());
            for (drift, step) in (0i64..).zip(steps) {
                match step {
                    Step::Append(samples) => {
                        let batch = batch_of(&samples, drift * 300);
                        let (ours, theirs) = (append(&store, &batch).await, oracle.append(batch).await.unwrap());
                        // Which of two values at one time comes first is the same in both.
                        prop_assert_eq!(sorted(ours), sorted(theirs));
                    }
                    Step::Reopen => {
                        drop(store);
                        store = open(&eager(&dir));
                    }
                    Step::Ask(a, b) => {
                        let secs = |s: i64| Timestamp::from_secs(s + drift * 200);
                        let range = TimeRange { from: secs(a.min(b)), to: secs(a.max(b)) };
                        let (ours, theirs) = (store.select(&[], range, usize::MAX).await, oracle.select(&[], range, usize::MAX).await);
                        prop_assert_eq!(format!("{:?}", ours.unwrap()), format!("{:?}", theirs.unwrap()));
                    }
                }
            }
            prop_assert_eq!(contents(&store).await, contents(&oracle).await);
            Ok(())
        })?;
    }
}
