//! The live system: sources, the pipeline on the wall clock, and the faces.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use bellwether_collector::ingest::wall_clock;
use bellwether_collector::source::host;
use bellwether_collector::source::scrape::ScrapeManager;
use bellwether_scheduler::actuate::external_metrics;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;
use tokio::time::{MissedTickBehavior, interval};
use tracing::{error, info, warn};

use crate::api::{self, Faces, Loaded, Reload};
use crate::config::Config;
use crate::discovery::Discovery;
use crate::front_proxy::{ExternalMetricsConfig, FrontProxyDoor, READ_EVERY};
use crate::pipeline::Pipeline;
use crate::server::Server;
use crate::telemetry;

/// Time between two looks at the store's retention.
const RETENTION_INTERVAL: Duration = Duration::from_secs(60);

/// Runs until the process is told to stop (SIGINT or SIGTERM). SIGHUP and `POST /-/reload` read the file again.
///
/// # Errors
/// When a part cannot start; what it names stands in the way.
pub async fn run(path: PathBuf, config: Config, listen: Option<SocketAddr>) -> anyhow::Result<()> {
    telemetry::install_cryptography();
    telemetry::metrics();
    let mut system = System::start(path, config, listen).await?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let mut ticks = interval(system.cadence());
    let mut retention = interval(RETENTION_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    retention.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            _ = ticks.tick() => system.tick().await,
            _ = retention.tick() => system.retain().await,
            Some(Reload(answer)) = system.reloads.recv() => {
                // The asker may have gone; the reload stands all the same.
                let _ = answer.send(system.reload().await);
                ticks = interval(system.cadence());
            }
            () = news(&mut system.discovery) => system.discover(),
            _ = hangup.recv() => {
                let _ = system.reload().await;
                ticks = interval(system.cadence());
            }
            _ = interrupt.recv() => break,
            _ = terminate.recv() => break,
        }
    }
    info!("stopping");
    system.shutdown().await;
    Ok(())
}

/// All parts of a live system.
struct System {
    path: PathBuf,
    pipeline: Pipeline,
    scraper: Arc<ScrapeManager>,
    host: AbortHandle,
    /// What was read, and what is in force: with the workloads that were found.
    written: Config,
    config: watch::Sender<Arc<Config>>,
    discovery: Option<Discovery>,
    loaded: watch::Sender<Loaded>,
    ready: watch::Sender<bool>,
    reloads: mpsc::Receiver<Reload>,
    server: Server,
    metrics_api: Option<FrontProxyDoor>,
}

impl System {
    async fn start(path: PathBuf, config: Config, listen: Option<SocketAddr>) -> anyhow::Result<Self> {
        let listener = Server::bind(listen.unwrap_or(config.server.listen)).await?;
        let mut discovery = Discovery::start(&config.kubernetes).await?;
        let written = config.clone();
        // What is no workload when the parts open is forgotten: those of the cluster must be among them.
        let config = match &mut discovery {
            Some(discovery) => discovery.begin(&written).await,
            None => config,
        };
        let pipeline = Pipeline::open(&config, wall_clock()).await?;
        let scraper = ScrapeManager::start(&config.scrape_configs, pipeline.ingest.clone());
        let scraper = Arc::new(scraper.context("could not start scraping")?);
        let mut watched = config.host.clone();
        watched.enabled &= config.store.refuses_others().is_none();
        let host = tokio::spawn(host::run(watched, pipeline.ingest.clone())).abort_handle();
        let (asks, reloads) = mpsc::channel(1);
        let (ready, is_ready) = watch::channel(false);
        let config = Arc::new(config);
        let (in_force, seen) = watch::channel(config.clone());
        let (loaded, was_loaded) = watch::channel(Loaded { at: wall_clock()(), successful: true });
        let targets = scraper.clone();
        let faces = Faces {
            engine: pipeline.engine.clone(),
            snapshots: pipeline.snapshots(),
            scheduler: pipeline.scheduler(),
            config: seen,
            loaded: was_loaded,
            targets: Arc::new(move || targets.all_targets()),
            ready: is_ready,
            reloads: Some(asks),
            clock: wall_clock(),
            banner: None,
        };
        let metrics_api = match &config.external_metrics {
            Some(door) => Some(open_metrics_api(door, &pipeline).await?),
            None => None,
        };
        let server = Server::start(listener, api::router(&pipeline, faces, &config)?, config.server.patience())?;
        info!(address = %server.address, config = %path.display(), "listening");
        let config = in_force;
        Ok(Self {
            path,
            pipeline,
            scraper,
            host,
            written,
            config,
            discovery,
            loaded,
            ready,
            reloads,
            server,
            metrics_api,
        })
    }

    fn cadence(&self) -> Duration {
        self.config.borrow().cadence.duration()
    }

    async fn tick(&mut self) {
        let now = wall_clock()();
        let tasks = tokio::runtime::Handle::current().metrics().num_alive_tasks();
        metrics::gauge!("bellwether_runtime_tasks").set(tasks as f64);
        self.pipeline.tick(now).await;
        let takes_samples = self.pipeline.takes_samples(now).await;
        self.ready.send_if_modified(|ready| std::mem::replace(ready, takes_samples) != takes_samples);
    }

    async fn retain(&self) {
        if let Err(error) = self.pipeline.store.retain(wall_clock()()).await {
            warn!(error = &error as &dyn std::error::Error, "retention did not run");
        }
    }

    /// Reads the file again. A bad one changes nothing.
    async fn reload(&mut self) -> Result<(), String> {
        let outcome = self.try_reload().await.map_err(|error| format!("{error:#}"));
        match &outcome {
            Ok(()) => info!(config = %self.path.display(), "reloaded"),
            Err(fault) => error!(%fault, "could not reload; the configuration in force stays"),
        }
        self.loaded.send_modify(|loaded| {
            loaded.successful = outcome.is_ok();
            loaded.at = if loaded.successful { wall_clock()() } else { loaded.at };
        });
        metrics::gauge!("bellwether_config_last_reload_successful").set(f64::from(u8::from(outcome.is_ok())));
        outcome
    }

    async fn try_reload(&mut self) -> anyhow::Result<()> {
        let config = Config::load(&self.path).map_err(crate::config::all_faults)?;
        let restart = self.config.borrow().needs_restart(&config);
        anyhow::ensure!(restart.is_empty(), "changed {}: that needs a restart", restart.join(", "));
        let complete = self.completed(&config);
        self.pipeline.reconfigure(&complete)?;
        self.scraper.reload(&config.scrape_configs).await.context("could not change the scrapes")?;
        self.config.send_replace(Arc::new(complete));
        self.written = config;
        Ok(())
    }

    /// Takes on the workloads that were found.
    fn discover(&mut self) {
        let written = self.written.clone();
        let complete = self.completed(&written);
        if complete == **self.config.borrow() {
            return;
        }
        match self.pipeline.reconfigure(&complete) {
            Ok(()) => drop(self.config.send_replace(Arc::new(complete))),
            Err(error) => error!(fault = format!("{error:#}"), "could not take on the workloads that were found"),
        }
    }

    fn completed(&mut self, written: &Config) -> Config {
        self.discovery.as_mut().map_or_else(|| written.clone(), |discovery| discovery.complete(written))
    }

    async fn shutdown(mut self) {
        self.ready.send_replace(false);
        self.server.shutdown().await;
        if let Some(door) = self.metrics_api {
            door.shutdown().await;
        }
        self.host.abort();
        self.pipeline.save().await;
        self.scraper.shutdown().await;
    }
}

/// Returns when other annotated objects have been found.
async fn news(discovery: &mut Option<Discovery>) {
    match discovery {
        Some(discovery) => discovery.changed().await,
        None => std::future::pending().await,
    }
}

async fn open_metrics_api(config: &ExternalMetricsConfig, pipeline: &Pipeline) -> anyhow::Result<FrontProxyDoor> {
    let routes = external_metrics::router(pipeline.offers());
    let door = FrontProxyDoor::open(config, routes, READ_EVERY).await?;
    info!(address = %door.address, "external metrics are answered");
    Ok(door)
}
