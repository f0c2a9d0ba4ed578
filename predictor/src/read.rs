//! What is asked of the store, and how its answers are understood.

use std::collections::BTreeMap;
use std::error::Error;

use bellwether_collector::query::{Engine, QueryError, Value};
use bellwether_models::outlook::Observed;
use bellwether_models::series::{Labels, Step, Timestamp, Window};
use tracing::warn;

use crate::evidence::{Grid, Suspect};
use crate::foresee::{Abstention, Wanted};

/// The points wanted of the one series that `query` gives; gaps only when it gives none.
///
/// # Errors
/// [`Abstention::Ambiguous`] for several series, [`Abstention::Unreadable`] when the store cannot be asked.
pub async fn one_window(engine: &Engine, query: &str, wanted: Wanted, step: Step) -> Result<Window, Abstention> {
    let found = windows(engine, query, wanted.start, step, wanted.len).await.map_err(|error| unreadable(&error))?;
    let series = found.len();
    match (series, found.into_iter().next()) {
        (1, Some((_, window))) => Ok(window),
        (0, _) => Ok(Window { start: wanted.start, step, values: vec![f64::NAN; wanted.len] }),
        _ => Err(Abstention::Ambiguous { series }),
    }
}

/// Every series that `query` gives, on the grid of `len` points from `start`; asked for in as many pages as the engine's
/// limit of points calls for.
///
/// # Errors
/// Those of the query.
pub async fn windows(
    engine: &Engine,
    query: &str,
    start: Timestamp,
    step: Step,
    len: usize,
) -> Result<Vec<(Labels, Window)>, QueryError> {
    let page = engine.config().max_points.max(1);
    let mut whole: BTreeMap<Labels, Window> = BTreeMap::new();
    for first in (0..len).step_by(page) {
        let points = page.min(len - first);
        for (labels, part) in engine.window(query, start + step.times(first), step, points).await? {
            let gaps = || Window { start, step, values: vec![f64::NAN; len] };
            let values = &mut whole.entry(labels).or_insert_with(gaps).values[first..first + points];
            values.iter_mut().zip(part.values).for_each(|(slot, value)| *slot = value);
        }
    }
    Ok(whole.into_iter().collect())
}

/// The one value of `query` at `now`; `None` when there is none, or several, or the store cannot be asked.
pub async fn newest(engine: &Engine, query: &str, now: Timestamp) -> Option<Observed> {
    let value = match engine.instant(query, now).await {
        Ok(Value::Scalar(value)) => value,
        Ok(Value::Vector(found)) if found.len() == 1 => found[0].value,
        Ok(_) => return None,
        Err(error) => {
            warn!(query, error = %chain(&error), "could not read the newest value");
            return None;
        }
    };
    value.is_finite().then_some(Observed { at: now, value })
}

/// Every series of `service` on the grid given.
///
/// # Errors
/// Those of the query.
pub async fn suspects(
    engine: &Engine,
    service_label: &str,
    service: &str,
    grid: Grid,
) -> Result<Vec<Suspect>, QueryError> {
    let selector = format!("{{{service_label}={}}}", quoted(service));
    let found = windows(engine, &selector, grid.start, grid.step, grid.len).await?;
    let suspect = |(labels, window): (Labels, Window)| Suspect { service: service.to_owned(), labels, window };
    Ok(found.into_iter().map(suspect).collect())
}

/// An error with all that caused it.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

fn unreadable(error: &QueryError) -> Abstention {
    Abstention::Unreadable { reason: chain(error) }
}

/// A string as PromQL writes it.
fn quoted(text: &str) -> String {
    let escaped = text.replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n");
    format!("\"{escaped}\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_service_name_makes_a_selector_that_can_be_read_back() {
        for name in ["cart", r"a\d", "say \"hi\"", "zwei\nzeilen", "AWS::Lambda/prod", "ü"] {
            let query = format!("{{service={}}}", quoted(name));
            let Ok(promql_parser::parser::Expr::VectorSelector(selector)) = promql_parser::parser::parse(&query) else {
                panic!("{query} is not a selector")
            };
            assert_eq!(selector.matchers.matchers[0].value, name);
        }
    }
}
