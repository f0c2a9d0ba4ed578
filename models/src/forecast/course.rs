//! One value for each place of a cycle.

use serde::{Deserialize, Serialize};

/// A cycle that stands at the place of the next value. Values are kept relative to their level and so in single precision:
/// a cycle is most of what a fitted series takes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Course {
    level: f64,
    departures: Box<[f32]>,
    /// Place of the next value.
    next: usize,
}

impl Course {
    /// The values (not empty) of one cycle, of which the next one is at place `next`.
    pub(crate) fn new(values: &[f64], next: usize) -> Self {
        let level = values.iter().sum::<f64>() / values.len() as f64;
        let departures = values.iter().map(|v| (v - level) as f32).collect();
        Self { level, departures, next: next % values.len() }
    }

    /// Places in the cycle.
    pub(crate) fn len(&self) -> usize {
        self.departures.len()
    }

    /// The value `ahead` steps from now; 0 is the next one.
    pub(crate) fn at(&self, ahead: usize) -> f64 {
        self.level + f64::from(self.departures[(self.next + ahead) % self.len()])
    }

    /// Moves on, with `value` at the place that is left.
    pub(crate) fn leave(&mut self, value: f64) {
        self.departures[self.next] = (value - self.level) as f32;
        self.advance();
    }

    /// Moves on.
    pub(crate) fn advance(&mut self) {
        self.next = (self.next + 1) % self.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cycle_goes_round_and_keeps_what_was_left_at_a_place() {
        let mut course = Course::new(&[1e9, 1e9 + 1.0, 1e9 + 2.0], 4);
        assert_eq!((course.at(0), course.at(1), course.at(2)), (1e9 + 1.0, 1e9 + 2.0, 1e9));
        course.leave(1e9 + 5.0);
        course.advance();
        assert_eq!((course.at(0), course.at(1)), (1e9, 1e9 + 5.0));
    }
}
