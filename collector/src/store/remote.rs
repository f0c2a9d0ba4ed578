//! A store whose samples lie on a server: what every such store has in common.
//!
//! A batch is sent at once and acknowledged when the server has it. While the server cannot be reached the batch goes to a
//! queue on disk, durable before it is acknowledged, and is sent in order when the server is back. What the server refuses
//! for good is found by halving the request, so one bad sample costs no other.

use std::error::Error;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bellwether_models::series::{Labels, Timestamp};
use metrics::{counter, gauge, histogram};
use tokio::sync::{Notify, Semaphore};
use tokio::task::AbortHandle;
use tracing::{info, warn};

use super::{Appended, Batch, Matcher, SampleRefusal, SeriesSamples, Store, StoreError, StoreStats, TimeRange};
use crate::query::Evaluator;

mod config;
pub(super) mod link;
mod outbox;
pub(super) mod settle;

pub use config::QueueConfig;
pub use link::{LinkConfig, LinkError};

use outbox::{Outbox, QueueError};
use settle::{Newest, count, halves, merged, missing, newest, parts, question};

/// Requests under way at once.
const CONCURRENT: usize = 8;
/// Requests that the search for what a server refuses may take; what is left then is refused with it.
const SEARCH_REQUESTS: usize = 1000;
/// Samples read at most to learn what a server holds already.
const LOOK_UP: usize = 2_000_000;
/// The pause after a failure, doubled at each further one, and its greatest length.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// A server that keeps samples.
#[async_trait]
pub(super) trait Server: Send + Sync + 'static {
    /// The store's name in metrics and logs.
    fn name(&self) -> &'static str;

    /// Sends samples; each series once, ascending. Sending them again changes nothing.
    async fn write(&self, batch: &[SeriesSamples]) -> Result<(), WriteError>;

    /// As [`Store::select`].
    async fn read(
        &self,
        matchers: &[Matcher],
        range: TimeRange,
        limit: usize,
    ) -> Result<Vec<SeriesSamples>, StoreError>;

    /// As [`Store::series`].
    async fn series(&self, matchers: &[Matcher], range: TimeRange) -> Result<Vec<Labels>, StoreError>;

    /// Whether it answers and can be used; the error names what stands in the way.
    async fn check(&self) -> Result<(), StoreError>;

    /// Whether `read` is what the server makes of `written`.
    fn is_same(&self, written: f64, read: f64) -> bool;

    /// Most samples in one request.
    fn request_samples(&self) -> usize;

    /// What evaluates PromQL in the place of our own engine.
    fn evaluator(&self) -> Option<Arc<dyn Evaluator>> {
        None
    }
}

/// Why a server did not take samples.
#[derive(Debug, thiserror::Error)]
pub(super) enum WriteError {
    /// It will never take them all: at least one is wrong.
    #[error("the server refuses the samples: {detail}")]
    Refused { refusal: SampleRefusal, detail: String },
    /// It may take them later.
    #[error("the server does not take samples")]
    Unavailable {
        #[source]
        source: Box<dyn Error + Send + Sync>,
        retry_after: Option<Duration>,
    },
}

/// A store over a [`Server`].
pub(super) struct RemoteStore<S> {
    shared: Arc<Shared<S>>,
    sender: AbortHandle,
}

struct Shared<S> {
    server: S,
    newest: Mutex<Newest>,
    outbox: Arc<Outbox>,
    turns: Semaphore,
    queued: Notify,
    reachable: AtomicBool,
    request_samples: usize,
}

/// What became of samples that were to be sent.
#[derive(Default)]
struct Sent {
    written: u64,
    refused: Vec<(Labels, Timestamp, SampleRefusal)>,
    /// What the server did not take now, and why.
    left: Batch,
    fault: Option<WriteError>,
}

impl<S: Server> RemoteStore<S> {
    /// Takes up the queue that an earlier process left and starts to send it. Must be called inside a tokio runtime.
    pub(super) async fn open(server: S, queue: PathBuf, config: &QueueConfig) -> std::io::Result<Self> {
        let max_bytes = config.max_bytes.bytes();
        let outbox = tokio::task::spawn_blocking(move || Outbox::open(queue, max_bytes)).await??;
        let shared = Arc::new(Shared {
            request_samples: server.request_samples().max(1),
            server,
            newest: Mutex::default(),
            outbox: Arc::new(outbox),
            turns: Semaphore::new(CONCURRENT),
            queued: Notify::new(),
            reachable: AtomicBool::new(true),
        });
        shared.show_queue();
        let sender = tokio::spawn(send_queue(shared.clone())).abort_handle();
        Ok(Self { shared, sender })
    }
}

impl<S> Drop for RemoteStore<S> {
    /// What is queued stays on disk and is sent by the next process.
    fn drop(&mut self) {
        self.sender.abort();
    }
}

#[async_trait]
impl<S: Server> Store for RemoteStore<S> {
    async fn append(&self, batch: Batch) -> Result<Appended, StoreError> {
        let shared = &self.shared;
        let mut appended = Appended::default();
        let sorted = shared.newest().sort(batch, &mut appended);
        let mut fresh = sorted.fresh;
        // Behind what waits already, nothing is asked or sent now: the queue settles it in its turn.
        let (later, fault) = if shared.outbox.waiting().samples > 0 {
            fresh.extend(sorted.doubtful);
            (fresh, None)
        } else {
            match shared.look_up(sorted.doubtful, &mut appended).await {
                Ok(absent) => fresh.extend(absent),
                Err((doubtful, fault)) => {
                    fresh.extend(doubtful);
                    return shared.queue(fresh, appended, Some(fault)).await;
                }
            }
            let sent = shared.send(fresh).await;
            appended.written += sent.written;
            appended.refused.extend(sent.refused);
            (sent.left, sent.fault.map(|fault| shared.unavailable("send samples", fault)))
        };
        shared.queue(later, appended, fault).await
    }

    async fn select(
        &self,
        matchers: &[Matcher],
        range: TimeRange,
        limit: usize,
    ) -> Result<Vec<SeriesSamples>, StoreError> {
        if range.from > range.to {
            return Ok(Vec::new());
        }
        let held = self.shared.read(matchers, range, limit).await?;
        let found = merged(held, self.shared.waiting_in(matchers, range).await?);
        if count(&found) > limit as u64 {
            return Err(StoreError::TooLarge { limit });
        }
        Ok(found)
    }

    async fn series(&self, matchers: &[Matcher], range: TimeRange) -> Result<Vec<Labels>, StoreError> {
        if range.from > range.to {
            return Ok(Vec::new());
        }
        let began = Instant::now();
        let found = self.shared.server.series(matchers, range).await;
        let mut found = self.shared.told("series", began, found)?;
        found.extend(self.shared.waiting_in(matchers, range).await?.into_iter().map(|series| series.labels));
        found.sort_unstable();
        found.dedup();
        Ok(found)
    }

    /// The server keeps samples as long as it is told to there.
    async fn retain(&self, _now: Timestamp) -> Result<(), StoreError> {
        Ok(())
    }

    /// What waits to be sent; the rest is the server's.
    async fn stats(&self) -> Result<StoreStats, StoreError> {
        let waiting = self.shared.outbox.waiting();
        Ok(StoreStats { samples: waiting.samples, bytes: waiting.bytes, ..StoreStats::default() })
    }

    async fn check(&self) -> Result<(), StoreError> {
        let began = Instant::now();
        let checked = self.shared.server.check().await;
        self.shared.told("check", began, checked)
    }

    fn evaluator(&self) -> Option<Arc<dyn Evaluator>> {
        self.shared.server.evaluator()
    }
}

impl<S: Server> Shared<S> {
    fn newest(&self) -> std::sync::MutexGuard<'_, Newest> {
        self.newest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Of samples that may be on the server, those that are not; all of them again when the server could not be asked.
    async fn look_up(&self, doubtful: Batch, appended: &mut Appended) -> Result<Batch, (Batch, StoreError)> {
        let (mut open, mut absent) = (vec![doubtful], Batch::new());
        while let Some(batch) = open.pop() {
            let Some((matchers, range)) = question(&batch) else { continue };
            match self.read(&matchers, range, LOOK_UP).await {
                Ok(held) => absent.extend(missing(batch, &held, |a, b| self.server.is_same(a, b), appended)),
                Err(StoreError::TooLarge { .. }) if count(&batch) > 1 => {
                    open.extend(halves(batch).into_iter().flat_map(|(one, other)| [one, other]));
                }
                Err(fault) => {
                    absent.extend(batch);
                    absent.extend(open.into_iter().flatten());
                    return Err((absent, fault));
                }
            }
        }
        Ok(absent)
    }

    /// Sends in parts; a part that is refused is halved until what is wrong stands alone.
    async fn send(&self, batch: Batch) -> Sent {
        let mut sent = Sent::default();
        let mut open = parts(batch, self.request_samples);
        open.reverse();
        let mut search = SEARCH_REQUESTS;
        while let Some(part) = open.pop() {
            match self.write(&part).await {
                Ok(()) => sent.written += count(&part),
                Err(WriteError::Refused { refusal, detail }) => {
                    search = search.saturating_sub(1);
                    match halves(part.clone()).filter(|_| search > 0) {
                        Some((first, second)) => open.extend([second, first]),
                        None => sent.refuse(self.server.name(), part, refusal, &detail),
                    }
                }
                Err(fault) => {
                    sent.left = part;
                    sent.left.extend(open.into_iter().rev().flatten());
                    sent.fault = Some(fault);
                    return sent;
                }
            }
        }
        sent
    }

    async fn write(&self, part: &[SeriesSamples]) -> Result<(), WriteError> {
        let _turn = self.turns.acquire().await;
        let began = Instant::now();
        let outcome = self.server.write(part).await;
        let word = match &outcome {
            Ok(()) => "ok",
            Err(WriteError::Refused { .. }) => "refused",
            Err(WriteError::Unavailable { .. }) => "unavailable",
        };
        self.measure("write", word, began);
        self.reached(outcome.as_ref().err().filter(|e| matches!(e, WriteError::Unavailable { .. })).map(|e| e as _));
        if outcome.is_ok() {
            self.newest().note(part);
        }
        outcome
    }

    async fn read(
        &self,
        matchers: &[Matcher],
        range: TimeRange,
        limit: usize,
    ) -> Result<Vec<SeriesSamples>, StoreError> {
        let began = Instant::now();
        let outcome = self.server.read(matchers, range, limit).await;
        self.told("read", began, outcome)
    }

    /// Puts samples on disk; counts them as written when they are durable there.
    async fn queue(
        &self,
        batch: Batch,
        mut appended: Appended,
        fault: Option<StoreError>,
    ) -> Result<Appended, StoreError> {
        if batch.is_empty() {
            return Ok(appended);
        }
        let outbox = self.outbox.clone();
        let outcome = tokio::task::spawn_blocking(move || outbox.push(&batch).map(|()| batch)).await;
        self.show_queue();
        match outcome.map_err(|_| StoreError::Closed)? {
            Ok(batch) => {
                self.newest().note(&batch);
                appended.written += count(&batch);
                self.queued.notify_one();
                Ok(appended)
            }
            Err(QueueError::Full { .. }) => {
                counter!("bellwether_store_queue_full_total", "store" => self.server.name()).increment(1);
                Err(StoreError::Busy)
            }
            Err(error) => {
                warn!(error = &error as &dyn Error, "samples could not be queued");
                Err(fault.unwrap_or_else(|| unavailable("queue samples", error)))
            }
        }
    }

    async fn waiting_in(&self, matchers: &[Matcher], range: TimeRange) -> Result<Vec<SeriesSamples>, StoreError> {
        if self.outbox.waiting().samples == 0 {
            return Ok(Vec::new());
        }
        let (outbox, matchers) = (self.outbox.clone(), matchers.to_vec());
        let found = tokio::task::spawn_blocking(move || outbox.find(&matchers, range)).await;
        found.map_err(|_| StoreError::Closed)?.map_err(|error| unavailable("read the queue", error))
    }

    /// Counts an answered question and passes it on.
    fn told<T>(&self, what: &'static str, began: Instant, outcome: Result<T, StoreError>) -> Result<T, StoreError> {
        self.measure(what, if outcome.is_ok() { "ok" } else { "failed" }, began);
        self.reached(outcome.as_ref().err().filter(|e| matches!(e, StoreError::Unavailable { .. })).map(|e| e as _));
        outcome
    }

    fn measure(&self, operation: &'static str, outcome: &'static str, began: Instant) {
        let labels = [("store", self.server.name()), ("operation", operation), ("outcome", outcome)];
        histogram!("bellwether_store_request_duration_seconds", &labels).record(began.elapsed().as_secs_f64());
    }

    /// Says once when the server is lost and once when it is back.
    fn reached(&self, fault: Option<&(dyn Error + 'static)>) {
        let now = fault.is_none();
        let before = self.reachable.swap(now, Ordering::Relaxed);
        let store = self.server.name();
        gauge!("bellwether_store_up", "store" => store).set(f64::from(u8::from(now)));
        match (before, now) {
            (true, false) => {
                warn!(store, error = fault, "the store's server cannot be used; samples are queued on disk")
            }
            (false, true) => info!(store, "the store's server is back"),
            _ => {}
        }
    }

    fn unavailable(&self, action: &str, fault: WriteError) -> StoreError {
        unavailable(action, fault)
    }

    fn show_queue(&self) {
        let waiting = self.outbox.waiting();
        gauge!("bellwether_store_queue_samples", "store" => self.server.name()).set(waiting.samples as f64);
        gauge!("bellwether_store_queue_bytes", "store" => self.server.name()).set(waiting.bytes as f64);
    }

    /// Sends the oldest segment. Whether there may be more.
    async fn send_oldest(&self) -> Result<bool, (StoreError, Option<Duration>)> {
        let plain = |error: StoreError| (error, None);
        let outbox = self.outbox.clone();
        let oldest = tokio::task::spawn_blocking(move || outbox.oldest()).await;
        let oldest = oldest.map_err(|_| plain(StoreError::Closed))?;
        let Some(oldest) = oldest.map_err(|error| plain(unavailable("read the queue", error)))? else {
            return Ok(false);
        };
        let mut late = Appended::default();
        // What is newest here was noted when it was queued, so nothing in the queue can be told to be new without asking.
        let batch = merged(oldest.batch, Vec::new());
        let absent = self.look_up(batch, &mut late).await.map_err(|(_, fault)| plain(fault))?;
        let sent = self.send(absent).await;
        late.refused.extend(sent.refused);
        if let Some(fault) = sent.fault {
            let retry_after = match &fault {
                WriteError::Unavailable { retry_after, .. } => *retry_after,
                WriteError::Refused { .. } => None,
            };
            return Err((self.unavailable("send the queue", fault), retry_after));
        }
        for (_, _, refusal) in &late.refused {
            let labels = [("store", self.server.name()), ("reason", refusal.name())];
            counter!("bellwether_store_queue_refused_total", &labels).increment(1);
        }
        let outbox = self.outbox.clone();
        let removed = tokio::task::spawn_blocking(move || outbox.remove(oldest.number)).await;
        removed
            .map_err(|_| plain(StoreError::Closed))?
            .map_err(|error| plain(unavailable("remove what was sent", error)))?;
        self.show_queue();
        Ok(true)
    }
}

impl Sent {
    fn refuse(&mut self, store: &'static str, part: Batch, refusal: SampleRefusal, detail: &str) {
        if let Some(at) = newest(&part) {
            let series = part.first().map(|series| series.labels.to_string()).unwrap_or_default();
            warn!(store, series, at_ms = at.as_millis(), detail, "the store's server refused a sample");
        }
        let refused = part.into_iter().flat_map(|SeriesSamples { labels, samples }| {
            samples.into_iter().map(move |sample| (labels.clone(), sample.at, refusal))
        });
        self.refused.extend(refused);
    }
}

/// Sends what waits, oldest first, for as long as the store lives; pauses longer and longer while the server is away.
async fn send_queue<S: Server>(shared: Arc<Shared<S>>) {
    let mut pause = FIRST_PAUSE;
    loop {
        match shared.send_oldest().await {
            Ok(true) => pause = FIRST_PAUSE,
            Ok(false) => shared.queued.notified().await,
            Err((error, retry_after)) => {
                counter!("bellwether_store_retries_total", "store" => shared.server.name()).increment(1);
                tracing::debug!(error = &error as &dyn Error, pause_ms = pause.as_millis() as u64, "the queue waits");
                tokio::time::sleep(retry_after.unwrap_or(pause).clamp(FIRST_PAUSE, LONGEST_PAUSE)).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }
}

/// What could not be done, and why.
pub(super) fn unavailable(action: impl Into<String>, source: impl Into<Box<dyn Error + Send + Sync>>) -> StoreError {
    StoreError::Unavailable { action: action.into(), source: source.into() }
}
