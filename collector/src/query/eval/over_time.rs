//! Functions of the samples in a range.
//!
//! # Source
//! Prometheus documentation, "Query functions"; the extrapolation of `rate`, `increase` and `delta` follows
//! <https://prometheus.io/docs/prometheus/2.42/querying/functions/#rate> and the behaviour of the server itself.

use bellwether_models::series::{Labels, Sample};

use super::super::QueryError;
use super::super::grid::Grid;
use super::super::metric::Metric;
use super::super::plan::{Range, Scalar};
use super::math::{CompensatedSum, quantile};
use super::unique::refuse_twins;
use super::{Evaluator, RangeRow, Row, absent, advance, kept, nameless, regression};

/// What is asked of the samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum OverTime {
    Average,
    Changes,
    Count,
    Delta,
    Derivative,
    Deviation,
    Greatest,
    HoltWinters,
    Increase,
    InstantDelta,
    InstantRate,
    Last,
    Least,
    PredictLinear,
    Present,
    Quantile,
    Rate,
    Resets,
    Sum,
    Variance,
}

/// The samples of one series that a step sees; never empty.
pub(super) struct Span<'a> {
    pub samples: &'a [Sample],
    /// Where they fall, for functions that ask.
    falls: &'a [Fall],
    /// The closed range they were taken from, in milliseconds.
    pub from: i64,
    pub to: i64,
    /// The step itself.
    pub at: i64,
    /// The scalar arguments of the function at this step.
    pub parameters: &'a [f64],
}

/// A sample that is lower than the one before it.
struct Fall {
    /// Its place in the series.
    at: usize,
    /// The value before it.
    before: f64,
}

impl OverTime {
    /// Whether the value changes from step to step even where the samples are the same.
    pub fn depends_on_step(self) -> bool {
        self == Self::PredictLinear
    }

    fn keeps_name(self) -> bool {
        self == Self::Last
    }

    fn function(self) -> fn(&Span<'_>) -> Option<f64> {
        match self {
            Self::Average => |span| Some(average(span.samples)),
            Self::Changes => |span| Some(count_pairs(span, |a, b| a != b && !(a.is_nan() && b.is_nan()))),
            Self::Count => |span| Some(span.samples.len() as f64),
            Self::Delta => |span| change(span, false).map(|(change, stretched)| change * stretched),
            Self::Derivative => regression::derivative,
            Self::Deviation => |span| Some(variance(span.samples).sqrt()),
            Self::Greatest => |span| extreme(span, |candidate, best| candidate > best),
            Self::HoltWinters => regression::holt_winters,
            Self::Increase => |span| change(span, true).map(|(change, stretched)| change * stretched),
            Self::InstantDelta => |span| instant_change(span, false),
            Self::InstantRate => |span| instant_change(span, true),
            Self::Last => |span| span.samples.last().map(|sample| sample.value),
            Self::Least => |span| extreme(span, |candidate, best| candidate < best),
            Self::PredictLinear => regression::predict_linear,
            Self::Present => |_| Some(1.0),
            Self::Quantile => |span| {
                let mut values: Vec<f64> = span.samples.iter().map(|sample| sample.value).collect();
                Some(quantile(span.parameter(0), &mut values))
            },
            Self::Rate => |span| {
                // The order of operations is Prometheus' own, to the last bit.
                change(span, true).map(|(change, stretched)| change * (stretched / span.range_seconds()))
            },
            Self::Resets => |span| Some(span.falls.len() as f64),
            Self::Sum => |span| Some(sum(span.samples)),
            Self::Variance => |span| Some(variance(span.samples)),
        }
    }

    /// Whether it asks where a series falls.
    fn sees_falls(self) -> bool {
        matches!(self, Self::Increase | Self::Rate | Self::Resets)
    }

    fn check(self, parameters: &[f64]) -> Result<(), QueryError> {
        if self != Self::HoltWinters {
            return Ok(());
        }
        for (name, symbol, factor) in [("smoothing", "sf", parameters.first()), ("trend", "tf", parameters.get(1))] {
            if let Some(factor) = factor.filter(|factor| **factor <= 0.0 || **factor >= 1.0) {
                let detail = format!("invalid {name} factor. Expected: 0 < {symbol} < 1, got: {factor:.6}");
                return Err(QueryError::execution(detail));
            }
        }
        Ok(())
    }
}

impl Span<'_> {
    /// Scalar argument `index`; NaN when there is none.
    pub fn parameter(&self, index: usize) -> f64 {
        self.parameters.get(index).copied().unwrap_or(f64::NAN)
    }

    fn range_seconds(&self) -> f64 {
        seconds_between(self.from, self.to)
    }
}

impl Evaluator<'_> {
    pub(super) fn over_time(
        &mut self,
        function: OverTime,
        range: &Range,
        parameters: &[Scalar],
        grid: Grid,
    ) -> Result<Vec<Row>, QueryError> {
        let parameters = self.parameters(parameters, grid)?;
        let mut rows = Vec::new();
        for source in self.range_rows(range, grid)? {
            self.budget.charge(grid.len)?;
            if !source.samples.is_empty() {
                parameters.iter().try_for_each(|step| function.check(step))?;
            }
            let falls = if function.sees_falls() { falls(&source.samples) } else { Vec::new() };
            rows.push(slide(function.function(), &source, &falls, range, &parameters, grid));
        }
        let rows = if function.keeps_name() { rows } else { nameless(rows) };
        refuse_twins(rows)
    }

    /// `absent_over_time`: 1 at the steps where no series has a sample in the range.
    pub(super) fn absent_over_time(
        &mut self,
        range: &Range,
        labels: &[(String, String)],
        grid: Grid,
    ) -> Result<Vec<Row>, QueryError> {
        self.budget.charge(grid.len)?;
        let mut values = vec![1.0; grid.len];
        let none = vec![Vec::new(); grid.len];
        for source in self.range_rows(range, grid)? {
            let present = slide(|_| Some(1.0), &source, &[], range, &none, grid);
            for (gap, _) in values.iter_mut().zip(present.values).filter(|(_, value)| *value == 1.0) {
                *gap = absent();
            }
        }
        let labels = Labels::new(labels.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        Ok(kept(vec![Row { metric: Metric::from(labels), values }]))
    }
}

/// Applies `function` to the samples each step sees. Both ends of the range belong to it.
fn slide(
    function: fn(&Span<'_>) -> Option<f64>,
    source: &RangeRow<'_>,
    falls: &[Fall],
    range: &Range,
    parameters: &[Vec<f64>],
    grid: Grid,
) -> Row {
    let samples = &*source.samples;
    let (mut first, mut end) = (0, 0);
    let values = grid.times().zip(parameters).map(|(at, parameters)| {
        let to = range.when.of(at);
        let from = to.saturating_sub(range.length);
        first += advance(&samples[first..], |sample| sample.at.as_millis() < from);
        end = end.max(first);
        end += advance(&samples[end..], |sample| sample.at.as_millis() <= to);
        let falls = &falls[..falls.partition_point(|fall| fall.at < end)];
        let falls = &falls[falls.partition_point(|fall| fall.at <= first)..];
        let span = Span { samples: &samples[first..end], falls, from, to, at, parameters };
        if span.samples.is_empty() { absent() } else { function(&span).unwrap_or_else(absent) }
    });
    Row { values: values.collect(), metric: source.metric.clone() }
}

/// Found once for a series: most counters never fall, and every sample lies in many ranges.
fn falls(samples: &[Sample]) -> Vec<Fall> {
    let pairs = samples.windows(2).zip(1..).filter(|(pair, _)| pair[1].value < pair[0].value);
    pairs.map(|(pair, at)| Fall { at, before: pair[0].value }).collect()
}

fn sum(samples: &[Sample]) -> f64 {
    let mut sum = CompensatedSum::default();
    samples.iter().for_each(|sample| sum.add(sample.value));
    sum.total()
}

/// The mean, updated sample by sample as Prometheus 2 does: no intermediate sum overflows, and its last bits are the same,
/// which is what `idelta` or `==` over it see. An infinite mean stays until the other infinity or NaN comes.
fn average(samples: &[Sample]) -> f64 {
    let mut mean = CompensatedSum::default();
    for (index, value) in samples.iter().map(|sample| sample.value).enumerate() {
        let so_far = mean.raw();
        if so_far.is_infinite() && (value == so_far || value.is_finite()) {
            continue;
        }
        let count = (index + 1) as f64;
        mean.add(value / count - so_far / count);
    }
    mean.total()
}

/// Population variance by Welford's recurrence (B. P. Welford, Technometrics 4 (1962)), its sums compensated.
fn variance(samples: &[Sample]) -> f64 {
    let (mut mean, mut squares) = (CompensatedSum::default(), CompensatedSum::default());
    for (index, value) in samples.iter().map(|sample| sample.value).enumerate() {
        let delta = value - mean.corrected();
        mean.add(delta / (index + 1) as f64);
        squares.add(delta * (value - mean.corrected()));
    }
    squares.corrected() / samples.len() as f64
}

fn extreme(span: &Span<'_>, better: fn(f64, f64) -> bool) -> Option<f64> {
    let values = span.samples.iter().map(|sample| sample.value);
    values.reduce(|best, candidate| if better(candidate, best) || best.is_nan() { candidate } else { best })
}

fn count_pairs(span: &Span<'_>, counts: fn(f64, f64) -> bool) -> f64 {
    span.samples.windows(2).filter(|pair| counts(pair[0].value, pair[1].value)).count() as f64
}

/// The difference of the last two samples, for a counter with its reset; per second for a rate.
fn instant_change(span: &Span<'_>, rate: bool) -> Option<f64> {
    let [.., before, last] = span.samples else { return None };
    let seconds = seconds_between(before.at.as_millis(), last.at.as_millis());
    if seconds == 0.0 {
        return None;
    }
    if !rate {
        return Some(last.value - before.value);
    }
    let change = if last.value < before.value { last.value } else { last.value - before.value };
    Some(change / seconds)
}

/// How much the series changed between its first and its last sample, and the factor that stretches this to the whole range.
///
/// The change is stretched to the ends of the range: fully where a sample lies near an end (within 1.1 times the mean
/// distance of samples), else by half that distance. A counter that falls was reset, and is not stretched back beyond the
/// point where it would have been zero.
fn change(span: &Span<'_>, counter: bool) -> Option<(f64, f64)> {
    let [first, .., last] = span.samples else { return None };
    let mut change = last.value - first.value;
    if counter {
        change = span.falls.iter().fold(change, |change, fall| change + fall.before);
    }
    let sampled = seconds_between(first.at.as_millis(), last.at.as_millis());
    let mut to_start = seconds_between(span.from, first.at.as_millis());
    let to_end = seconds_between(last.at.as_millis(), span.to);
    if counter && change > 0.0 && first.value >= 0.0 {
        to_start = to_start.min(sampled * (first.value / change));
    }
    let between = sampled / (span.samples.len() - 1) as f64;
    let stretch = |gap: f64| if gap < between * 1.1 { gap } else { between / 2.0 };
    Some((change, (sampled + stretch(to_start) + stretch(to_end)) / sampled))
}

fn seconds_between(from: i64, to: i64) -> f64 {
    to.saturating_sub(from) as f64 / 1000.0
}
