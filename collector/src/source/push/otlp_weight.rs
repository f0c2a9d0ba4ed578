//! How much an OTLP request becomes in memory, told from its bytes: an empty message takes two of them, and a hundred or
//! more once it is decoded.
//!
//! Field numbers: `opentelemetry-proto` 1.x, `metrics/v1`, `common/v1` and `resource/v1`.

use super::wire::{Fields, Value, WireError};

/// Deeper messages are not decoded either (the limit of `prost`).
const DEEPEST: usize = 100;

/// A message that holds others, or strings of its own, each of which takes room.
#[derive(Clone, Copy)]
enum Kind {
    Request,
    ResourceMetrics,
    Resource,
    EntityRef,
    ScopeMetrics,
    Scope,
    Metric,
    /// Gauge, sum, histogram and summary alike: points in field 1.
    Points(Point),
    Point(Point),
    Exemplar,
    KeyValue,
    AnyValue,
    /// A list of values or of pairs.
    List(&'static Kind),
    Leaf,
}

#[derive(Clone, Copy)]
enum Point {
    Number,
    Histogram,
    Exponential,
    Summary,
}

/// How many messages a request holds, at all depths; stops counting beyond `most`.
///
/// # Errors
/// [`WireError`] when the bytes are no message.
pub(super) fn messages(request: &[u8], most: usize) -> Result<usize, WireError> {
    let mut count = 0;
    walk(Kind::Request, request, DEEPEST, &mut count, most)?;
    Ok(count)
}

fn walk(kind: Kind, message: &[u8], depth: usize, count: &mut usize, most: usize) -> Result<(), WireError> {
    for field in Fields::of(message) {
        let (number, Value::Bytes(bytes)) = field? else { continue };
        let Some(inner) = inner(kind, number) else { continue };
        *count += 1;
        if *count > most {
            return Ok(());
        }
        if depth > 0 && !matches!(inner, Kind::Leaf) {
            walk(inner, bytes, depth - 1, count, most)?;
        }
    }
    Ok(())
}

/// What stands in a field, where that is a message or one of several strings.
fn inner(kind: Kind, field: u32) -> Option<Kind> {
    Some(match (kind, field) {
        (Kind::Request, 1) => Kind::ResourceMetrics,
        (Kind::ResourceMetrics, 1) => Kind::Resource,
        (Kind::ResourceMetrics, 2) => Kind::ScopeMetrics,
        (Kind::Resource, 1) | (Kind::Scope, 3) | (Kind::Metric, 12) => Kind::KeyValue,
        (Kind::Resource, 3) => Kind::EntityRef,
        (Kind::EntityRef, 3 | 4) => Kind::Leaf,
        (Kind::ScopeMetrics, 1) => Kind::Scope,
        (Kind::ScopeMetrics, 2) => Kind::Metric,
        (Kind::Metric, 5 | 7) => Kind::Points(Point::Number),
        (Kind::Metric, 9) => Kind::Points(Point::Histogram),
        (Kind::Metric, 10) => Kind::Points(Point::Exponential),
        (Kind::Metric, 11) => Kind::Points(Point::Summary),
        (Kind::Points(point), 1) => Kind::Point(point),
        (Kind::Point(Point::Number | Point::Summary), 7)
        | (Kind::Point(Point::Histogram), 9)
        | (Kind::Point(Point::Exponential), 1)
        | (Kind::Exemplar, 7) => Kind::KeyValue,
        (Kind::Point(Point::Number), 5)
        | (Kind::Point(Point::Histogram), 8)
        | (Kind::Point(Point::Exponential), 11) => Kind::Exemplar,
        (Kind::Point(Point::Exponential), 8 | 9) | (Kind::Point(Point::Summary), 6) => Kind::Leaf,
        (Kind::KeyValue, 2) => Kind::AnyValue,
        (Kind::AnyValue, 5) => Kind::List(&Kind::AnyValue),
        (Kind::AnyValue, 6) => Kind::List(&Kind::KeyValue),
        (Kind::List(kind), 1) => *kind,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
    use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, KeyValue, any_value};
    use opentelemetry_proto::tonic::metrics::v1::{
        Gauge, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum, metric,
    };
    use opentelemetry_proto::tonic::resource::v1::Resource;
    use prost::Message;

    use super::*;

    #[test]
    fn every_message_of_a_request_is_counted_once() {
        let text = |text: &str| Some(AnyValue { value: Some(any_value::Value::StringValue(text.to_owned())) });
        let list = any_value::Value::ArrayValue(ArrayValue { values: vec![text("a").unwrap(), text("b").unwrap()] });
        let pair = |value| KeyValue { key: "k".to_owned(), value, ..KeyValue::default() };
        let point = NumberDataPoint { attributes: vec![pair(text("v"))], ..NumberDataPoint::default() };
        let metric = |data| Metric { name: "m".to_owned(), data: Some(data), ..Metric::default() };
        let gauge = metric(metric::Data::Gauge(Gauge { data_points: vec![point.clone(), point] }));
        let sum = metric(metric::Data::Sum(Sum { data_points: vec![], ..Sum::default() }));
        let request = ExportMetricsServiceRequest {
            resource_metrics: vec![ResourceMetrics {
                resource: Some(Resource {
                    attributes: vec![pair(Some(AnyValue { value: Some(list) }))],
                    ..Resource::default()
                }),
                scope_metrics: vec![ScopeMetrics { metrics: vec![gauge, sum], ..ScopeMetrics::default() }],
                ..ResourceMetrics::default()
            }],
        };
        // resource metrics; resource, pair, value, list, two values; scope, two metrics with their data, two points of a
        // pair and a value each
        assert_eq!(messages(&request.encode_to_vec(), usize::MAX), Ok(1 + 6 + 1 + 4 + 6));
    }

    #[test]
    fn counting_stops_soon_after_the_most_allowed() {
        let hostile: Vec<u8> = [0x0a, 0x00].repeat(1000);
        assert_eq!(messages(&hostile, 10), Ok(11));
        assert_eq!(messages(&hostile, 1000), Ok(1000));
        assert!(messages(&hostile[..1999], 1000).is_err());
    }
}
