//! The usual course of a cycle, and today's departure from it, which fades.

use serde::{Deserialize, Serialize};

use super::course::Course;
use super::point::Path;

/// Greatest number of cycles a profile remembers.
const CYCLES: usize = 7;

/// Mean of each place in the cycle over the last cycles; the newest departure from it decays as it did in the past.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Profile {
    means: Course,
    /// Weight of a new value in its mean.
    gain: f64,
    departure: f64,
    /// Share of a departure that is left after `k + 1` steps, `0..=1`.
    kept: Vec<f64>,
}

impl Profile {
    /// Learns from `y` (finite); `None` below two periods.
    pub(crate) fn fit(y: &[f64], period: usize, horizon: usize) -> Option<Self> {
        let cycles = y.len().checked_div(period)?.min(CYCLES);
        if period < 2 || cycles < 2 {
            return None;
        }
        let recent = &y[y.len() - cycles * period..];
        let means: Vec<f64> =
            (0..period).map(|place| recent[place..].iter().step_by(period).sum::<f64>() / cycles as f64).collect();
        let departures: Vec<f64> = recent.iter().enumerate().map(|(i, v)| v - means[i % period]).collect();
        let kept = (1..=horizon).map(|lag| kept(&departures, lag)).collect();
        let departure = departures.last().copied().unwrap_or(0.0);
        Some(Self { means: Course::new(&means, 0), gain: 1.0 / cycles as f64, departure, kept })
    }
}

/// Least-squares slope of departures on those `lag` steps earlier.
fn kept(departures: &[f64], lag: usize) -> f64 {
    let Some(pairs) = departures.len().checked_sub(lag) else { return 0.0 };
    let together: f64 = departures[lag..].iter().zip(departures).map(|(a, b)| a * b).sum();
    let alone: f64 = departures[..pairs].iter().map(|d| d * d).sum();
    if alone > 0.0 { (together / alone).clamp(0.0, 1.0) } else { 0.0 }
}

impl Path for Profile {
    fn path(&self, _past: &[f64], horizon: usize) -> Vec<f64> {
        let last = self.kept.last().copied().unwrap_or(0.0);
        let at = |k: usize| {
            let kept = self.kept.get(k).copied().unwrap_or(last);
            self.means.at(k) + kept * self.departure
        };
        (0..horizon).map(at).collect()
    }

    fn observe(&mut self, past: &[f64]) {
        if let Some(value) = past.last() {
            let mean = self.means.at(0);
            self.departure = value - mean;
            self.means.leave(mean + self.gain * self.departure);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps(n: usize) -> Vec<f64> {
        (0..n).map(|i| (i % 6) as f64).collect()
    }

    #[test]
    fn a_regular_course_is_repeated() {
        let profile = Profile::fit(&steps(40), 6, 4).expect("six cycles");
        assert_eq!(profile.path(&[], 4), [4.0, 5.0, 0.0, 1.0]);
    }

    #[test]
    fn a_lasting_departure_is_carried_forward_and_the_profile_follows() {
        let mut y = steps(42);
        (0..42).for_each(|i| y[i] += if (i / 7) % 2 == 0 { 3.0 } else { -3.0 });
        let mut profile = Profile::fit(&y, 6, 3).expect("seven cycles");
        let before = profile.path(&[], 1)[0];
        (0..6).for_each(|i| profile.observe(&[i as f64 + 30.0]));
        assert!(profile.path(&[], 1)[0] > before + 10.0);
    }

    #[test]
    fn less_than_two_cycles_make_no_profile() {
        assert_eq!(Profile::fit(&steps(11), 6, 3), None);
        assert_eq!(Profile::fit(&steps(11), 0, 3), None);
    }
}
