//! Keeps the series of a vector apart: at no step may two of them bear the same labels.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use super::super::QueryError;
use super::{Row, is_present, kept};

/// Joins rows of equal labels that never have a value at the same step, as they are one series then; drops empty rows.
///
/// # Errors
/// When two rows of equal labels have a value at the same step.
pub(super) fn merged(rows: Vec<Row>) -> Result<Vec<Row>, QueryError> {
    merged_or(rows, "vector cannot contain metrics with the same labelset")
}

/// As [`merged`], with another complaint.
pub(super) fn merged_or(rows: Vec<Row>, complaint: &str) -> Result<Vec<Row>, QueryError> {
    let rows = kept(rows);
    if in_order(&rows) {
        return Ok(rows);
    }
    let mut known = HashMap::with_capacity(rows.len());
    let mut unique: Vec<Row> = Vec::with_capacity(rows.len());
    for row in rows {
        match known.entry(row.metric.clone()) {
            Entry::Vacant(entry) => {
                entry.insert(unique.len());
                unique.push(row);
            }
            Entry::Occupied(entry) => {
                let first: &mut Row = &mut unique[*entry.get()];
                for (into, value) in first.values.iter_mut().zip(row.values).filter(|(_, value)| is_present(*value)) {
                    if is_present(*into) {
                        return Err(QueryError::execution(complaint));
                    }
                    *into = value;
                }
            }
        }
    }
    Ok(unique)
}

/// Refuses rows of equal labels even when they take turns, as Prometheus does for functions over ranges and negation.
pub(super) fn refuse_twins(rows: Vec<Row>) -> Result<Vec<Row>, QueryError> {
    let rows = kept(rows);
    let count = rows.len();
    let unique = merged(rows)?;
    if unique.len() < count {
        return Err(QueryError::execution("vector cannot contain metrics with the same labelset"));
    }
    Ok(unique)
}

/// Whether the rows stand in strict order of labels, as they come from a store: then none occurs twice.
fn in_order(rows: &[Row]) -> bool {
    rows.is_sorted_by(|a, b| a.metric.pairs().lt(b.metric.pairs()))
}
