//! What a request held, before it goes through the door.

use bellwether_models::series::METRIC_NAME;

use super::wire::WireError;
use crate::ingest::Refusal;
use crate::metadata::Described;
use crate::source::exponential::Bucketed;
use crate::store::{Batch, SeriesSamples};

/// Why a series of a request cannot be kept as it was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SeriesFault {
    UnsortedLabels,
    DuplicateLabel,
    EmptyLabel,
    NotUtf8,
    NativeHistogram,
    BadReference,
}

impl SeriesFault {
    /// The reason it is counted under.
    pub(super) fn refusal(self) -> Refusal {
        match self {
            Self::UnsortedLabels => Refusal::LabelsUnsorted,
            Self::DuplicateLabel => Refusal::LabelDuplicate,
            Self::EmptyLabel => Refusal::LabelEmpty,
            Self::NotUtf8 => Refusal::NotUtf8,
            Self::NativeHistogram => Refusal::NativeHistogram,
            Self::BadReference => Refusal::BadReference,
        }
    }
}

/// A series passed over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RefusedSeries {
    /// Why.
    pub fault: SeriesFault,
    /// The series in words.
    pub series: String,
    /// How many samples went with it.
    pub samples: u64,
}

/// So many refused series are kept apart; further ones count with the first of their fault.
const MOST_APART: usize = 1000;

/// What a series takes beside its labels and samples.
const SERIES_BYTES: usize = 128;
/// A request may take so many times the bytes of the largest body when it is taken apart.
const GROWTH: u64 = 4;

/// A request taken apart.
#[derive(Debug, Default)]
pub(super) struct Decoded {
    /// Bytes that it may take, and those that it takes: symbols and buckets make a request larger than its message.
    limit: u64,
    taken: u64,
    /// What can go on.
    pub batch: Batch,
    /// What cannot.
    pub refused: Vec<RefusedSeries>,
    /// What is said of the metrics.
    pub described: Vec<Described>,
    /// Native histograms that became buckets, and the samples they became.
    pub histograms: u64,
    pub bucket_samples: u64,
    /// Exemplars, which are not kept.
    pub exemplars_passed_over: u64,
}

impl Decoded {
    /// Nothing yet, with room according to the largest body.
    pub(super) fn of_body(largest: u64) -> Self {
        Self { limit: largest.saturating_mul(GROWTH), ..Self::default() }
    }

    /// Makes room for one more series or description with so many bytes of text.
    pub(super) fn room_for(&mut self, text: usize) -> Result<(), WireError> {
        self.taken += (SERIES_BYTES + text) as u64;
        if self.taken > self.limit { Err(WireError::Larger { limit: self.limit }) } else { Ok(()) }
    }

    /// Takes a good series in, and the histograms that came with it as series of buckets.
    pub(super) fn take(&mut self, series: SeriesSamples, histograms: Vec<Option<Bucketed>>) -> Result<(), WireError> {
        let unknown = histograms.iter().filter(|histogram| histogram.is_none()).count();
        if unknown > 0 {
            let metric = series.labels.metric_name().as_bytes();
            self.refuse(SeriesFault::NativeHistogram, &[(METRIC_NAME.as_bytes(), metric)], unknown);
        }
        for histogram in histograms.into_iter().flatten() {
            let before = self.batch.len();
            histogram.series(&series.labels, &mut self.batch);
            self.histograms += 1;
            let buckets = self.batch.len() - before;
            self.bucket_samples += buckets as u64;
            (0..buckets).try_for_each(|_| self.room_for(series.labels.text_len()))?;
        }
        if !series.samples.is_empty() {
            self.batch.push(series);
        }
        Ok(())
    }

    /// Notes a series passed over. Of very many only the first are kept apart: a request of short series must not
    /// grow in memory to many times its length.
    pub(super) fn refuse(&mut self, fault: SeriesFault, pairs: &[(&[u8], &[u8])], samples: usize) {
        let same = (self.refused.len() >= MOST_APART).then(|| self.refused.iter_mut().find(|one| one.fault == fault));
        if let Some(same) = same.flatten() {
            same.samples += samples as u64;
            return;
        }
        let text = |bytes: &[u8]| String::from_utf8_lossy(&bytes[..bytes.len().min(60)]).into_owned();
        let shown: Vec<String> =
            pairs.iter().take(8).map(|(name, value)| format!("{}={:?}", text(name), text(value))).collect();
        self.refused.push(RefusedSeries { fault, series: format!("{{{}}}", shown.join(",")), samples: samples as u64 });
    }
}
