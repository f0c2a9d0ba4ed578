//! The demo: recorded data through the whole of Bellwether, on a replay clock.
//!
//! Samples enter by remote write over loopback, as Prometheus would send them; the pipeline ticks on the replay's clock;
//! only the fleets that follow the decisions are simulated.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use bellwether_collector::ingest::Clock;
use bellwether_collector::remote_write;
use bellwether_collector::source::scrape::Targets;
use bellwether_collector::store::{Batch, SeriesSamples};
use bellwether_models::incident::Incident;
use bellwether_models::outlook::Snapshot;
use bellwether_models::series::{Labels, Sample, Timestamp};
use bellwether_scheduler::service::View;
use tokio::sync::watch;

use crate::api::{self, Faces, Loaded};
use crate::config::{Config, all_faults};
use crate::pipeline::Pipeline;
use crate::server::Server;
use crate::telemetry;
use fleet::{Account, Fleet};
use recording::Recording;
use story::Story;

mod fleet;
mod recording;
mod story;

const CONFIG: &str = include_str!("../demo/bellwether.yaml");
/// The workload whose replicas are simulated.
const SHOP: &str = "shop";
/// How much of the recording is replayed round by round: the last morning's ramp. What lies before it is history.
const LIVE: Duration = Duration::from_secs(4 * 3600 + 900);
/// Samples in one remote-write request.
const REQUEST_SAMPLES: usize = 5000;

/// How the demo is run.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Where the page is served; a free port when it is taken and was not asked for.
    pub listen: Option<SocketAddr>,
    /// Whether to end after the story.
    pub exit: bool,
}

/// Replays the recording and tells its story on standard output.
///
/// # Errors
/// When a part cannot start, or the pipeline refuses what it should take.
pub async fn run(options: Options) -> anyhow::Result<()> {
    telemetry::install_cryptography();
    telemetry::metrics();
    let began = Instant::now();
    let recording = Recording::load()?;
    let folder = tempfile::Builder::new().prefix("bellwether-demo-").tempdir().context("could not make a folder")?;
    let mut config = Config::parse(Path::new("demo/bellwether.yaml"), CONFIG).map_err(all_faults)?;
    config.store.embedded.path = folder.path().join("data");
    let mut replay = Replay::start(recording, config, options.listen).await?;
    replay.play(began).await?;
    if !options.exit {
        replay.story.stays_up();
        tokio::signal::ctrl_c().await?;
    }
    replay.server.shutdown().await;
    Ok(())
}

/// A recording on its way through the pipeline.
struct Replay {
    recording: Recording,
    config: Arc<Config>,
    now: Arc<AtomicI64>,
    pipeline: Pipeline,
    ready: watch::Sender<bool>,
    server: Server,
    sender: reqwest::Client,
    story: Story,
}

impl Replay {
    async fn start(recording: Recording, config: Config, listen: Option<SocketAddr>) -> anyhow::Result<Self> {
        let listener = match listen {
            Some(address) => Server::bind(address).await?,
            None => match Server::bind(config.server.listen).await {
                Ok(listener) => listener,
                Err(_) => Server::bind(SocketAddr::from((config.server.listen.ip(), 0))).await?,
            },
        };
        let now = Arc::new(AtomicI64::new(recording.span().0.as_millis()));
        let replay_time = now.clone();
        let clock: Clock = Arc::new(move || Timestamp::from_millis(replay_time.load(Ordering::Relaxed)));
        let pipeline = Pipeline::open(&config, clock.clone()).await?;
        let (ready, is_ready) = watch::channel(false);
        let config = Arc::new(config);
        let faces = Faces {
            engine: pipeline.engine.clone(),
            snapshots: pipeline.snapshots(),
            scheduler: pipeline.scheduler(),
            config: watch::channel(config.clone()).1,
            loaded: watch::channel(Loaded { at: clock(), successful: true }).1,
            targets: Arc::new(Targets::default),
            ready: is_ready,
            reloads: None,
            clock,
            banner: Some("replay of recorded data".to_owned()),
        };
        let server = Server::start(listener, api::router(&pipeline, faces, &config)?, config.server.patience())?;
        let sender = reqwest::Client::builder().no_proxy().build()?;
        let story = Story::new(server.address);
        Ok(Self { recording, config, now, pipeline, ready, server, sender, story })
    }

    async fn play(&mut self, began: Instant) -> anyhow::Result<()> {
        let (first, last) = self.recording.span();
        let live_from = last - LIVE;
        self.story.opens(&self.recording, live_from, last);
        self.send_history(first - Duration::from_millis(1), live_from).await?;
        self.ready.send_replace(true);
        self.live(live_from, last).await?;
        self.story.ends(began.elapsed());
        Ok(())
    }

    async fn send_history(&mut self, from: Timestamp, to: Timestamp) -> anyhow::Result<()> {
        self.set_clock(to);
        let began = Instant::now();
        let batch = self.recording.between(from, to);
        let samples = self.send(batch).await?;
        self.story.history_is_in(samples, to.since(from), began.elapsed());
        Ok(())
    }

    /// Minute by minute: what was recorded goes in, the pipeline looks, the fleets follow.
    async fn live(&mut self, from: Timestamp, to: Timestamp) -> anyhow::Result<()> {
        let cadence = self.config.cadence.duration();
        let scale = self.config.workloads.iter().find(|w| w.name == SHOP).and_then(|w| w.scale.clone());
        let scale = scale.with_context(|| format!("demo/bellwether.yaml does not scale {SHOP:?}"))?;
        let per_replica = scale.capacity_per_replica.map_or(1.0, |capacity| capacity.value());
        let mut fleets = Fleets::new(&self.recording, from, per_replica, scale.startup);
        let rounds = to.since(from).as_millis() / cadence.as_millis();
        self.story.replay_begins(rounds as u64);
        let mut now = from;
        while now < to {
            let until = now + cadence;
            self.set_clock(until);
            let mut batch = self.recording.between(now, until);
            batch.push(gauge("replicas_ready", until, f64::from(fleets.ours.ready(until))));
            self.send(batch).await?;
            let (snapshot, view) = self.pipeline.tick(until).await;
            fleets.follow(&snapshot, &view, until, cadence);
            self.story.round(&snapshot, &view, &fleets, until);
            now = until;
        }
        self.story.replay_ended(&fleets, self.recording.injected_at);
        Ok(())
    }

    fn set_clock(&self, now: Timestamp) {
        self.now.store(now.as_millis(), Ordering::Relaxed);
    }

    /// Remote-writes a batch to our own server and returns how many samples it took.
    async fn send(&self, batch: Batch) -> anyhow::Result<usize> {
        let mut sent = 0;
        for series in batch {
            for samples in series.samples.chunks(REQUEST_SAMPLES) {
                let part = vec![SeriesSamples { labels: series.labels.clone(), samples: samples.to_vec() }];
                sent += samples.len();
                self.post(remote_write::encode(&part)?).await?;
            }
        }
        Ok(sent)
    }

    async fn post(&self, body: Vec<u8>) -> anyhow::Result<()> {
        let url = format!("http://{}/api/v1/write", self.server.address);
        let request = self.sender.post(&url).header("Content-Type", "application/x-protobuf");
        let request = request.header("Content-Encoding", "snappy").body(body);
        let answer = request.send().await.with_context(|| format!("could not write to {url}"))?;
        let status = answer.status();
        ensure!(status.is_success(), "{url} answered {status}: {}", answer.text().await.unwrap_or_default());
        Ok(())
    }
}

fn gauge(name: &str, at: Timestamp, value: f64) -> SeriesSamples {
    SeriesSamples { labels: Labels::metric(name).with("service", SHOP), samples: vec![Sample { at, value }] }
}

/// The fleet that follows our decisions beside the one a reactive autoscaler would run.
struct Fleets {
    ours: Fleet,
    reactive: Fleet,
    our_account: Account,
    reactive_account: Account,
    per_replica: f64,
    demand: f64,
}

impl Fleets {
    fn new(recording: &Recording, from: Timestamp, per_replica: f64, startup: Duration) -> Self {
        let shop = recording.between(from - Duration::from_secs(60), from).into_iter().find_map(|series| {
            (series.labels.get("service") == Some(SHOP)).then(|| series.samples.last().map(|sample| sample.value))?
        });
        let demand = shop.unwrap_or(0.0);
        let enough = Fleet::new((demand / per_replica).ceil().max(1.0) as u32 + 1, startup);
        Self {
            ours: enough.clone(),
            reactive: enough,
            our_account: Account::default(),
            reactive_account: Account::default(),
            per_replica,
            demand,
        }
    }

    fn follow(&mut self, snapshot: &Snapshot, view: &View, now: Timestamp, cadence: Duration) {
        let shop = snapshot.workloads.iter().find(|outlook| outlook.workload == SHOP);
        self.demand = shop.and_then(|outlook| outlook.demand).map_or(self.demand, |seen| seen.value);
        if let Some(decision) = view.plan.of(SHOP) {
            decision.to.into_iter().for_each(|wanted| self.ours.order(wanted, now));
            decision.reactive.into_iter().for_each(|wanted| self.reactive.order(wanted, now));
        }
        self.our_account.add(&mut self.ours, now, self.demand, self.per_replica, cadence);
        self.reactive_account.add(&mut self.reactive, now, self.demand, self.per_replica, cadence);
    }
}

/// The incident to tell of: an open one with ranked causes.
fn open_incident(snapshot: &Snapshot) -> Option<&Incident> {
    snapshot.incidents.iter().find(|incident| incident.resolved_at.is_none() && !incident.ranking.causes.is_empty())
}
