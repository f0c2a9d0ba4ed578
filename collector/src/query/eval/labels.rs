//! Functions of labels.

use regex::Regex;

use super::Row;

/// Sets `target` to `replacement`, its `$1` filled from `pattern`, in rows whose label `source` matches wholly.
#[inline(never)]
pub(super) fn replace(mut rows: Vec<Row>, target: &str, replacement: &str, source: &str, pattern: &Regex) -> Vec<Row> {
    for row in &mut rows {
        let Some(groups) = pattern.captures(row.metric.get(source)) else { continue };
        let mut value = String::new();
        groups.expand(replacement, &mut value);
        row.metric = row.metric.with(target, &value);
    }
    rows
}

/// Sets `target` to the values of `sources`, joined by `separator`.
#[inline(never)]
pub(super) fn join(mut rows: Vec<Row>, target: &str, separator: &str, sources: &[String]) -> Vec<Row> {
    for row in &mut rows {
        let values: Vec<&str> = sources.iter().map(|source| row.metric.get(source)).collect();
        row.metric = row.metric.with(target, &values.join(separator));
    }
    rows
}
