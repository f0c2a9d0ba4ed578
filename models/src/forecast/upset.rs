//! What upset a history and should not be taken for its usual course: outages that are over, and levels long left.

/// Below this share of what is usual at a place of the cycle a value belongs to an outage.
const OUTAGE: f64 = 0.1;
/// Places whose usual value is below this share of the middle one are idle anyway.
const IDLE: f64 = 0.25;
/// Fewest values of an outage.
const SHORTEST: usize = 2;
/// Where more than this share of the values is that low, it is the way of the series.
const RARE: f64 = 0.05;
/// Fewest cycles by which the usual course is known.
const CYCLES: usize = 3;
/// Fewest cycles of the old level: with days for cycles a week, so that a weekend is not taken for a new one.
const CYCLES_BEFORE: usize = 7;
/// A level that changes by less than this factor is left to the models, which follow it.
const SHIFT: f64 = 2.0;
/// Parts of a cycle whose middles are compared to find where a level changed.
const PARTS: usize = 8;

/// `values` (gaps NaN, none negative) as if they had been usual all along: outages that are over become gaps, and what lies
/// before a lasting change of level is brought to the new one. Anything that is not certain stays as it is.
///
/// # Source
/// The course by medians and the comparison of quantiles of both sides of a change are robust forms of the usual
/// decomposition and of a test for a change in location; see Cleveland et al., "STL", 1990, and Chen and Liu, "Joint
/// estimation of model parameters and outlier effects in time series", J. American Statistical Association 88, 1993.
pub(crate) fn settled(values: &[f64], period: Option<usize>) -> Vec<f64> {
    let mut values = values.to_vec();
    let Some(period) = period.filter(|p| *p >= PARTS && CYCLES * p <= values.len()) else { return values };
    if values.iter().any(|v| *v < 0.0) {
        return values;
    }
    let usual = course(&values, period);
    mask_outages(&mut values, &usual);
    level(&mut values, &usual);
    values
}

/// The median at each place of the cycle; NaN where nothing was seen.
fn course(values: &[f64], period: usize) -> Vec<f64> {
    (0..period).map(|place| median(values[place..].iter().copied().step_by(period).collect())).collect()
}

/// NaN where nothing is finite.
fn median(values: Vec<f64>) -> f64 {
    quantile(values, 0.5)
}

fn quantile(mut values: Vec<f64>, p: f64) -> f64 {
    values.retain(|v| v.is_finite());
    let Some(last) = values.len().checked_sub(1) else { return f64::NAN };
    *values.select_nth_unstable_by((p * last as f64).round() as usize, f64::total_cmp).1
}

fn mask_outages(values: &mut [f64], usual: &[f64]) {
    let middle = median(usual.to_vec());
    let expected = |i: usize| usual[i % usual.len()];
    let busy = |i: usize| middle > 0.0 && expected(i) >= IDLE * middle;
    let low: Vec<bool> = values.iter().enumerate().map(|(i, v)| busy(i) && *v <= OUTAGE * expected(i)).collect();
    if low.iter().filter(|low| **low).count() as f64 > RARE * values.len() as f64 {
        return;
    }
    let mut from = 0;
    while let Some(start) = low[from..].iter().position(|low| *low).map(|k| from + k) {
        let len = low[start..].iter().position(|low| !*low).unwrap_or(low.len() - start);
        let over = start + len < values.len();
        if over && (SHORTEST..=usual.len()).contains(&len) {
            values[start..start + len].fill(f64::NAN);
        }
        from = start + len;
    }
}

/// Brings what lies before the last lasting change of level to the level after it.
fn level(values: &mut [f64], usual: &[f64]) {
    let part = usual.len() / PARTS;
    let relative = |(i, v): (usize, &f64)| v / usual[i % usual.len()];
    let relative: Vec<f64> = values.iter().enumerate().map(relative).collect();
    let parts: Vec<f64> = relative.chunks(part).map(|part| median(part.to_vec())).collect();
    if let Some((split, factor)) = change(&parts) {
        let between = factor.sqrt() * median(parts[..split].to_vec());
        let first = first_of_new(&relative, between, factor > 1.0);
        values[..first].iter_mut().for_each(|v| *v *= factor);
    }
}

/// The value with which the new level begins: as few as can be lie on the wrong side of `between`.
fn first_of_new(relative: &[f64], between: f64, rises: bool) -> usize {
    let new = |v: f64| if rises { v > between } else { v < between };
    let (mut wrong, mut least, mut first) = (0i64, 0i64, 0);
    for (i, v) in relative.iter().copied().enumerate().filter(|(_, v)| v.is_finite()) {
        wrong += if new(v) { 1 } else { -1 };
        if wrong < least {
            (least, first) = (wrong, i + 1);
        }
    }
    first
}

/// The part with which a new level begins, and how many times the old it is: the split after at least seven cycles, and
/// half a cycle or more before the end, at which the two sides lie furthest apart without overlapping.
fn change(parts: &[f64]) -> Option<(usize, f64)> {
    let splits = CYCLES_BEFORE * PARTS..(parts.len() + 1).saturating_sub(PARTS / 2);
    let apart = |split: usize| {
        let (before, after) = parts.split_at(split);
        let at = |side: &[f64], p: f64| quantile(side.to_vec(), p);
        let (rise, fall) = (at(after, 0.1) / at(before, 0.9), at(before, 0.1) / at(after, 0.9));
        let factor = at(after, 0.5) / at(before, 0.5);
        let certain = rise.max(fall) > 1.0 && factor.is_finite() && factor.max(1.0 / factor) >= SHIFT;
        certain.then_some((split, factor, rise.max(fall)))
    };
    let best = splits.filter_map(apart).max_by(|a, b| a.2.total_cmp(&b.2));
    best.map(|(split, factor, _)| (split, factor))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::laws::noise;

    const DAY: usize = 48;

    fn load(n: usize) -> Vec<f64> {
        let wave = |i: usize| (i as f64 / DAY as f64 * std::f64::consts::TAU).sin();
        (0..n).map(|i| 100.0 + 60.0 * wave(i) + 10.0 * noise(i)).collect()
    }

    fn gaps(values: &[f64]) -> usize {
        values.iter().filter(|v| v.is_nan()).count()
    }

    #[test]
    fn an_outage_that_is_over_is_a_gap_and_one_that_lasts_is_believed() {
        let mut y = load(10 * DAY);
        y[200..212].fill(0.0);
        let settled_again = settled(&y, Some(DAY));
        assert_eq!(gaps(&settled_again), 12);
        assert!(settled_again[200..212].iter().all(|v| v.is_nan()));
        y[10 * DAY - 12..].fill(0.0);
        assert_eq!(gaps(&settled(&y, Some(DAY))), 12);
    }

    #[test]
    fn an_ordinary_history_with_weekends_and_idle_nights_is_left_alone() {
        let mut y = load(14 * DAY);
        for (i, v) in y.iter_mut().enumerate() {
            let (night, weekend) = (i % DAY > 38, (i / DAY) % 7 >= 5);
            *v = if night {
                0.0
            } else if weekend {
                0.3 * *v
            } else {
                *v
            };
        }
        assert_eq!(settled(&y, Some(DAY)), y);
        assert_eq!(settled(&y, None), y);
        assert_eq!(settled(&y[..100], Some(DAY)), y[..100]);
    }

    #[test]
    fn what_lies_before_a_lasting_change_of_level_is_brought_to_the_new_one() {
        let plain = load(10 * DAY);
        for (factor, from) in [(4.0, 8 * DAY), (0.2, 8 * DAY + 5), (10.0, 9 * DAY - 7)] {
            let mut y = plain.clone();
            y[from..].iter_mut().for_each(|v| *v *= factor);
            let level = settled(&y, Some(DAY));
            let off =
                level.iter().zip(&plain).map(|(a, b)| (a / (factor * b) - 1.0).abs()).sum::<f64>() / y.len() as f64;
            assert!(off < 0.05, "{factor}: {off}");
        }
    }

    #[test]
    fn a_series_that_often_rests_and_one_below_zero_are_left_alone() {
        let pulses: Vec<f64> = (0..600).map(|i| if (i / 7) % 3 == 0 { 90.0 + noise(i) } else { 0.5 }).collect();
        assert_eq!(settled(&pulses, Some(DAY)), pulses);
        let below: Vec<f64> = load(400).iter().map(|v| v - 100.0).collect();
        assert_eq!(settled(&below, Some(DAY)), below);
    }
}
