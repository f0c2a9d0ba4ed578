//! When a metric left its old level, and when the whole incident began.

use super::IncidentWindow;
use super::shift::Shift;

/// Fewest rows on either side of a split.
const FEWEST_ROWS: usize = 3;
/// A metric speaks for a split with at most this many squared standard deviations, so that no single one decides.
const LOUDEST: f64 = 50.0;
/// Rows before the alarm among which the onset is sought, as a share of all rows before it.
const LOOK_BACK: f64 = 0.5;

/// Finds the first row of the incident for an alarm raised at row `alarm_row`: the split, at most at the alarm, at which
/// most metrics change their level most.
///
/// # Source
/// Least-squares change point of each metric (Page 1954), scaled robustly and clipped, capped and added over all metrics.
#[must_use]
pub fn find(window: &IncidentWindow, alarm_row: usize) -> usize {
    let rows = window.times.len();
    let last = alarm_row.min(rows.saturating_sub(1));
    let first = last - ((last as f64 * LOOK_BACK) as usize).min(last.saturating_sub(FEWEST_ROWS));
    let mut votes = vec![0.0; rows + 1];
    for metric in &window.metrics {
        for (vote, gain) in votes.iter_mut().zip(gains(&metric.values)) {
            *vote += gain.min(LOUDEST);
        }
    }
    (first..=last).rev().max_by(|a, b| votes[*a].total_cmp(&votes[*b])).unwrap_or(alarm_row)
}

/// For each row, how much of the variation of `values` a change of level there explains, as a squared z-score.
fn gains(values: &[f64]) -> Vec<f64> {
    let Some(scaled) = scaled(values) else { return Vec::new() };
    let n = scaled.len() as f64;
    let total: f64 = scaled.iter().sum();
    let squares: f64 = scaled.iter().map(|v| v * v).sum();
    let mut before = 0.0;
    let mut gains = vec![0.0];
    for (row, value) in scaled.iter().enumerate().take(scaled.len().saturating_sub(1)) {
        before += value;
        let k = (row + 1) as f64;
        let (low, high) = (before / k, (total - before) / (n - k));
        let noise = (squares - k * low * low - (n - k) * high * high) / n + 0.01;
        gains.push(k * (n - k) / n * (low - high).powi(2) / noise);
    }
    gains
}

/// Values centred on their median, scaled by the distance of the 10th from the 90th percentile, clipped to three of it; a
/// gap lies on the median. `None` when there is no variation.
fn scaled(values: &[f64]) -> Option<Vec<f64>> {
    let mut finite = super::shift::finite(values);
    if finite.is_empty() {
        return None;
    }
    let mut at = |p| super::shift::quantile(&mut finite, p);
    let (median, spread) = (at(0.5), at(0.9) - at(0.1));
    let scaled = |v: &f64| if v.is_finite() { ((v - median) / spread).clamp(-3.0, 3.0) } else { 0.0 };
    (spread > 0.0).then(|| values.iter().map(scaled).collect())
}

/// Row at which `values` passed from `shift.before` to `shift.after`, by the split that leaves the fewest values, weighted
/// by how far, on the wrong side of the middle; 0 when every value is at the new level. Gaps count on neither side.
///
/// # Source
/// The maximum-likelihood change point of two known levels (Page 1954), with values clipped to the two levels so that one
/// spike cannot decide.
#[must_use]
pub fn row_of_change(values: &[f64], shift: &Shift) -> usize {
    let height = shift.after - shift.before;
    let mut balance = 0.0;
    let mut best = (0.0, 0);
    for (row, value) in values.iter().enumerate() {
        let place = (value - shift.before) / height;
        if place.is_finite() {
            balance += place.clamp(0.0, 1.0) - 0.5;
        }
        if balance < best.0 {
            best = (balance, row + 1);
        }
    }
    best.1
}

#[cfg(test)]
mod tests {
    use super::*;

    const UP: Shift = Shift { before: 1.0, after: 3.0, scale: 0.1 };

    #[test]
    fn the_row_of_a_step_is_found_in_spite_of_a_spike_before_it() {
        let values = [1.0, 1.1, 99.0, 1.0, 0.9, 1.0, 3.0, 2.9, 3.1, 3.0];
        assert_eq!(row_of_change(&values, &UP), 6);
    }

    #[test]
    fn gaps_and_flat_levels_do_not_panic() {
        assert_eq!(row_of_change(&[], &UP), 0);
        assert_eq!(row_of_change(&[f64::NAN; 3], &UP), 0);
        assert_eq!(row_of_change(&[2.0; 3], &Shift { before: 2.0, after: 2.0, scale: 1.0 }), 0);
        assert_eq!(row_of_change(&[1.0, f64::NAN, f64::NAN, 3.0], &UP), 1);
    }
}
