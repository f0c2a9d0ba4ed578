//! What the receivers of JSON events share: one or many in a body, and the answers.

use axum::http::StatusCode;
use axum::http::header::RETRY_AFTER;
use axum::response::{IntoResponse, Response};
use metrics::counter;
use serde::de::DeserializeOwned;

use crate::ingest::{IngestError, Receipt};

/// One event, or a list of them.
pub(super) fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<Vec<T>, String> {
    let is_list = body.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'[');
    let parsed = if is_list { serde_json::from_slice(body) } else { serde_json::from_slice(body).map(|one| vec![one]) };
    parsed.map_err(|error| error.to_string())
}

/// 204 when all is durable; otherwise what was refused, or when to come back.
pub(super) fn answer(origin: &'static str, outcome: Result<Receipt, IngestError>) -> Response {
    match outcome {
        Ok(receipt) if receipt.refused() == 0 => StatusCode::NO_CONTENT.into_response(),
        Ok(receipt) => refuse(origin, receipt.examples.join("; ")),
        Err(error) => {
            let mut response = (StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")).into_response();
            if let IngestError::Busy { retry_after } = error {
                response.headers_mut().insert(RETRY_AFTER, retry_after.as_secs().max(1).into());
            }
            response
        }
    }
}

/// 400 with the reason.
pub(super) fn refuse(origin: &'static str, problem: String) -> Response {
    counter!("bellwether_ingest_requests_refused_total", "source" => origin, "reason" => "malformed").increment(1);
    (StatusCode::BAD_REQUEST, problem + "\n").into_response()
}
