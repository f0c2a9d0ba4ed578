//! Evaluates a plan over samples: pure, and all steps of a series in one go.
//!
//! An instant vector over the grid is a list of rows, one for each series, with a value for each step. A step without a
//! value holds the staleness marker: it cannot come out of a computation, and it never counts as a sample.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bellwether_models::series::{Labels, Sample, Step, Timestamp, Window, is_stale, stale_marker};

use super::grid::{Grid, subquery_grid};
use super::metric::Metric;
use super::plan::{Arithmetic, Comparison, Range, Root, Samples, Scalar, Selection, Vector};
use super::{InstantSample, Matrix, QueryError, Value};
use crate::store::SeriesSamples;

mod aggregate;
pub(super) mod calendar;
mod histogram;
mod join;
mod labels;
pub(super) mod math;
pub(super) mod over_time;
mod regression;
mod unique;

use math::MathWith;
use unique::{merged, refuse_twins};

/// One series of an instant vector: a value for each step.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub metric: Metric,
    pub values: Vec<f64>,
}

/// One series of a range vector: its samples in order, without staleness markers.
struct RangeRow<'a> {
    metric: Metric,
    samples: Cow<'a, [Sample]>,
}

/// Stands at the steps where a series has no value.
fn absent() -> f64 {
    stale_marker()
}

fn is_present(value: f64) -> bool {
    !is_stale(value)
}

/// What a query may still hold, and whether anybody still waits for it.
pub(super) struct Budget {
    limit: usize,
    left: usize,
    stop: Arc<AtomicBool>,
}

impl Budget {
    pub fn new(limit: usize) -> Self {
        Self { limit, left: limit, stop: Arc::default() }
    }

    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Setting the flag ends the evaluation soon.
    pub fn stop_flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.stop)
    }

    /// Takes `values` from what is left.
    pub fn charge(&mut self, values: usize) -> Result<(), QueryError> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(QueryError::Abandoned);
        }
        self.left = self.left.checked_sub(values).ok_or(QueryError::TooManySamples { limit: self.limit })?;
        Ok(())
    }
}

/// What a plan evaluates to.
pub(super) enum Outcome {
    Scalar(Vec<f64>),
    Vector(Vec<Row>),
    Range(Matrix),
    Text(String),
}

impl Outcome {
    /// The value at the only step.
    pub fn into_value(self) -> Value {
        match self {
            Self::Scalar(values) => Value::Scalar(values[0]),
            Self::Text(text) => Value::Text(text),
            Self::Range(matrix) => Value::Matrix(matrix),
            Self::Vector(rows) => {
                let element = |row: Row| InstantSample { value: row.values[0], labels: row.metric.into_labels() };
                Value::Vector(rows.into_iter().map(element).collect())
            }
        }
    }

    /// The values as samples, series in order of labels.
    pub fn into_matrix(self, grid: Grid) -> Matrix {
        let samples = |values: Vec<f64>| {
            let timed = grid.times().zip(values).filter(|(_, value)| is_present(*value));
            timed.map(|(at, value)| Sample { at: Timestamp::from_millis(at), value }).collect()
        };
        self.into_rows()
            .into_iter()
            .map(|(labels, values)| SeriesSamples { labels, samples: samples(values) })
            .collect()
    }

    /// The values on the grid that starts at `start`, series in order of labels.
    pub fn into_windows(self, start: Timestamp, step: Step) -> Vec<(Labels, Window)> {
        let windows = self.into_rows().into_iter().map(|(labels, mut values)| {
            values.iter_mut().filter(|value| !is_present(**value)).for_each(|value| *value = f64::NAN);
            (labels, Window { start, step, values })
        });
        windows.collect()
    }

    fn into_rows(self) -> Vec<(Labels, Vec<f64>)> {
        match self {
            Self::Scalar(values) => vec![(Labels::default(), values)],
            Self::Vector(rows) => {
                let mut rows: Vec<_> = rows.into_iter().map(|row| (row.metric.into_labels(), row.values)).collect();
                rows.sort_by(|a, b| a.0.cmp(&b.0));
                rows
            }
            Self::Range(_) | Self::Text(_) => Vec::new(),
        }
    }
}

/// Evaluates `root` on `grid`; `data` holds the series of each selector of the plan.
pub(super) fn evaluate(
    root: &Root,
    grid: Grid,
    data: &[Vec<SeriesSamples>],
    lookback: i64,
    budget: Budget,
) -> Result<Outcome, QueryError> {
    let mut evaluator = Evaluator { data, lookback, budget };
    Ok(match root {
        Root::Scalar(scalar) => Outcome::Scalar(evaluator.scalar(scalar, grid)?),
        Root::Vector(vector) => Outcome::Vector(evaluator.vector(vector, grid)?),
        Root::Range(range) => Outcome::Range(evaluator.matrix(range, grid)?),
        Root::Text(text) => Outcome::Text(text.clone()),
    })
}

struct Evaluator<'a> {
    data: &'a [Vec<SeriesSamples>],
    lookback: i64,
    budget: Budget,
}

impl<'a> Evaluator<'a> {
    fn scalar(&mut self, node: &Scalar, grid: Grid) -> Result<Vec<f64>, QueryError> {
        self.budget.charge(grid.len)?;
        match node {
            Scalar::Number(number) => Ok(vec![*number; grid.len]),
            Scalar::Time => Ok(grid.times().map(seconds).collect()),
            Scalar::Of(vector) => Ok(only_element(&self.vector(vector, grid)?, grid.len)),
            Scalar::Negate(of) => Ok(self.scalar(of, grid)?.into_iter().map(|value| -value).collect()),
            Scalar::Arithmetic { op, left, right } => {
                let (left, right) = (self.scalar(left, grid)?, self.scalar(right, grid)?);
                Ok(left.into_iter().zip(right).map(|(left, right)| op.apply(left, right)).collect())
            }
            Scalar::Compare { op, left, right } => {
                let (left, right) = (self.scalar(left, grid)?, self.scalar(right, grid)?);
                Ok(left.into_iter().zip(right).map(|(left, right)| f64::from(op.holds(left, right))).collect())
            }
            Scalar::Once(of) => Ok(vec![self.scalar(of, grid.only_first())?[0]; grid.len]),
        }
    }

    /// Its frame lies on the stack once for each level of a query, so whatever works on rows is kept out of line.
    fn vector(&mut self, node: &Vector, grid: Grid) -> Result<Vec<Row>, QueryError> {
        match node {
            Vector::Select(selection) => self.select(*selection, grid, |sample| sample.value),
            Vector::SampleTime(selection) => {
                merged(nameless(self.select(*selection, grid, |sample| sample.at.as_secs_f64())?))
            }
            Vector::EvaluationTime(of) => {
                let mut rows = nameless(self.vector(of, grid)?);
                rows.iter_mut().for_each(|row| put_times(&mut row.values, grid));
                merged(rows)
            }
            Vector::Of(scalar) => Ok(vec![Row { metric: Metric::default(), values: self.scalar(scalar, grid)? }]),
            Vector::Negate(of) => refuse_twins(nameless(mapped(self.vector(of, grid)?, |value| -value))),
            Vector::OverTime { function, range, parameters } => self.over_time(*function, range, parameters, grid),
            Vector::AbsentOverTime { range, labels } => self.absent_over_time(range, labels, grid),
            Vector::Absent { of, labels } => Ok(gaps(&self.vector(of, grid)?, labels, grid.len)),
            Vector::Math { function, of } => merged(nameless(mapped(self.vector(of, grid)?, function))),
            Vector::MathWith { function, of, parameters } => self.math_with(*function, of, parameters, grid),
            Vector::Date { part, of } => dates(self.vector(of, grid)?, *part),
            Vector::HistogramQuantile { quantile, of } => {
                let (quantile, of) = (self.scalar(quantile, grid)?, self.vector(of, grid)?);
                merged(histogram::quantiles(&quantile, &of))
            }
            Vector::LabelReplace { of, target, replacement, source, pattern } => {
                merged(labels::replace(self.vector(of, grid)?, target, replacement, source, pattern))
            }
            Vector::LabelJoin { of, target, separator, sources } => {
                merged(labels::join(self.vector(of, grid)?, target, separator, sources))
            }
            Vector::Sort { of, descending } => Ok(sorted(self.vector(of, grid)?, *descending)),
            Vector::Aggregate { fold, of, grouping } => {
                let rows = self.vector(of, grid)?;
                self.settled(aggregate::fold(*fold, &rows, grouping, grid.len))
            }
            Vector::TopK { largest, k, of, grouping } => {
                let (k, rows) = (self.scalar(k, grid)?, self.vector(of, grid)?);
                aggregate::top(*largest, &k, rows, grouping)
            }
            Vector::Quantile { quantile, of, grouping } => {
                let (quantile, rows) = (self.scalar(quantile, grid)?, self.vector(of, grid)?);
                self.settled(aggregate::quantiles(&quantile, &rows, grouping))
            }
            Vector::CountValues { label, of, grouping } => {
                let rows = self.vector(of, grid)?;
                self.settled(aggregate::count_values(label, &rows, grouping, grid.len))
            }
            Vector::WithScalar { op, vector, scalar, scalar_is_left } => {
                let (rows, scalar) = (self.vector(vector, grid)?, self.scalar(scalar, grid)?);
                merged(join::with_scalar(*op, rows, &scalar, *scalar_is_left))
            }
            Vector::Join { op, left, right, matching } => {
                let (left, right) = (self.vector(left, grid)?, self.vector(right, grid)?);
                let rows = join::join(*op, &left, &right, matching, grid.len)?;
                self.settled(merged(rows)?)
            }
            Vector::Set { op, left, right, grouping } => {
                let (left, right) = (self.vector(left, grid)?, self.vector(right, grid)?);
                merged(join::set(*op, left, right, grouping, grid.len))
            }
            Vector::Once(of) => self.once(of, grid),
        }
    }

    /// Charges new rows to the budget.
    fn settled(&mut self, rows: Vec<Row>) -> Result<Vec<Row>, QueryError> {
        self.budget.charge(rows.iter().map(|row| row.values.len()).sum())?;
        Ok(rows)
    }

    fn once(&mut self, of: &Vector, grid: Grid) -> Result<Vec<Row>, QueryError> {
        let rows = self.vector(of, grid.only_first())?;
        if grid.len == 1 {
            return Ok(rows);
        }
        self.budget.charge(rows.len().saturating_mul(grid.len))?;
        let repeated = |row: Row| Row { values: vec![row.values[0]; grid.len], metric: row.metric };
        Ok(rows.into_iter().map(repeated).collect())
    }

    /// The last sample at or before each step, not older than the look-back and not a staleness marker.
    fn select(&mut self, selection: Selection, grid: Grid, pick: fn(&Sample) -> f64) -> Result<Vec<Row>, QueryError> {
        let data = self.data;
        let mut rows = Vec::with_capacity(data[selection.selector].len());
        for series in &data[selection.selector] {
            self.budget.charge(grid.len)?;
            let (mut values, mut next, mut any) = (Vec::with_capacity(grid.len), 0, false);
            for time in grid.times() {
                let time = selection.when.of(time);
                next += advance(&series.samples[next..], |sample| sample.at.as_millis() <= time);
                let last = series.samples[..next]
                    .last()
                    .filter(|last| last.at.as_millis() >= time.saturating_sub(self.lookback) && is_present(last.value));
                any |= last.is_some();
                values.push(last.map_or_else(absent, pick));
            }
            if any {
                rows.push(Row { metric: Metric::from(series.labels.clone()), values });
            }
        }
        Ok(rows)
    }

    /// The series a range reads, each with all samples any step may need.
    fn range_rows(&mut self, range: &Range, grid: Grid) -> Result<Vec<RangeRow<'a>>, QueryError> {
        match &range.samples {
            Samples::Selector(selector) => Ok(self.data[*selector].iter().map(without_markers).collect()),
            Samples::Subquery { of, step } => {
                let Some(inner) = subquery_grid(grid, range.when, range.length, *step) else { return Ok(Vec::new()) };
                self.budget.charge(inner.len)?;
                Ok(self.vector(of, inner)?.into_iter().map(|row| as_samples(row, inner)).collect())
            }
        }
    }

    fn matrix(&mut self, range: &Range, grid: Grid) -> Result<Matrix, QueryError> {
        let to = range.when.of(grid.last());
        let from = to.saturating_sub(range.length);
        let rows = self.range_rows(range, grid)?;
        let cut = |row: RangeRow<'_>| {
            let inside = |sample: &&Sample| (from..=to).contains(&sample.at.as_millis());
            let samples: Vec<Sample> = row.samples.iter().filter(inside).copied().collect();
            SeriesSamples { labels: row.metric.into_labels(), samples }
        };
        let mut matrix: Matrix = rows.into_iter().map(cut).filter(|series| !series.samples.is_empty()).collect();
        matrix.sort_by(|a, b| a.labels.cmp(&b.labels));
        Ok(matrix)
    }

    fn math_with(
        &mut self,
        function: MathWith,
        of: &Vector,
        parameters: &[Scalar],
        grid: Grid,
    ) -> Result<Vec<Row>, QueryError> {
        let parameters = self.parameters(parameters, grid)?;
        let mut rows = nameless(self.vector(of, grid)?);
        for row in &mut rows {
            for (value, parameters) in row.values.iter_mut().zip(&parameters).filter(|(value, _)| is_present(**value)) {
                *value = function(*value, parameters).unwrap_or_else(absent);
            }
        }
        merged(rows)
    }

    /// The parameters of a function at each step.
    fn parameters(&mut self, nodes: &[Scalar], grid: Grid) -> Result<Vec<Vec<f64>>, QueryError> {
        let mut steps = vec![Vec::with_capacity(nodes.len()); grid.len];
        for node in nodes {
            for (step, value) in steps.iter_mut().zip(self.scalar(node, grid)?) {
                step.push(value);
            }
        }
        Ok(steps)
    }
}

/// How many items from the front satisfy `holds`, when those that do come first. Looks ahead in growing strides, so that
/// both a short and a long way are cheap.
fn advance<T>(items: &[T], holds: impl Fn(&T) -> bool) -> usize {
    let mut stride = 1;
    while stride <= items.len() && holds(&items[stride - 1]) {
        stride *= 2;
    }
    let (known, end) = (stride / 2, stride.min(items.len()));
    known + items[known..end].partition_point(|item| holds(item))
}

fn without_markers(series: &SeriesSamples) -> RangeRow<'_> {
    let samples = if series.samples.iter().any(|sample| is_stale(sample.value)) {
        Cow::Owned(series.samples.iter().filter(|sample| !is_stale(sample.value)).copied().collect())
    } else {
        Cow::Borrowed(series.samples.as_slice())
    };
    RangeRow { metric: Metric::from(series.labels.clone()), samples }
}

fn as_samples<'a>(row: Row, grid: Grid) -> RangeRow<'a> {
    let timed = grid.times().zip(row.values).filter(|(_, value)| is_present(*value));
    let samples = timed.map(|(at, value)| Sample { at: Timestamp::from_millis(at), value }).collect();
    RangeRow { metric: row.metric, samples: Cow::Owned(samples) }
}

fn seconds(millis: i64) -> f64 {
    millis as f64 / 1000.0
}

fn put_times(values: &mut [f64], grid: Grid) {
    for (value, time) in values.iter_mut().zip(grid.times()).filter(|(value, _)| is_present(**value)) {
        *value = seconds(time);
    }
}

/// `scalar`: the value of the only element, NaN at steps where there are none or several.
fn only_element(rows: &[Row], len: usize) -> Vec<f64> {
    let mut values = vec![f64::NAN; len];
    let mut seen = vec![0u32; len];
    for row in rows {
        for (at, &value) in row.values.iter().enumerate().filter(|(_, value)| is_present(**value)) {
            seen[at] = seen[at].saturating_add(1);
            values[at] = if seen[at] == 1 { value } else { f64::NAN };
        }
    }
    values
}

/// `absent`: 1 at the steps where no row has a value.
#[inline(never)]
fn gaps(rows: &[Row], labels: &[(String, String)], len: usize) -> Vec<Row> {
    let mut values = vec![1.0; len];
    for row in rows {
        for (gap, _) in values.iter_mut().zip(&row.values).filter(|(_, value)| is_present(**value)) {
            *gap = absent();
        }
    }
    let labels = Labels::new(labels.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    kept(vec![Row { metric: Metric::from(labels), values }])
}

/// The rows that have a value at some step.
fn kept(mut rows: Vec<Row>) -> Vec<Row> {
    rows.retain(|row| row.values.iter().any(|value| is_present(*value)));
    rows
}

fn mapped(mut rows: Vec<Row>, function: impl Fn(f64) -> f64) -> Vec<Row> {
    for row in &mut rows {
        row.values.iter_mut().filter(|value| is_present(**value)).for_each(|value| *value = function(*value));
    }
    rows
}

#[inline(never)]
fn dates(rows: Vec<Row>, part: calendar::DatePart) -> Result<Vec<Row>, QueryError> {
    merged(nameless(mapped(rows, |value| part.of(value))))
}

fn nameless(mut rows: Vec<Row>) -> Vec<Row> {
    rows.iter_mut().for_each(|row| row.metric = row.metric.without_name());
    rows
}

/// Rows by their value at the first step, NaN last: an order shows only where there is one step.
#[inline(never)]
fn sorted(mut rows: Vec<Row>, descending: bool) -> Vec<Row> {
    rows.sort_by(|a, b| {
        let (a, b) = (a.values[0], b.values[0]);
        a.is_nan().cmp(&b.is_nan()).then_with(|| {
            let order = a.partial_cmp(&b).unwrap_or(std::cmp::Ordering::Equal);
            if descending { order.reverse() } else { order }
        })
    });
    rows
}

impl Arithmetic {
    fn apply(self, left: f64, right: f64) -> f64 {
        match self {
            Self::Add => left + right,
            Self::Subtract => left - right,
            Self::Multiply => left * right,
            Self::Divide => left / right,
            Self::Modulo => left % right,
            Self::Power => left.powf(right),
            Self::Atan2 => left.atan2(right),
        }
    }
}

impl Comparison {
    fn holds(self, left: f64, right: f64) -> bool {
        match self {
            Self::Equal => left == right,
            Self::NotEqual => left != right,
            Self::Greater => left > right,
            Self::Less => left < right,
            Self::GreaterOrEqual => left >= right,
            Self::LessOrEqual => left <= right,
        }
    }
}
