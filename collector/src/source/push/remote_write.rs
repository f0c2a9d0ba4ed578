//! `POST /api/v1/write`: what Prometheus, vmagent and others send.

use axum::body::Body;
use axum::extract::State;
use axum::http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderName, StatusCode};
use axum::response::{IntoResponse, Response};
use metrics::counter;

use super::decoded::Decoded;
use super::refusal::{PushRefusal, told};
use super::{Door, unpack, write_v1, write_v2};
use crate::ingest::Receipt;

const ORIGIN: &str = "remote_write";
const PROTOBUF: &str = "application/x-protobuf";

const SAMPLES_WRITTEN: HeaderName = HeaderName::from_static("x-prometheus-remote-write-samples-written");
const HISTOGRAMS_WRITTEN: HeaderName = HeaderName::from_static("x-prometheus-remote-write-histograms-written");
const EXEMPLARS_WRITTEN: HeaderName = HeaderName::from_static("x-prometheus-remote-write-exemplars-written");

/// Which message a request carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    V1,
    V2,
}

/// Answers 204 only when every sample is durable; a sender of version 2 is told how many are in any case.
pub(super) async fn receive(State(door): State<Door>, headers: HeaderMap, body: Body) -> Response {
    let (version, mut written) = (version(&headers), Written::default());
    let speaks_v2 = matches!(version, Ok(Version::V2));
    let outcome = match version {
        Ok(version) => write(&door, version, &headers, body, &mut written).await,
        Err(refusal) => Err(refusal),
    };
    let mut response = match outcome {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(refusal) => refusal.answer(ORIGIN, |text| text + "\n"),
    };
    if speaks_v2 {
        for (name, count) in
            [(SAMPLES_WRITTEN, written.samples), (HISTOGRAMS_WRITTEN, written.histograms), (EXEMPLARS_WRITTEN, 0)]
        {
            response.headers_mut().insert(name, count.into());
        }
    }
    response
}

async fn write(
    door: &Door,
    version: Version,
    headers: &HeaderMap,
    body: Body,
    written: &mut Written,
) -> Result<(), PushRefusal> {
    let source = door.source(ORIGIN, headers)?;
    let body = door.body(body).await?;
    let largest = door.config.max_unpacked_body.bytes();
    let message = unpack::snappy(&body, largest)?;
    drop(body);
    let decoded = match version {
        Version::V1 => write_v1::decode(&message, largest, &door.known),
        Version::V2 => write_v2::decode(&message, largest),
    };
    let mut decoded = decoded.map_err(PushRefusal::Message)?;
    door.ingest.describe(std::mem::take(&mut decoded.described));
    let receipt = door.ingest.append(&source, std::mem::take(&mut decoded.batch)).await?;
    *written = Written::of(&decoded, &receipt);
    let labels = [("source", source.clone())];
    counter!("bellwether_ingest_converted_histograms_total", &labels).increment(decoded.histograms);
    counter!("bellwether_ingest_exemplars_passed_over_total", &labels).increment(decoded.exemplars_passed_over);
    for refused in &decoded.refused {
        door.ingest.count_refused(&source, refused.fault.refusal(), refused.samples);
    }
    match problems(&decoded, &receipt) {
        None => Ok(()),
        Some(problems) => Err(PushRefusal::Partial(problems)),
    }
}

/// What a sender of version 2 is told of.
#[derive(Clone, Copy, Debug, Default)]
struct Written {
    samples: u64,
    histograms: u64,
}

impl Written {
    /// Buckets count as the histograms they came from: all of them, or none where something was refused.
    fn of(decoded: &Decoded, receipt: &Receipt) -> Self {
        let samples = (receipt.written + receipt.repeated).saturating_sub(decoded.bucket_samples);
        Self { samples, histograms: if receipt.refused() == 0 { decoded.histograms } else { 0 } }
    }
}

fn problems(decoded: &Decoded, receipt: &Receipt) -> Option<String> {
    let of_series = decoded.refused.first().map(|first| {
        let samples: u64 = decoded.refused.iter().map(|refused| refused.samples).sum();
        format!("{samples} samples refused as sent: {}: {}", first.fault.refusal().name(), first.series)
    });
    let all: Vec<String> = of_series.into_iter().chain(told(receipt)).collect();
    (!all.is_empty()).then(|| all.join("; "))
}

/// What is absent counts as right: senders of old leave it out.
fn version(headers: &HeaderMap) -> Result<Version, PushRefusal> {
    let encoding = text(headers, CONTENT_ENCODING).filter(|found| !found.eq_ignore_ascii_case("snappy"));
    if let Some(found) = encoding {
        return Err(PushRefusal::ContentEncoding { found, expected: "snappy" });
    }
    let content_type = text(headers, CONTENT_TYPE).unwrap_or_else(|| PROTOBUF.to_owned());
    message_version(&content_type)
        .ok_or(PushRefusal::ContentType { found: content_type, expected: "application/x-protobuf of version 1 or 2" })
}

fn message_version(content_type: &str) -> Option<Version> {
    let mut parts = content_type.split(';').map(str::trim);
    if !parts.next()?.eq_ignore_ascii_case(PROTOBUF) {
        return None;
    }
    match parts.find_map(|part| part.strip_prefix("proto=")) {
        None | Some("prometheus.WriteRequest") => Some(Version::V1),
        Some("io.prometheus.write.v2.Request") => Some(Version::V2),
        Some(_) => None,
    }
}

fn text(headers: &HeaderMap, name: HeaderName) -> Option<String> {
    headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
}
