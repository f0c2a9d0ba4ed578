//! The whole data flow on one screen: store, door, questions, foresight, decisions.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use async_trait::async_trait;
use bellwether_collector::ingest::{Clock, Ingest};
use bellwether_collector::query::Engine;
use bellwether_collector::store::{SeriesSamples, SharedStore};
use bellwether_models::incident::leniency;
use bellwether_models::outlook::Snapshot;
use bellwether_models::series::{Labels, Sample, Timestamp};
use bellwether_predictor::config::{ModelsConfig, S3Config};
use bellwether_predictor::read::chain;
use bellwether_predictor::registry::Registry;
use bellwether_predictor::registry::seal::Trust;
use bellwether_predictor::registry::storage::{Folder, Memory, Storage};
use bellwether_scheduler::actuate::offer::Offers;
use bellwether_scheduler::actuate::{SeriesSink, SinkError};
use bellwether_scheduler::service::View;
use tokio::sync::watch;
use tracing::warn;

use crate::config::Config;

/// Under which origin our own decisions enter the store.
const ORIGIN: &str = "scheduler";
/// One sample each round: proof that the store takes samples.
const HEARTBEAT: &str = "bellwether_heartbeat";

/// Longest time a store on a server may take to say that it is there.
const CHECK_TIMEOUT: Duration = Duration::from_secs(5);

/// Everything that turns samples into decisions. Whoever owns it says what time it is.
pub struct Pipeline {
    /// The samples.
    pub store: SharedStore,
    /// The one door for samples.
    pub ingest: Ingest,
    /// Answers to PromQL.
    pub engine: Engine,
    predictor: bellwether_predictor::Service,
    scheduler: bellwether_scheduler::Service,
}

impl Pipeline {
    /// Opens the store and starts each part where it left off. `clock` tells the door what "too far ahead" means.
    ///
    /// # Errors
    /// When the store or a part's state cannot be opened.
    pub async fn open(config: &Config, clock: Clock) -> anyhow::Result<Self> {
        let state = config.store.folder().join("state");
        let store = config.store.open().await?;
        std::fs::create_dir_all(&state).with_context(|| format!("could not create {}", state.display()))?;
        let pipeline = Self::over(store, config, clock, Some(&state)).await?;
        // A server may hold series that never came through our door.
        if !config.store.is_elsewhere()
            && let Err(error) = pipeline.ingest.restore().await
        {
            warn!(error = &error as &dyn std::error::Error, "which series were active is not known; limits count anew");
        }
        Ok(pipeline)
    }

    /// As [`Pipeline::open`], over a store that is open already.
    ///
    /// # Errors
    /// When a part's state cannot be opened.
    pub async fn over(store: SharedStore, config: &Config, clock: Clock, state: Option<&Path>) -> anyhow::Result<Self> {
        let ingest = Ingest::with_clock(store.clone(), config.ingest.clone(), clock);
        let engine = Engine::new(store.clone(), config.query.clone());
        let state = state.map(Path::to_owned);
        let models = models(&config.models, state.as_deref())?;
        if let Err(error) = models.refresh().await {
            warn!(error = %chain(&error), "the registry of models cannot be read yet; what comes with the program serves");
        }
        let predictor =
            bellwether_predictor::Service::new(config.predictor(), engine.clone(), ingest.clone(), state.clone());
        let predictor = predictor.with_models(models);
        let sink = Arc::new(IntoStore(ingest.clone()));
        let scheduler = bellwether_scheduler::Service::new(config.scheduler(), sink, state);
        let scheduler = scheduler.await.context("could not start the scheduler")?;
        let scheduler = join_cluster(scheduler, config).await?;
        Ok(Self { store, ingest, engine, predictor, scheduler })
    }

    /// One round: look, foresee, decide, act. `now` is the wall clock's time, or a replay's.
    pub async fn tick(&mut self, now: Timestamp) -> (Arc<Snapshot>, Arc<View>) {
        let handle = self.scheduler.handle();
        self.predictor.trust(handle.trust());
        let past = handle.past();
        self.predictor.heed(leniency(&handle.people(), past.iter().map(AsRef::as_ref)));
        self.ingest.publish();
        let snapshot = self.predictor.tick(now).await;
        let view = self.scheduler.tick(now, &snapshot).await;
        (snapshot, view)
    }

    /// Whether the store takes samples and answers: writes one, waits until it is durable, and asks.
    pub async fn takes_samples(&self, now: Timestamp) -> bool {
        let beat = SeriesSamples { labels: Labels::metric(HEARTBEAT), samples: vec![Sample { at: now, value: 1.0 }] };
        let answers = tokio::time::timeout(CHECK_TIMEOUT, self.store.check());
        self.ingest.append(ORIGIN, vec![beat]).await.is_ok() && answers.await.is_ok_and(|answer| answer.is_ok())
    }

    /// Keeps what has been learnt, for the next start, and lets notices under way arrive.
    pub async fn save(&mut self) {
        self.predictor.save().await;
        self.settle().await;
    }

    /// Waits until notices under way have been answered, for ten seconds at most.
    pub async fn settle(&mut self) {
        self.scheduler.settle().await;
    }

    /// The newest snapshot, and a signal at each new one.
    #[must_use]
    pub fn snapshots(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.predictor.subscribe()
    }

    /// The registry of models.
    #[must_use]
    pub fn models(&self) -> Arc<Registry> {
        self.predictor.models()
    }

    /// Questions and orders for the scheduler.
    #[must_use]
    pub fn scheduler(&self) -> bellwether_scheduler::Handle {
        self.scheduler.handle()
    }

    /// What those are answered who ask for replicas rather than being told.
    #[must_use]
    pub fn offers(&self) -> watch::Receiver<Offers> {
        self.scheduler.offers()
    }

    /// Follows another configuration; what stays the same keeps what it has learnt.
    ///
    /// # Errors
    /// When the scheduler refuses it; then nothing has changed.
    pub fn reconfigure(&mut self, config: &Config) -> anyhow::Result<()> {
        self.scheduler.reconfigure(config.scheduler())?;
        self.ingest.reconfigure(config.ingest.clone());
        self.predictor.reconfigure(config.predictor());
        Ok(())
    }
}

/// Opens the registry of models: in its own folder, or beside what else is learnt, or where nothing is kept in memory.
///
/// # Errors
/// When a key that is to be trusted cannot be read.
pub fn models(config: &ModelsConfig, state: Option<&Path>) -> anyhow::Result<Arc<Registry>> {
    let trust = Trust::read(&config.trusted_keys, config.require_signature).context("models.trusted_keys")?;
    if let Some(s3) = &config.s3 {
        return Ok(Arc::new(Registry::new(bucket(s3)?, trust)));
    }
    let folder = config.directory.clone().or_else(|| state.map(|state| state.join("models")));
    let storage = match folder {
        Some(folder) => Arc::new(Folder(folder)) as Arc<dyn Storage>,
        None => Arc::new(Memory::default()),
    };
    Ok(Arc::new(Registry::new(storage, trust)))
}

#[cfg(feature = "s3")]
fn bucket(config: &S3Config) -> anyhow::Result<Arc<dyn Storage>> {
    Ok(Arc::new(bellwether_predictor::registry::bucket::Bucket::open(config)?))
}

#[cfg(not(feature = "s3"))]
fn bucket(_config: &S3Config) -> anyhow::Result<Arc<dyn Storage>> {
    anyhow::bail!("models.s3 is set, but this program was built without the feature `s3`")
}

#[cfg(feature = "kubernetes")]
async fn join_cluster(
    mut scheduler: bellwether_scheduler::Service,
    config: &Config,
) -> anyhow::Result<bellwether_scheduler::Service> {
    if config.needs_cluster() {
        let client = bellwether_collector::kubernetes::client(&config.kubernetes.access()).await;
        let client = client.context("no client of the cluster that `kubernetes` names can be made")?;
        scheduler.join(client, config.kubernetes.lease.as_ref()).context("could not start the scheduler")?;
    }
    Ok(scheduler)
}

#[cfg(not(feature = "kubernetes"))]
async fn join_cluster(
    scheduler: bellwether_scheduler::Service,
    config: &Config,
) -> anyhow::Result<bellwether_scheduler::Service> {
    anyhow::ensure!(!config.needs_cluster(), "this build has no feature kubernetes");
    Ok(scheduler)
}

/// Decisions become samples: the single way back.
struct IntoStore(Ingest);

#[async_trait]
impl SeriesSink for IntoStore {
    async fn write(&self, at: Timestamp, values: Vec<(Labels, f64)>) -> Result<(), SinkError> {
        let sample = |(labels, value)| SeriesSamples { labels, samples: vec![Sample { at, value }] };
        let batch = values.into_iter().map(sample).collect();
        self.0.append(ORIGIN, batch).await.map(drop).map_err(|error| SinkError(Box::new(error)))
    }
}
