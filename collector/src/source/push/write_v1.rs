//! Remote write 1.x: from the bytes of a `prometheus.WriteRequest` to a batch. Pure.
//!
//! Field numbers: WriteRequest{1 timeseries, 3 metadata}, MetricMetadata{1 type, 2 metric_family_name, 4 help, 5 unit},
//! TimeSeries{1 labels, 2 samples, 3 exemplars, 4 histograms}, Label{1 name, 2 value}, Sample{1 value, 2 timestamp in ms}.

use bellwether_models::series::{Labels, Sample, Timestamp};

use super::decoded::{Decoded, SeriesFault};
use super::known::Known;
use super::native;
use super::wire::{Fields, Value, WireError, take_pair, take_sample};
use crate::metadata::{Described, MetricType};
use crate::store::SeriesSamples;

/// Takes a request apart. A series with bad labels is noted and passed over.
///
/// # Errors
/// [`WireError`] when the bytes are not such a message.
pub(super) fn decode(message: &[u8], largest_body: u64, known: &Known) -> Result<Decoded, WireError> {
    let (mut decoded, mut pairs) = (Decoded::of_body(largest_body), Vec::with_capacity(16));
    for field in Fields::of(message) {
        match field? {
            (1, Value::Bytes(series)) => decode_series(series, known, &mut pairs, &mut decoded)?,
            (3, Value::Bytes(metadata)) => {
                decoded.room_for(metadata.len())?;
                decoded.described.push(decode_metadata(metadata)?);
            }
            (field @ (1 | 3), _) => return Err(WireError::FieldType { field }),
            _ => {} // what may come to be
        }
    }
    Ok(decoded)
}

fn decode_metadata(message: &[u8]) -> Result<Described, WireError> {
    let mut described = Described::default();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    for field in Fields::of(message) {
        match field? {
            (1, Value::Varint(kind)) => described.kind = MetricType::by_number(kind),
            (2, Value::Bytes(metric)) => described.metric = text(metric),
            (4, Value::Bytes(help)) => described.help = text(help),
            (5, Value::Bytes(unit)) => described.unit = text(unit),
            (field @ (1 | 2 | 4 | 5), _) => return Err(WireError::FieldType { field }),
            _ => {}
        }
    }
    Ok(described)
}

fn decode_series<'m>(
    message: &'m [u8],
    known: &Known,
    pairs: &mut Vec<(&'m [u8], &'m [u8])>,
    decoded: &mut Decoded,
) -> Result<(), WireError> {
    pairs.clear();
    let mut rest = message;
    while let Some(pair) = take_pair(&mut rest) {
        pairs.push(pair);
    }
    let (sent, first) = (&message[..message.len() - rest.len()], pairs.len());
    let (mut samples, mut histograms) = (Vec::with_capacity(1), Vec::new());
    while let Some((value, millis)) = take_sample(&mut rest) {
        samples.push(Sample { at: Timestamp::from_millis(millis), value });
    }
    for field in Fields::of(rest) {
        match field? {
            (1, Value::Bytes(label)) => pairs.push(decode_label(label)?),
            (2, Value::Bytes(sample)) => samples.push(decode_sample(sample)?),
            (4, Value::Bytes(histogram)) => histograms.push(native::decode(histogram)?),
            (3, Value::Bytes(_)) => decoded.exemplars_passed_over += 1,
            (field @ 1..=4, _) => return Err(WireError::FieldType { field }),
            _ => {}
        }
    }
    let build = || checked_labels(pairs);
    match if pairs.len() == first { known.labels(sent, pairs, build) } else { build() } {
        Err(fault) => decoded.refuse(fault, pairs, samples.len() + histograms.len()),
        Ok(labels) => {
            decoded.room_for(labels.text_len())?;
            decoded.take(SeriesSamples { labels, samples }, histograms)?;
        }
    }
    Ok(())
}

fn decode_label(message: &[u8]) -> Result<(&[u8], &[u8]), WireError> {
    let (mut name, mut value): (&[u8], &[u8]) = (&[], &[]);
    for field in Fields::of(message) {
        match field? {
            (1, Value::Bytes(bytes)) => name = bytes,
            (2, Value::Bytes(bytes)) => value = bytes,
            (field @ 1..=2, _) => return Err(WireError::FieldType { field }),
            _ => {}
        }
    }
    Ok((name, value))
}

pub(super) fn decode_sample(message: &[u8]) -> Result<Sample, WireError> {
    let mut sample = Sample { at: Timestamp::from_millis(0), value: 0.0 };
    for field in Fields::of(message) {
        match field? {
            (1, Value::Fixed64(bits)) => sample.value = f64::from_bits(bits),
            (2, Value::Varint(millis)) => sample.at = Timestamp::from_millis(millis as i64),
            (field @ 1..=2, _) => return Err(WireError::FieldType { field }),
            _ => {}
        }
    }
    Ok(sample)
}

/// Labels as a sender must give them: UTF-8, sorted by name, each once, nothing empty. They are not repaired.
pub(super) fn checked_labels(pairs: &[(&[u8], &[u8])]) -> Result<Labels, SeriesFault> {
    let mut texts: Vec<(&str, &str)> = Vec::with_capacity(pairs.len());
    for (name, value) in pairs {
        let (Ok(name), Ok(value)) = (std::str::from_utf8(name), std::str::from_utf8(value)) else {
            return Err(SeriesFault::NotUtf8);
        };
        if name.is_empty() || value.is_empty() {
            return Err(SeriesFault::EmptyLabel);
        }
        match texts.last().map(|(last, _)| (*last).cmp(name)) {
            Some(std::cmp::Ordering::Equal) => return Err(SeriesFault::DuplicateLabel),
            Some(std::cmp::Ordering::Greater) => return Err(SeriesFault::UnsortedLabels),
            _ => texts.push((name, value)),
        }
    }
    Ok(Labels::new(texts))
}

#[cfg(test)]
pub(super) mod reference {
    //! Messages built by prost: a second source for the bytes.

    pub use crate::remote_write::v1::{Label, Sample, TimeSeries, WriteRequest};

    /// A series with one sample.
    pub fn series(labels: &[(&[u8], &[u8])], value: f64, timestamp: i64) -> TimeSeries {
        let label = |(name, value): &(&[u8], &[u8])| Label { name: name.to_vec(), value: value.to_vec() };
        TimeSeries {
            labels: labels.iter().map(label).collect(),
            samples: vec![Sample { value: Some(value), timestamp }],
            histograms: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use bellwether_models::series::{is_stale, stale_marker};
    use proptest::prelude::*;
    use prost::Message;

    use super::super::native::tests::{Histogram, example};
    use super::reference::{self, WriteRequest, series};
    use super::*;

    fn all(message: &[u8]) -> Result<Decoded, WireError> {
        decode(message, 1 << 20, &Known::default())
    }

    #[test]
    fn a_request_becomes_a_batch_and_each_bad_series_is_refused_alone() {
        let mut histogram = series(&[(b"__name__", b"h")], 1.0, 1);
        histogram.histograms = vec![example().encode_to_vec(), Histogram { schema: 99, ..example() }.encode_to_vec()];
        let request = WriteRequest {
            timeseries: vec![
                series(&[(b"__name__", b"up"), (b"job", b"node")], stale_marker(), -5),
                series(&[(b"job", b"node"), (b"__name__", b"unsorted")], 1.0, 1),
                series(&[(b"__name__", b"twice"), (b"a", b"1"), (b"a", b"2")], 1.0, 1),
                series(&[(b"__name__", b"empty"), (b"a", b"")], 1.0, 1),
                series(&[(b"__name__", b"bytes"), (b"a", b"\xff")], 1.0, 1),
                histogram,
            ],
        };

        let decoded = all(&request.encode_to_vec()).unwrap();

        assert_eq!((decoded.batch.len(), decoded.histograms, decoded.bucket_samples), (2 + 9, 1, 9));
        assert_eq!(decoded.batch[5].labels.to_string(), r#"h_bucket{le="4"}"#);
        assert_eq!(decoded.batch[5].samples[0].value, 6.0);
        assert_eq!(decoded.batch[0].labels.to_string(), r#"up{job="node"}"#);
        assert!(is_stale(decoded.batch[0].samples[0].value));
        assert_eq!(decoded.batch[0].samples[0].at, Timestamp::from_millis(-5));
        let reasons: Vec<_> = decoded.refused.iter().map(|refused| (refused.fault, refused.samples)).collect();
        use SeriesFault::*;
        let all = [UnsortedLabels, DuplicateLabel, EmptyLabel, NotUtf8, NativeHistogram];
        assert_eq!(reasons, all.map(|fault| (fault, 1)));
    }

    proptest! {
        #[test]
        fn a_sample_taken_is_what_the_fields_say(bits: u64, millis: i64, change in proptest::option::of((0usize..20, 0u8..24))) {
            let sample = reference::Sample { value: Some(f64::from_bits(bits)), timestamp: millis };
            let message = sample.encode_to_vec();
            let mut bytes = [&[0x12, message.len() as u8], &message[..], &[7]].concat();
            if let Some((at, byte)) = change {
                let last = bytes.len() - 1;
                bytes[at.min(last)] = byte;
            }
            let mut rest = &bytes[..];
            match take_sample(&mut rest) {
                Some((value, millis)) => {
                    let mut fields = Fields::of(&bytes);
                    let Some(Ok((2, Value::Bytes(inner)))) = fields.next() else { panic!("field 2 of {bytes:?}") };
                    let read = decode_sample(inner).unwrap();
                    prop_assert_eq!((read.value.to_bits(), read.at.as_millis()), (value.to_bits(), millis));
                }
                None => prop_assert!(change.is_some() && rest == &bytes[..]),
            }
        }

        #[test]
        fn a_damaged_request_is_an_error_or_a_batch_and_never_a_panic(
            at in 0usize..1000, bit in 0u8..8, cut in 0usize..1000,
        ) {
            let request = WriteRequest { timeseries: vec![series(&[(b"__name__", b"m"), (b"a", b"b")], 1.5, 7); 20] };
            let mut bytes = request.encode_to_vec();
            let at = at % bytes.len();
            bytes[at] ^= 1 << bit;
            let _ = all(&bytes);
            let _ = all(&bytes[..cut.min(bytes.len())]);
        }
    }
}
