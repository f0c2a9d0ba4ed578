//! When to try again.

use std::time::Duration;

use bellwether_models::series::Timestamp;

const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(300);

/// Exponential back-off on a clock that comes in as a value: 1 s after the first failure, doubled with each further
/// one, at most 5 min.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backoff {
    failures: u32,
    not_before: Option<Timestamp>,
}

impl Backoff {
    /// Whether an attempt is due.
    #[must_use]
    pub fn is_due(&self, now: Timestamp) -> bool {
        self.not_before.is_none_or(|at| now >= at)
    }

    /// Takes note of a failure.
    pub fn failed(&mut self, now: Timestamp) {
        let wait = FIRST.saturating_mul(1u32.checked_shl(self.failures).unwrap_or(u32::MAX)).min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        self.not_before = Some(now + wait);
    }

    /// Puts the next attempt off until `at` at least.
    pub fn wait_until(&mut self, at: Option<Timestamp>) {
        self.not_before = self.not_before.max(at);
    }

    /// Takes note of a success.
    pub fn succeeded(&mut self) {
        *self = Self::default();
    }

    /// Failures since the last success.
    #[must_use]
    pub fn failures(&self) -> u32 {
        self.failures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_five_minutes_and_end_with_a_success() {
        let mut backoff = Backoff::default();
        let mut now = Timestamp::from_secs(0);
        for wait in [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300] {
            assert!(backoff.is_due(now));
            backoff.failed(now);
            now = now + Duration::from_secs(wait - 1);
            assert!(!backoff.is_due(now), "{wait}");
            now = now + Duration::from_secs(1);
        }
        backoff.succeeded();
        assert!(backoff.is_due(Timestamp::from_secs(0)));
    }
}
