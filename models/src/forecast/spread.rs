//! How wide errors are apt to be at a time and a level, so that errors of all times can be pooled.

use serde::{Deserialize, Serialize};

/// Weight of a new error in the recent spread: about the last dozen count.
const RECENT: f64 = 0.08;
/// Weight of a new error in the usual spread.
const USUAL: f64 = 0.004;
/// Weight of a new cycle in the spread at a place of the cycle.
const PLACE: f64 = 0.2;
/// Part of the usual that is added to every measure, so that none comes near zero.
const FLOOR: f64 = 0.2;

/// One-step errors, averaged over the last few, over many, and by place in the cycle; and the level of the series.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Spread {
    level: f64,
    recent: f64,
    usual: f64,
    seen: usize,
    places: Box<[f32]>,
    /// Place of the next value.
    next: usize,
}

impl Spread {
    /// For a series of this mean magnitude and period, no error seen.
    pub(crate) fn new(level: f64, period: usize) -> Self {
        Self { level, recent: 0.0, usual: 0.0, seen: 0, places: vec![0.0; period.max(1)].into(), next: 0 }
    }

    /// Takes in a one-step error, or `None` where there was a gap.
    pub(crate) fn observe(&mut self, error: Option<f64>) {
        if let Some(size) = error.map(f64::abs) {
            self.seen += 1;
            let first = 1.0 / self.seen as f64;
            self.recent += first.max(RECENT) * (size - self.recent);
            self.usual += first.max(USUAL) * (size - self.usual);
            let cycle = 1.0 / (1 + self.seen / self.places.len()) as f64;
            let place = &mut self.places[self.next];
            *place += (cycle.max(PLACE) * (size - f64::from(*place))) as f32;
        }
        self.next = (self.next + 1) % self.places.len();
    }

    /// Relative width of the errors of a path that starts now: the product of the square roots of the level, of the
    /// recent spread and, after a full cycle, of the spread at that place of the cycle, each relative to its usual. The
    /// square root is that of counts, whose variance grows with their mean; for the rest it tempers the estimate.
    pub(crate) fn widths(&self, path: &[f64]) -> Vec<f64> {
        let unrest = tempered(self.recent, self.usual);
        let known = self.seen > self.places.len() && self.places.len() > 1;
        let usual = if known { mean(&self.places) } else { 0.0 };
        let around = if known { self.around(path.len()) } else { vec![0.0; path.len()] };
        let at = |(value, around): (&f64, f64)| unrest * tempered(around, usual) * tempered(value.abs(), self.level);
        path.iter().zip(around).map(at).collect()
    }

    /// For each of so many steps to come the mean over the places within a twenty-fourth of a cycle.
    fn around(&self, steps: usize) -> Vec<f64> {
        let (n, reach) = (self.places.len(), self.places.len() / 24);
        let width = 2 * reach + 1;
        let from = self.next + n - reach;
        let near: Vec<f64> = (from..from + steps + width - 1).map(|i| f64::from(self.places[i % n])).collect();
        let mut sum: f64 = near[..width - 1].iter().sum();
        let mut moved = |(new, old): (&f64, &f64)| {
            sum += new;
            let mean = sum / width as f64;
            sum -= old;
            mean
        };
        near[width - 1..].iter().zip(&near).map(&mut moved).collect()
    }
}

/// Summed in eight lanes, as a cycle may be long and this is asked at every point.
fn mean(values: &[f32]) -> f64 {
    let (eights, rest) = values.as_chunks::<8>();
    let mut lanes = [0.0; 8];
    for eight in eights {
        lanes.iter_mut().zip(eight).for_each(|(lane, value)| *lane += f64::from(*value));
    }
    let rest = rest.iter().copied().map(f64::from);
    lanes.into_iter().chain(rest).sum::<f64>() / values.len() as f64
}

fn tempered(value: f64, usual: f64) -> f64 {
    if usual > 0.0 { ((value + FLOOR * usual) / ((1.0 + FLOOR) * usual)).sqrt() } else { 1.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_higher_level_and_restless_times_widen() {
        let mut spread = Spread::new(10.0, 4);
        (0..200).for_each(|_| spread.observe(Some(1.0)));
        let calm = spread.widths(&[10.0, 40.0]);
        assert!((calm[0] - 1.0).abs() < 0.01 && calm[1] > 1.5);
        (0..12).for_each(|_| spread.observe(Some(-5.0)));
        assert!(spread.widths(&[10.0])[0] > 1.3);
    }

    #[test]
    fn the_hour_at_which_errors_are_great_is_known_after_a_cycle() {
        let mut spread = Spread::new(10.0, 4);
        (0..400).for_each(|i| spread.observe(Some(if i % 4 == 2 { 8.0 } else { 1.0 })));
        let widths = spread.widths(&[10.0; 4]);
        assert!(widths[2] > 1.5 * widths[0], "{widths:?}");
    }

    #[test]
    fn without_errors_and_without_a_level_nothing_is_known() {
        let mut spread = Spread::new(0.0, 0);
        spread.observe(None);
        assert_eq!(spread.widths(&[0.0, 5.0]), [1.0, 1.0]);
    }
}
