//! `POST /write` and `POST /api/v2/write`: line protocol as Telegraf and the InfluxDB clients send it.

use axum::Json;
use axum::body::Body;
use axum::extract::{Query, State};
use axum::http::header::CONTENT_ENCODING;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::json;

use super::refusal::{PushRefusal, told};
use super::{Door, unpack};
use crate::ingest::{Receipt, Refusal};
use crate::source::line_protocol::{self, Points, Precision};

const ORIGIN: &str = "influx";

/// Bad lines quoted in an answer.
const MAX_LINES_TOLD: usize = 5;

/// The parameters we read; database, organisation and bucket are taken as they come.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Parameters {
    #[serde(default)]
    precision: String,
}

/// The version 1 endpoint.
pub(super) async fn receive_v1(
    State(door): State<Door>,
    Query(parameters): Query<Parameters>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    answer(write(&door, &parameters, &headers, body).await, |_, text| Json(json!({ "error": text })))
}

/// The version 2 endpoint.
pub(super) async fn receive_v2(
    State(door): State<Door>,
    Query(parameters): Query<Parameters>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let form = |status, text| Json(json!({ "code": code(status), "message": text }));
    answer(write(&door, &parameters, &headers, body).await, form)
}

/// Tells a client that asks before it writes that it may.
pub(super) async fn ping() -> impl IntoResponse {
    (StatusCode::NO_CONTENT, [("X-Influxdb-Version", concat!("bellwether-", env!("CARGO_PKG_VERSION")))])
}

fn answer(
    written: Result<(), PushRefusal>,
    form: impl FnOnce(StatusCode, String) -> Json<serde_json::Value>,
) -> Response {
    match written {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(refusal) => {
            let status = refusal.status();
            refusal.answer(ORIGIN, |text| form(status, text))
        }
    }
}

/// The word InfluxDB 2 has for a status.
fn code(status: StatusCode) -> &'static str {
    match status {
        StatusCode::BAD_REQUEST | StatusCode::UNSUPPORTED_MEDIA_TYPE => "invalid",
        StatusCode::UNAUTHORIZED => "unauthorized",
        StatusCode::PAYLOAD_TOO_LARGE => "request too large",
        StatusCode::SERVICE_UNAVAILABLE => "unavailable",
        _ => "internal error",
    }
}

async fn write(door: &Door, parameters: &Parameters, headers: &HeaderMap, body: Body) -> Result<(), PushRefusal> {
    let precision = Precision::by_name(&parameters.precision)
        .ok_or_else(|| PushRefusal::Precision(parameters.precision.chars().take(20).collect()))?;
    let source = door.source(ORIGIN, headers)?;
    let body = door.body(body).await?;
    let limit = door.config.max_unpacked_body.bytes();
    let mut points = match headers.get(CONTENT_ENCODING).map(|value| value.as_bytes()) {
        None | Some(b"identity") => line_protocol::read(&body, precision, door.ingest.now()),
        Some(b"gzip") => line_protocol::read(&unpack::gzip(&body, limit)?, precision, door.ingest.now()),
        Some(other) => {
            let found = String::from_utf8_lossy(other).into_owned();
            return Err(PushRefusal::ContentEncoding { found, expected: "gzip or identity" });
        }
    };
    let receipt = door.ingest.append(&source, std::mem::take(&mut points.batch)).await?;
    door.ingest.count_refused(&source, Refusal::TextField, points.text_fields);
    door.ingest.count_refused(&source, Refusal::MalformedLine, points.errors.len() as u64);
    match problems(&points, &receipt) {
        None => Ok(()),
        Some(problems) => Err(PushRefusal::Partial(problems)),
    }
}

fn problems(points: &Points, receipt: &Receipt) -> Option<String> {
    let lines = (!points.errors.is_empty()).then(|| {
        let quoted: Vec<String> = points.errors.iter().take(MAX_LINES_TOLD).map(ToString::to_string).collect();
        let all = points.good_lines + points.errors.len();
        format!("{} of {all} lines refused: {}", points.errors.len(), quoted.join("; "))
    });
    let all: Vec<String> = lines.into_iter().chain(told(receipt)).collect();
    (!all.is_empty()).then(|| all.join("; "))
}
