//! Remote write: our reader against prost's, and bodies that were never packed.

use std::collections::BTreeSet;

use axum::http::StatusCode;
use bellwether_collector::remote_write::{V1_CONTENT_TYPE, V2_CONTENT_TYPE, packed, v1, v2};
use bellwether_models::series::Labels;
use prost::Message;

use super::choice;
use super::door::{Door, Kept};

/// A message of version 1.
pub fn v1(bytes: &[u8]) {
    let reference = v1::WriteRequest::decode(bytes).ok().filter(|_| Described::decode(bytes).is_ok());
    let sent = |message: &v1::WriteRequest| {
        let of =
            |series: &v1::TimeSeries| (labels_of_v1(series), series.samples.clone(), !series.histograms.is_empty());
        Sent::of(message.timeseries.iter().map(of))
    };
    same_as_prost(bytes, reference, V1_CONTENT_TYPE, sent);
}

/// A message of version 2.
pub fn v2(bytes: &[u8]) {
    let reference = v2::Request::decode(bytes).ok();
    let sent = |message: &v2::Request| {
        let of = |series: &v2::TimeSeries| {
            (labels_of_v2(series, &message.symbols), series.samples.clone(), !series.histograms.is_empty())
        };
        Sent::of(message.timeseries.iter().map(of))
    };
    same_as_prost(bytes, reference, V2_CONTENT_TYPE, sent);
}

/// What a message of version 1 says of metrics, which the sender's own message leaves out.
#[derive(Clone, PartialEq, prost::Message)]
struct Described {
    #[prost(message, repeated, tag = "3")]
    metadata: Vec<Metadata>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Metadata {
    #[prost(int32, tag = "1")]
    kind: i32,
    #[prost(bytes = "vec", tag = "2")]
    metric: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    help: Vec<u8>,
    #[prost(bytes = "vec", tag = "5")]
    unit: Vec<u8>,
}

/// A body as it comes: what it claims to unpack to is checked before it is believed.
pub fn body(bytes: &[u8]) {
    let (first, body) = choice(bytes);
    let content_type = if first & 1 == 0 { V1_CONTENT_TYPE } else { V2_CONTENT_TYPE };
    let (status, text) = post(&Door::new(), content_type, body.to_vec());
    let claims_too_much = match snap::raw::decompress_len(body) {
        Ok(claimed) => claimed as u64 > super::door::UNPACKED,
        Err(error) => matches!(error, snap::Error::TooBig { .. }),
    };
    assert_eq!(status == StatusCode::PAYLOAD_TOO_LARGE && text.contains("unpacked"), claims_too_much, "{text}");
}

fn post(door: &Door, content_type: &str, body: Vec<u8>) -> (StatusCode, String) {
    door.post("/api/v1/write", &[("content-type", content_type), ("content-encoding", "snappy")], body)
}

/// Nothing is kept that was not sent; where all is said to be kept, it is; prost's message and the bytes it came from are
/// taken alike; and only a form that no sender uses may be refused where prost reads it.
fn same_as_prost<M: Message>(bytes: &[u8], reference: Option<M>, content_type: &str, sent: impl Fn(&M) -> Sent) {
    let Ok(body) = snap::raw::Encoder::new().compress_vec(bytes) else { return };
    let door = Door::new();
    let (status, text) = post(&door, content_type, body);
    if status == StatusCode::PAYLOAD_TOO_LARGE {
        return;
    }
    let kept = door.kept();
    let unreadable = text.contains("not a write request");
    let Some(reference) = reference else {
        assert!(unreadable, "read where prost reads nothing: {status} {text}");
        return;
    };
    let Sent { samples: sent, histograms, any_histogram } = sent(&reference);
    if unreadable {
        // To prost a native histogram is bytes, to us a message with faults of its own.
        assert!(text.contains("wire type") || any_histogram, "prost reads it: {text}");
        return;
    }
    let bucket = |sample: &Kept| histograms.iter().any(|name| is_part_of(name, &sample.0));
    let stray = kept.iter().find(|sample| !sent.contains(sample) && !bucket(sample));
    assert!(stray.is_none(), "kept {kept:?}, sent {sent:?}");
    if status.is_success() {
        assert!(sent.iter().all(|sample| kept.binary_search(sample).is_ok()), "kept {kept:?}, sent {sent:?}");
    }
    let again = Door::new();
    let (status_again, _) = post(&again, content_type, packed(&reference).expect("it was small before"));
    assert_eq!((status_again, again.kept()), (status, kept));
}

/// What a message holds, as prost reads it.
struct Sent {
    samples: BTreeSet<Kept>,
    /// Names of the series with native histograms, whose buckets are kept as series of their own.
    histograms: BTreeSet<String>,
    /// Whether any series has native histograms, be its labels good or bad.
    any_histogram: bool,
}

impl Sent {
    fn of(series: impl Iterator<Item = (Option<Labels>, Vec<v1::Sample>, bool)>) -> Self {
        let mut sent = Self { samples: BTreeSet::new(), histograms: BTreeSet::new(), any_histogram: false };
        for (labels, values, histogram) in series {
            sent.any_histogram |= histogram;
            let Some(labels) = labels else { continue };
            if histogram {
                sent.histograms.insert(labels.metric_name().to_owned());
            }
            sent.samples.extend(samples(&labels, &values));
        }
        sent
    }
}

fn is_part_of(histogram: &str, labels: &Labels) -> bool {
    let end = labels.metric_name().strip_prefix(histogram);
    matches!(end, Some("_bucket" | "_count" | "_sum"))
}

fn labels_of_v1(series: &v1::TimeSeries) -> Option<Labels> {
    let labels: Option<Vec<(&str, &str)>> = series.labels.iter().map(|label| pair(&label.name, &label.value)).collect();
    Some(Labels::new(labels?))
}

fn labels_of_v2(series: &v2::TimeSeries, symbols: &[Vec<u8>]) -> Option<Labels> {
    let symbol = |index: u32| symbols.get(index as usize).map(Vec::as_slice);
    let labels: Option<Vec<(&str, &str)>> =
        series.labels_refs.chunks_exact(2).map(|pair_of| pair(symbol(pair_of[0])?, symbol(pair_of[1])?)).collect();
    Some(Labels::new(labels?))
}

fn pair<'a>(name: &'a [u8], value: &'a [u8]) -> Option<(&'a str, &'a str)> {
    Some((std::str::from_utf8(name).ok()?, std::str::from_utf8(value).ok()?))
}

fn samples(labels: &Labels, samples: &[v1::Sample]) -> Vec<Kept> {
    samples
        .iter()
        .map(|sample| (labels.clone(), sample.timestamp, sample.value.unwrap_or_default().to_bits()))
        .collect()
}
