//! Figures for labelled ranges: the volume under the range-aware precision-recall surface, the events found at a share
//! of false rows, and the metrics named rightly.

const THRESHOLDS: usize = 250;

/// Volume under the precision-recall surface over buffers of `0..=most` rows about each labelled range.
///
/// Source: J. Paparrizos et al., "Volume under the surface: a new accuracy evaluation measure for time-series anomaly
/// detection", VLDB 2022.
pub fn vus_pr(labels: &[bool], scores: &[f64], most: usize) -> f64 {
    let reported = ranks(scores);
    let found = cumulated(&reported, |_| 1.0);
    let hits = cumulated(&reported, |row| f64::from(u8::from(labels[row])));
    let events = events(labels);
    let sum: f64 = (0..=most).map(|buffer| area(labels, &events, &reported, &found, &hits, buffer)).sum();
    sum / (most + 1) as f64
}

/// Share of labelled ranges with a row above the threshold that lets `share` of the other rows through.
pub fn events_found(labels: &[bool], scores: &[f64], share: f64) -> f64 {
    let mut normal: Vec<f64> = scores.iter().zip(labels).filter(|(_, label)| !**label).map(|(s, _)| *s).collect();
    normal.sort_by(|a, b| b.total_cmp(a));
    let threshold = normal.get((share * normal.len() as f64) as usize).copied().unwrap_or(f64::NEG_INFINITY);
    let events = events(labels);
    let found = events.iter().filter(|[start, end]| scores[*start..=*end].iter().any(|s| *s > threshold)).count();
    found as f64 / events.len() as f64
}

/// Share of the `true_metrics` (numbers from 0) among as many with the largest contributions.
pub fn hit_rate(true_metrics: &[usize], contributions: &[f64]) -> f64 {
    let mut order: Vec<usize> = (0..contributions.len()).collect();
    order.sort_by(|a, b| contributions[*b].total_cmp(&contributions[*a]));
    let named = order.iter().take(true_metrics.len()).filter(|metric| true_metrics.contains(metric)).count();
    named as f64 / true_metrics.len() as f64
}

/// First and last row of each labelled range.
pub fn events(labels: &[bool]) -> Vec<[usize; 2]> {
    let mut events: Vec<[usize; 2]> = Vec::new();
    for (row, _) in labels.iter().enumerate().filter(|(_, label)| **label) {
        match events.last_mut() {
            Some([_, end]) if *end + 1 == row => *end = row,
            _ => events.push([row, row]),
        }
    }
    events
}

/// The first of the thresholds (from the highest) at which each row is reported.
fn ranks(scores: &[f64]) -> Vec<usize> {
    let mut falling = scores.to_vec();
    falling.sort_by(|a, b| b.total_cmp(a));
    let at = |k: usize| falling[(k as f64 * (scores.len() - 1) as f64 / (THRESHOLDS - 1) as f64) as usize];
    let thresholds: Vec<f64> = (0..THRESHOLDS).map(at).collect();
    scores.iter().map(|score| thresholds.partition_point(|threshold| *threshold > *score)).collect()
}

/// Sum of weights of the rows reported at each threshold.
fn cumulated(reported: &[usize], weight: impl Fn(usize) -> f64) -> Vec<f64> {
    let mut sums = vec![0.0; THRESHOLDS + 1];
    reported.iter().enumerate().for_each(|(row, rank)| sums[*rank] += weight(row));
    (1..THRESHOLDS).for_each(|k| sums[k] += sums[k - 1]);
    sums.truncate(THRESHOLDS);
    sums
}

fn area(labels: &[bool], events: &[[usize; 2]], reported: &[usize], found: &[f64], hits: &[f64], buffer: usize) -> f64 {
    let worth = widened(labels, events, buffer);
    let nearby = cumulated(reported, |row| if labels[row] { 0.0 } else { worth[row] });
    let wide = self::events(&worth.iter().map(|w| *w > 0.0).collect::<Vec<_>>());
    let touched: Vec<usize> =
        wide.iter().map(|[a, b]| reported[*a..=*b].iter().copied().min().unwrap_or(THRESHOLDS)).collect();
    let labelled = labels.iter().filter(|label| **label).count() as f64;
    let (mut area, mut before) = (0.0, 0.0);
    for k in 0..THRESHOLDS {
        let seen = touched.iter().filter(|rank| **rank <= k).count() as f64 / wide.len() as f64;
        let positives = (2.0 * labelled + nearby[k]) / 2.0;
        let recall = ((hits[k] + nearby[k]) / positives).min(1.0) * seen;
        area += (recall - before) * (hits[k] + nearby[k]) / found[k].max(1.0);
        before = recall;
    }
    area
}

/// Rows about an event are worth the less the farther they are from it.
fn widened(labels: &[bool], events: &[[usize; 2]], buffer: usize) -> Vec<f64> {
    let mut worth: Vec<f64> = labels.iter().map(|label| f64::from(u8::from(*label))).collect();
    let fades = |distance: usize| (1.0 - distance as f64 / buffer as f64).sqrt();
    for [start, end] in events.iter().filter(|_| buffer > 0) {
        (end + 1..(end + buffer / 2 + 1).min(labels.len())).for_each(|row| worth[row] += fades(row - end));
        (start.saturating_sub(buffer / 2)..*start).for_each(|row| worth[row] += fades(start - row));
    }
    worth.iter_mut().for_each(|w| *w = w.min(1.0));
    worth
}
