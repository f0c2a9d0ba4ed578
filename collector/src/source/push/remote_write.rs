//! `POST /api/v1/write`: what Prometheus, vmagent and others send.

use axum::body::Body;
use axum::extract::State;
use axum::http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderName, StatusCode};
use axum::response::{IntoResponse, Response};

use super::decoded::Decoded;
use super::refusal::{PushRefusal, told};
use super::{Door, unpack, write_v1};
use crate::ingest::Receipt;

const ORIGIN: &str = "remote_write";

/// Answers 204 only when every sample is durable.
pub(super) async fn receive(State(door): State<Door>, headers: HeaderMap, body: Body) -> Response {
    match write(&door, &headers, body).await {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(refusal) => refusal.answer(ORIGIN, |text| text + "\n"),
    }
}

async fn write(door: &Door, headers: &HeaderMap, body: Body) -> Result<(), PushRefusal> {
    check_headers(headers)?;
    let body = door.body(headers, body).await?;
    let message = unpack::snappy(&body, door.config.max_unpacked_body.bytes())?;
    drop(body);
    let mut decoded = write_v1::decode(&message).map_err(PushRefusal::Message)?;
    let batch = std::mem::take(&mut decoded.batch);
    let receipt = door.ingest.append(ORIGIN, batch).await?;
    for refused in &decoded.refused {
        door.ingest.count_refused(ORIGIN, refused.fault.refusal(), refused.samples);
    }
    match problems(&decoded, &receipt) {
        None => Ok(()),
        Some(problems) => Err(PushRefusal::Partial(problems)),
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
fn check_headers(headers: &HeaderMap) -> Result<(), PushRefusal> {
    let text = |name: HeaderName| headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    if let Some(found) = text(CONTENT_ENCODING).filter(|found| !found.eq_ignore_ascii_case("snappy")) {
        return Err(PushRefusal::ContentEncoding { found, expected: "snappy" });
    }
    match text(CONTENT_TYPE) {
        Some(found) if !is_v1(&found) => Err(PushRefusal::ContentType { found, expected: "application/x-protobuf" }),
        _ => Ok(()),
    }
}

fn is_v1(content_type: &str) -> bool {
    let mut parts = content_type.split(';').map(str::trim);
    let protobuf = parts.next().is_some_and(|kind| kind.eq_ignore_ascii_case("application/x-protobuf"));
    let proto = parts.find_map(|part| part.strip_prefix("proto="));
    protobuf && proto.is_none_or(|proto| proto == "prometheus.WriteRequest")
}
