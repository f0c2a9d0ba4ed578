//! Straight lines and smoothing over the samples of a range.

use bellwether_models::series::Sample;

use super::math::CompensatedSum;
use super::over_time::Span;

/// A straight line: its value at the reference time, and its slope per second.
struct Line {
    slope: f64,
    intercept: f64,
}

/// The slope per second of the line through the samples; `None` below two samples.
pub(super) fn derivative(span: &Span<'_>) -> Option<f64> {
    let [first, _, ..] = span.samples else { return None };
    Some(least_squares(span.samples, first.at.as_millis()).slope)
}

/// Where the line through the samples will be, as many seconds after the step as the parameter says; `None` below two.
pub(super) fn predict_linear(span: &Span<'_>) -> Option<f64> {
    let [_, _, ..] = span.samples else { return None };
    let line = least_squares(span.samples, span.at);
    Some(line.slope * span.parameter(0) + line.intercept)
}

/// Simple linear regression by least squares, times relative to `reference`; a constant series is its own line.
fn least_squares(samples: &[Sample], reference: i64) -> Line {
    let first = samples[0].value;
    if samples.iter().all(|sample| sample.value == first) {
        let (slope, intercept) = if first.is_infinite() { (f64::NAN, f64::NAN) } else { (0.0, first) };
        return Line { slope, intercept };
    }
    let [mut x, mut y, mut xy, mut xx] = [CompensatedSum::default(); 4];
    for sample in samples {
        let time = (sample.at.as_millis().saturating_sub(reference)) as f64 / 1000.0;
        x.add(time);
        y.add(sample.value);
        xy.add(time * sample.value);
        xx.add(time * time);
    }
    let n = samples.len() as f64;
    let (x, y, xy, xx) = (x.corrected(), y.corrected(), xy.corrected(), xx.corrected());
    let slope = (xy - x * y / n) / (xx - x * x / n);
    Line { slope, intercept: y / n - slope * x / n }
}

/// Double exponential smoothing; the parameters are the smoothing and the trend factor, both between 0 and 1.
///
/// # Source
/// C. C. Holt, "Forecasting seasonals and trends by exponentially weighted moving averages", ONR 52 (1957).
pub(super) fn holt_winters(span: &Span<'_>) -> Option<f64> {
    let [first, second, ..] = span.samples else { return None };
    let (smoothing, trending) = (span.parameter(0), span.parameter(1));
    let (mut before, mut level, mut trend) = (0.0, first.value, second.value - first.value);
    for (index, sample) in span.samples.iter().enumerate().skip(1) {
        if index > 1 {
            trend = trending * (level - before) + (1.0 - trending) * trend;
        }
        let smoothed = smoothing * sample.value + (1.0 - smoothing) * (level + trend);
        (before, level) = (level, smoothed);
    }
    Some(level)
}
