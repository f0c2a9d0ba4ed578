//! A quantity that must not pass a limit: a disk, a quota, a connection pool.

use std::time::Duration;

use bellwether_models::duration::as_text;
use bellwether_models::forecast::Quantile;
use bellwether_models::incident::Severity;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A quantity, its limit, and how long beforehand people want to know. Exactly one of `above` and `below` is given.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Limit {
    /// What people call it, such as `disk of node-7`; unique. Required.
    pub name: String,
    /// PromQL for it, one series. Required.
    pub query: String,
    /// The limit of what must not rise so far.
    pub above: Option<f64>,
    /// The limit of what must not fall so far.
    pub below: Option<f64>,
    /// What passing it means, such as `full`. Default `at its limit`.
    pub means: String,
    /// How long beforehand people want to know; also how far ahead it is foreseen. Default 6h.
    #[serde(with = "as_text")]
    #[schemars(with = "String")]
    pub within: Duration,
    /// Distance between points of history and forecast. Default 5m.
    #[serde(with = "as_text")]
    #[schemars(with = "String")]
    pub step: Duration,
    /// Probability on which a warning rests: 0.5 is as likely as not, 0.9 warns of what is only possible. Default 0.5.
    #[schemars(with = "f64")]
    pub quantile: Quantile,
    /// How bad passing it is. Default warning.
    #[schemars(with = "String")]
    pub severity: Severity,
}

impl Default for Limit {
    fn default() -> Self {
        Self {
            name: String::new(),
            query: String::new(),
            above: None,
            below: None,
            means: "at its limit".to_owned(),
            within: Duration::from_secs(6 * 3600),
            step: Duration::from_secs(300),
            quantile: Quantile::STANDARD[1],
            severity: Severity::Warning,
        }
    }
}

impl Limit {
    /// Whether what falls is dangerous.
    #[must_use]
    pub fn is_lower(&self) -> bool {
        self.below.is_some()
    }

    /// The limit itself; infinite when none is given.
    #[must_use]
    pub fn bound(&self) -> f64 {
        self.below.or(self.above).unwrap_or(f64::INFINITY)
    }

    /// What is wrong with it, in words.
    ///
    /// # Errors
    /// A sentence that begins with the field.
    pub fn check(&self) -> Result<(), String> {
        if self.name.is_empty() {
            return Err("name is missing; give it a value".to_owned());
        }
        if self.above.is_some() == self.below.is_some() {
            return Err("above, below: give exactly one of them".to_owned());
        }
        if !self.bound().is_finite() {
            return Err("the limit must be a finite number".to_owned());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_has_one_side() {
        let limit = |above, below| Limit { name: "disk".to_owned(), above, below, ..Limit::default() };
        assert!(limit(Some(0.9), None).check().is_ok() && !limit(Some(0.9), None).is_lower());
        assert!(limit(None, Some(0.0)).check().is_ok() && limit(None, Some(0.0)).is_lower());
        for odd in [limit(None, None), limit(Some(1.0), Some(0.0)), limit(Some(f64::NAN), None), Limit::default()] {
            assert!(odd.check().is_err(), "{odd:?}");
        }
    }
}
