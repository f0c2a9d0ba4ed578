//! Scrapes targets as Prometheus does: same configuration, same series, same ends of series.
//!
//! [`ScrapeManager`] runs one task per job, which finds its targets again and again, and one per target, which fetches,
//! reads and appends. What a scrape means is decided by pure code: `target` (what to ask), `timing` (when), `known`
//! (which series begin and end).

use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bellwether_models::series::{Labels, Timestamp};
use metrics::counter;
use serde::Serialize;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tracing::warn;

use crate::ingest::Ingest;
use crate::metadata::Described;
use crate::store::Batch;

pub mod config;
mod discovery;
mod failure;
mod fetch;
#[cfg(feature = "kubernetes")]
mod kubernetes;
#[cfg(not(feature = "kubernetes"))]
mod kubernetes {
    pub mod config;
}
mod known;
mod target;
mod timing;

pub use config::{ScrapeConfig, ScrapeConfigError, check};
pub use kubernetes::config::{AttachMetadata, KubernetesSdConfig, Namespaces, Role, RoleSelector};

use config::Job;
use discovery::Discovery;
use failure::ScrapeFailure;
use fetch::Fetcher;
use known::{Absorbed, Known, Report};
use target::{Found, Key, Target};

/// Longest time between two looks at the target files.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// How long the end of a series is held when the store does not take it.
const PATIENCE_AT_THE_END: Duration = Duration::from_secs(1);

/// Whether a target answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    /// Not scraped yet.
    #[default]
    Unknown,
    /// The last scrape succeeded.
    Up,
    /// The last scrape failed.
    Down,
}

/// How it stands with one target.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TargetStatus {
    /// The job.
    pub job: String,
    /// What is asked for.
    pub url: String,
    /// Labels of its series.
    pub labels: Labels,
    /// Labels before relabeling.
    pub discovered_labels: Labels,
    /// Time between scrapes.
    #[serde(with = "bellwether_models::duration::as_text")]
    pub interval: Duration,
    /// Longest time a scrape may take.
    #[serde(with = "bellwether_models::duration::as_text")]
    pub timeout: Duration,
    /// Whether it answers.
    pub health: Health,
    /// When it was last scraped.
    pub last_scrape: Option<Timestamp>,
    /// How long that took, in seconds.
    pub last_duration_seconds: f64,
    /// Samples it brought.
    pub last_samples: usize,
    /// Why it failed, when it did.
    pub last_error: Option<String>,
    /// What it says of its metrics.
    #[serde(skip)]
    pub metadata: Vec<Arc<Described>>,
}

/// All targets of all jobs.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Targets {
    /// Those that are scraped.
    pub active: Vec<TargetStatus>,
    /// Job and labels of those that a rule drops; of each job the first thousand.
    pub dropped: Vec<(String, Labels)>,
}

/// Scrapes the targets of all jobs until it is shut down.
pub struct ScrapeManager {
    ingest: Ingest,
    jobs: tokio::sync::Mutex<BTreeMap<String, RunningJob>>,
    board: Board,
}

type Board = Arc<Mutex<BTreeMap<String, JobStatus>>>;

/// What a job shows of its targets.
struct JobStatus {
    active: Vec<Arc<Mutex<TargetStatus>>>,
    dropped: Vec<Labels>,
}

struct RunningJob {
    orders: watch::Sender<Order>,
    task: JoinHandle<()>,
}

#[derive(Clone)]
enum Order {
    Run(Arc<Job>),
    /// The job is gone: its series end.
    End,
    /// The process ends: the series go on after the restart.
    Stop,
}

impl ScrapeManager {
    /// Starts scraping; must be called inside a tokio runtime.
    ///
    /// # Errors
    /// [`ScrapeConfigError`] when a job cannot be scraped; nothing is started then.
    pub fn start(configs: &[ScrapeConfig], ingest: Ingest) -> Result<Self, ScrapeConfigError> {
        let jobs = config::jobs(configs)?;
        let board = Board::default();
        let running = jobs.into_iter().map(|job| spawn_job(job, &ingest, &board)).collect();
        Ok(Self { ingest, jobs: tokio::sync::Mutex::new(running), board })
    }

    /// Goes over to new jobs. What did not change is not disturbed; the series of what is gone end.
    ///
    /// # Errors
    /// [`ScrapeConfigError`] when a job cannot be scraped; the old jobs go on then.
    pub async fn reload(&self, configs: &[ScrapeConfig]) -> Result<(), ScrapeConfigError> {
        let mut new: BTreeMap<String, Job> =
            config::jobs(configs)?.into_iter().map(|job| (job.config.job_name.clone(), job)).collect();
        let mut jobs = self.jobs.lock().await;
        let gone: Vec<String> = jobs.keys().filter(|name| !new.contains_key(*name)).cloned().collect();
        for name in gone {
            if let Some(job) = jobs.remove(&name) {
                job.finish(Order::End).await;
            }
        }
        for (name, job) in &mut *jobs {
            if let Some(config) = new.remove(name) {
                job.orders.send_replace(Order::Run(Arc::new(config)));
            }
        }
        jobs.extend(new.into_values().map(|job| spawn_job(job, &self.ingest, &self.board)));
        Ok(())
    }

    /// How it stands with each target, by job.
    #[must_use]
    pub fn targets(&self) -> Vec<TargetStatus> {
        let board = self.board.lock().unwrap_or_else(PoisonError::into_inner);
        board.values().flat_map(JobStatus::active).collect()
    }

    /// As [`ScrapeManager::targets`], with those that rules drop.
    #[must_use]
    pub fn all_targets(&self) -> Targets {
        let board = self.board.lock().unwrap_or_else(PoisonError::into_inner);
        let dropped = board.iter().flat_map(|(job, status)| status.dropped.iter().map(|l| (job.clone(), l.clone())));
        Targets { active: board.values().flat_map(JobStatus::active).collect(), dropped: dropped.collect() }
    }

    /// Stops scraping. No series ends: they go on after a restart.
    pub async fn shutdown(&self) {
        let jobs = std::mem::take(&mut *self.jobs.lock().await);
        for job in jobs.values() {
            job.orders.send_replace(Order::Stop);
        }
        for job in jobs.into_values() {
            job.finish(Order::Stop).await;
        }
    }
}

impl JobStatus {
    fn active(&self) -> impl Iterator<Item = TargetStatus> {
        self.active.iter().map(|status| status.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

impl RunningJob {
    async fn finish(self, order: Order) {
        self.orders.send_replace(order);
        if let Err(error) = self.task.await {
            warn!(%error, "a scrape job did not end well");
        }
    }
}

fn spawn_job(job: Job, ingest: &Ingest, board: &Board) -> (String, RunningJob) {
    let name = job.config.job_name.clone();
    let (orders, inbox) = watch::channel(Order::Run(Arc::new(job)));
    let pool = Pool::new(name.clone(), ingest.clone(), board.clone());
    let task = tokio::spawn(pool.run(inbox));
    (name, RunningJob { orders, task })
}

/// A job's client, or why there is none: every target of the job is down for this reason then.
type ClientResult = Result<Fetcher, Arc<ScrapeFailure>>;

/// The target loops of one job.
struct Pool {
    name: String,
    ingest: Ingest,
    board: Board,
    loops: Vec<Running>,
    /// Why discovered targets cannot be scraped, as last told.
    refused: Vec<String>,
    /// The job it scrapes by, and its client.
    fetcher: Option<(Arc<Job>, ClientResult)>,
}

/// One target being scraped.
struct Running {
    plan: Plan,
    stop: oneshot::Sender<()>,
    task: JoinHandle<Known>,
    status: Arc<Mutex<TargetStatus>>,
}

/// What a target loop works by.
#[derive(Clone)]
struct Plan {
    job: Arc<Job>,
    target: Target,
    fetcher: ClientResult,
}

impl Pool {
    fn new(name: String, ingest: Ingest, board: Board) -> Self {
        Self { name, ingest, board, loops: Vec::new(), refused: Vec::new(), fetcher: None }
    }

    async fn run(mut self, mut inbox: watch::Receiver<Order>) {
        let mut discovery = Discovery::default();
        loop {
            let order = inbox.borrow_and_update().clone();
            match order {
                Order::Run(job) => self.settle(job, &mut discovery).await,
                Order::End => return self.end().await,
                Order::Stop => return self.stop().await,
            }
            tokio::select! {
                changed = inbox.changed() => if changed.is_err() { return self.stop().await },
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
        }
    }

    /// Brings the loops in line with the job and the targets there are now.
    async fn settle(&mut self, job: Arc<Job>, discovery: &mut Discovery) {
        let fetcher = self.fetcher_for(&job).await;
        let groups = discovery.groups(&job.config, fetcher.as_ref().ok()).await;
        let Found { targets, dropped, refused } = target::targets(&job, &groups);
        if std::mem::replace(&mut self.refused, refused.clone()) != refused {
            for problem in &refused {
                warn!(job = self.name, problem, "a discovered target cannot be scraped");
            }
        }
        let fetcher = within_target_limit(&job, targets.len()).and(fetcher);
        let mut old: HashMap<Key, Running> =
            self.loops.drain(..).map(|running| (running.plan.target.key(), running)).collect();
        for target in targets {
            let plan = Plan { job: job.clone(), target, fetcher: fetcher.clone() };
            self.loops.push(match old.remove(&plan.target.key()) {
                Some(running) if running.plan.is_same(&plan) => running,
                Some(running) => start_loop(plan, running.halt().await, &self.ingest),
                None => start_loop(plan, Known::default(), &self.ingest),
            });
        }
        self.publish(dropped);
        end_loops(old.into_values().collect(), &self.ingest).await;
    }

    /// The job's client, made anew when the job changed.
    async fn fetcher_for(&mut self, job: &Arc<Job>) -> ClientResult {
        match &self.fetcher {
            Some((known, Ok(fetcher))) if Arc::ptr_eq(known, job) => Ok(fetcher.clone()),
            _ => {
                let made = Fetcher::new(job.clone()).await.map_err(Arc::new);
                self.fetcher = Some((job.clone(), made.clone()));
                made
            }
        }
    }

    fn publish(&self, dropped: Vec<Labels>) {
        let active = self.loops.iter().map(|running| running.status.clone()).collect();
        let status = JobStatus { active, dropped };
        self.board.lock().unwrap_or_else(PoisonError::into_inner).insert(self.name.clone(), status);
    }

    async fn end(mut self) {
        end_loops(std::mem::take(&mut self.loops), &self.ingest).await;
        self.board.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.name);
    }

    async fn stop(self) {
        for running in self.loops {
            running.halt().await;
        }
        self.board.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.name);
    }
}

/// Past the limit all targets of the job are down.
fn within_target_limit(job: &Job, targets: usize) -> Result<(), Arc<ScrapeFailure>> {
    let limit = job.config.target_limit;
    if limit > 0 && targets > limit {
        return Err(Arc::new(ScrapeFailure::TargetLimit { targets, limit }));
    }
    Ok(())
}

impl Plan {
    fn is_same(&self, other: &Self) -> bool {
        let same_failure = match (&self.fetcher, &other.fetcher) {
            (Ok(_), Ok(_)) => true,
            (Err(ours), Err(theirs)) => ours.to_string() == theirs.to_string(),
            _ => false,
        };
        self.job.config == other.job.config && self.target == other.target && same_failure
    }

    /// This target's place in the interval.
    fn seed(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        (&self.target.url, &self.target.labels).hash(&mut hasher);
        hasher.finish()
    }
}

impl Running {
    /// Stops the loop and gives back what it knows of the target's series.
    async fn halt(self) -> Known {
        let _ = self.stop.send(());
        self.task.await.unwrap_or_else(|error| {
            warn!(%error, "a scrape loop did not end well");
            Known::default()
        })
    }
}

async fn end_loops(loops: Vec<Running>, ingest: &Ingest) {
    for running in loops {
        let (job, labels) = (running.plan.job.clone(), running.plan.target.labels.clone());
        let mut known = running.halt().await;
        append(ingest, &job, known.end_all(&labels, ingest.now()), PATIENCE_AT_THE_END).await;
    }
}

fn start_loop(plan: Plan, known: Known, ingest: &Ingest) -> Running {
    let status = Arc::new(Mutex::new(TargetStatus {
        job: plan.job.config.job_name.clone(),
        url: plan.target.url.clone(),
        labels: plan.target.labels.clone(),
        discovered_labels: plan.target.discovered.clone(),
        interval: plan.target.interval,
        timeout: plan.target.timeout,
        health: Health::Unknown,
        last_scrape: None,
        last_duration_seconds: 0.0,
        last_samples: 0,
        last_error: None,
        metadata: Vec::new(),
    }));
    let (stop, stopped) = oneshot::channel();
    let task = tokio::spawn(scrape_loop(plan.clone(), known, ingest.clone(), status.clone(), stopped));
    Running { plan, stop, task, status }
}

async fn scrape_loop(
    plan: Plan,
    mut known: Known,
    ingest: Ingest,
    status: Arc<Mutex<TargetStatus>>,
    mut stopped: oneshot::Receiver<()>,
) -> Known {
    let interval = plan.target.interval;
    let mut due = timing::first_due(ingest.now(), interval, plan.seed());
    loop {
        tokio::select! {
            _ = &mut stopped => return known,
            () = tokio::time::sleep(timing::wait(due, ingest.now(), interval)) => {}
        }
        let at = timing::aligned(due, ingest.now());
        tokio::select! {
            _ = &mut stopped => return known,
            () = scrape(&plan, &mut known, &ingest, &status, at) => {}
        }
        due = timing::next_due(due, ingest.now(), interval);
    }
}

async fn scrape(plan: &Plan, known: &mut Known, ingest: &Ingest, status: &Mutex<TargetStatus>, at: Timestamp) {
    let started = Instant::now();
    let fetched = match &plan.fetcher {
        Ok(fetcher) => fetcher.fetch(&plan.target).await.map_err(Arc::new),
        Err(failure) => Err(failure.clone()),
    };
    let seconds = started.elapsed().as_secs_f64();
    let labels = &plan.target.labels;
    let absorbed = fetched
        .and_then(|fetched| known.absorb(&plan.job, labels, &fetched.body, fetched.format, at).map_err(Arc::new));
    let (mut batch, report, failure) = match absorbed {
        Ok(Absorbed { batch, scraped, kept, added, exemplars, described }) => {
            if let Some(described) = described {
                let metadata = ingest.describe(described);
                status.lock().unwrap_or_else(PoisonError::into_inner).metadata = metadata;
            }
            pass_over(&plan.job, exemplars);
            (batch, Report { up: true, seconds, scraped, kept, added }, None)
        }
        Err(failure) => (known.end_samples(at), Report { seconds, ..Report::default() }, Some(failure)),
    };
    batch.extend(known.report(labels, at, report));
    tell(plan, status, at, report, failure.as_deref());
    // What is not kept by the next scrape makes room for it.
    let patience = plan.target.interval.saturating_sub(started.elapsed()).mul_f64(0.9);
    append(ingest, &plan.job, batch, patience).await;
}

fn pass_over(job: &Job, exemplars: u64) {
    if exemplars > 0 {
        let job = job.config.job_name.clone();
        counter!("bellwether_scrape_exemplars_passed_over_total", "job" => job).increment(exemplars);
    }
}

fn tell(plan: &Plan, status: &Mutex<TargetStatus>, at: Timestamp, report: Report, failure: Option<&ScrapeFailure>) {
    let mut status = status.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(failure) = failure {
        let job = plan.job.config.job_name.clone();
        counter!("bellwether_scrape_failures_total", "job" => job, "reason" => failure.reason()).increment(1);
        if status.health != Health::Down {
            warn!(url = plan.target.url, %failure, "scrape failed");
        }
    }
    status.health = if report.up { Health::Up } else { Health::Down };
    status.last_scrape = Some(at);
    status.last_duration_seconds = report.seconds;
    status.last_samples = report.kept;
    status.last_error = failure.map(ToString::to_string);
}

async fn append(ingest: &Ingest, job: &Job, batch: Batch, patience: Duration) {
    if batch.is_empty() {
        return;
    }
    let origin = format!("scrape:{}", job.config.job_name);
    if let Err(error) = ingest.append_patiently(&origin, batch, patience).await {
        warn!(job = job.config.job_name, error = &error as &dyn std::error::Error, "scraped samples were not kept");
    }
}
