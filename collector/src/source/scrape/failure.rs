//! Why a scrape failed.

use std::time::Duration;

use crate::access::AccessError;
use crate::source::exposition::ExpositionError;

/// Why a scrape failed. The target is down (`up` is 0) and its series end.
#[derive(Debug, thiserror::Error)]
pub(super) enum ScrapeFailure {
    /// The text is not an exposition.
    #[error("the target's text cannot be read: {0}")]
    Exposition(#[from] ExpositionError),
    /// Too many samples.
    #[error("more samples than the sample_limit of {limit}")]
    SampleLimit { limit: usize },
    /// A series with too many or too large labels.
    #[error("series {series}: {length} {what}, more than the limit of {limit}")]
    LabelLimit { series: String, what: &'static str, length: usize, limit: usize },
    /// The body is too large.
    #[error("the body is larger than the limit of {limit} bytes")]
    BodySizeLimit { limit: u64 },
    /// The job has too many targets.
    #[error("{targets} targets, more than the target_limit of {limit}")]
    TargetLimit { targets: usize, limit: usize },
    /// No answer in time.
    #[error("no complete answer within {} s", timeout.as_secs_f64())]
    Timeout { timeout: Duration },
    /// The target answered, but not with metrics.
    #[error("the target answered with HTTP status {status}")]
    Status { status: u16 },
    /// The target could not be reached or the answer broke off.
    #[error("could not fetch {url}: {}", root_of(source))]
    Transport { url: String, source: reqwest::Error },
    /// A file or setting by which the target is reached cannot be used.
    #[error("{}", in_full(.0))]
    Access(#[from] AccessError),
}

impl ScrapeFailure {
    /// The kind of failure as a metric label.
    pub(super) fn reason(&self) -> &'static str {
        match self {
            Self::Exposition(_) => "malformed",
            Self::SampleLimit { .. } => "sample_limit",
            Self::LabelLimit { .. } => "label_limit",
            Self::BodySizeLimit { .. } => "body_size_limit",
            Self::TargetLimit { .. } => "target_limit",
            Self::Timeout { .. } => "timeout",
            Self::Status { .. } => "status",
            Self::Transport { .. } => "transport",
            Self::Access(AccessError::File { .. }) => "secret_file",
            Self::Access(AccessError::Setting { .. }) => "tls",
        }
    }
}

/// The innermost cause: "connection refused" rather than "error sending request".
fn root_of(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

fn in_full(error: &AccessError) -> String {
    std::error::Error::source(error).map_or_else(|| error.to_string(), |source| format!("{error}: {source}"))
}
