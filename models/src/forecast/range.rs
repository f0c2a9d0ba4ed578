//! The least and the greatest value of late, without the values.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

/// Parts of the time looked back on; the oldest is forgotten as a whole.
const PARTS: usize = 8;

/// Extremes of between eight and nine parts of the newest values.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Range {
    /// Values of a part.
    part: usize,
    /// Values taken into the newest part.
    taken: usize,
    parts: VecDeque<(f64, f64)>,
    pub(crate) least: f64,
    pub(crate) greatest: f64,
}

impl Range {
    /// Looks back on about `span` values, of which `values` (finite, not empty) are the newest.
    pub(crate) fn of(values: &[f64], span: usize) -> Self {
        let part = span.div_ceil(PARTS).max(1);
        let first = values.first().copied().unwrap_or(0.0);
        let mut range = Self { part, taken: part, parts: VecDeque::new(), least: first, greatest: first };
        values.iter().for_each(|value| range.take(*value));
        range
    }

    /// Takes in the newest value, which is finite.
    pub(crate) fn take(&mut self, value: f64) {
        if self.taken == self.part {
            self.taken = 0;
            self.parts.push_back((value, value));
            if self.parts.len() > PARTS + 1 {
                self.parts.pop_front();
            }
            (self.least, self.greatest) = self.extremes();
        }
        self.taken += 1;
        if let Some((least, greatest)) = self.parts.back_mut() {
            (*least, *greatest) = (least.min(value), greatest.max(value));
        }
        (self.least, self.greatest) = (self.least.min(value), self.greatest.max(value));
    }

    fn extremes(&self) -> (f64, f64) {
        let wider = |(least, greatest): (f64, f64), part: &(f64, f64)| (least.min(part.0), greatest.max(part.1));
        self.parts.iter().fold((f64::INFINITY, f64::NEG_INFINITY), wider)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extremes_are_remembered_for_a_span_and_then_forgotten() {
        let mut range = Range::of(&[5.0, -3.0, 40.0], 80);
        assert_eq!((range.least, range.greatest), (-3.0, 40.0));
        (0..70).for_each(|_| range.take(1.0));
        assert_eq!((range.least, range.greatest), (-3.0, 40.0));
        (0..40).for_each(|_| range.take(1.0));
        assert_eq!((range.least, range.greatest), (1.0, 1.0));
    }
}
