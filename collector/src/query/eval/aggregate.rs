//! Aggregation of the elements of a vector, group by group.

use std::cmp::Ordering;
use std::collections::{BTreeMap, HashMap};

use super::super::QueryError;
use super::super::metric::Metric;
use super::super::number::decimal;
use super::super::plan::{Fold, Grouping};
use super::math::quantile;
use super::{Row, absent, is_present, kept};

/// The rows that belong together.
struct Group<'a> {
    metric: Metric,
    rows: Vec<&'a Row>,
}

fn groups<'a>(rows: &'a [Row], grouping: &'a Grouping) -> Vec<Group<'a>> {
    let mut known: HashMap<Vec<&str>, usize> = HashMap::new();
    let mut all: Vec<Group<'a>> = Vec::new();
    for row in rows {
        let index = *known.entry(row.metric.key(grouping.on, &grouping.names)).or_insert_with(|| {
            all.push(Group { metric: row.metric.key_labels(grouping.on, &grouping.names), rows: Vec::new() });
            all.len() - 1
        });
        all[index].rows.push(row);
    }
    all
}

/// One row for each group, folded step by step.
#[inline(never)]
pub(super) fn fold(fold: Fold, rows: &[Row], grouping: &Grouping, len: usize) -> Vec<Row> {
    let folded = |group: Group<'_>| Row { values: fold_group(fold, &group.rows, len), metric: group.metric };
    groups(rows, grouping).into_iter().map(folded).collect()
}

fn fold_group(fold: Fold, rows: &[&Row], len: usize) -> Vec<f64> {
    let mut states = vec![State::default(); len];
    let take = match fold {
        Fold::Sum => State::sum,
        Fold::Average => State::average,
        Fold::Least => |state: &mut State, value: f64| state.extreme(value, value < state.value),
        Fold::Greatest => |state: &mut State, value: f64| state.extreme(value, value > state.value),
        Fold::Count | Fold::Group => State::count,
        Fold::Variance | Fold::Deviation => State::spread,
    };
    for row in rows {
        for (state, &value) in states.iter_mut().zip(&row.values).filter(|(_, value)| is_present(**value)) {
            state.count += 1.0;
            take(state, value);
        }
    }
    states.into_iter().map(|state| if state.count == 0.0 { absent() } else { state.result(fold) }).collect()
}

#[derive(Clone, Copy, Default)]
struct State {
    count: f64,
    value: f64,
    mean: f64,
}

impl State {
    fn sum(&mut self, value: f64) {
        self.value += value;
    }

    fn count(&mut self, _: f64) {}

    /// The running mean cannot overflow; an infinite one stays until the other infinity or NaN comes.
    fn average(&mut self, value: f64) {
        if self.mean.is_infinite() && (value == self.mean || value.is_finite()) {
            return;
        }
        self.mean += value / self.count - self.mean / self.count;
    }

    fn extreme(&mut self, value: f64, better: bool) {
        if self.count == 1.0 || better || self.value.is_nan() {
            self.value = value;
        }
    }

    /// Welford's recurrence; the first value spreads nothing, whatever it is.
    fn spread(&mut self, value: f64) {
        if self.count == 1.0 {
            self.mean = value;
            return;
        }
        let delta = value - self.mean;
        self.mean += delta / self.count;
        self.value += delta * (value - self.mean);
    }

    fn result(self, fold: Fold) -> f64 {
        match fold {
            Fold::Sum | Fold::Least | Fold::Greatest => self.value,
            Fold::Average => self.mean,
            Fold::Count => self.count,
            Fold::Group => 1.0,
            Fold::Variance => self.value / self.count,
            Fold::Deviation => (self.value / self.count).sqrt(),
        }
    }
}

/// The quantile of each group's values, step by step.
#[inline(never)]
pub(super) fn quantiles(q: &[f64], rows: &[Row], grouping: &Grouping) -> Vec<Row> {
    let of_group = |group: Group<'_>| {
        let at_step = |(step, q): (usize, &f64)| {
            let mut values = present_at(&group.rows, step).map(|(_, value)| value).collect::<Vec<_>>();
            if values.is_empty() { absent() } else { quantile(*q, &mut values) }
        };
        Row { values: q.iter().enumerate().map(at_step).collect(), metric: group.metric.clone() }
    };
    groups(rows, grouping).into_iter().map(of_group).collect()
}

/// How many elements of each group have each value; the value becomes the label `label`, before there are groups: a
/// label of that name is none of theirs, and `without` may take it away again.
#[inline(never)]
pub(super) fn count_values(label: &str, rows: &[Row], grouping: &Grouping, len: usize) -> Vec<Row> {
    let mut grouping = Grouping { on: grouping.on, names: grouping.names.clone() };
    let named = grouping.names.iter().any(|name| name == label);
    match (grouping.on, named) {
        (false, true) => return fold(Fold::Count, rows, &grouping, len),
        (false, false) => grouping.names.push(label.to_owned()),
        (true, _) => grouping.names.retain(|name| name != label),
    }
    let mut counted = Vec::new();
    for group in groups(rows, &grouping) {
        let mut counts: BTreeMap<String, Vec<f64>> = BTreeMap::new();
        for step in 0..len {
            for (_, value) in present_at(&group.rows, step) {
                let counts = counts.entry(decimal(value)).or_insert_with(|| vec![absent(); len]);
                counts[step] = if is_present(counts[step]) { counts[step] + 1.0 } else { 1.0 };
            }
        }
        let row = |(value, values): (String, Vec<f64>)| Row { metric: group.metric.with(label, &value), values };
        counted.extend(counts.into_iter().map(row));
    }
    counted
}

/// The `k` greatest (or least) elements of each group at each step, with their own labels.
///
/// # Errors
/// When `k` is no number of elements.
#[inline(never)]
pub(super) fn top(largest: bool, k: &[f64], rows: Vec<Row>, grouping: &Grouping) -> Result<Vec<Row>, QueryError> {
    let limits =
        if rows.is_empty() { vec![0; k.len()] } else { k.iter().map(|k| limit(*k)).collect::<Result<_, _>>()? };
    let mut chosen: Vec<Row> = Vec::with_capacity(rows.len());
    for group in groups(&rows, grouping) {
        let mut values = vec![vec![absent(); k.len()]; group.rows.len()];
        let mut order = Vec::new();
        for (step, limit) in limits.iter().enumerate() {
            order = best(largest, *limit, &group.rows, step);
            order.iter().for_each(|&(index, value)| values[index][step] = value);
        }
        // With one step the order of the result is that of the values; with several it is of no account.
        let listed: Vec<usize> = if limits.len() == 1 {
            order.into_iter().map(|(index, _)| index).collect()
        } else {
            (0..values.len()).collect()
        };
        chosen.extend(
            listed.into_iter().map(|index| Row {
                metric: group.rows[index].metric.clone(),
                values: std::mem::take(&mut values[index]),
            }),
        );
    }
    Ok(kept(chosen))
}

fn best(largest: bool, limit: usize, rows: &[&Row], step: usize) -> Vec<(usize, f64)> {
    let mut present: Vec<(usize, f64)> = present_at(rows, step).collect();
    let order = |a: &(usize, f64), b: &(usize, f64)| nan_last(a.1, b.1, largest).then(a.0.cmp(&b.0));
    if limit < present.len() && limit > 0 {
        present.select_nth_unstable_by(limit - 1, order);
    }
    present.truncate(limit);
    present.sort_by(order);
    present
}

fn nan_last(a: f64, b: f64, descending: bool) -> Ordering {
    a.is_nan().cmp(&b.is_nan()).then_with(|| {
        let order = a.partial_cmp(&b).unwrap_or(Ordering::Equal);
        if descending { order.reverse() } else { order }
    })
}

fn limit(k: f64) -> Result<usize, QueryError> {
    if k.is_nan() || k.abs() > i64::MAX as f64 {
        return Err(QueryError::execution(format!("Scalar value {} overflows int64", decimal(k))));
    }
    Ok(if k < 1.0 { 0 } else { k as usize })
}

fn present_at<'a>(rows: &'a [&'a Row], step: usize) -> impl Iterator<Item = (usize, f64)> + 'a {
    rows.iter().map(move |row| row.values[step]).enumerate().filter(|(_, value)| is_present(*value))
}
