//! How far the last samples were spread, in fixed memory.

use serde::{Deserialize, Serialize};

/// Samples kept: enough for a spread within a fifth.
const KEPT: usize = 32;
/// Median absolute deviation to standard deviation, for a Gaussian.
const TO_SIGMA: f32 = 1.4826;

/// A thinned window of the last samples, kept in order of size: the median distance from its median is exact, and no
/// sample moves it farther than its neighbours in size.
///
/// Source: F. Hampel, "The influence curve and its role in robust estimation", JASA 1974.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Recent {
    sorted: [f32; KEPT],
    /// When each was put in, as a number modulo [`KEPT`].
    turns: [u8; KEPT],
    len: u8,
    turn: u8,
    waited: f32,
    spread: f32,
}

impl Recent {
    /// Takes a sample that stands for `dt` of the `span` (same unit) the window is to cover; most are passed over, so
    /// that the window covers it.
    pub(super) fn observe(&mut self, value: f64, dt: f64, span: f64) {
        self.waited += dt as f32;
        if usize::from(self.len) == KEPT && self.waited < span as f32 / KEPT as f32 {
            return;
        }
        self.waited = 0.0;
        self.put(value as f32);
        self.measure();
    }

    /// Standard deviation as told by the median distance from the median; 0 when half of the samples are equal.
    pub(super) fn spread(&self) -> f64 {
        f64::from(self.spread)
    }

    /// Puts a value at its place; when there is no room, the one of the same turn a round ago leaves.
    fn put(&mut self, value: f32) {
        let mut len = usize::from(self.len);
        if len == KEPT {
            let oldest = self.turns.iter().position(|turn| *turn == self.turn).unwrap_or(0);
            self.sorted.copy_within(oldest + 1.., oldest);
            self.turns.copy_within(oldest + 1.., oldest);
            len -= 1;
        }
        let at = self.sorted[..len].partition_point(|v| *v < value);
        self.sorted.copy_within(at..len, at + 1);
        self.turns.copy_within(at..len, at + 1);
        (self.sorted[at], self.turns[at]) = (value, self.turn);
        self.turn = (self.turn + 1) % KEPT as u8;
        self.len = (len + 1) as u8;
    }

    /// Walks outwards from the middle until half of the samples are passed.
    fn measure(&mut self) {
        let n = usize::from(self.len);
        let s = &self.sorted[..n];
        let middle = 0.5 * (s[(n - 1) / 2] + s[n / 2]);
        let (mut low, mut high) = (n / 2, n / 2);
        let mut reach = 0.0;
        while high - low < n.div_ceil(2) {
            let below = if low > 0 { middle - s[low - 1] } else { f32::INFINITY };
            let above = if high < n { s[high] - middle } else { f32::INFINITY };
            reach = below.min(above);
            if below < above { low -= 1 } else { high += 1 }
        }
        self.spread = TO_SIGMA * reach.max(0.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::reference;

    #[test]
    fn the_spread_is_the_median_distance_from_the_median() {
        let mut recent = Recent::default();
        [5.0, 1.0, 9.0, 2.0, 100.0].iter().for_each(|v| recent.observe(*v, 1.0, 10.0));
        assert!((recent.spread() - 4.0 * 1.4826).abs() < 1e-5, "{}", recent.spread()); // distances 0, 3, 4, 4, 95
    }

    #[test]
    fn the_spread_is_that_of_scipy() {
        let case = &reference::known()["spread"];
        let mut recent = Recent::default();
        for value in reference::numbers(&case["values"]) {
            recent.observe(value, 1.0, 31.0);
        }
        let expected = case["spread"].as_f64().unwrap();
        assert!((recent.spread() - expected).abs() < 1e-4, "{} {expected}", recent.spread());
    }

    #[test]
    fn the_window_slides_over_the_span() {
        let mut recent = Recent::default();
        (0..1000).for_each(|k| recent.observe(f64::from(k), 1.0, 480.0));
        assert!((recent.spread() - 480.0 / 4.0 * 1.4826).abs() < 15.0, "{}", recent.spread()); // of a ramp, a quarter
    }
}
