//! A sender of Prometheus remote write 1.x.

pub use bellwether_collector::remote_write::v1::{Label, Sample, TimeSeries, WriteRequest};
use bellwether_collector::remote_write::{self, V1_CONTENT_TYPE};
use bellwether_collector::store::SeriesSamples;

/// Sends `series` to `url` and panics when they are refused.
pub async fn send(client: &reqwest::Client, url: &str, series: &[SeriesSamples]) {
    let answer = client
        .post(url)
        .header("Content-Type", V1_CONTENT_TYPE)
        .header("Content-Encoding", "snappy")
        .header("X-Prometheus-Remote-Write-Version", "0.1.0")
        .body(remote_write::encode(series).expect("what is small can be packed"))
        .send()
        .await
        .expect("the receiver answers");
    let status = answer.status();
    assert!(status.is_success(), "{status}: {}", answer.text().await.unwrap_or_default());
}

/// A series with labels in the order given and samples of `(milliseconds, value)`.
pub fn series(labels: &[(&str, &[u8])], samples: &[(i64, f64)]) -> TimeSeries {
    let label = |(name, value): &(&str, &[u8])| Label { name: name.as_bytes().to_vec(), value: value.to_vec() };
    let sample = |(timestamp, value): &(i64, f64)| Sample { value: Some(*value), timestamp: *timestamp };
    TimeSeries {
        labels: labels.iter().map(label).collect(),
        samples: samples.iter().map(sample).collect(),
        histograms: Vec::new(),
    }
}

/// The body of a request: snappy's block format.
pub fn packed(timeseries: Vec<TimeSeries>) -> Vec<u8> {
    remote_write::packed(&WriteRequest { timeseries }).expect("what is small can be packed")
}
