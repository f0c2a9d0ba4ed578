//! The whole system on a simulated clock: store, door, questions, foresight, decisions. Tests say what is observed and
//! let time pass.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use bellwether::config::Config;
use bellwether::pipeline::Pipeline;
use bellwether_collector::ingest::Clock;
use bellwether_collector::query::Value;
use bellwether_collector::store::{Batch, SeriesSamples};
use bellwether_models::outlook::Snapshot;
use bellwether_models::series::{Labels, Sample, Timestamp};
use bellwether_scheduler::service::View;
use tempfile::TempDir;

/// A running system that knows no other time than the one it is told.
pub struct World {
    now: Arc<AtomicI64>,
    pub pipeline: Pipeline,
    _folder: TempDir,
}

impl World {
    /// An empty store and nothing learnt, at `now`.
    pub async fn begin(now: Timestamp, mut config: Config) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        config.store.embedded.path = folder.path().join("data");
        let now = Arc::new(AtomicI64::new(now.as_millis()));
        let pipeline = Pipeline::open(&config, clock(&now)).await.expect("a pipeline");
        Self { now, pipeline, _folder: folder }
    }

    /// The clock that tells the time of this world.
    pub fn clock(&self) -> Clock {
        clock(&self.now)
    }

    /// What was observed until `now` comes in.
    pub async fn observe(&self, now: Timestamp, batch: Batch) {
        self.now.store(now.as_millis(), Ordering::Relaxed);
        let receipt = self.pipeline.ingest.append("recording", batch).await.expect("the store takes it");
        assert_eq!(receipt.refused(), 0, "{:?}", receipt.examples);
    }

    /// Looks, foresees, decides.
    pub async fn tick(&mut self) -> (Arc<Snapshot>, Arc<View>) {
        self.pipeline.tick(self.now()).await
    }

    /// Waits until notices under way have been answered.
    pub async fn settle(&mut self) {
        self.pipeline.settle().await;
    }

    /// The time it was told last.
    pub fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.now.load(Ordering::Relaxed))
    }

    /// The values that a query gives now.
    pub async fn ask(&self, query: &str) -> Vec<f64> {
        match self.pipeline.engine.instant(query, self.now()).await.expect("a query") {
            Value::Scalar(value) => vec![value],
            Value::Vector(found) => found.into_iter().map(|sample| sample.value).collect(),
            other => panic!("{query} gives {other:?}"),
        }
    }
}

fn clock(now: &Arc<AtomicI64>) -> Clock {
    let now = now.clone();
    Arc::new(move || Timestamp::from_millis(now.load(Ordering::Relaxed)))
}

/// A recorded table as series: every column under the labels that `name` gives it; gaps are left out.
pub fn recorded(file: &str, name: impl Fn(&str) -> Labels) -> Vec<SeriesSamples> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("demo/data").join(file);
    let table = bellwether::table::read(&path).expect("a recording");
    let samples = |values: &[f64]| {
        let rows = table.times.iter().zip(values).filter(|(_, value)| value.is_finite());
        rows.map(|(at, value)| Sample { at: *at, value: *value }).collect()
    };
    let columns = table.names.iter().zip(&table.columns);
    columns.map(|(column, values)| SeriesSamples { labels: name(column), samples: samples(values) }).collect()
}

/// The samples after `from`, up to and including `to`.
pub fn between(series: &[SeriesSamples], from: Timestamp, to: Timestamp) -> Batch {
    let part = |s: &SeriesSamples| SeriesSamples {
        labels: s.labels.clone(),
        samples: s.samples.iter().copied().filter(|sample| sample.at > from && sample.at <= to).collect(),
    };
    series.iter().map(part).filter(|s| !s.samples.is_empty()).collect()
}
