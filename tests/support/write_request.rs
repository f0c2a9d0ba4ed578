//! Remote write messages, built from their public field numbers by a library other than our reader.

use prost::Message;

/// `prometheus.WriteRequest`
#[derive(Clone, PartialEq, Message)]
pub struct WriteRequest {
    #[prost(message, repeated, tag = "1")]
    pub timeseries: Vec<TimeSeries>,
}

/// `prometheus.TimeSeries`
#[derive(Clone, PartialEq, Message)]
pub struct TimeSeries {
    #[prost(message, repeated, tag = "1")]
    pub labels: Vec<Label>,
    #[prost(message, repeated, tag = "2")]
    pub samples: Vec<Sample>,
}

/// `prometheus.Label`; bytes, so that a test can send what is not UTF-8.
#[derive(Clone, PartialEq, Message)]
pub struct Label {
    #[prost(bytes, tag = "1")]
    pub name: Vec<u8>,
    #[prost(bytes, tag = "2")]
    pub value: Vec<u8>,
}

/// `prometheus.Sample`
#[derive(Clone, Copy, PartialEq, Message)]
pub struct Sample {
    #[prost(double, tag = "1")]
    pub value: f64,
    #[prost(int64, tag = "2")]
    pub timestamp: i64,
}

/// A series with labels in the order given and samples of `(milliseconds, value)`.
pub fn series(labels: &[(&str, &[u8])], samples: &[(i64, f64)]) -> TimeSeries {
    let label = |(name, value): &(&str, &[u8])| Label { name: name.as_bytes().to_vec(), value: value.to_vec() };
    let sample = |(timestamp, value): &(i64, f64)| Sample { value: *value, timestamp: *timestamp };
    TimeSeries { labels: labels.iter().map(label).collect(), samples: samples.iter().map(sample).collect() }
}

/// The body of a request: snappy's block format.
pub fn packed(timeseries: Vec<TimeSeries>) -> Vec<u8> {
    let message = WriteRequest { timeseries }.encode_to_vec();
    snap::raw::Encoder::new().compress_vec(&message).expect("a small message is packed")
}
