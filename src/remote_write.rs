//! Writes Prometheus remote write 1.x, for those of our own parts that send samples as Prometheus would.

use bellwether_collector::store::SeriesSamples;
use prost::Message;

/// `prometheus.WriteRequest`, by its published field numbers.
#[derive(Clone, PartialEq, Message)]
struct WriteRequest {
    #[prost(message, repeated, tag = "1")]
    timeseries: Vec<TimeSeries>,
}

#[derive(Clone, PartialEq, Message)]
struct TimeSeries {
    #[prost(message, repeated, tag = "1")]
    labels: Vec<Label>,
    #[prost(message, repeated, tag = "2")]
    samples: Vec<Sample>,
}

#[derive(Clone, PartialEq, Message)]
struct Label {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    value: String,
}

#[derive(Clone, PartialEq, Message)]
struct Sample {
    #[prost(double, tag = "1")]
    value: f64,
    #[prost(int64, tag = "2")]
    timestamp: i64,
}

/// The body of one request: protobuf, snappy-compressed.
///
/// # Errors
/// When the message is longer than a snappy block may be (4 GiB).
pub fn encode(batch: &[SeriesSamples]) -> Result<Vec<u8>, snap::Error> {
    let message = WriteRequest { timeseries: batch.iter().map(time_series).collect() };
    snap::raw::Encoder::new().compress_vec(&message.encode_to_vec())
}

fn time_series(series: &SeriesSamples) -> TimeSeries {
    let label = |(name, value): (&str, &str)| Label { name: name.to_owned(), value: value.to_owned() };
    let sample = |s: &bellwether_models::series::Sample| Sample { value: s.value, timestamp: s.at.as_millis() };
    TimeSeries {
        labels: series.labels.iter().map(label).collect(),
        samples: series.samples.iter().map(sample).collect(),
    }
}
