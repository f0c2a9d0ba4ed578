//! Operators between vectors, and between a vector and a scalar.

use std::collections::HashMap;

use super::super::QueryError;
use super::super::metric::Metric;
use super::super::plan::{Arithmetic, Grouping, Many, Matching, Operator, SetOperator};
use super::unique::merged_or;
use super::{Row, absent, is_present, kept};

/// A vector with a scalar, element by element. A comparison that filters keeps the vector's value on whichever side.
#[inline(never)]
pub(super) fn with_scalar(op: Operator, mut rows: Vec<Row>, scalar: &[f64], scalar_is_left: bool) -> Vec<Row> {
    for row in &mut rows {
        if !op.keeps_name() {
            row.metric = row.metric.without_name();
        }
        for (value, &scalar) in row.values.iter_mut().zip(scalar).filter(|(value, _)| is_present(**value)) {
            let (left, right) = if scalar_is_left { (scalar, *value) } else { (*value, scalar) };
            *value = match op {
                Operator::Filter(compare) => {
                    if compare.holds(left, right) {
                        *value
                    } else {
                        absent()
                    }
                }
                _ => op.apply(left, right),
            };
        }
    }
    rows
}

impl Operator {
    /// The value of `left op right`; absent where a comparison filters it out.
    fn apply(self, left: f64, right: f64) -> f64 {
        match self {
            Self::Compute(op) => op.apply(left, right),
            Self::Test(op) => f64::from(op.holds(left, right)),
            Self::Filter(op) => {
                if op.holds(left, right) {
                    left
                } else {
                    absent()
                }
            }
        }
    }

    /// That `atan2` keeps the name is how Prometheus 2 does it, odd as it is.
    fn keeps_name(self) -> bool {
        matches!(self, Self::Filter(_) | Self::Compute(Arithmetic::Atan2))
    }
}

/// The rows of both sides by what they must share to meet.
fn by_key<'a>(rows: &'a [Row], grouping: &'a Grouping) -> HashMap<Vec<&'a str>, Vec<&'a Row>> {
    let mut groups: HashMap<Vec<&str>, Vec<&Row>> = HashMap::with_capacity(rows.len());
    for row in rows {
        groups.entry(row.metric.key(grouping.on, &grouping.names)).or_default().push(row);
    }
    groups
}

/// Each element of one side with the one element of the other side that shares its key.
///
/// # Errors
/// When at some step more than one element of a side could be meant.
#[inline(never)]
pub(super) fn join(
    op: Operator,
    left: &[Row],
    right: &[Row],
    matching: &Matching,
    len: usize,
) -> Result<Vec<Row>, QueryError> {
    if left.is_empty() || right.is_empty() {
        return Ok(Vec::new());
    }
    // From here on "many" is the side whose labels the result has, "one" the side that is looked up.
    let swapped = matching.many == Many::Right;
    let (many, one) = if swapped { (right, left) } else { (left, right) };
    let ones = by_key(one, &matching.grouping);
    refuse_several(&ones, many, matching, len)?;
    let mut results: HashMap<&[&str], Vec<Row>> = HashMap::new();
    let mut order = Vec::new();
    for row in many {
        let key = row.metric.key(matching.grouping.on, &matching.grouping.names);
        let Some((key, partners)) = ones.get_key_value(&key) else { continue };
        let found = results.entry(key.as_slice()).or_insert_with(|| {
            order.push(key.as_slice());
            Vec::new()
        });
        found.extend(partners.iter().map(|partner| meet(op, row, partner, matching, swapped)));
    }
    let mut joined = Vec::with_capacity(many.len());
    for key in order {
        joined.extend(alone_in_group(results.remove(key).unwrap_or_default(), matching, len)?);
    }
    Ok(joined)
}

fn meet(op: Operator, row: &Row, partner: &Row, matching: &Matching, swapped: bool) -> Row {
    let both = row.values.iter().zip(&partner.values).map(|(&value, &partner)| {
        if !is_present(value) || !is_present(partner) {
            absent()
        } else if swapped {
            op.apply(partner, value)
        } else {
            op.apply(value, partner)
        }
    });
    Row { values: both.collect(), metric: result_metric(op, &row.metric, &partner.metric, matching) }
}

fn result_metric(op: Operator, many: &Metric, one: &Metric, matching: &Matching) -> Metric {
    let named = if op.keeps_name() { many.clone() } else { many.without_name() };
    let Grouping { on, names } = &matching.grouping;
    let mut metric = match matching.many {
        Many::Neither if *on => named.key_labels(true, names),
        Many::Neither if !names.is_empty() => named.minus(names),
        _ => named,
    };
    for name in &matching.include {
        metric = metric.with(name, one.get(name));
    }
    metric
}

/// Refuses a key that two elements of the "one" side share at a step, as soon as the other side has any element then.
fn refuse_several(
    ones: &HashMap<Vec<&str>, Vec<&Row>>,
    many: &[Row],
    matching: &Matching,
    len: usize,
) -> Result<(), QueryError> {
    for rows in ones.values().filter(|rows| rows.len() > 1) {
        for step in 0..len {
            let mut present = rows.iter().filter(|row| is_present(row.values[step]));
            if let (Some(first), Some(second)) = (present.next(), present.next())
                && many.iter().any(|row| is_present(row.values[step]))
            {
                return Err(several(first, second, matching));
            }
        }
    }
    Ok(())
}

fn several(first: &Row, second: &Row, matching: &Matching) -> QueryError {
    let Grouping { on, names } = &matching.grouping;
    let side = if matching.many == Many::Right { "left" } else { "right" };
    QueryError::execution(format!(
        "found duplicate series for the match group {} on the {side} hand-side of the operation: [{}, {}];many-to-many \
         matching not allowed: matching labels must be unique on one side",
        first.metric.key_labels(*on, names),
        second.metric,
        first.metric,
    ))
}

/// Within a group each step may have one result, or with `group_left` and `group_right` one for each set of labels.
fn alone_in_group(rows: Vec<Row>, matching: &Matching, len: usize) -> Result<Vec<Row>, QueryError> {
    if rows.len() < 2 {
        return Ok(rows);
    }
    if matching.many != Many::Neither {
        return merged_or(rows, "multiple matches for labels: grouping labels must ensure unique matches");
    }
    let rows = kept(rows);
    let several = (0..len).any(|step| rows.iter().filter(|row| is_present(row.values[step])).count() > 1);
    if several {
        let complaint = "multiple matches for labels: many-to-one matching must be explicit (group_left/group_right)";
        return Err(QueryError::execution(complaint));
    }
    Ok(rows)
}

/// `and`, `or` and `unless`: elements of the left (and for `or` of the right), by whether the other side has their key.
#[inline(never)]
pub(super) fn set(op: SetOperator, left: Vec<Row>, right: Vec<Row>, grouping: &Grouping, len: usize) -> Vec<Row> {
    match op {
        SetOperator::And => where_other(left, &presence(&right, grouping, len), grouping, true),
        SetOperator::Unless => where_other(left, &presence(&right, grouping, len), grouping, false),
        SetOperator::Or => {
            let known = presence(&left, grouping, len);
            let added = where_other(right, &known, grouping, false);
            drop(known);
            left.into_iter().chain(added).collect()
        }
    }
}

/// At which steps each key has an element.
fn presence<'a>(rows: &'a [Row], grouping: &'a Grouping, len: usize) -> HashMap<Vec<&'a str>, Vec<bool>> {
    let mut steps: HashMap<Vec<&str>, Vec<bool>> = HashMap::with_capacity(rows.len());
    for row in rows {
        let steps = steps.entry(row.metric.key(grouping.on, &grouping.names)).or_insert_with(|| vec![false; len]);
        steps.iter_mut().zip(&row.values).for_each(|(step, value)| *step |= is_present(*value));
    }
    steps
}

fn where_other(
    mut rows: Vec<Row>,
    other: &HashMap<Vec<&str>, Vec<bool>>,
    grouping: &Grouping,
    wanted: bool,
) -> Vec<Row> {
    for row in &mut rows {
        let found = other.get(&row.metric.key(grouping.on, &grouping.names));
        for (step, value) in row.values.iter_mut().enumerate() {
            if found.is_some_and(|steps| steps[step]) != wanted {
                *value = absent();
            }
        }
    }
    rows
}
