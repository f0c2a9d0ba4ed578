//! The one shell: reads the store, has it computed, writes back, publishes. It makes no choice of its own.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bellwether_collector::ingest::Ingest;
use bellwether_collector::query::Engine;
use bellwether_collector::store::Batch;
use bellwether_models::cause::Trust;
use bellwether_models::outlook::Snapshot;
use bellwether_models::series::{Labels, Timestamp};
use metrics::counter;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tracing::{info, warn};

use crate::config::Config;
use crate::demand::Demand;
use crate::health::Health;
use crate::pool::Pool;
use crate::registry::Registry;
use crate::registry::retrain::{self, Job, Trainer};
use crate::registry::rules::{self, Move};
use crate::{demand, health, inquiry, publish, read, state};

/// Name under which our own series enter the store.
const ORIGIN: &str = "predictor";
/// Name of the file of what is remembered over a restart.
const STATE_FILE: &str = "predictor.state";
/// Time between two writes of that file.
const SAVE_EVERY: Duration = Duration::from_secs(300);

/// Time between two looks at what others wrote to the registry of models.
const ASK_FOR_MODELS: Duration = Duration::from_secs(30);

/// What is remembered over a restart.
#[derive(Default, Serialize, Deserialize)]
struct Memory {
    health: health::Memory,
    demand: demand::Memory,
}

/// Turns what the store holds into outlooks and incidents, tick by tick.
pub struct Service {
    config: Config,
    engine: Engine,
    ingest: Ingest,
    pool: Pool,
    demand: Demand,
    models: Arc<Registry>,
    /// The change of the registry that was followed last, and when it was asked for news.
    models_seen: Option<u64>,
    models_asked: Option<Timestamp>,
    trainer: Trainer,
    health: Health,
    state_file: Option<PathBuf>,
    saved_at: Option<Timestamp>,
    trust: Trust,
    published: watch::Sender<Arc<Snapshot>>,
}

impl Service {
    /// A predictor over the store behind `engine`, which writes its series through `ingest`.
    ///
    /// What was remembered in `state_dir` is taken up; what is damaged there is left aside with a warning. Without a
    /// folder nothing is remembered.
    #[must_use]
    pub fn new(config: Config, engine: Engine, ingest: Ingest, state_dir: Option<PathBuf>) -> Self {
        let state_file = state_dir.map(|folder| folder.join(STATE_FILE));
        let memory = state_file.as_deref().and_then(recall).unwrap_or_default();
        let mut service = Self {
            config: Config::default(),
            engine,
            ingest,
            pool: Pool::of_this_machine(),
            demand: Demand::recall(memory.demand),
            models: Arc::default(),
            models_seen: None,
            models_asked: None,
            trainer: Trainer::default(),
            health: Health::recall(memory.health),
            state_file,
            saved_at: None,
            trust: Trust::default(),
            published: watch::Sender::default(),
        };
        service.reconfigure(config);
        service
    }

    /// With the models of this registry; without it workloads are forecast by the combination that comes with the program.
    #[must_use]
    pub fn with_models(self, models: Arc<Registry>) -> Self {
        Self { models, models_seen: None, ..self }
    }

    /// The registry of its models.
    #[must_use]
    pub fn models(&self) -> Arc<Registry> {
        Arc::clone(&self.models)
    }

    /// The snapshot of the last tick, and a signal at each new one.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.published.subscribe()
    }

    /// Follows another configuration from the next tick on; what stays the same keeps what it has learnt.
    pub fn reconfigure(&mut self, config: Config) {
        self.demand.reconfigure(&config);
        self.health.reconfigure(&config);
        self.config = config;
        self.models_seen = None;
    }

    /// From the next tick on, confidences are told in the light of people's verdicts on earlier ones.
    pub fn trust(&mut self, trust: Trust) {
        self.trust = trust;
    }

    /// From the next tick on, the bar of these series is so many decades higher: people said that their alarms were false.
    pub fn heed(&mut self, lenient: BTreeMap<Labels, f64>) {
        self.health.heed(lenient);
    }

    /// When the next tick has something to do; `None` when nothing is configured. A tick at any other time is harmless.
    #[must_use]
    pub fn next_wakeup(&self) -> Option<Timestamp> {
        self.demand.next_wakeup().into_iter().chain(self.health.next_wakeup(&self.config.detection)).min()
    }

    /// Looks at everything that is due at `now`, and publishes what is then known.
    ///
    /// Whatever fails is said in the outlook it concerns; the tick itself always ends with a snapshot.
    pub async fn tick(&mut self, now: Timestamp) -> Arc<Snapshot> {
        counter!("bellwether_predictor_ticks_total").increment(1);
        self.follow_models(now).await;
        let news = self.demand.tick(now, &self.engine, &self.pool).await;
        let mut batch: Batch = news.iter().flat_map(publish::forecast_series).collect();
        self.judge_models(now).await;
        self.train_models(now);
        batch.extend(self.health.tick(now, &self.config.detection, &self.engine, &self.pool).await);
        self.write_back(batch).await;
        if self.saved_at.is_none_or(|at| now < at || now.since(at) >= SAVE_EVERY) {
            self.saved_at = Some(now);
            self.save().await;
        }
        let snapshot = Arc::new(self.snapshot(now, self.last_changes(now).await));
        self.published.send_replace(Arc::clone(&snapshot));
        snapshot
    }

    /// Has the models forecast that the registry names now.
    async fn follow_models(&mut self, now: Timestamp) {
        if self.models_asked.is_none_or(|at| now < at || now.since(at) >= ASK_FOR_MODELS) {
            self.models_asked = Some(now);
            if let Err(error) = self.models.refresh().await {
                counter!("bellwether_predictor_model_read_failures_total").increment(1);
                warn!(error = %read::chain(&error), "could not read the registry of models; those known go on serving");
            }
        }
        let seen = self.models.changes();
        if self.models_seen == Some(seen) {
            return;
        }
        let most = self.config.models.max_challengers;
        let lineup = |name: String| (name.clone(), self.models.lineup(&name, most));
        let lineups = self.models.workloads().into_iter().map(lineup).collect();
        self.demand.line_up(lineups, &self.config);
        self.models_seen = Some(seen);
    }

    /// Tells how models do live, and moves those whose record calls for it.
    async fn judge_models(&mut self, now: Timestamp) {
        for workload in self.models.workloads() {
            let live = self.demand.live(&workload);
            for (version, live) in &live {
                publish::live(&workload, *version, live);
            }
            self.models.follow(&workload, live);
            let book = self.models.book(&workload);
            let records = self.demand.records(&workload);
            let Some(Move { order, why }) = rules::decide(&book, &records, &self.config.models, now) else { continue };
            if let Err(error) = self.models.follow_record(&workload, book.champion(), order, &why, now).await {
                counter!("bellwether_predictor_model_move_failures_total").increment(1);
                warn!(workload, error = %read::chain(&error), "could not move the champion; the record calls for it");
            }
        }
    }

    /// Begins the next training that is due, one at a time.
    fn train_models(&mut self, now: Timestamp) {
        let config = &self.config.models;
        let off = config.retrain.every.is_zero() && config.retrain.when_worse_by.is_none();
        if off || !self.trainer.is_free() {
            return;
        }
        let due = self.config.workloads.iter().find_map(|workload| {
            let name = &workload.name;
            let champion = self.models.lineup(name, 0).champion;
            let live = self.models.standing(name).champion.live;
            let (book, tried) = (self.models.book(name), self.trainer.tried(name));
            let bounds = (&config.retrain, config.min_origins, config.window);
            let why = retrain::due(&book, champion.manifest.scores, live, tried, bounds, now)?;
            let (query, forecast) = (workload.demand.clone(), workload.forecast);
            Some(Job { workload: name.clone(), query, forecast, kind: config.retrain.kind, why, champion })
        });
        if let Some(job) = due {
            self.trainer.begin(job, now, self.engine.clone(), Arc::clone(&self.models));
        }
    }

    /// Writes what is to be remembered over a restart; called now and then by [`tick`](Self::tick), and to be called at
    /// the end.
    pub async fn save(&self) {
        let Some(path) = self.state_file.clone() else { return };
        let memory = Memory { health: self.health.memory(), demand: self.demand.memory() };
        let saved = self.pool.run(move || state::save(&path, &memory)).await;
        if let Some(Err(error)) = saved {
            counter!("bellwether_predictor_state_save_failures_total").increment(1);
            warn!(error = %read::chain(&error), "could not remember the predictor's state");
        }
    }

    /// A store that cannot tell what was changed leaves it unknown.
    async fn last_changes(&self, now: Timestamp) -> BTreeMap<String, Timestamp> {
        if self.config.workloads.is_empty() {
            return BTreeMap::new();
        }
        inquiry::last_changes(now, &self.engine).await.unwrap_or_else(|error| {
            counter!("bellwether_predictor_change_read_failures_total").increment(1);
            warn!(error = %read::chain(&error), "could not read what was changed");
            BTreeMap::new()
        })
    }

    fn snapshot(&self, now: Timestamp, mut changed: BTreeMap<String, Timestamp>) -> Snapshot {
        let (mut workloads, backends, quantities) = self.demand.outlooks();
        let mut anomalies = self.health.anomalies();
        for outlook in &mut workloads {
            outlook.anomalies = anomalies.remove(&outlook.workload).unwrap_or_default();
            outlook.running.changed_at = changed.remove(&outlook.workload);
        }
        let mut incidents = self.health.incidents();
        for incident in &mut incidents {
            incident.ranking = self.trust.judge(&incident.ranking);
        }
        let detection = self.health.vigilance().clone();
        let taken_back = self.models.taken_back(now);
        Snapshot { made_at: now, workloads, backends, quantities, incidents, detection, taken_back }
    }

    async fn write_back(&self, batch: Batch) {
        if batch.is_empty() {
            return;
        }
        match self.ingest.append(ORIGIN, batch).await {
            Ok(receipt) => counter!("bellwether_predictor_samples_written_total").increment(receipt.written),
            Err(error) => {
                counter!("bellwether_predictor_write_failures_total").increment(1);
                warn!(error = %read::chain(&error), "could not write forecasts and scores back");
            }
        }
    }
}

fn recall(path: &Path) -> Option<Memory> {
    match state::load(path) {
        Ok(None) => None,
        Ok(Some(memory)) => {
            info!(path = %path.display(), "took up the predictor's state");
            Some(memory)
        }
        Err(error) => {
            warn!(error = %read::chain(&error), "left the predictor's state aside; all is learnt from the store anew");
            None
        }
    }
}
