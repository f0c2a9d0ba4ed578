//! Differences of a series, and the way back.

use serde::{Deserialize, Serialize};

/// `(1 - B)ᵈ (1 - Bˢ)ᴰ` of a series.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Differences {
    /// `d`.
    pub(crate) ordinary: usize,
    /// `D`.
    pub(crate) seasonal: usize,
    /// `s`, at least one.
    pub(crate) period: usize,
}

impl Differences {
    /// How far back a difference reaches.
    pub(crate) fn reach(self) -> usize {
        self.ordinary + self.seasonal * self.period
    }

    /// How often differences are taken.
    pub(crate) fn count(self) -> usize {
        self.ordinary + self.seasonal
    }

    /// The differenced series, shorter by [`reach`](Self::reach); a gap makes a gap wherever it takes part.
    pub(crate) fn of(self, y: &[f64]) -> Vec<f64> {
        let once = |y: Vec<f64>, lag: usize| y.iter().skip(lag).zip(&y).map(|(now, then)| now - then).collect();
        let ordinary = (0..self.ordinary).fold(y.to_vec(), |y, _| once(y, 1));
        (0..self.seasonal).fold(ordinary, |y, _| once(y, self.period))
    }

    /// What the newest values of the series (oldest first) carry over into the next one.
    pub(crate) fn carried(self, recent: &[f64]) -> f64 {
        let back = |lag: usize| recent.len().checked_sub(lag).map_or(0.0, |i| recent[i]);
        match (self.ordinary, self.seasonal) {
            (0, 0) => 0.0,
            (1, 0) => back(1),
            (0, _) => back(self.period),
            (_, _) => back(1) + back(self.period) - back(self.period + 1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_carried_over_undoes_the_difference() {
        let y: Vec<f64> = (0..30).map(|i| f64::from((i * i) % 17)).collect();
        for (ordinary, seasonal) in [(0, 0), (1, 0), (0, 1), (1, 1)] {
            let differences = Differences { ordinary, seasonal, period: 4 };
            let w = differences.of(&y);
            assert_eq!(w.len(), y.len() - differences.reach());
            assert_eq!(w[w.len() - 1] + differences.carried(&y[..29]), y[29]);
        }
    }
}
