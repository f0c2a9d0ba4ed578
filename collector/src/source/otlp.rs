//! OTLP metrics into samples: pure.
//!
//! Gauges, sums, histograms and summaries become the series that an OpenTelemetry Collector's Prometheus exporter would show.
//! Delta points are added up to running totals. `service.name`, `service.namespace` and `service.instance.id` of a resource
//! become `job` and `instance`, its other attributes the labels of `target_info`.
//!
//! Source: "Prometheus and OpenMetrics Compatibility" of the OpenTelemetry specification.

use std::collections::BTreeMap;

use bellwether_models::series::{Labels, METRIC_NAME, Sample, Timestamp, stale_marker};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value;
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, HistogramDataPoint, Metric, NumberDataPoint, SummaryDataPoint,
};

use crate::store::{Batch, SeriesSamples};

mod delta;
mod naming;

pub use delta::Totals;

use naming::{attribute_labels, metric_name};

/// Flag of a point that says "nothing was recorded": the end of the series.
const NO_RECORDED_VALUE: u32 = 1;

/// What a request held.
#[derive(Debug, Default, PartialEq)]
pub struct Converted {
    /// Samples.
    pub batch: Batch,
    /// Points of exponential histograms, which are not kept.
    pub exponential_histograms: u64,
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
                gauge.data_points.iter().for_each(|point| self.number(&name, point, Some(false)));
            }
            Some(Data::Sum(sum)) => {
                let kind = if sum.is_monotonic { naming::Kind::Counter } else { naming::Kind::Gauge };
                let name = metric_name(&metric.name, &metric.unit, kind);
                let delta = is_delta(sum.aggregation_temporality);
                sum.data_points.iter().for_each(|point| self.number(&name, point, delta));
            }
            Some(Data::Histogram(histogram)) => {
                let name = metric_name(&metric.name, &metric.unit, naming::Kind::Histogram);
                let delta = is_delta(histogram.aggregation_temporality);
                histogram.data_points.iter().for_each(|point| self.histogram(&name, point, delta));
            }
            Some(Data::Summary(summary)) => {
                let name = metric_name(&metric.name, &metric.unit, naming::Kind::Histogram);
                summary.data_points.iter().for_each(|point| self.summary(&name, point));
            }
            Some(Data::ExponentialHistogram(histogram)) => {
                self.converted.exponential_histograms += histogram.data_points.len() as u64;
            }
            None => {}
        }
    }

    fn number(&mut self, name: &str, point: &NumberDataPoint, delta: Option<bool>) {
        let value = match point.value {
            Some(Value::AsDouble(value)) => Some(value),
            Some(Value::AsInt(value)) => Some(value as f64),
            None => None,
        };
        let moment = self.moment(point.time_unix_nano, point.flags, delta);
        match (moment, value) {
            (Some(moment), value) if value.is_some() || moment.ends => {
                self.push(name, &self.labels(&point.attributes), &[], value.unwrap_or(0.0), moment);
            }
            _ => self.converted.unusable += 1,
        }
    }

    fn histogram(&mut self, name: &str, point: &HistogramDataPoint, delta: Option<bool>) {
        let Some(moment) = self.moment(point.time_unix_nano, point.flags, delta) else {
            self.converted.unusable += 1;
            return;
        };
        let labels = self.labels(&point.attributes);
        let bounds = point.explicit_bounds.iter().map(|bound| bound_text(*bound)).chain(["+Inf".to_owned()]);
        let mut below = 0;
        for (bound, count) in bounds.zip(&point.bucket_counts) {
            below += count;
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

    fn summary(&mut self, name: &str, point: &SummaryDataPoint) {
        let Some(moment) = self.moment(point.time_unix_nano, point.flags, Some(false)) else {
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
    fn moment(&self, nanos: u64, flags: u32, delta: Option<bool>) -> Option<Moment> {
        let millis = i64::try_from(nanos / 1_000_000).ok().filter(|millis| *millis > 0)?;
        Some(Moment { at: Timestamp::from_millis(millis), delta: delta?, ends: flags & NO_RECORDED_VALUE != 0 })
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
            Moment { ends: true, .. } => Some(stale_marker()),
            Moment { delta: true, at, .. } => self.totals.add(&labels, at, value),
            Moment { delta: false, .. } => Some(value),
        };
        if let Some(value) = value {
            let samples = vec![Sample { at: moment.at, value }];
            self.converted.batch.push(SeriesSamples { labels, samples });
        }
    }
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
        assert_eq!(total(1_700_000_005 * second, 9), None, "older than what was added up");
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
            point(r#""count": "1""#),
            point(r#""flags": 1"#),
        );
        let converted = convert(&request(&metrics), &mut Totals::default());
        assert_eq!((converted.unusable, converted.exponential_histograms), (3, 1));
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
