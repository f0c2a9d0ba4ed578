//! Names and labels: from OpenTelemetry's to Prometheus'.
//!
//! Source: "Prometheus and OpenMetrics Compatibility" of the OpenTelemetry specification.

use std::collections::BTreeMap;

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};

use crate::source::line_protocol::{label_name, metric_name as fit};

/// What a metric is, as far as its name depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Gauge,
    Counter,
    Histogram,
}

/// Units of time, size and the like by their code in the Unified Code for Units of Measure.
const UNITS: [(&str, &str); 24] = [
    ("d", "days"),
    ("h", "hours"),
    ("min", "minutes"),
    ("s", "seconds"),
    ("ms", "milliseconds"),
    ("us", "microseconds"),
    ("ns", "nanoseconds"),
    ("By", "bytes"),
    ("KiBy", "kibibytes"),
    ("MiBy", "mebibytes"),
    ("GiBy", "gibibytes"),
    ("TiBy", "tibibytes"),
    ("KBy", "kilobytes"),
    ("MBy", "megabytes"),
    ("GBy", "gigabytes"),
    ("TBy", "terabytes"),
    ("m", "meters"),
    ("V", "volts"),
    ("A", "amperes"),
    ("J", "joules"),
    ("W", "watts"),
    ("g", "grams"),
    ("Cel", "celsius"),
    ("Hz", "hertz"),
];

/// Units after a slash.
const PER_UNITS: [(&str, &str); 7] =
    [("s", "second"), ("m", "minute"), ("min", "minute"), ("h", "hour"), ("d", "day"), ("w", "week"), ("mo", "month")];

/// `http.server.duration` in `s` becomes `http_server_duration_seconds`; a counter ends in `_total`.
pub(super) fn metric_name(name: &str, unit: &str, kind: Kind) -> String {
    let name = fit(name);
    let parts: Vec<&str> = name.split('_').filter(|part| !part.is_empty()).collect();
    let mut words = parts;
    let unit = unit_words(unit, kind);
    if kind == Kind::Counter {
        words.retain(|word| *word != "total");
    }
    let missing: Vec<&str> = unit.iter().map(String::as_str).filter(|word| !words.contains(word)).collect();
    words.extend(missing);
    if kind == Kind::Counter {
        words.push("total");
    }
    let joined = words.join("_");
    if joined.starts_with(|c: char| c.is_ascii_digit()) { format!("_{joined}") } else { joined }
}

fn unit_words(unit: &str, kind: Kind) -> Vec<String> {
    let (main, per) = unit.split_once('/').map_or((unit, None), |(main, per)| (main, Some(per)));
    let main = match main.trim() {
        "1" if kind == Kind::Gauge => Some("ratio".to_owned()),
        "%" => Some("percent".to_owned()),
        text => plain(text).map(|text| translated(&UNITS, text)),
    };
    let per = per.and_then(|text| plain(text.trim())).map(|text| format!("per_{}", translated(&PER_UNITS, text)));
    main.into_iter().chain(per).flat_map(|words| words.split('_').map(str::to_owned).collect::<Vec<_>>()).collect()
}

/// A unit that may stand in a name; annotations in braces and bare numbers may not.
fn plain(unit: &str) -> Option<&str> {
    let bare = unit.split('{').next().unwrap_or("");
    (!bare.is_empty() && bare != "1" && bare.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_'))
        .then_some(bare)
}

fn translated(units: &[(&str, &str)], unit: &str) -> String {
    units.iter().find(|(code, _)| *code == unit).map_or(unit, |(_, word)| word).to_owned()
}

/// Attributes as labels; values whose names become the same are joined with `;` in order of the original names.
pub(super) fn attribute_labels(attributes: &[KeyValue]) -> BTreeMap<String, String> {
    let mut sorted: Vec<&KeyValue> = attributes.iter().collect();
    sorted.sort_by(|a, b| a.key.cmp(&b.key));
    let mut labels: BTreeMap<String, String> = BTreeMap::new();
    for attribute in sorted.into_iter().filter(|attribute| !attribute.key.is_empty()) {
        let value = attribute.value.as_ref().map(text).unwrap_or_default();
        labels
            .entry(label_name(&attribute.key))
            .and_modify(|joined| *joined = format!("{joined};{value}"))
            .or_insert(value);
    }
    labels
}

fn text(value: &AnyValue) -> String {
    match &value.value {
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::BoolValue(value)) => value.to_string(),
        Some(Value::IntValue(value)) => value.to_string(),
        Some(Value::DoubleValue(value)) => value.to_string(),
        Some(nested) => serde_json::to_string(nested).unwrap_or_default(),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_carry_their_unit_once_and_counters_end_in_total() {
        let cases = [
            ("http.server.duration", "s", Kind::Histogram, "http_server_duration_seconds"),
            ("http.server.duration_seconds", "s", Kind::Histogram, "http_server_duration_seconds"),
            ("requests", "{request}", Kind::Counter, "requests_total"),
            ("requests.total", "1", Kind::Counter, "requests_total"),
            ("cpu.utilization", "1", Kind::Gauge, "cpu_utilization_ratio"),
            ("io.rate", "By/s", Kind::Gauge, "io_rate_bytes_per_second"),
            ("battery", "%", Kind::Gauge, "battery_percent"),
            ("2nd try", "", Kind::Gauge, "_2nd_try"),
            ("temp", "Cel", Kind::Gauge, "temp_celsius"),
        ];
        for (name, unit, kind, expected) in cases {
            assert_eq!(metric_name(name, unit, kind), expected);
        }
    }
}
