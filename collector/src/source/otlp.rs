//! OTLP metrics into samples: pure.
//!
//! Gauges, sums, histograms and summaries become the series that an OpenTelemetry Collector's Prometheus exporter would show.
//! Delta points are added up to running totals. `service.name`, `service.namespace` and `service.instance.id` of a resource
//! become `job` and `instance`, its other attributes the labels of `target_info`.
//!
//! Source: "Prometheus and OpenMetrics Compatibility" of the OpenTelemetry specification.

use std::collections::BTreeMap;
use std::time::Duration;

use bellwether_models::series::{Labels, METRIC_NAME, Sample, Timestamp, stale_marker};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::metrics::v1::exponential_histogram_data_point::Buckets;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value;
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, ExponentialHistogramDataPoint, HistogramDataPoint, Metric, NumberDataPoint,
    SummaryDataPoint,
};

use crate::metadata::{Described, MetricType};
use crate::source::exponential::{Bucketed, Exponential};
use crate::store::{Batch, SeriesSamples};

mod delta;
mod naming;

pub use delta::Totals;

use delta::{Added, Counted};
use naming::{attribute_labels, metric_name};

/// Flag of a point that says "nothing was recorded": the end of the series.
const NO_RECORDED_VALUE: u32 = 1;

/// What a request held.
#[derive(Debug, Default, PartialEq)]
pub struct Converted {
    /// Samples.
    pub batch: Batch,
    /// What is said of the metrics.
    pub described: Vec<Described>,
    /// Points of exponential histograms that became buckets.
    pub exponential_histograms: u64,
    /// Delta values older than what can still be added up.
    pub too_late: u64,
    /// Points without a value, a time or a temporality.
    pub unusable: u64,
}

/// Takes a request apart; delta points move `totals` on.
pub fn convert(request: &ExportMetricsServiceRequest, totals: &mut Totals) -> Converted {
    let mut converted = Converted::default();
    for resource in &request.resource_metrics {
        let attributes = resource.resource.as_ref().map_or(&[][..], |resource| &resource.attributes);
        let (base, info) = resource_labels(attributes);
        let before = converted.batch.len();
        for metric in resource.scope_metrics.iter().flat_map(|scope| &scope.metrics) {
            Points { base: &base, totals, converted: &mut converted }.take(metric);
        }
        let newest = converted.batch[before..].iter().flat_map(|series| &series.samples).map(|sample| sample.at).max();
        if let (Some(at), Some(labels)) = (newest, info) {
            converted.batch.push(SeriesSamples { labels, samples: vec![Sample { at, value: 1.0 }] });
        }
    }
    converted
}

/// `job` and `instance`, and the labels of `target_info` where there is more to tell.
fn resource_labels(attributes: &[KeyValue]) -> (BTreeMap<String, String>, Option<Labels>) {
    let mut labels = attribute_labels(attributes);
    let mut take = |name: &str| labels.remove(name);
    let job = match (take("service_namespace"), take("service_name")) {
        (Some(namespace), Some(name)) => Some(format!("{namespace}/{name}")),
        (None, name) => name,
        (Some(namespace), None) => Some(namespace),
    };
    let identity = [("job", job), ("instance", take("service_instance_id"))];
    let base: BTreeMap<String, String> =
        identity.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect();
    let info = (!labels.is_empty()).then(|| {
        let own = [(METRIC_NAME.to_owned(), "target_info".to_owned())];
        Labels::new(labels.into_iter().chain(base.clone()).chain(own))
    });
    (base, info)
}

/// Takes the points of one resource.
struct Points<'a> {
    base: &'a BTreeMap<String, String>,
    totals: &'a mut Totals,
    converted: &'a mut Converted,
}

/// When a point was taken, and what its number means.
#[derive(Clone, Copy)]
struct Moment {
    at: Timestamp,
    /// When the count of a delta began.
    start: Timestamp,
    /// It counts from the point before, not from the start.
    delta: bool,
    /// It ends the series.
    ends: bool,
}

impl Points<'_> {
    fn take(&mut self, metric: &Metric) {
        match &metric.data {
            Some(Data::Gauge(gauge)) => {
                let name = metric_name(&metric.name, &metric.unit, naming::Kind::Gauge);
                self.describe(metric, &name, MetricType::Gauge);
                gauge.data_points.iter().for_each(|point| self.number(&name, point, Some(false)));
            }
            Some(Data::Sum(sum)) => {
                let kind = if sum.is_monotonic { naming::Kind::Counter } else { naming::Kind::Gauge };
                let name = metric_name(&metric.name, &metric.unit, kind);
                self.describe(metric, &name, if sum.is_monotonic { MetricType::Counter } else { MetricType::Gauge });
                let delta = is_delta(sum.aggregation_temporality);
                sum.data_points.iter().for_each(|point| self.number(&name, point, delta));
            }
            Some(Data::Histogram(histogram)) => {
                let name = metric_name(&metric.name, &metric.unit, naming::Kind::Histogram);
                self.describe(metric, &name, MetricType::Histogram);
                let delta = is_delta(histogram.aggregation_temporality);
                histogram.data_points.iter().for_each(|point| self.histogram(&name, point, delta));
            }
            Some(Data::Summary(summary)) => {
                let name = metric_name(&metric.name, &metric.unit, naming::Kind::Histogram);
                self.describe(metric, &name, MetricType::Summary);
                summary.data_points.iter().for_each(|point| self.summary(&name, point));
            }
            Some(Data::ExponentialHistogram(histogram)) => {
                let name = metric_name(&metric.name, &metric.unit, naming::Kind::Histogram);
                self.describe(metric, &name, MetricType::Histogram);
                let delta = is_delta(histogram.aggregation_temporality);
                histogram.data_points.iter().for_each(|point| self.exponential(&name, point, delta));
            }
            None => {}
        }
    }

    fn describe(&mut self, metric: &Metric, name: &str, kind: MetricType) {
        let (help, unit) = (metric.description.clone(), metric.unit.clone());
        self.converted.described.push(Described { metric: name.to_owned(), kind, help, unit });
    }

    fn number(&mut self, name: &str, point: &NumberDataPoint, delta: Option<bool>) {
        let value = match point.value {
            Some(Value::AsDouble(value)) => Some(value),
            Some(Value::AsInt(value)) => Some(value as f64),
            None => None,
        };
        let moment = self.moment(point.time_unix_nano, point.flags, point.start_time_unix_nano, delta);
        match (moment, value) {
            (Some(moment), value) if value.is_some() || moment.ends => {
                self.push(name, &self.labels(&point.attributes), &[], value.unwrap_or(0.0), moment);
            }
            _ => self.converted.unusable += 1,
        }
    }

    fn histogram(&mut self, name: &str, point: &HistogramDataPoint, delta: Option<bool>) {
        let start = point.start_time_unix_nano;
        let Some(moment) = self.moment(point.time_unix_nano, point.flags, start, delta) else {
            self.converted.unusable += 1;
            return;
        };
        let labels = self.labels(&point.attributes);
        let bounds = point.explicit_bounds.iter().map(|bound| bound_text(*bound)).chain(["+Inf".to_owned()]);
        let mut below = 0u64;
        for (bound, count) in bounds.zip(&point.bucket_counts) {
            below = below.saturating_add(*count);
            self.push(&format!("{name}_bucket"), &labels, &[("le", &bound)], below as f64, moment);
        }
        if point.bucket_counts.is_empty() {
            self.push(&format!("{name}_bucket"), &labels, &[("le", "+Inf")], point.count as f64, moment);
        }
        self.push(&format!("{name}_count"), &labels, &[], point.count as f64, moment);
        if let Some(sum) = point.sum {
            self.push(&format!("{name}_sum"), &labels, &[], sum, moment);
        }
    }

    fn exponential(&mut self, name: &str, point: &ExponentialHistogramDataPoint, delta: Option<bool>) {
        let moment = self.moment(point.time_unix_nano, point.flags, point.start_time_unix_nano, delta);
        let counts = |side: &Option<Buckets>| {
            let (offset, counts) = side.as_ref().map_or((0, &[][..]), |side| (side.offset, &side.bucket_counts[..]));
            let numbered = counts.iter().enumerate().map(|(at, count)| (i64::from(offset) + at as i64, *count as f64));
            numbered.collect::<Vec<_>>()
        };
        let (positive, negative) = (counts(&point.positive), counts(&point.negative));
        let histogram =
            Exponential::new(point.scale, positive, negative, point.zero_count as f64, point.zero_threshold);
        let (Some(moment), Some(histogram)) = (moment, histogram) else {
            self.converted.unusable += 1;
            return;
        };
        let labels = Labels::new(self.labels(&point.attributes)).with(METRIC_NAME, name);
        let counted = Counted { histogram, count: point.count as f64, sum: point.sum };
        let counted = match moment {
            Moment { ends: true, .. } => Some(Counted { sum: Some(stale_marker()), ..Counted::default() }),
            Moment { delta: true, at, .. } => match self.totals.add_histogram(&labels, at, counted) {
                Added::Total(total) => Some(total),
                added => {
                    self.converted.too_late += u64::from(added == Added::TooLate);
                    None
                }
            },
            Moment { delta: false, .. } => Some(counted),
        };
        let Some(Counted { histogram, count, sum }) = counted else { return };
        let bucketed = Bucketed { at: moment.at, buckets: histogram.buckets(), count, sum };
        bucketed.series(&labels, &mut self.converted.batch);
        self.converted.exponential_histograms += 1;
    }

    fn summary(&mut self, name: &str, point: &SummaryDataPoint) {
        let Some(moment) = self.moment(point.time_unix_nano, point.flags, 0, Some(false)) else {
            self.converted.unusable += 1;
            return;
        };
        let labels = self.labels(&point.attributes);
        for quantile in &point.quantile_values {
            let text = bound_text(quantile.quantile);
            self.push(name, &labels, &[("quantile", &text)], quantile.value, moment);
        }
        self.push(&format!("{name}_sum"), &labels, &[], point.sum, moment);
        self.push(&format!("{name}_count"), &labels, &[], point.count as f64, moment);
    }

    /// `None` for a point without a time or a temporality.
    fn moment(&self, nanos: u64, flags: u32, start: u64, delta: Option<bool>) -> Option<Moment> {
        let time = |nanos: u64| Timestamp::from_millis(i64::try_from(nanos / 1_000_000).unwrap_or(0));
        let at = Some(time(nanos)).filter(|at| at.as_millis() > 0)?;
        Some(Moment { at, start: time(start), delta: delta?, ends: flags & NO_RECORDED_VALUE != 0 })
    }

    fn labels(&self, attributes: &[KeyValue]) -> BTreeMap<String, String> {
        let mut labels = attribute_labels(attributes);
        labels.extend(self.base.iter().map(|(name, value)| (name.clone(), value.clone())));
        labels
    }

    fn push(
        &mut self,
        name: &str,
        labels: &BTreeMap<String, String>,
        more: &[(&str, &str)],
        value: f64,
        moment: Moment,
    ) {
        let pairs = labels.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let labels = Labels::new(pairs.chain(more.iter().copied()).chain([(METRIC_NAME, name)]));
        let value = match moment {
            Moment { ends: true, .. } => stale_marker(),
            Moment { delta: false, .. } => value,
            Moment { delta: true, at, .. } => {
                let begins = !self.totals.knows(&labels);
                match self.totals.add(&labels, at, value) {
                    Added::Total(total) => {
                        let samples = from_zero(begins, moment, total);
                        return self.converted.batch.push(SeriesSamples { labels, samples });
                    }
                    added => return self.converted.too_late += u64::from(added == Added::TooLate),
                }
            }
        };
        self.converted.batch.push(SeriesSamples { labels, samples: vec![Sample { at: moment.at, value }] });
    }
}

/// Longest time before a series' first total at which it is said to have been zero.
const LONGEST_START: Duration = Duration::from_secs(600);

/// The total, after a zero where the series begins: what was counted before the first total counts too, and a total that begins
/// again after a restart is seen as such.
fn from_zero(begins: bool, moment: Moment, total: f64) -> Vec<Sample> {
    let first = moment.start + Duration::from_millis(1); // where the time before ended there may be its total
    let told = begins && first < moment.at && moment.at.since(first) <= LONGEST_START;
    let zero = told.then_some(Sample { at: first, value: 0.0 });
    zero.into_iter().chain([Sample { at: moment.at, value: total }]).collect()
}

/// `None` when the sender did not say.
fn is_delta(temporality: i32) -> Option<bool> {
    match AggregationTemporality::try_from(temporality) {
        Ok(AggregationTemporality::Delta) => Some(true),
        Ok(AggregationTemporality::Cumulative) => Some(false),
        _ => None,
    }
}

/// A bound as Prometheus writes it: `0.5`, `10`, `+Inf`.
fn bound_text(bound: f64) -> String {
    if bound == f64::INFINITY { "+Inf".to_owned() } else { bound.to_string() }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn told(converted: &Converted) -> Vec<String> {
        let line = |series: &SeriesSamples| format!("{} {}", series.labels, series.samples[0].value);
        converted.batch.iter().map(line).collect()
    }

    /// A request as the specification's JSON.
    fn request(metrics: &str) -> ExportMetricsServiceRequest {
        let text = format!(
            r#"{{"resourceMetrics": [{{"resource": {{"attributes": [
                {{"key": "service.name", "value": {{"stringValue": "cart"}}}},
                {{"key": "service.namespace", "value": {{"stringValue": "shop"}}}},
                {{"key": "service.instance.id", "value": {{"stringValue": "pod-1"}}}},
                {{"key": "host.name", "value": {{"stringValue": "n7"}}}}]}},
              "scopeMetrics": [{{"metrics": [{metrics}]}}]}}]}}"#
        );
        serde_json::from_str(&text).expect("OTLP in JSON")
    }

    fn point(more: &str) -> String {
        format!(r#"{{"timeUnixNano": "1700000000000000000", {more}}}"#)
    }

    #[test]
    fn gauges_and_counters_get_prometheus_names_and_the_resource_becomes_job_and_instance() {
        let gauge = format!(
            r#"{{"name": "process.memory.usage", "unit": "By", "gauge": {{"dataPoints": [{}]}}}}"#,
            point(
                r#""asDouble": 1.5, "attributes": [{"key": "state.of", "value": {"stringValue": "a"}},
                    {"key": "state_of", "value": {"intValue": "2"}}]"#
            )
        );
        let sum = format!(
            r#"{{"name": "http.requests", "unit": "{{request}}", "sum": {{"aggregationTemporality": 2, "isMonotonic": true, "dataPoints": [{}]}}}}"#,
            point(r#""asInt": "7""#)
        );
        let converted = convert(&request(&format!("{gauge},{sum}")), &mut Totals::default());
        assert_eq!(
            told(&converted),
            [
                r#"process_memory_usage_bytes{instance="pod-1",job="shop/cart",state_of="a;2"} 1.5"#,
                r#"http_requests_total{instance="pod-1",job="shop/cart"} 7"#,
                r#"target_info{host_name="n7",instance="pod-1",job="shop/cart"} 1"#,
            ]
        );
    }

    #[test]
    fn a_histogram_becomes_cumulative_buckets_with_sum_and_count() {
        let histogram = format!(
            r#"{{"name": "latency", "unit": "s", "histogram": {{"aggregationTemporality": 2, "dataPoints": [{}]}}}}"#,
            point(r#""count": "6", "sum": 3.5, "bucketCounts": ["1", "2", "3"], "explicitBounds": [0.5, 1]"#)
        );
        let lines = told(&convert(&request(&histogram), &mut Totals::default()));
        let of = |le: &str| format!(r#"latency_seconds_bucket{{instance="pod-1",job="shop/cart",le="{le}"}}"#);
        assert_eq!(lines[..3], [of("0.5") + " 1", of("1") + " 3", of("+Inf") + " 6"]);
        assert!(lines[3].starts_with("latency_seconds_count") && lines[3].ends_with(" 6"));
        assert!(lines[4].starts_with("latency_seconds_sum") && lines[4].ends_with(" 3.5"));
    }

    #[test]
    fn delta_points_are_added_up_and_one_told_twice_counts_once() {
        let sum = |nanos: u64, value: u64| {
            request(&format!(
                r#"{{"name": "jobs", "sum": {{"aggregationTemporality": 1, "isMonotonic": true, "dataPoints": [
                    {{"timeUnixNano": "{nanos}", "asInt": "{value}"}}]}}}}"#
            ))
        };
        let mut totals = Totals::default();
        let mut total = |nanos, value| {
            let converted = convert(&sum(nanos, value), &mut totals);
            converted.batch.first().map(|series| series.samples[0].value)
        };
        let second = 1_000_000_000;
        assert_eq!(total(1_700_000_000 * second, 3), Some(3.0));
        assert_eq!(total(1_700_000_010 * second, 4), Some(7.0));
        assert_eq!(total(1_700_000_010 * second, 4), Some(7.0), "sent again");
        assert_eq!(total(1_700_000_020 * second, 1), Some(8.0));
        assert_eq!(total(1_700_000_015 * second, 9), None, "it came late");
        assert_eq!(total(1_700_000_015 * second, 9), None, "and once more");
        assert_eq!(total(1_700_000_030 * second, 1), Some(18.0), "what came late counts once");
    }

    #[test]
    fn exponential_histograms_become_buckets_and_their_deltas_are_added_up() {
        let histogram = |seconds: u64, scale: i32| {
            request(&format!(
                r#"{{"name": "latency", "unit": "s", "exponentialHistogram": {{"aggregationTemporality": 1, "dataPoints": [
                    {{"timeUnixNano": "{seconds}000000000", "count": "3", "sum": 4.5, "scale": {scale}, "zeroCount": "1",
                      "positive": {{"offset": 0, "bucketCounts": ["2"]}}}}]}}}}"#
            ))
        };
        let mut totals = Totals::default();
        convert(&histogram(1_700_000_000, 0), &mut totals);
        let converted = convert(&histogram(1_700_000_010, 1), &mut totals);
        let of = |le: &str| format!(r#"latency_seconds_bucket{{instance="pod-1",job="shop/cart",le="{le}"}}"#);
        let lines = told(&converted);
        assert_eq!(lines[..4], [of("0") + " 2", of("1") + " 2", of("2") + " 6", of("+Inf") + " 6"], "{lines:#?}");
        assert!(lines[4].starts_with("latency_seconds_count") && lines[4].ends_with(" 6"));
        assert!(lines[5].starts_with("latency_seconds_sum") && lines[5].ends_with(" 9"));
    }

    #[test]
    fn a_delta_counter_begins_at_zero_where_its_count_began() {
        let metric = r#"{"name": "jobs", "sum": {"aggregationTemporality": 1, "isMonotonic": true, "dataPoints": [
            {"startTimeUnixNano": "1700000000000000000", "timeUnixNano": "1700000010000000000", "asInt": "5"}]}}"#;
        let converted = convert(&request(metric), &mut Totals::default());
        let samples: Vec<(i64, f64)> =
            converted.batch[0].samples.iter().map(|sample| (sample.at.as_millis(), sample.value)).collect();
        assert_eq!(samples, [(1_700_000_000_001, 0.0), (1_700_000_010_000, 5.0)]);
    }

    #[test]
    fn what_cannot_be_kept_is_counted() {
        let metrics = format!(
            r#"{{"name": "a", "gauge": {{"dataPoints": [{}, {{"asInt": "1"}}]}}}},
               {{"name": "b", "sum": {{"dataPoints": [{}]}}}},
               {{"name": "c", "exponentialHistogram": {{"aggregationTemporality": 2, "dataPoints": [{}]}}}},
               {{"name": "d", "gauge": {{"dataPoints": [{}]}}}}"#,
            point(r#""flags": 0"#),
            point(r#""asInt": "1""#),
            point(r#""count": "1", "scale": 99"#),
            point(r#""flags": 1"#),
        );
        let converted = convert(&request(&metrics), &mut Totals::default());
        assert_eq!(converted.unusable, 4);
        assert!(bellwether_models::series::is_stale(converted.batch[0].samples[0].value), "no recorded value: the end");
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(request) = <ExportMetricsServiceRequest as prost::Message>::decode(&bytes[..]) {
                let _ = convert(&request, &mut Totals::default());
            }
        }
    }
}
