//! The one door by which samples enter: limits, counts and back-pressure, then the store.
//!
//! Every source appends through an [`Ingest`]. It refuses single samples with a counted reason and passes the rest on;
//! what it reports as written is durable. Too much waiting at once is [`IngestError::Busy`], which the sender repeats.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use bellwether_models::series::{Labels, Timestamp};
use metrics::{counter, gauge};
use tracing::warn;

use crate::metadata::{Book, Described};
use crate::store::{Appended, Batch, SampleRefusal, SharedStore, StoreError, TimeRange};

mod active;
mod admit;
mod config;
mod explosion;
mod spread;
mod standing;
mod waiting;

pub(crate) use admit::{is_label_name, is_metric_name};
pub use config::IngestConfig;
pub use explosion::{Explosion, LabelValues};
pub use standing::{LimitUse, MetricUse, SourceUse, Standing};

use admit::Gate;
use waiting::Waiting;

/// Tells what time it is: the wall clock in production, a replay's clock in a replay.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// The wall clock.
#[must_use]
pub fn wall_clock() -> Clock {
    Arc::new(|| {
        let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Timestamp::from_millis(0) + since_epoch
    })
}

/// Why a sample was refused. Each is counted under its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Refusal {
    /// The series has no metric name.
    MetricNameMissing,
    /// The metric's name is not `[a-zA-Z_:][a-zA-Z0-9_:]*`.
    MetricNameInvalid,
    /// A label's name is not `[a-zA-Z_][a-zA-Z0-9_]*`.
    LabelNameInvalid,
    /// A label's name is longer than allowed.
    LabelNameTooLong,
    /// A label's value is longer than allowed.
    LabelValueTooLong,
    /// The series has more labels than allowed.
    TooManyLabels,
    /// A new series, and as many as allowed are active already.
    SeriesLimit,
    /// A new series, and as many as allowed of this source are active already.
    SourceSeriesLimit,
    /// A new series, and as many as allowed of this metric and source are active already.
    MetricSeriesLimit,
    /// Older than `max_age` or the store's out-of-order window allows.
    TooOld,
    /// Further in the future than allowed.
    TooFarAhead,
    /// The series already has another value at this time.
    DuplicateTimestamp,
    /// The server that keeps the samples will not have it.
    Unstorable,
    /// The sender did not sort the labels by name.
    LabelsUnsorted,
    /// A label stands twice.
    LabelDuplicate,
    /// A label has no name or no value.
    LabelEmpty,
    /// A label is not UTF-8.
    NotUtf8,
    /// A label refers to a symbol that was not sent.
    BadReference,
    /// Native histograms are not kept.
    NativeHistogram,
    /// Text is not kept.
    TextField,
    /// A point without a value, a time or a temporality.
    UnusablePoint,
    /// A line that cannot be read.
    MalformedLine,
}

impl Refusal {
    /// The reason as a metric label.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::MetricNameMissing => "metric_name_missing",
            Self::MetricNameInvalid => "metric_name_invalid",
            Self::LabelNameInvalid => "label_name_invalid",
            Self::LabelNameTooLong => "label_name_too_long",
            Self::LabelValueTooLong => "label_value_too_long",
            Self::TooManyLabels => "too_many_labels",
            Self::SeriesLimit => "series_limit",
            Self::SourceSeriesLimit => "source_series_limit",
            Self::MetricSeriesLimit => "metric_series_limit",
            Self::TooOld => "too_old",
            Self::TooFarAhead => "too_far_ahead",
            Self::DuplicateTimestamp => "duplicate_timestamp",
            Self::Unstorable => "unstorable",
            Self::LabelsUnsorted => "labels_unsorted",
            Self::LabelDuplicate => "label_duplicate",
            Self::LabelEmpty => "label_empty",
            Self::NotUtf8 => "not_utf8",
            Self::BadReference => "bad_reference",
            Self::NativeHistogram => "native_histogram",
            Self::TextField => "text_field",
            Self::UnusablePoint => "unusable_point",
            Self::MalformedLine => "malformed_line",
        }
    }
}

impl From<SampleRefusal> for Refusal {
    fn from(refusal: SampleRefusal) -> Self {
        match refusal {
            SampleRefusal::TooOld => Self::TooOld,
            SampleRefusal::TooFarAhead => Self::TooFarAhead,
            SampleRefusal::DuplicateTimestamp => Self::DuplicateTimestamp,
            SampleRefusal::Unstorable => Self::Unstorable,
        }
    }
}

/// What became of a batch: `written + repeated + refused()` is the number of samples given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Receipt {
    /// Samples now durable.
    pub written: u64,
    /// Samples that were there already, equal to the bit.
    pub repeated: u64,
    /// Refused samples by reason.
    pub refused_by: BTreeMap<Refusal, u64>,
    /// The first few refusals in words, to answer the sender with.
    pub examples: Vec<String>,
}

/// Refusals put into words per batch.
const MAX_EXAMPLES: usize = 5;
/// Bytes of a series shown in an example.
const MAX_SHOWN_BYTES: usize = 200;

impl Receipt {
    /// Number of samples refused.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refused_by.values().sum()
    }

    fn refuse(&mut self, refusal: Refusal, labels: &Labels, samples: u64, detail: impl FnOnce() -> String) {
        *self.refused_by.entry(refusal).or_default() += samples;
        if self.examples.len() < MAX_EXAMPLES {
            self.examples.push(format!("{}: {}: {}", refusal.name(), shortened(labels.to_string()), detail()));
        }
    }

    fn take_up(&mut self, appended: Appended) {
        self.written += appended.written;
        self.repeated += appended.repeated;
        for (labels, at, refusal) in appended.refused {
            self.refuse(refusal.into(), &labels, 1, || format!("sample at {} ms", at.as_millis()));
        }
    }
}

fn shortened(mut text: String) -> String {
    if text.len() > MAX_SHOWN_BYTES {
        text.truncate(text.floor_char_boundary(MAX_SHOWN_BYTES));
        text.push('…');
    }
    text
}

/// Why nothing of a batch was acknowledged.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IngestError {
    /// Too much is waiting to be written; nothing was kept, send it again later.
    #[error("too much is waiting to be written; send again in {} s", retry_after.as_secs())]
    Busy {
        /// When it is worth trying again.
        retry_after: Duration,
    },
    /// The store failed; what was written is not known, sending again is safe.
    #[error("could not keep the samples of {origin}")]
    Store {
        /// Where the samples came from.
        origin: String,
        /// What the store said.
        #[source]
        source: StoreError,
    },
}

/// The door to the store. Cloning it gives another handle to the same door.
#[derive(Clone)]
pub struct Ingest(Arc<Inner>);

struct Inner {
    store: SharedStore,
    clock: Clock,
    gate: Mutex<Gate>,
    waiting: Mutex<Waiting>,
    book: Mutex<Book>,
}

impl Ingest {
    /// A door to `store` on the wall clock.
    #[must_use]
    pub fn new(store: SharedStore, config: IngestConfig) -> Self {
        Self::with_clock(store, config, wall_clock())
    }

    /// A door to `store` on the clock given.
    #[must_use]
    pub fn with_clock(store: SharedStore, config: IngestConfig, clock: Clock) -> Self {
        let gate = Mutex::new(Gate::new(config));
        Self(Arc::new(Inner { store, clock, gate, waiting: Mutex::default(), book: Mutex::default() }))
    }

    /// Goes over to other limits. What is active or waiting stays so, even beyond them.
    pub fn reconfigure(&self, config: IngestConfig) {
        self.gate().config = config;
    }

    /// The time by this door's clock.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        (self.0.clock)()
    }

    /// How the limits stand, with the `most` largest metrics.
    #[must_use]
    pub fn standing(&self, most: usize) -> Standing {
        standing::of(&self.gate(), &self.waiting(), self.now(), most)
    }

    /// Keeps what a sender says of its metrics; gives back what found room.
    pub fn describe(&self, described: impl IntoIterator<Item = Described>) -> Vec<Arc<Described>> {
        let max = self.gate().config.max_described_metrics;
        let mut book = self.book();
        described.into_iter().filter_map(|described| book.keep(described, max)).collect()
    }

    /// What senders said of one metric, or of all, in order of names.
    #[must_use]
    pub fn described(&self, metric: Option<&str>) -> Vec<Arc<Described>> {
        self.book().look_up(metric)
    }

    /// Shows the limits, what is used of them and what runs away as metrics. Worth calling every few seconds.
    pub fn publish(&self) {
        let limits = standing::limits(&self.gate(), &self.waiting());
        for LimitUse { limit, value, used } in limits {
            gauge!("bellwether_ingest_limit", "limit" => limit).set(value as f64);
            gauge!("bellwether_ingest_limit_used", "limit" => limit).set(used as f64);
        }
        let (described, refused) = self.book().size();
        gauge!("bellwether_ingest_described_metrics").set(described as f64);
        counter!("bellwether_ingest_descriptions_refused_total").absolute(refused);
        let contained = self.standing(0).explosions.iter().filter(|explosion| explosion.contained).count();
        gauge!("bellwether_ingest_contained_explosions").set(contained as f64);
    }

    /// Checks a batch against the limits, writes what passes, and returns when that is durable.
    ///
    /// `origin` names the source (`remote_write`, a scrape job, a tenant, …) in counters and limits. Samples refused are
    /// counted by reason in the receipt and in `bellwether_ingest_refused_samples_total{source,reason}`; they stop no others.
    ///
    /// # Errors
    /// [`IngestError`] when nothing was acknowledged: sending the whole batch again is right and harmless.
    pub async fn append(&self, origin: &str, batch: Batch) -> Result<Receipt, IngestError> {
        // In a task of its own: a sender that goes away meanwhile takes neither the room nor the count of what is written.
        let (door, name) = (self.clone(), origin.to_owned());
        let done = tokio::spawn(async move { door.append_whole(&name, batch).await }).await;
        done.unwrap_or_else(|_| Err(failed(origin, StoreError::Closed)))
    }

    async fn append_whole(&self, origin: &str, batch: Batch) -> Result<Receipt, IngestError> {
        let _room = self.reserve(origin, &batch)?;
        let mut receipt = Receipt::default();
        let admitted = self.admit(origin, batch, &mut receipt);
        if !admitted.is_empty() {
            let appended = self.0.store.append(admitted).await.map_err(|source| failed(origin, source))?;
            receipt.take_up(appended);
        }
        self.count(origin, &receipt);
        Ok(receipt)
    }

    /// As [`Ingest::append`], for samples that nobody will send again: while the store does not take them they are held
    /// and tried anew, for `patience` at most.
    ///
    /// # Errors
    /// [`IngestError`] when `patience` is over; the samples are counted in `bellwether_ingest_samples_lost_total{source}`.
    pub async fn append_patiently(
        &self,
        origin: &str,
        batch: Batch,
        patience: Duration,
    ) -> Result<Receipt, IngestError> {
        let deadline = tokio::time::Instant::now() + patience;
        let mut pause = SHORTEST_PAUSE;
        loop {
            let error = match self.append(origin, batch.clone()).await {
                Ok(receipt) => return Ok(receipt),
                Err(error) => error,
            };
            if tokio::time::Instant::now() + pause > deadline {
                let samples = batch.iter().map(|series| series.samples.len() as u64).sum();
                counter!("bellwether_ingest_samples_lost_total", "source" => origin.to_owned()).increment(samples);
                return Err(error);
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Counts in the series that the store has had samples of of late, so that limits hold across a restart. One that does
    /// not come again within an eighth of `active_for` is counted out. Gives how many there are.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot say.
    pub async fn restore(&self) -> Result<usize, StoreError> {
        let (now, active_for) = (self.now(), self.gate().config.active_for);
        let from = if active_for.is_zero() { Timestamp::MIN } else { now - active_for };
        let series = self.0.store.series(&[], TimeRange { from, to: Timestamp::MAX }).await?;
        let active = &mut self.gate().active;
        for labels in &series {
            let fingerprint = active.fingerprint(labels);
            active.restore(fingerprint, now - active_for * 7 / 8);
        }
        gauge!("bellwether_ingest_active_series").set(active.len() as f64);
        Ok(series.len())
    }

    /// Counts samples that a source itself could not pass on.
    pub fn count_refused(&self, origin: &str, refusal: Refusal, samples: u64) {
        if samples == 0 {
            return;
        }
        let labels = [("source", origin.to_owned()), ("reason", refusal.name().to_owned())];
        counter!("bellwether_ingest_refused_samples_total", &labels).increment(samples);
        *self.gate().refused.entry(origin.into()).or_default().entry(refusal).or_default() += samples;
    }

    fn count(&self, origin: &str, receipt: &Receipt) {
        counter!("bellwether_ingest_samples_total", "source" => origin.to_owned()).increment(receipt.written);
        counter!("bellwether_ingest_samples_repeated_total", "source" => origin.to_owned()).increment(receipt.repeated);
        for (refusal, samples) in &receipt.refused_by {
            self.count_refused(origin, *refusal, *samples);
        }
    }

    fn admit(&self, origin: &str, batch: Batch, receipt: &mut Receipt) -> Batch {
        let now = self.now();
        let (admitted, news) = {
            let mut gate = self.gate();
            let admitted = gate.admit(now, origin, batch, receipt);
            gauge!("bellwether_ingest_active_series").set(gate.active.len() as f64);
            admitted
        };
        news.iter().for_each(tell);
        admitted
    }

    /// Room for the batch while it waits for the store, or [`IngestError::Busy`]. A batch alone is always let in.
    fn reserve(&self, origin: &str, batch: &Batch) -> Result<Room<'_>, IngestError> {
        let bytes = admit::weight(batch);
        let limit = self.gate().config.max_in_flight_bytes;
        if !self.waiting().enter(origin, bytes, limit) {
            counter!("bellwether_ingest_busy_total", "source" => origin.to_owned()).increment(1);
            return Err(IngestError::Busy { retry_after: RETRY_AFTER });
        }
        Ok(Room { waiting: &self.0.waiting, origin: origin.into(), bytes })
    }

    fn gate(&self) -> MutexGuard<'_, Gate> {
        self.0.gate.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.0.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn tell(explosion: &Explosion) {
    let Explosion { source, metric, series, limit, setting, contained, .. } = explosion;
    let (metric, labels) = (metric.as_deref().unwrap_or("many"), explosion.labels_in_words());
    if *contained {
        warn!(
            source,
            metric, labels, series, limit, setting, "too many series: new ones are refused, known ones flow on"
        );
    } else {
        warn!(source, metric, labels, series, limit, setting, "the number of series nears its limit");
    }
}

/// Asked of a sender that came while the door was full.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Between two tries of a batch that is held.
const SHORTEST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Bytes reserved for a batch, given back on drop.
struct Room<'a> {
    waiting: &'a Mutex<Waiting>,
    origin: Box<str>,
    bytes: u64,
}

impl Drop for Room<'_> {
    fn drop(&mut self) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).leave(&self.origin, self.bytes);
    }
}

fn failed(origin: &str, source: StoreError) -> IngestError {
    counter!("bellwether_ingest_failed_batches_total", "source" => origin.to_owned()).increment(1);
    match source {
        StoreError::Busy => IngestError::Busy { retry_after: RETRY_AFTER },
        source => IngestError::Store { origin: origin.to_owned(), source },
    }
}

#[cfg(test)]
mod tests;
