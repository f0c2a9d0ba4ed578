//! Last value and seasonal naive: the floor every model must beat.

use serde::{Deserialize, Serialize};

use super::point::Path;

/// The last value for ever.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct LastValue;

impl Path for LastValue {
    fn path(&self, past: &[f64], horizon: usize) -> Vec<f64> {
        vec![past.last().copied().unwrap_or(0.0); horizon]
    }

    fn observe(&mut self, _past: &[f64]) {}
}

/// The values one period ago; the last value while less than a period is known.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct LastPeriod {
    pub(crate) period: usize,
}

impl Path for LastPeriod {
    fn path(&self, past: &[f64], horizon: usize) -> Vec<f64> {
        match past.len().checked_sub(self.period) {
            Some(from) if self.period > 0 => past[from..].iter().copied().cycle().take(horizon).collect(),
            _ => LastValue.path(past, horizon),
        }
    }

    fn reach(&self) -> usize {
        self.period
    }

    fn observe(&mut self, _past: &[f64]) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_period_is_repeated() {
        assert_eq!(LastPeriod { period: 3 }.path(&[9.0, 1.0, 2.0, 3.0], 5), [1.0, 2.0, 3.0, 1.0, 2.0]);
    }

    #[test]
    fn less_than_a_period_repeats_the_last_value() {
        assert_eq!(LastPeriod { period: 3 }.path(&[1.0, 2.0], 2), [2.0, 2.0]);
        assert_eq!(LastValue.path(&[], 2), [0.0, 0.0]);
    }
}
