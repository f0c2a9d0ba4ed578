//! How right the named causes were, by people's word.

use serde::{Deserialize, Serialize};

use super::{Incident, People};
use crate::cause::Verdict;

/// Two-sided 95 % point of the standard normal distribution.
const Z: f64 = 1.959_964;
/// How many causes count as "among the first".
const FIRST: usize = 3;

/// A share of a number of cases, with the bounds within which the true share lies at 95 % confidence.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Share {
    /// How many.
    pub count: usize,
    /// Of how many.
    pub of: usize,
    /// Lower bound, `0.0..=1.0`.
    pub low: f64,
    /// Upper bound, `0.0..=1.0`.
    pub high: f64,
}

impl Share {
    /// `count` of `of`; of nothing, anything is possible.
    ///
    /// # Source
    /// Score interval (Wilson 1927).
    #[must_use]
    pub fn new(count: usize, of: usize) -> Self {
        if of == 0 {
            return Self { count, of, low: 0.0, high: 1.0 };
        }
        let (n, p) = (of as f64, count.min(of) as f64 / of as f64);
        let middle = p + Z * Z / (2.0 * n);
        let half = Z * (p * (1.0 - p) / n + Z * Z / (4.0 * n * n)).sqrt();
        let scale = 1.0 + Z * Z / n;
        Self { count, of, low: ((middle - half) / scale).max(0.0), high: ((middle + half) / scale).min(1.0) }
    }
}

/// What people's verdicts say of the incidents and causes that were told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrackRecord {
    /// Incidents that are over.
    pub incidents: usize,
    /// Those said to be false alarms, of those with a verdict.
    pub false_alarms: Share,
    /// Those whose first cause was the true one, of those whose cause people named.
    pub first_cause_right: Share,
    /// Those whose true cause was among the first three.
    pub among_first_three: Share,
}

impl TrackRecord {
    /// The record over `incidents`.
    #[must_use]
    pub fn of<'a>(incidents: impl IntoIterator<Item = &'a Incident>, people: &People) -> Self {
        let (mut all, mut judged, mut false_alarms, mut named, mut right, mut among) = (0, 0, 0, 0, 0, 0);
        for incident in incidents {
            let standing = people.standing(&incident.id);
            all += 1;
            judged += usize::from(standing.verdict.is_some());
            false_alarms += usize::from(standing.false_alarm().is_some());
            let Some((service, _)) = standing.cause() else { continue };
            let place = incident.ranking.causes.iter().position(|cause| cause.service == service);
            named += 1;
            right += usize::from(place == Some(0));
            among += usize::from(place.is_some_and(|place| place < FIRST));
        }
        Self {
            incidents: all,
            false_alarms: Share::new(false_alarms, judged),
            first_cause_right: Share::new(right, named),
            among_first_three: Share::new(among, named),
        }
    }
}

/// The verdicts that a confidence can learn from: incidents with causes, whose true cause people named.
#[must_use]
pub fn verdicts<'a>(incidents: impl IntoIterator<Item = &'a Incident>, people: &People) -> Vec<Verdict> {
    let verdict = |incident: &Incident| {
        let standing = people.standing(&incident.id);
        let (service, _) = standing.cause()?;
        let first = incident.ranking.causes.first()?;
        let confidence = incident.ranking.unmoved_confidence.unwrap_or(incident.ranking.confidence);
        Some(Verdict { confidence, right: first.service == service })
    };
    incidents.into_iter().filter_map(verdict).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_agree_with_statsmodels() {
        // statsmodels.stats.proportion.proportion_confint(3, 10, method="wilson")
        let share = Share::new(3, 10);
        assert!((share.low - 0.107_791_27).abs() < 1e-6 && (share.high - 0.603_221_85).abs() < 1e-6, "{share:?}");
        assert_eq!((Share::new(0, 0).low, Share::new(0, 0).high), (0.0, 1.0));
        assert!(Share::new(0, 5).low < 1e-12 && Share::new(5, 5).high > 1.0 - 1e-12);
    }
}
