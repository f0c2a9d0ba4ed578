//! What the answer to a remote write means. Pure.
//!
//! Source: the remote write specification 1.0 of the Prometheus project.

use crate::store::SampleRefusal;
use crate::store::remote::WriteError;
use crate::store::remote::link::LinkError;

/// What a failed request means: by the specification 4xx other than 429 is never worth repeating. Credentials and
/// addresses can be put right, though, and then what waits is taken; and Prometheus 2.42 says "too old sample" with 500.
pub(super) fn fault(error: LinkError) -> WriteError {
    match error {
        LinkError::Status { status, detail, retry_after, url } => match (status, refusal(&detail)) {
            (_, Some(refusal)) => WriteError::Refused { refusal, detail },
            (400 | 413 | 422, None) => WriteError::Refused { refusal: SampleRefusal::Unstorable, detail },
            _ => {
                let source = Box::new(LinkError::Status { status, detail, retry_after, url });
                WriteError::Unavailable { retry_after, source }
            }
        },
        error => WriteError::Unavailable { retry_after: None, source: Box::new(error) },
    }
}

/// Prometheus and Mimir say it in these words.
fn refusal(detail: &str) -> Option<SampleRefusal> {
    let known = [
        (SampleRefusal::DuplicateTimestamp, ["duplicate sample", "duplicate-timestamp"].as_slice()),
        (SampleRefusal::TooOld, &["out of order", "out of bounds", "too old sample", "out-of-order", "too-old"]),
        (SampleRefusal::TooFarAhead, &["too far in the future", "too-far-in-future"]),
    ];
    known.into_iter().find(|(_, words)| words.iter().any(|word| detail.contains(word))).map(|(refusal, _)| refusal)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn answer(status: u16, detail: &str) -> WriteError {
        let (url, retry_after) = ("u".to_owned(), Some(Duration::from_secs(7)));
        fault(LinkError::Status { url, status, detail: detail.to_owned(), retry_after })
    }

    #[test]
    fn only_what_concerns_the_samples_is_final() {
        for (status, detail, expected) in [
            (400, "out of order sample", SampleRefusal::TooOld),
            (400, "duplicate sample for timestamp", SampleRefusal::DuplicateTimestamp),
            (500, "too old sample", SampleRefusal::TooOld),
            (422, "who knows", SampleRefusal::Unstorable),
        ] {
            let told = answer(status, detail);
            assert!(matches!(&told, WriteError::Refused { refusal, .. } if *refusal == expected), "{told:?}");
        }
        for status in [401, 403, 404, 429, 500, 503] {
            let WriteError::Unavailable { retry_after, .. } = answer(status, "") else { panic!("{status} is final") };
            assert_eq!(retry_after, Some(Duration::from_secs(7)));
        }
    }
}
