//! Why a request was refused, and what the sender is told.

use std::time::Duration;

use axum::http::StatusCode;
use axum::http::header::RETRY_AFTER;
use axum::response::{IntoResponse, Response};
use metrics::counter;
use tracing::warn;

use super::wire::WireError;
use crate::ingest::{IngestError, Receipt};

/// Why a request, or a part of it, was refused.
#[derive(Debug, thiserror::Error)]
pub(super) enum PushRefusal {
    #[error("show a token known here in the header Authorization: Bearer or Token")]
    Unauthorized,
    #[error("the {what} is larger than the limit of {limit} bytes")]
    TooLarge { what: &'static str, limit: u64 },
    #[error("the request holds more than {limit} messages; send smaller batches")]
    TooManyMessages { limit: usize },
    #[error("the body did not come within {} s", timeout.as_secs())]
    TooSlow { timeout: Duration },
    #[error("the body broke off: {0}")]
    BrokenOff(axum::Error),
    #[error("content type {found:?} is not received here; send {expected}")]
    ContentType { found: String, expected: &'static str },
    #[error("content encoding {found:?} is not received here; send {expected}")]
    ContentEncoding { found: String, expected: &'static str },
    #[error("the body is not snappy's block format: {0}")]
    Snappy(snap::Error),
    #[error("the body is not gzip: {0}")]
    Gzip(std::io::Error),
    #[error("the body is not a write request: {0}")]
    Message(WireError),
    #[error("the body is not an OTLP metrics request: {0}")]
    Otlp(String),
    #[error("the header {header} must name a tenant: letters, digits and !-_.*', at most 150")]
    Tenant { header: String },
    #[error("precision {0:?} is not known; send ns, us, ms or s")]
    Precision(String),
    /// The store has the samples of others already.
    #[error("{0}")]
    KeptElsewhere(String),
    /// Some samples or lines were refused; the others are written.
    #[error("partial write: {0}")]
    Partial(String),
    #[error(transparent)]
    Ingest(#[from] IngestError),
}

impl PushRefusal {
    /// The status: 4xx says "do not send this again", 429 and 5xx "send it again later".
    pub(super) fn status(&self) -> StatusCode {
        match self {
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::KeptElsewhere(_) => StatusCode::FORBIDDEN,
            Self::TooLarge { .. } | Self::TooManyMessages { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            // The fault of the way here, so not 400 or 408, after which Prometheus throws the samples away.
            Self::TooSlow { .. } | Self::BrokenOff(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::ContentType { .. } | Self::ContentEncoding { .. } => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Snappy(_)
            | Self::Gzip(_)
            | Self::Message(_)
            | Self::Otlp(_)
            | Self::Tenant { .. }
            | Self::Precision(_)
            | Self::Partial(_) => StatusCode::BAD_REQUEST,
            Self::Ingest(IngestError::Busy { .. }) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Ingest(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// The kind of refusal as a metric label.
    fn reason(&self) -> &'static str {
        match self {
            Self::Unauthorized => "unauthorized",
            Self::TooLarge { .. } | Self::TooManyMessages { .. } => "too_large",
            Self::TooSlow { .. } => "too_slow",
            Self::BrokenOff(_) => "broken_off",
            Self::ContentType { .. } => "content_type",
            Self::ContentEncoding { .. } => "content_encoding",
            Self::Snappy(_) => "snappy",
            Self::Gzip(_) => "gzip",
            Self::Message(_) => "message",
            Self::Otlp(_) => "otlp",
            Self::Tenant { .. } => "tenant",
            Self::Precision(_) => "precision",
            Self::Partial(_) => "partial",
            Self::KeptElsewhere(_) => "kept_elsewhere",
            Self::Ingest(IngestError::Busy { .. }) => "busy",
            Self::Ingest(_) => "store",
        }
    }

    /// Counts the refusal and makes the answer, its text put into form by `body`.
    pub(super) fn answer<B: IntoResponse>(&self, origin: &'static str, body: impl FnOnce(String) -> B) -> Response {
        let labels = [("source", origin), ("reason", self.reason())];
        counter!("bellwether_ingest_requests_refused_total", &labels).increment(1);
        if let Self::Ingest(error @ IngestError::Store { .. }) = self {
            warn!(origin, error = error as &dyn std::error::Error, "received samples were not kept");
        }
        let mut response = (self.status(), body(self.to_string())).into_response();
        if let Self::Ingest(IngestError::Busy { retry_after }) = self {
            response.headers_mut().insert(RETRY_AFTER, retry_after.as_secs().max(1).into());
        }
        response
    }
}

/// The refusals of a receipt in one line; nothing when all samples were kept.
pub(super) fn told(receipt: &Receipt) -> Option<String> {
    (receipt.refused() > 0).then(|| {
        let kept = receipt.written + receipt.repeated;
        let total = kept + receipt.refused();
        format!("{} of {total} samples refused: {}", receipt.refused(), receipt.examples.join("; "))
    })
}
