//! `POST /v1/metrics`: OTLP over HTTP in protobuf and JSON, and the same over gRPC.

use std::sync::PoisonError;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use metrics::counter;
use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsPartialSuccess, ExportMetricsServiceRequest, ExportMetricsServiceResponse,
};
use prost::Message;

use super::refusal::{PushRefusal, told};
use super::{Door, otlp_weight, unpack};
use crate::ingest::Refusal;
use crate::source::otlp;

const ORIGIN: &str = "otlp";
const PROTOBUF: &str = "application/x-protobuf";
const JSON: &str = "application/json";

/// The path of the gRPC method.
pub(super) const GRPC_PATH: &str = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export";

/// OTLP over HTTP: answers 200 when all that was not rejected is durable.
pub(super) async fn receive(State(door): State<Door>, headers: HeaderMap, body: Body) -> Response {
    match export_http(&door, &headers, body).await {
        Ok(response) => response,
        Err(refusal) => refusal.answer(ORIGIN, |text| text + "\n"),
    }
}

async fn export_http(door: &Door, headers: &HeaderMap, body: Body) -> Result<Response, PushRefusal> {
    let content_type = text(headers, CONTENT_TYPE);
    let kind = content_type.split(';').next().unwrap_or("").trim().to_ascii_lowercase();
    let body = door.body(body).await?;
    let body = match text(headers, CONTENT_ENCODING).as_str() {
        "" | "identity" => body,
        "gzip" => unpack::gzip(&body, door.config.max_unpacked_body.bytes())?.into(),
        other => {
            return Err(PushRefusal::ContentEncoding { found: other.to_owned(), expected: "gzip or identity" });
        }
    };
    let request = match kind.as_str() {
        PROTOBUF => decode(door, body)?,
        JSON => decode_json(door, &body)?,
        _ => {
            let expected = "application/x-protobuf or application/json";
            return Err(PushRefusal::ContentType { found: content_type, expected });
        }
    };
    let source = door.source(ORIGIN, headers)?;
    let answer = export(door, &source, &request).await?;
    let (kind, bytes) = match kind.as_str() {
        JSON => (JSON, serde_json::to_vec(&answer).unwrap_or_else(|_| b"{}".to_vec())),
        _ => (PROTOBUF, answer.encode_to_vec()),
    };
    Ok((StatusCode::OK, [(CONTENT_TYPE, kind)], bytes).into_response())
}

/// A message counts as so many bytes of an unpacked body, however few it is sent in.
const MESSAGE_BYTES: u64 = 64;

fn decode(door: &Door, message: Bytes) -> Result<ExportMetricsServiceRequest, PushRefusal> {
    let most = most_messages(door);
    let messages = otlp_weight::messages(&message, most).map_err(|error| PushRefusal::Otlp(error.to_string()))?;
    bounded(messages, most)?;
    ExportMetricsServiceRequest::decode(message).map_err(|error| PushRefusal::Otlp(error.to_string()))
}

fn decode_json(door: &Door, text: &[u8]) -> Result<ExportMetricsServiceRequest, PushRefusal> {
    bounded(text.iter().filter(|byte| **byte == b'{').count(), most_messages(door))?;
    serde_json::from_slice(text).map_err(|error| PushRefusal::Otlp(error.to_string()))
}

fn most_messages(door: &Door) -> usize {
    usize::try_from(door.config.max_unpacked_body.bytes() / MESSAGE_BYTES).unwrap_or(usize::MAX).max(1000)
}

fn bounded(messages: usize, limit: usize) -> Result<(), PushRefusal> {
    if messages > limit { Err(PushRefusal::TooManyMessages { limit }) } else { Ok(()) }
}

/// Writes what a request holds; what is rejected is told in the answer.
async fn export(
    door: &Door,
    source: &str,
    request: &ExportMetricsServiceRequest,
) -> Result<ExportMetricsServiceResponse, PushRefusal> {
    let converted = {
        let mut totals = door.deltas.lock().unwrap_or_else(PoisonError::into_inner);
        otlp::convert(request, &mut totals)
    };
    door.ingest.describe(converted.described);
    let receipt = door.ingest.append(source, converted.batch).await?;
    counter!("bellwether_ingest_converted_histograms_total", "source" => source.to_owned())
        .increment(converted.exponential_histograms);
    door.ingest.count_refused(source, Refusal::TooOld, converted.too_late);
    door.ingest.count_refused(source, Refusal::UnusablePoint, converted.unusable);
    let mut problems: Vec<String> = told(&receipt).into_iter().collect();
    if converted.too_late > 0 {
        problems.push("delta points older than what can still be added up".to_owned());
    }
    if converted.unusable > 0 {
        problems.push("points without a value, a time or a temporality".to_owned());
    }
    let rejected = receipt.refused() + converted.too_late + converted.unusable;
    let partial_success = (rejected > 0).then(|| ExportMetricsPartialSuccess {
        rejected_data_points: i64::try_from(rejected).unwrap_or(i64::MAX),
        error_message: problems.join("; "),
    });
    Ok(ExportMetricsServiceResponse { partial_success })
}

fn text(headers: &HeaderMap, name: HeaderName) -> String {
    headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()).unwrap_or_default()
}

/// OTLP over gRPC: one message in, one out. The status goes into the headers, which gRPC allows where there is no message, and
/// into trailers otherwise.
pub(super) async fn receive_grpc(State(door): State<Door>, headers: HeaderMap, body: Body) -> Response {
    match export_grpc(&door, &headers, body).await {
        Ok(answer) => grpc_message(&answer),
        Err((code, message)) => grpc_status(code, &message),
    }
}

/// gRPC's own status codes, as far as they are used here.
mod code {
    pub(super) const INVALID_ARGUMENT: u32 = 3;
    pub(super) const RESOURCE_EXHAUSTED: u32 = 8;
    pub(super) const UNIMPLEMENTED: u32 = 12;
    pub(super) const INTERNAL: u32 = 13;
    pub(super) const UNAVAILABLE: u32 = 14;
}

type GrpcError = (u32, String);

async fn export_grpc(door: &Door, headers: &HeaderMap, body: Body) -> Result<ExportMetricsServiceResponse, GrpcError> {
    let body = door.body(body).await.map_err(grpc_error)?;
    let message = grpc_unframe(door, headers, body)?;
    let request = decode(door, message).map_err(grpc_error)?;
    let source = door.source(ORIGIN, headers).map_err(grpc_error)?;
    export(door, &source, &request).await.map_err(grpc_error)
}

/// The message of a frame: a byte that says whether it is compressed, four bytes of length, the message.
fn grpc_unframe(door: &Door, headers: &HeaderMap, mut body: Bytes) -> Result<Bytes, GrpcError> {
    let bad = |text: &str| (code::INVALID_ARGUMENT, text.to_owned());
    let Some(([compressed, length @ ..], _)) = body.split_first_chunk::<5>() else {
        return Err(bad("the frame is cut off"));
    };
    let (compressed, length) = (*compressed, u32::from_be_bytes(*length) as usize);
    if body.len() - 5 != length {
        return Err(bad("the frame's length is not that of its message"));
    }
    let message = body.split_off(5);
    match (compressed, text(headers, HeaderName::from_static("grpc-encoding")).as_str()) {
        (0, _) => Ok(message),
        (1, "gzip") => {
            unpack::gzip(&message, door.config.max_unpacked_body.bytes()).map(Bytes::from).map_err(grpc_error)
        }
        (_, other) => Err((code::UNIMPLEMENTED, format!("compression {other:?} is not received here; send gzip"))),
    }
}

/// Counts the refusal and gives the status that tells a sender whether to come again.
fn grpc_error(refusal: PushRefusal) -> GrpcError {
    let _ = refusal.answer(ORIGIN, |text| text);
    let code = match refusal.status() {
        StatusCode::SERVICE_UNAVAILABLE => code::UNAVAILABLE,
        StatusCode::PAYLOAD_TOO_LARGE => code::RESOURCE_EXHAUSTED,
        status if status.is_server_error() => code::INTERNAL,
        _ => code::INVALID_ARGUMENT,
    };
    (code, refusal.to_string())
}

const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");

fn grpc_status(code: u32, message: &str) -> Response {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, GRPC);
    headers.insert("grpc-status", code.into());
    let plain: String = message.chars().map(|c| if c.is_ascii_graphic() && c != '%' { c } else { ' ' }).collect();
    if let Ok(value) = HeaderValue::from_str(&plain) {
        headers.insert("grpc-message", value);
    }
    (headers, ()).into_response()
}

fn grpc_message(answer: &ExportMetricsServiceResponse) -> Response {
    let message = answer.encode_to_vec();
    let mut frame = vec![0];
    frame.extend((message.len() as u32).to_be_bytes());
    frame.extend(message);
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", 0.into());
    let body = http_body_util::Full::new(Bytes::from(frame));
    let body = http_body_util::BodyExt::with_trailers(body, std::future::ready(Some(Ok(trailers))));
    ([(CONTENT_TYPE, GRPC)], Body::new(body)).into_response()
}
