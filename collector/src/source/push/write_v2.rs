//! Remote write 2.0: from the bytes of an `io.prometheus.write.v2.Request` to a batch. Pure.
//!
//! Field numbers: Request{4 symbols, 5 timeseries}, TimeSeries{1 labels_refs, 2 samples, 3 histograms, 4 exemplars,
//! 5 metadata, 6 created_timestamp}, Sample{1 value, 2 timestamp in ms}. Labels are pairs of indexes into the symbols.

use super::decoded::{Decoded, SeriesFault};
use super::native;
use super::wire::{Fields, Value, WireError, packed};
use super::write_v1::{checked_labels, decode_sample};
use crate::metadata::{Described, MetricType};
use crate::store::SeriesSamples;

/// Takes a request apart. A series with bad labels is noted and passed over.
///
/// # Errors
/// [`WireError`] when the bytes are not such a message.
pub(super) fn decode(message: &[u8], largest_body: u64) -> Result<Decoded, WireError> {
    let mut decoded = Decoded::of_body(largest_body);
    let (mut symbols, mut timeseries) = (Vec::new(), Vec::new());
    for field in Fields::of(message) {
        match field? {
            (4, Value::Bytes(symbol)) => symbols.push(symbol),
            (5, Value::Bytes(series)) => timeseries.push(series),
            (field @ 4..=5, _) => return Err(WireError::FieldType { field }),
            _ => {}
        }
    }
    for series in timeseries {
        decode_series(series, &symbols, &mut decoded)?;
    }
    Ok(decoded)
}

fn decode_series(message: &[u8], symbols: &[&[u8]], decoded: &mut Decoded) -> Result<(), WireError> {
    let (mut references, mut samples, mut histograms) = (Vec::with_capacity(32), Vec::with_capacity(1), Vec::new());
    let mut metadata = None;
    for field in Fields::of(message) {
        match field? {
            (1, Value::Bytes(bytes)) => {
                for reference in packed(bytes) {
                    references.push(reference?);
                }
            }
            (1, Value::Varint(reference)) => references.push(reference),
            (2, Value::Bytes(sample)) => samples.push(decode_sample(sample)?),
            (3, Value::Bytes(histogram)) => histograms.push(native::decode(histogram)?),
            (4, Value::Bytes(_)) => decoded.exemplars_passed_over += 1,
            (5, Value::Bytes(message)) => metadata = Some(decode_metadata(message, symbols)?),
            (6, Value::Varint(_)) => {} // time of creation
            (field @ 1..=6, _) => return Err(WireError::FieldType { field }),
            _ => {}
        }
    }
    let pairs = resolve(&references, symbols);
    decoded.room_for(pairs.iter().flatten().map(|(name, value)| name.len() + value.len()).sum())?;
    match pairs.as_ref().ok_or(SeriesFault::BadReference).and_then(|pairs| checked_labels(pairs)) {
        Err(fault) => decoded.refuse(fault, pairs.as_deref().unwrap_or_default(), samples.len() + histograms.len()),
        Ok(labels) => {
            if let Some(said) = metadata {
                note(decoded, labels.metric_name(), said)?;
            }
            decoded.take(SeriesSamples { labels, samples }, histograms)?;
        }
    }
    Ok(())
}

/// Type, help and unit.
type Said<'a> = (MetricType, &'a [u8], &'a [u8]);

/// Metadata{1 type, 3 help_ref, 4 unit_ref}
fn decode_metadata<'a>(message: &[u8], symbols: &[&'a [u8]]) -> Result<Said<'a>, WireError> {
    let mut said: Said<'a> = (MetricType::Unknown, &[], &[]);
    let symbol = |reference: u64| {
        usize::try_from(reference).ok().and_then(|reference| symbols.get(reference).copied()).unwrap_or_default()
    };
    for field in Fields::of(message) {
        match field? {
            (1, Value::Varint(kind)) => said.0 = MetricType::by_number(kind),
            (3, Value::Varint(help)) => said.1 = symbol(help),
            (4, Value::Varint(unit)) => said.2 = symbol(unit),
            (field @ (1 | 3 | 4), _) => return Err(WireError::FieldType { field }),
            _ => {}
        }
    }
    Ok(said)
}

/// Notes what is said of a series' metric; the series of one metric, which say the same, mostly follow each other.
fn note(decoded: &mut Decoded, series: &str, (kind, help, unit): Said<'_>) -> Result<(), WireError> {
    let metric = family(series, kind);
    let told = decoded.described.last().is_some_and(|last| last.metric == metric);
    if !told && (kind, help, unit) != (MetricType::Unknown, &[], &[]) {
        decoded.room_for(metric.len() + help.len() + unit.len())?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        decoded.described.push(Described { metric: metric.to_owned(), kind, help: text(help), unit: text(unit) });
    }
    Ok(())
}

/// The metric family of a series: the parts of histograms and summaries belong to one.
fn family(series: &str, kind: MetricType) -> &str {
    let parts: &[&str] = match kind {
        MetricType::Histogram => &["_bucket", "_count", "_sum"],
        MetricType::GaugeHistogram => &["_bucket", "_gcount", "_gsum"],
        MetricType::Summary => &["_count", "_sum"],
        _ => &[],
    };
    parts.iter().find_map(|part| series.strip_suffix(part)).unwrap_or(series)
}

/// The labels behind pairs of references; `None` when one points nowhere or is left over.
fn resolve<'a>(references: &[u64], symbols: &[&'a [u8]]) -> Option<Vec<(&'a [u8], &'a [u8])>> {
    let symbol = |reference: u64| symbols.get(usize::try_from(reference).ok()?).copied();
    let pairs = references.chunks(2).map(|pair| match *pair {
        [name, value] => Some((symbol(name)?, symbol(value)?)),
        _ => None,
    });
    pairs.collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::Message;

    use super::*;
    use crate::remote_write::v2::{Request, Sample, TimeSeries};

    const LARGEST: u64 = 1 << 20;

    #[test]
    fn a_symbol_that_every_series_repeats_does_not_fill_the_memory() {
        let (long, series) = (
            vec![b'x'; 1 << 16],
            TimeSeries {
                labels_refs: vec![1, 2],
                samples: vec![Sample { value: Some(1.0), timestamp: 7 }],
                ..TimeSeries::default()
            },
        );
        let request = |count| Request {
            symbols: vec![vec![], b"__name__".to_vec(), long.clone()],
            timeseries: vec![series.clone(); count],
        };
        assert_eq!(decode(&request(60).encode_to_vec(), LARGEST).unwrap().batch.len(), 60);
        let error = decode(&request(5000).encode_to_vec(), LARGEST).unwrap_err();
        assert_eq!(error, WireError::Larger { limit: 4 * LARGEST });
    }

    fn request(all: &[&[u32]]) -> Request {
        let series = |refs: &&[u32]| TimeSeries {
            labels_refs: refs.to_vec(),
            samples: vec![Sample { value: Some(1.5), timestamp: 7 }],
            ..TimeSeries::default()
        };
        Request {
            symbols: ["", "__name__", "up", "job", "node"].map(|text| text.as_bytes().to_vec()).into(),
            timeseries: all.iter().map(series).collect(),
        }
    }

    #[test]
    fn symbols_become_labels_and_each_bad_series_is_refused_alone() {
        let mut request = request(&[&[1, 2, 3, 4], &[1, 2, 3], &[1, 99], &[3, 4, 1, 2], &[1, 0], &[1, 4]]);
        let unknown = native::tests::Histogram { schema: 99, ..native::tests::example() };
        request.timeseries[5].histograms.push(unknown.encode_to_vec());
        let decoded = decode(&request.encode_to_vec(), LARGEST).unwrap();
        let kept: Vec<String> = decoded.batch.iter().map(|series| series.labels.to_string()).collect();
        assert_eq!(kept, [r#"up{job="node"}"#, "node"]);
        use SeriesFault::*;
        let faults: Vec<_> = decoded.refused.iter().map(|refused| refused.fault).collect();
        assert_eq!(faults, [BadReference, BadReference, UnsortedLabels, EmptyLabel, NativeHistogram]);
    }

    proptest! {
        #[test]
        fn a_damaged_request_is_an_error_or_a_batch_and_never_a_panic(at: usize, bit in 0u8..8, cut: usize) {
            let mut bytes = request(&[&[1, 2, 3, 4][..]; 10]).encode_to_vec();
            let (at, cut) = (at % bytes.len(), cut % bytes.len());
            bytes[at] ^= 1 << bit;
            let _ = decode(&bytes, LARGEST);
            let _ = decode(&bytes[..cut], LARGEST);
        }
    }
}
