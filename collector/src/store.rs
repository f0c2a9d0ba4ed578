//! Where samples live: one trait, kept by every store.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use bellwether_models::series::{Labels, Sample, Step, Timestamp};

use crate::query::Evaluator;

pub mod embedded;
pub mod influx;
#[cfg(any(test, feature = "laws"))]
pub mod laws;
pub mod matcher;
pub mod memory;
pub mod prometheus;
pub mod remote;
pub mod warnings;

pub use matcher::{BadMatcher, MatchOp, Matcher};

/// Samples of one series, as a source delivered them.
#[derive(Clone, Debug, PartialEq)]
pub struct SeriesSamples {
    /// The series.
    pub labels: Labels,
    /// Its samples. From a source in any order; from a store strictly ascending in time.
    pub samples: Vec<Sample>,
}

/// What is appended in one durable step.
pub type Batch = Vec<SeriesSamples>;

/// Why a store refused a sample. Each is counted under its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum SampleRefusal {
    /// Older than the out-of-order window allows.
    TooOld,
    /// Further in the future than allowed.
    TooFarAhead,
    /// The series already has another value at this time.
    DuplicateTimestamp,
    /// The server that keeps the samples will not have it, for a reason of its own.
    Unstorable,
}

impl SampleRefusal {
    /// The reason as a metric label.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::TooOld => "too_old",
            Self::TooFarAhead => "too_far_ahead",
            Self::DuplicateTimestamp => "duplicate_timestamp",
            Self::Unstorable => "unstorable",
        }
    }
}

/// What became of a batch. `written + repeated + refused.len()` is the number of samples given.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Appended {
    /// Samples now durable.
    pub written: u64,
    /// Samples that were there already, equal to the bit: nothing to do.
    pub repeated: u64,
    /// Samples refused, by series and time.
    pub refused: Vec<(Labels, Timestamp, SampleRefusal)>,
}

/// A closed range of time: both ends belong to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeRange {
    /// First instant.
    pub from: Timestamp,
    /// Last instant.
    pub to: Timestamp,
}

/// The instants at which someone looks at series: the first, and then one every step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instants {
    /// The first instant.
    pub first: Timestamp,
    /// From one to the next.
    pub step: Step,
}

impl Instants {
    /// The instant at or after `at`.
    #[must_use]
    pub fn at_or_after(self, at: Timestamp) -> Timestamp {
        let (first, step) = (self.first.as_millis(), self.step.as_millis());
        if at <= self.first {
            return self.first;
        }
        let beyond = at.as_millis().saturating_sub(first).rem_euclid(step);
        let left = if beyond == 0 { 0 } else { step - beyond };
        Timestamp::from_millis(at.as_millis().saturating_add(left))
    }
}

/// What a store holds on this machine; of one whose samples lie on a server, what waits to be sent there.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StoreStats {
    /// Series with at least one sample.
    pub series: u64,
    /// Samples kept.
    pub samples: u64,
    /// Bytes on disk.
    pub bytes: u64,
    /// Oldest and newest sample.
    pub span: Option<TimeRange>,
}

/// What a backup holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Backup {
    /// Files in it.
    pub files: u64,
    /// How many of these are the store's own under a second name and took no room.
    pub linked: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Why a store could not do what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The disk, the file or the network failed; worth trying again.
    #[error("could not {action}")]
    Unavailable {
        /// What was attempted.
        action: String,
        /// What went wrong.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Bytes on disk are not what was written.
    #[error("{place} is damaged: {detail}; run `bellwether store verify`")]
    Damaged {
        /// File, table and key.
        place: String,
        /// What was found.
        detail: String,
    },
    /// More data than the caller allows.
    #[error("the selection holds more than {limit} samples; narrow the time range or the matchers")]
    TooLarge {
        /// Greatest number of samples allowed.
        limit: usize,
    },
    /// Too much is waiting already; come back later.
    #[error("the write queue is full")]
    Busy,
    /// The store is closing.
    #[error("the store is closed")]
    Closed,
    /// This kind of store cannot do it.
    #[error("this kind of store cannot {action}")]
    Unsupported {
        /// What was attempted, and what to do instead.
        action: &'static str,
    },
}

/// Keeps samples and gives them back.
///
/// Laws (see `store/laws.rs`): what `append` acknowledged survives `kill -9`; appending again changes nothing; `select`
/// gives each series once, samples strictly ascending, staleness markers included.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// Writes a batch and returns when what was written is durable. A refused sample does not stop the others.
    async fn append(&self, batch: Batch) -> Result<Appended, StoreError>;

    /// All series that match every matcher and have samples in `range`, with those samples, in order of labels.
    /// `limit` bounds the number of samples.
    async fn select(
        &self,
        matchers: &[Matcher],
        range: TimeRange,
        limit: usize,
    ) -> Result<Vec<SeriesSamples>, StoreError>;

    /// As [`Store::select`], for one who looks at nothing of a series but its last sample at or before each of `instants`.
    /// A store may leave out any other sample.
    async fn select_last(
        &self,
        matchers: &[Matcher],
        range: TimeRange,
        instants: Instants,
        limit: usize,
    ) -> Result<Vec<SeriesSamples>, StoreError> {
        let _ = instants;
        self.select(matchers, range, limit).await
    }

    /// Series that match and have samples in `range` (to the accuracy of the store's partitions), in order.
    async fn series(&self, matchers: &[Matcher], range: TimeRange) -> Result<Vec<Labels>, StoreError>;

    /// Drops what is older than the store's retention at `now`.
    async fn retain(&self, now: Timestamp) -> Result<(), StoreError>;

    /// What is held.
    async fn stats(&self) -> Result<StoreStats, StoreError>;

    /// Writes what is held at this moment to an empty directory of this machine, while writing goes on. Only stores that
    /// keep files of their own can.
    async fn backup(&self, to: &Path) -> Result<Backup, StoreError> {
        let _ = to;
        Err(StoreError::Unsupported { action: "back itself up; use the means of the store behind it" })
    }

    /// Whether the store can be used now: written to and asked.
    ///
    /// # Errors
    /// What stands in the way.
    async fn check(&self) -> Result<(), StoreError> {
        Ok(())
    }

    /// What evaluates PromQL in the place of our own engine, where the samples lie on a server that can.
    fn evaluator(&self) -> Option<Arc<dyn Evaluator>> {
        None
    }
}

/// A store shared by those who write and those who ask.
pub type SharedStore = Arc<dyn Store>;
