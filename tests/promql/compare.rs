//! Whether two answers of the query API say the same.

use std::collections::BTreeMap;

use serde_json::Value;

/// Greatest relative difference of two numbers that count as equal.
const TOLERANCE: f64 = 1e-9;

/// What an answer says, in a form that can be compared.
#[derive(Debug, PartialEq)]
pub enum Answer {
    Refused { status: u16, kind: String },
    Given { result_type: String, series: Vec<(String, Vec<(String, f64)>)> },
    Text(String),
}

impl Answer {
    pub fn read(status: u16, body: &Value) -> Self {
        if body["status"] != "success" {
            return Self::Refused { status, kind: body["errorType"].as_str().unwrap_or_default().to_owned() };
        }
        let (result_type, result) = (body["data"]["resultType"].as_str().unwrap_or_default(), &body["data"]["result"]);
        let series = match result_type {
            "string" => return Self::Text(result[1].as_str().unwrap_or_default().to_owned()),
            "scalar" => vec![(String::new(), vec![point(result)])],
            _ => result.as_array().into_iter().flatten().map(one_series).collect(),
        };
        Self::Given { result_type: result_type.to_owned(), series }
    }

    /// What is different, if anything. The order of series counts when `ordered`.
    pub fn difference(&self, other: &Self, ordered: bool) -> Option<String> {
        match (self, other) {
            (Self::Given { result_type: a, series: ours }, Self::Given { result_type: b, series: theirs }) => {
                if a != b {
                    return Some(format!("type {a}, not {b}"));
                }
                if ordered && !has_equals(theirs) && !ours.iter().map(|s| &s.0).eq(theirs.iter().map(|s| &s.0)) {
                    return Some("another order".to_owned());
                }
                let (ours, theirs) = (by_labels(ours), by_labels(theirs));
                let surplus = ours.keys().find(|key| !theirs.contains_key(*key)).map(|key| format!("surplus {key}"));
                surplus.or_else(|| {
                    theirs.iter().find_map(|(key, theirs)| difference_of(key, ours.get(key).copied(), theirs))
                })
            }
            (ours, theirs) => (ours != theirs).then(|| format!("{ours:?}, not {theirs:?}")),
        }
    }

    /// Whether it holds at least one number.
    pub fn holds_numbers(&self) -> bool {
        matches!(self, Self::Given { series, .. } if !series.is_empty())
    }
}

type Points = [(String, f64)];

/// Whether some elements have no order among them: equal ones, and NaNs.
fn has_equals(series: &[(String, Vec<(String, f64)>)]) -> bool {
    let values: Vec<f64> = series.iter().flat_map(|(_, points)| points.iter().map(|(_, value)| *value)).collect();
    let same = |a: f64, b: f64| a == b || a.is_nan() && b.is_nan();
    values.iter().enumerate().any(|(index, a)| values[..index].iter().any(|b| same(*a, *b)))
}

fn by_labels(series: &[(String, Vec<(String, f64)>)]) -> BTreeMap<&str, &Points> {
    let map: BTreeMap<_, _> = series.iter().map(|(labels, points)| (labels.as_str(), points.as_slice())).collect();
    assert_eq!(map.len(), series.len(), "a series occurs twice");
    map
}

fn difference_of(key: &str, ours: Option<&Points>, theirs: &Points) -> Option<String> {
    let Some(ours) = ours else { return Some(format!("missing {key}")) };
    if !ours.iter().map(|p| &p.0).eq(theirs.iter().map(|p| &p.0)) {
        let only = |a: &Points, b: &Points| a.iter().find(|p| b.iter().all(|q| q.0 != p.0)).map(|p| p.0.clone());
        return Some(format!(
            "{key}: times differ, only ours {:?}, only theirs {:?}",
            only(ours, theirs),
            only(theirs, ours)
        ));
    }
    let wrong = ours.iter().zip(theirs).find(|(a, b)| !close(a.1, b.1))?;
    Some(format!("{key} at {}: {:e}, not {:e}", wrong.0.0, wrong.0.1, wrong.1.1))
}

fn close(a: f64, b: f64) -> bool {
    a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= TOLERANCE * a.abs().max(b.abs())
}

fn one_series(series: &Value) -> (String, Vec<(String, f64)>) {
    let points = match series.get("value") {
        Some(one) => vec![point(one)],
        None => series["values"].as_array().into_iter().flatten().map(point).collect(),
    };
    (series["metric"].to_string(), points)
}

fn point(point: &Value) -> (String, f64) {
    (point[0].to_string(), point[1].as_str().and_then(|text| text.parse().ok()).expect("a number"))
}
