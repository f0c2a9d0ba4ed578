//! What is measured of each metric before anything is fused.

use std::collections::BTreeMap;
use std::ops::Range;

use ndarray::{Array1, Array2};

use super::correlation::{self, Lagged, lagged};
use super::graph::CallGraph;
use super::onset::row_of_change;
use super::shift::Shift;
use super::signal::{Meaning, Signal};
use super::{IncidentWindow, Metric};

/// Sigmas from which a metric counts as unhealthy.
pub(super) const UNHEALTHY: f64 = 3.0;
/// The longest lead over the symptom that is tried, in rows.
const MAX_LEAD: usize = 5;
/// Fewest reference rows that a correlation looks back on.
const FEWEST_CORRELATED_ROWS: usize = 30;

/// What was measured of one metric.
#[derive(Clone, Debug)]
pub(super) struct Measure {
    pub signal: Signal,
    /// Move of level, in terms of trouble: of an availability, its distance from perfect.
    pub shift: Option<Shift>,
    /// The best value, where the metric counts what goes well.
    pub best: Option<f64>,
    /// Row at which its level changed.
    pub row: usize,
    pub correlation: Option<Lagged>,
    /// The neighbour in the call graph whose like metric moved too.
    pub explained: Option<Explained>,
}

/// A move that a neighbour's move explains.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Explained {
    pub by: String,
    /// Share of the move, `0.0..=1.0`.
    pub share: f64,
}

impl Measure {
    /// Signed sigmas in terms of trouble; 0 without data on both sides.
    pub fn sigmas(&self) -> f64 {
        self.shift.map_or(0.0, |shift| shift.sigmas())
    }

    pub fn is_unhealthy(&self) -> bool {
        self.sigmas().abs() >= UNHEALTHY
    }

    pub fn explained_share(&self) -> f64 {
        self.explained.as_ref().map_or(0.0, |explained| explained.share)
    }

    /// Level before and after in the metric's own terms, and the size of the move.
    pub fn levels(&self) -> Option<(f64, f64, f64)> {
        let shift = self.shift?;
        Some(match self.best {
            Some(best) => (best - shift.before, best - shift.after, -shift.sigmas()),
            None => (shift.before, shift.after, shift.sigmas()),
        })
    }
}

/// Measures every metric of the window, in order.
pub(super) fn measures<'w>(window: &'w IncidentWindow, graph: &CallGraph<'_>) -> Vec<Measure> {
    let mut meanings: BTreeMap<&str, Meaning> = BTreeMap::new(); // many services share few names
    let mut measure = |metric: &'w Metric| {
        let meaning = *meanings.entry(&metric.name).or_insert_with(|| Meaning::of(&metric.name));
        alone(metric, meaning, window.onset_row)
    };
    let mut all: Vec<Measure> = window.metrics.iter().map(&mut measure).collect();
    if let Some(correlations) = correlations(window) {
        for (measure, found) in all.iter_mut().zip(correlations) {
            measure.correlation = Some(found);
        }
    }
    for (index, explained) in explanations(window, graph, &all) {
        all[index].explained = Some(explained);
    }
    all
}

fn alone(metric: &Metric, meaning: Meaning, onset_row: usize) -> Measure {
    let best = meaning.best_value(&metric.values);
    let troubles: Option<Vec<f64>> = best.map(|best| metric.values.iter().map(|v| best - v).collect());
    let values = troubles.as_ref().unwrap_or(&metric.values);
    let (reference, incident) = values.split_at(onset_row.min(values.len()));
    let shift = Shift::between(reference, incident);
    let row = shift.map_or(onset_row, |shift| row_of_change(values, &shift));
    Measure { signal: meaning.signal, shift, best, row, correlation: None, explained: None }
}

/// Lagged correlation of every metric with the symptom over the incident and as many reference rows, where a symptom is
/// known.
fn correlations(window: &IncidentWindow) -> Option<Vec<Lagged>> {
    let symptom = window.metrics.get(window.symptom?)?;
    let rows = correlated_rows(window);
    let mut series = Array2::zeros((window.metrics.len(), rows.len()));
    for (metric, mut row) in window.metrics.iter().zip(series.rows_mut()) {
        row.assign(&Array1::from_vec(filled(metric, rows.clone())));
    }
    let symptom = Array1::from_vec(filled(symptom, rows));
    Some(lagged(&series, symptom.view(), MAX_LEAD))
}

/// Correlation of two metrics over the rows that correlations with the symptom look at.
pub(super) fn together(window: &IncidentWindow, a: usize, b: usize) -> f64 {
    let rows = correlated_rows(window);
    let values =
        |index: usize| window.metrics.get(index).map(|metric| filled(metric, rows.clone())).unwrap_or_default();
    correlation::together(&values(a), &values(b))
}

/// The incident and as many reference rows.
fn correlated_rows(window: &IncidentWindow) -> Range<usize> {
    let rows = window.times.len();
    let after = rows.saturating_sub(window.onset_row);
    window.onset_row.saturating_sub(after.max(FEWEST_CORRELATED_ROWS)).min(rows)..rows
}

/// The values of the rows with each gap filled by the value before it, or by the first there is.
pub(super) fn filled(metric: &Metric, rows: Range<usize>) -> Vec<f64> {
    let at = |row: usize| metric.values.get(row).copied().filter(|v| v.is_finite());
    let mut last = rows.clone().find_map(at).unwrap_or(0.0);
    rows.map(|row| {
        last = at(row).unwrap_or(last);
        last
    })
    .collect()
}

/// For each metric that a neighbour's metric of the same name explains, by how much. Trouble travels from callee to
/// caller, demand from caller to callee; what counts is the size of the move in its own unit.
fn explanations(window: &IncidentWindow, graph: &CallGraph<'_>, all: &[Measure]) -> Vec<(usize, Explained)> {
    let places: BTreeMap<(&str, &str), usize> =
        window.metrics.iter().enumerate().map(|(i, m)| ((m.service.as_str(), m.name.as_str()), i)).collect();
    let size = |i: usize| all[i].shift.map_or(0.0, |shift| shift.size());
    let share = |index: usize, service: &str| {
        let other = *places.get(&(service, window.metrics[index].name.as_str()))?;
        let share = size(other) / size(index);
        (all[other].is_unhealthy() && share > 0.0).then_some(share.min(1.0))
    };
    let explained = |index: usize| {
        let neighbours = match all[index].signal {
            Signal::Traffic => graph.callers(&window.metrics[index].service),
            _ => graph.callees(&window.metrics[index].service),
        };
        let found = neighbours.filter_map(|by| Some(Explained { by: by.to_owned(), share: share(index, by)? }));
        found.max_by(|a, b| a.share.total_cmp(&b.share).then_with(|| b.by.cmp(&a.by)))
    };
    (0..all.len()).filter_map(|index| Some((index, explained(index)?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(metrics: &[(&str, &str, f64, f64)], calls: &[(&str, &str)]) -> IncidentWindow {
        let metric = |(service, name, before, after): &(&str, &str, f64, f64)| Metric {
            service: (*service).to_owned(),
            name: (*name).to_owned(),
            values: [[*before; 10], [*after; 10]].concat(),
        };
        IncidentWindow {
            times: (0..20).map(crate::series::Timestamp::from_secs).collect(),
            metrics: metrics.iter().map(metric).collect(),
            onset_row: 10,
            calls: calls.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect(),
            ..IncidentWindow::default()
        }
    }

    fn shares(window: &IncidentWindow) -> Vec<f64> {
        measures(window, &CallGraph::new(&window.calls)).iter().map(Measure::explained_share).collect()
    }

    #[test]
    fn latency_is_explained_by_the_callee_and_demand_by_the_caller() {
        let calls = [("web", "db")];
        let slow = window(&[("web", "latency", 1.0, 3.0), ("db", "latency", 0.5, 2.0)], &calls);
        assert_eq!(shares(&slow), [0.75, 0.0]);
        let busy = window(&[("web", "requests", 10.0, 90.0), ("db", "requests", 10.0, 90.0)], &calls);
        assert_eq!(shares(&busy), [0.0, 1.0]);
    }

    #[test]
    fn a_move_the_other_way_or_of_another_kind_explains_nothing() {
        let calls = [("web", "db")];
        assert_eq!(shares(&window(&[("web", "latency", 1.0, 3.0), ("db", "latency", 2.0, 0.5)], &calls)), [0.0, 0.0]);
        assert_eq!(shares(&window(&[("web", "latency", 1.0, 3.0), ("db", "cpu", 0.5, 2.0)], &calls)), [0.0, 0.0]);
    }

    #[test]
    fn lost_availability_is_trouble_that_rises() {
        let window = window(&[("web", "availability", 100.0, 96.0)], &[]);
        let measure = &measures(&window, &CallGraph::new(&window.calls))[0];
        assert!(measure.sigmas() > UNHEALTHY);
        let (before, after, sigmas) = measure.levels().unwrap();
        assert_eq!((before, after), (100.0, 96.0));
        assert!(sigmas < -UNHEALTHY);
    }
}
