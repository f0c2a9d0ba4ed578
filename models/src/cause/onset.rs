//! When a metric left its old level, and when the whole incident began.

use super::IncidentWindow;
use super::measure::UNHEALTHY;
use super::shift::Shift;

/// Share of the rows before the alarm that is taken as fault-free while the onset is still unknown.
const SURELY_BEFORE: f64 = 0.5;
/// Share of its move that a metric must have made to count as departed.
const DEPARTED: f64 = 0.2;
/// A metric speaks with its sigmas, at most this many, so that no single one decides.
const LOUDEST: f64 = 20.0;

/// Finds the first row of the incident for an alarm raised at `alarm_row`; never after it, and `alarm_row` itself when no
/// metric is out of order.
///
/// Each metric whose level after the alarm differs from its level long before is followed back from the alarm to the row
/// at which it departed; the onset is the median of these rows, weighted by the size of the move. So changes long before
/// (a warm-up) and after the alarm (an echo) do not count, and neither does the one metric that reads early or late.
///
/// # Source
/// Weighted median after Edgeworth (1888), which bears up to half of the weight in error.
#[must_use]
pub fn find(window: &IncidentWindow, alarm_row: usize) -> usize {
    let alarm = alarm_row.min(window.times.len().saturating_sub(1));
    let mut departures: Vec<(usize, f64)> =
        window.metrics.iter().filter_map(|metric| departure(&metric.values, alarm)).collect();
    departures.sort_by(|a, b| a.0.cmp(&b.0).then_with(|| a.1.total_cmp(&b.1)));
    let half = departures.iter().map(|(_, weight)| weight).sum::<f64>() / 2.0;
    let mut sum = 0.0;
    let middle = departures.iter().find(|(_, weight)| {
        sum += weight;
        sum >= half
    });
    middle.map_or(alarm, |(row, _)| *row)
}

/// The row from which on, up to the alarm, `values` are away from their level long before, and the weight of the metric's
/// word; `None` when its level after the alarm is the same.
fn departure(values: &[f64], alarm: usize) -> Option<(usize, f64)> {
    let first = (alarm as f64 * SURELY_BEFORE) as usize;
    let shift = Shift::between(values.get(..first)?, values.get(alarm..)?)?;
    let weight = shift.sigmas().abs();
    let back = |row: &usize| {
        let place = (values[*row] - shift.before) / shift.size();
        !place.is_finite() || place > DEPARTED
    };
    let observed = |row: &usize| values[*row].is_finite();
    let row = (first..alarm).rev().take_while(back).filter(observed).last().unwrap_or(alarm);
    (weight >= UNHEALTHY).then_some((row, weight.min(LOUDEST)))
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
    use crate::cause::Metric;
    use crate::series::Timestamp;

    fn window(columns: &[Vec<f64>]) -> IncidentWindow {
        let metric = |values: &Vec<f64>| Metric { service: "s".into(), name: "m".into(), values: values.clone() };
        let times = (0..columns[0].len()).map(|i| Timestamp::from_secs(i as i64)).collect();
        IncidentWindow { times, metrics: columns.iter().map(metric).collect(), ..IncidentWindow::default() }
    }

    fn step_at(row: usize) -> Vec<f64> {
        (0..40).map(|i| if i < row { 1.0 } else { 5.0 }).collect()
    }

    #[test]
    fn a_late_alarm_is_traced_back_past_warm_up_and_echo() {
        let mut warm_up = vec![1.0; 40];
        warm_up[..6].fill(9.0);
        let window = window(&[step_at(24), step_at(24), step_at(25), step_at(31), warm_up]);
        assert_eq!(find(&window, 30), 24);
        assert_eq!(find(&window, 24), 24);
    }

    #[test]
    fn a_ramp_counts_from_its_foot() {
        let ramp: Vec<f64> = (0..40).map(|i| f64::from((i - 20).clamp(0, 10))).collect();
        assert_eq!(find(&window(&[ramp]), 28), 23, "a fifth of the way up");
    }

    #[test]
    fn a_calm_or_empty_window_leaves_the_onset_at_the_alarm() {
        assert_eq!(find(&window(&[vec![1.0; 40]]), 30), 30);
        assert_eq!(find(&IncidentWindow::default(), 30), 0);
        assert_eq!(find(&window(&[vec![f64::NAN; 40]]), 99), 39);
    }

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
