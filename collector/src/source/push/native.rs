//! Native histograms of remote write 1.x and 2.0, whose messages are the same: from the bytes to buckets. Pure.
//!
//! Field numbers: Histogram{1 count_int, 2 count_float, 3 sum, 4 schema, 5 zero_threshold, 6 zero_count_int,
//! 7 zero_count_float, 8 negative_spans, 9 negative_deltas, 10 negative_counts, 11 positive_spans, 12 positive_deltas,
//! 13 positive_counts, 15 timestamp in ms, 16 custom_values}, BucketSpan{1 offset, 2 length}.

use bellwether_models::series::Timestamp;

use super::wire::{Fields, Value, WireError, packed};
use crate::source::exponential::{Bucketed, Exponential};

/// The schema whose bounds are written out in `custom_values`.
const CUSTOM: i64 = -53;

#[derive(Debug, Default)]
struct Side {
    /// Offset from the end of the span before, and length.
    spans: Vec<(i64, u64)>,
    deltas: Vec<i64>,
    counts: Vec<f64>,
}

impl Side {
    /// Counts by index.
    fn buckets(&self) -> Vec<(i64, f64)> {
        let mut running = 0i64;
        let counts = self.deltas.iter().map(|delta| {
            running = running.saturating_add(*delta);
            running as f64
        });
        let counts: Vec<f64> = if self.counts.is_empty() { counts.collect() } else { self.counts.clone() };
        let mut next = 0i64;
        let indexes = self.spans.iter().flat_map(|(offset, length)| {
            let first = next.saturating_add(*offset);
            next = first.saturating_add(i64::try_from(*length).unwrap_or(i64::MAX));
            first..next
        });
        indexes.zip(counts).collect()
    }
}

/// Takes a histogram apart; `None` where its schema is not known.
///
/// # Errors
/// [`WireError`] when the bytes are not such a message.
pub(super) fn decode(message: &[u8]) -> Result<Option<Bucketed>, WireError> {
    let (mut positive, mut negative) = (Side::default(), Side::default());
    let (mut count, mut sum, mut schema, mut at) = (0.0, 0.0, 0, 0);
    let (mut zero, mut threshold, mut bounds) = (0.0, 0.0, Vec::new());
    for field in Fields::of(message) {
        match field? {
            (1, Value::Varint(number)) => count = number as f64,
            (2, Value::Fixed64(bits)) => count = f64::from_bits(bits),
            (3, Value::Fixed64(bits)) => sum = f64::from_bits(bits),
            (4, Value::Varint(number)) => schema = signed(number),
            (5, Value::Fixed64(bits)) => threshold = f64::from_bits(bits),
            (6, Value::Varint(number)) => zero = number as f64,
            (7, Value::Fixed64(bits)) => zero = f64::from_bits(bits),
            (8, Value::Bytes(bytes)) => negative.spans.push(span(bytes)?),
            (9, value) => integers(9, value, &mut negative.deltas)?,
            (10, value) => doubles(10, value, &mut negative.counts)?,
            (11, Value::Bytes(bytes)) => positive.spans.push(span(bytes)?),
            (12, value) => integers(12, value, &mut positive.deltas)?,
            (13, value) => doubles(13, value, &mut positive.counts)?,
            (15, Value::Varint(millis)) => at = millis as i64,
            (16, value) => doubles(16, value, &mut bounds)?,
            (field @ (1..=8 | 11 | 15), _) => return Err(WireError::FieldType { field }),
            _ => {} // the hint about resets, and what may come to be
        }
    }
    let buckets = match schema {
        CUSTOM => Some(custom(&bounds, &positive)),
        // their bucket i ends where ours with the number i - 1 does
        -4..=8 => {
            let shifted = |side: &Side| side.buckets().into_iter().map(|(index, n)| (index.saturating_sub(1), n));
            Exponential::new(schema as i32, shifted(&positive), shifted(&negative), zero, threshold)
                .map(|e| e.buckets())
        }
        _ => None,
    };
    Ok(buckets.map(|buckets| Bucketed { at: Timestamp::from_millis(at), buckets, count, sum: Some(sum) }))
}

/// Buckets whose bounds are written out.
fn custom(bounds: &[f64], side: &Side) -> Vec<(f64, f64)> {
    let counts: std::collections::BTreeMap<i64, f64> = side.buckets().into_iter().collect();
    let mut below = 0.0;
    let row = |(index, bound): (usize, &f64)| {
        below += counts.get(&(index as i64)).unwrap_or(&0.0);
        (*bound, below)
    };
    bounds.iter().enumerate().map(row).filter(|(bound, _)| bound.is_finite()).collect()
}

fn span(message: &[u8]) -> Result<(i64, u64), WireError> {
    let mut span = (0, 0);
    for field in Fields::of(message) {
        match field? {
            (1, Value::Varint(offset)) => span.0 = signed(offset),
            (2, Value::Varint(length)) => span.1 = length,
            (field @ 1..=2, _) => return Err(WireError::FieldType { field }),
            _ => {}
        }
    }
    Ok(span)
}

/// Undoes the zigzag of a signed number.
fn signed(number: u64) -> i64 {
    (number >> 1) as i64 ^ -((number & 1) as i64)
}

fn integers(field: u32, value: Value<'_>, out: &mut Vec<i64>) -> Result<(), WireError> {
    match value {
        Value::Varint(number) => out.push(signed(number)),
        Value::Bytes(bytes) => {
            for number in packed(bytes) {
                out.push(signed(number?));
            }
        }
        _ => return Err(WireError::FieldType { field }),
    }
    Ok(())
}

fn doubles(field: u32, value: Value<'_>, out: &mut Vec<f64>) -> Result<(), WireError> {
    match value {
        Value::Fixed64(bits) => out.push(f64::from_bits(bits)),
        Value::Bytes(bytes) => {
            let (numbers, rest) = bytes.as_chunks::<8>();
            if !rest.is_empty() {
                return Err(WireError::Truncated);
            }
            out.extend(numbers.iter().map(|bytes| f64::from_le_bytes(*bytes)));
        }
        _ => return Err(WireError::FieldType { field }),
    }
    Ok(())
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;
    use prost::Message;

    use super::*;

    /// The same message by prost: a second source for the bytes.
    #[derive(Clone, PartialEq, Message)]
    pub(in super::super) struct Histogram {
        #[prost(uint64, tag = "1")]
        pub count: u64,
        #[prost(double, tag = "3")]
        pub sum: f64,
        #[prost(sint32, tag = "4")]
        pub schema: i32,
        #[prost(double, tag = "5")]
        pub zero_threshold: f64,
        #[prost(uint64, tag = "6")]
        pub zero_count: u64,
        #[prost(message, repeated, tag = "8")]
        pub negative_spans: Vec<Span>,
        #[prost(sint64, repeated, tag = "9")]
        pub negative_deltas: Vec<i64>,
        #[prost(message, repeated, tag = "11")]
        pub positive_spans: Vec<Span>,
        #[prost(sint64, repeated, tag = "12")]
        pub positive_deltas: Vec<i64>,
        #[prost(double, repeated, tag = "13")]
        pub positive_counts: Vec<f64>,
        #[prost(int64, tag = "15")]
        pub timestamp: i64,
        #[prost(double, repeated, tag = "16")]
        pub custom_values: Vec<f64>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(in super::super) struct Span {
        #[prost(sint32, tag = "1")]
        pub offset: i32,
        #[prost(uint32, tag = "2")]
        pub length: u32,
    }

    /// Buckets (1/2, 1] with 2, (1, 2] with 1, (4, 8] with 4, and 3 at zero.
    pub(in super::super) fn example() -> Histogram {
        Histogram {
            count: 10,
            sum: 31.5,
            zero_threshold: 0.001,
            zero_count: 3,
            positive_spans: vec![Span { offset: 0, length: 2 }, Span { offset: 1, length: 1 }],
            positive_deltas: vec![2, -1, 3],
            timestamp: 7,
            ..Histogram::default()
        }
    }

    #[test]
    fn spans_and_deltas_become_cumulative_buckets() {
        let bucketed = decode(&example().encode_to_vec()).unwrap().unwrap();
        let expected = [(0.001, 3.0), (0.5, 3.0), (1.0, 5.0), (2.0, 6.0), (4.0, 6.0), (8.0, 10.0)];
        assert_eq!(bucketed.buckets, expected);
        assert_eq!((bucketed.at.as_millis(), bucketed.count, bucketed.sum), (7, 10.0, Some(31.5)));
    }

    #[test]
    fn written_out_bounds_are_kept_as_they_are() {
        let histogram = Histogram {
            schema: -53,
            custom_values: vec![0.1, 1.0, 2.5],
            positive_spans: vec![Span { offset: 0, length: 1 }, Span { offset: 1, length: 2 }],
            positive_deltas: vec![5, 0, 2],
            ..example()
        };
        let bucketed = decode(&histogram.encode_to_vec()).unwrap().unwrap();
        assert_eq!(bucketed.buckets, [(0.1, 5.0), (1.0, 5.0), (2.5, 10.0)]);
        let unknown = Histogram { schema: 99, ..example() };
        assert_eq!(decode(&unknown.encode_to_vec()).unwrap(), None);
    }

    proptest! {
        #[test]
        fn no_bytes_and_no_hostile_span_make_it_panic_or_run_on(
            bytes in proptest::collection::vec(any::<u8>(), 0..100), offset: i32, length: u32,
        ) {
            let _ = decode(&bytes);
            let span = Span { offset, length };
            let hostile = Histogram { positive_spans: vec![span; 3], ..example() };
            if let Some(bucketed) = decode(&hostile.encode_to_vec()).unwrap() {
                prop_assert!(bucketed.buckets.len() < 1000);
            }
        }
    }
}
