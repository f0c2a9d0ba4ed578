//! The messages of Prometheus remote write by their published field numbers, for those who send.
//!
//! The receiver does not use them: it reads in place (`source::push`), and its tests hold the two against each other.

use bellwether_models::series::Sample as Point;
use prost::Message;

use crate::store::SeriesSamples;

/// Content type of version 1.
pub const V1_CONTENT_TYPE: &str = "application/x-protobuf";
/// Content type of version 2.
pub const V2_CONTENT_TYPE: &str = "application/x-protobuf;proto=io.prometheus.write.v2.Request";

/// Version 1: `prometheus.WriteRequest` and what it holds.
pub mod v1 {
    use prost::Message;

    /// One request.
    #[derive(Clone, PartialEq, Message)]
    pub struct WriteRequest {
        /// The series in it.
        #[prost(message, repeated, tag = "1")]
        pub timeseries: Vec<TimeSeries>,
    }

    /// A series with its samples.
    #[derive(Clone, PartialEq, Message)]
    pub struct TimeSeries {
        /// Sorted by name, each name once, nothing empty.
        #[prost(message, repeated, tag = "1")]
        pub labels: Vec<Label>,
        /// In order of time.
        #[prost(message, repeated, tag = "2")]
        pub samples: Vec<Sample>,
        /// Native histograms, encoded.
        #[prost(bytes = "vec", repeated, tag = "4")]
        pub histograms: Vec<Vec<u8>>,
    }

    /// Name and value; bytes, so that what is not UTF-8 can be said too.
    #[derive(Clone, PartialEq, Eq, Message)]
    pub struct Label {
        /// The name.
        #[prost(bytes = "vec", tag = "1")]
        pub name: Vec<u8>,
        /// The value.
        #[prost(bytes = "vec", tag = "2")]
        pub value: Vec<u8>,
    }

    /// A value at a time; the same in version 2.
    #[derive(Clone, Copy, PartialEq, Message)]
    pub struct Sample {
        /// The value, staleness markers included; optional, or a negative zero would be left out as if it were zero.
        #[prost(double, optional, tag = "1")]
        pub value: Option<f64>,
        /// Milliseconds since the Unix epoch.
        #[prost(int64, tag = "2")]
        pub timestamp: i64,
    }
}

/// Version 2: `io.prometheus.write.v2.Request` and what it holds.
pub mod v2 {
    use prost::Message;

    pub use super::v1::Sample;

    /// One request.
    #[derive(Clone, PartialEq, Message)]
    pub struct Request {
        /// Every text of the request once; the first is empty.
        #[prost(bytes = "vec", repeated, tag = "4")]
        pub symbols: Vec<Vec<u8>>,
        /// The series in it.
        #[prost(message, repeated, tag = "5")]
        pub timeseries: Vec<TimeSeries>,
    }

    /// A series with its samples.
    #[derive(Clone, PartialEq, Message)]
    pub struct TimeSeries {
        /// Pairs of indexes into the symbols: name, value.
        #[prost(uint32, repeated, tag = "1")]
        pub labels_refs: Vec<u32>,
        /// In order of time.
        #[prost(message, repeated, tag = "2")]
        pub samples: Vec<Sample>,
        /// Native histograms, encoded.
        #[prost(bytes = "vec", repeated, tag = "3")]
        pub histograms: Vec<Vec<u8>>,
        /// Exemplars, encoded.
        #[prost(bytes = "vec", repeated, tag = "4")]
        pub exemplars: Vec<Vec<u8>>,
        /// What the metric is.
        #[prost(message, optional, tag = "5")]
        pub metadata: Option<Metadata>,
        /// When the series began, in milliseconds since the Unix epoch; 0 when it is not known.
        #[prost(int64, tag = "6")]
        pub created_timestamp: i64,
    }

    /// What is told about a metric.
    #[derive(Clone, Copy, PartialEq, Eq, Message)]
    pub struct Metadata {
        /// 1 counter, 2 gauge, 3 histogram, 4 gauge histogram, 5 summary, 6 info, 7 state set.
        #[prost(int32, tag = "1")]
        pub kind: i32,
        /// Index of the help text.
        #[prost(uint32, tag = "3")]
        pub help_ref: u32,
        /// Index of the unit.
        #[prost(uint32, tag = "4")]
        pub unit_ref: u32,
    }
}

/// The body of one request of version 1: protobuf in snappy's block format.
///
/// # Errors
/// When the message is longer than a snappy block may be (4 GiB).
pub fn encode(batch: &[SeriesSamples]) -> Result<Vec<u8>, snap::Error> {
    packed(&v1::WriteRequest { timeseries: batch.iter().map(time_series).collect() })
}

/// A message of either version as a body.
///
/// # Errors
/// As [`encode`].
pub fn packed(message: &impl Message) -> Result<Vec<u8>, snap::Error> {
    snap::raw::Encoder::new().compress_vec(&message.encode_to_vec())
}

fn time_series(series: &SeriesSamples) -> v1::TimeSeries {
    let label = |(name, value): (&str, &str)| v1::Label { name: name.into(), value: value.into() };
    let sample = |point: &Point| v1::Sample { value: Some(point.value), timestamp: point.at.as_millis() };
    v1::TimeSeries {
        labels: series.labels.iter().map(label).collect(),
        samples: series.samples.iter().map(sample).collect(),
        histograms: Vec::new(),
    }
}
