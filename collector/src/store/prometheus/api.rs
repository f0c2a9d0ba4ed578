//! The query API of Prometheus, as a client of it: what is asked, and what an answer says. Pure.
//!
//! Source: the HTTP API page of the Prometheus documentation.

use std::borrow::Cow;

use bellwether_models::series::{Labels, METRIC_NAME, Sample, Timestamp};
use serde::Deserialize;

use crate::query::{ErrorKind, InstantSample, Matrix, Value};
use crate::store::{MatchOp, Matcher, SeriesSamples, TimeRange};

/// Times that every server understands: from 1970 to 2200; to VictoriaMetrics 0 is no time at all.
const EVER: TimeRange = TimeRange { from: Timestamp::from_millis(1), to: Timestamp::from_secs(230 * 365 * 86_400) };

/// The answer of the server to anything.
#[derive(Debug, Deserialize)]
pub(super) struct Reply<T> {
    status: Cow<'static, str>,
    #[serde(default = "Option::default")]
    data: Option<T>,
    #[serde(default, rename = "errorType")]
    error_type: String,
    #[serde(default)]
    error: String,
    /// What the server wants to have said beside the answer.
    #[serde(default)]
    pub warnings: Vec<String>,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub kind: ErrorKind,
    pub detail: String,
}

impl<T> Reply<T> {
    /// The data, or what the server says is wrong.
    pub fn data(self) -> Result<T, Fault> {
        match self.data {
            Some(data) if self.status == "success" => Ok(data),
            _ => Err(Fault { kind: kind(&self.error_type), detail: self.error }),
        }
    }
}

fn kind(error_type: &str) -> ErrorKind {
    match error_type {
        "bad_data" => ErrorKind::BadData,
        "execution" | "422" | "" => ErrorKind::Execution,
        "timeout" | "canceled" => ErrorKind::Timeout,
        _ => ErrorKind::Internal,
    }
}

/// The result of a query.
#[derive(Debug, Deserialize)]
#[serde(tag = "resultType", content = "result", rename_all = "lowercase")]
pub(super) enum Found {
    Vector(Vec<Element>),
    Matrix(Vec<Stretch>),
    Scalar(Point),
    String((f64, String)),
}

#[derive(Debug, Deserialize)]
pub(super) struct Element {
    #[serde(default)]
    metric: Labels,
    value: Point,
}

#[derive(Debug, Deserialize)]
pub(super) struct Stretch {
    #[serde(default)]
    metric: Labels,
    values: Vec<Point>,
}

/// A time in seconds and a value in Go's notation.
#[derive(Debug, Deserialize)]
#[serde(try_from = "(f64, Cow<'_, str>)")]
pub(super) struct Point(Sample);

impl TryFrom<(f64, Cow<'_, str>)> for Point {
    type Error = String;

    fn try_from((seconds, text): (f64, Cow<'_, str>)) -> Result<Self, String> {
        let at = Timestamp::from_secs_f64(seconds).ok_or_else(|| format!("{seconds} is no time"))?;
        let value = text.parse().map_err(|_| format!("{text:?} is no number"))?;
        Ok(Self(Sample { at, value }))
    }
}

impl Found {
    /// As the answer to an instant query.
    pub fn into_value(self) -> Value {
        match self {
            Self::Scalar(point) => Value::Scalar(point.0.value),
            Self::String((_, text)) => Value::Text(text),
            Self::Vector(elements) => Value::Vector(
                elements.into_iter().map(|e| InstantSample { labels: e.metric, value: e.value.0.value }).collect(),
            ),
            Self::Matrix(stretches) => Value::Matrix(series(stretches)),
        }
    }

    /// As the answer to a range query, or to a range selector.
    pub fn into_matrix(self) -> Option<Matrix> {
        match self {
            Self::Matrix(stretches) => Some(series(stretches)),
            _ => None,
        }
    }
}

/// In order of labels, each ascending in time: a server may hold a sample twice.
fn series(stretches: Vec<Stretch>) -> Matrix {
    let one = |stretch: Stretch| {
        let mut samples: Vec<Sample> = stretch.values.into_iter().map(|point| point.0).collect();
        samples.sort_by_key(|sample| sample.at);
        samples.dedup_by_key(|sample| sample.at);
        SeriesSamples { labels: stretch.metric, samples }
    };
    let mut all: Matrix = stretches.into_iter().map(one).collect();
    all.sort_by(|a, b| a.labels.cmp(&b.labels));
    all
}

/// `{name="value",…}`; all series where nothing is asked.
pub(super) fn selector(matchers: &[Matcher]) -> String {
    let one = |matcher: &Matcher| {
        let op = match matcher.op {
            MatchOp::Equal => "=",
            MatchOp::NotEqual => "!=",
            MatchOp::Regex(_) => "=~",
            MatchOp::NotRegex(_) => "!~",
        };
        format!("{}{op}{}", matcher.name, quoted(&matcher.value))
    };
    let mut all: Vec<String> = matchers.iter().map(one).collect();
    // a selector must have a matcher that does not match the empty text
    if !matchers.iter().any(|matcher| !matcher.matches_value("")) {
        all.push(format!("{METRIC_NAME}!=\"\""));
    }
    format!("{{{}}}", all.join(","))
}

fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// A range selector and the instant at which it covers `range`; `None` when the server can hold nothing there.
pub(super) fn range_selector(matchers: &[Matcher], range: TimeRange) -> Option<(String, Timestamp)> {
    let range = within_ever(range)?;
    // One millisecond more: some servers leave out the sample at the very start.
    let length = range.to.since(range.from).as_millis() + 1;
    Some((format!("{}[{length}ms]", selector(matchers)), range.to))
}

/// The part of `range` that servers understand.
pub(super) fn within_ever(range: TimeRange) -> Option<TimeRange> {
    let range = TimeRange { from: range.from.max(EVER.from), to: range.to.min(EVER.to) };
    (range.from <= range.to).then_some(range)
}

/// Seconds, as the server reads them.
pub(super) fn seconds(at: Timestamp) -> String {
    at.as_secs_f64().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(json: &str) -> Result<Value, Fault> {
        serde_json::from_str::<Reply<Found>>(json).unwrap().data().map(Found::into_value)
    }

    #[test]
    fn every_kind_of_result_is_read() {
        let vector = r#"{"status":"success","data":{"resultType":"vector","result":[
            {"metric":{"__name__":"up","job":"a"},"value":[1700000000.123,"+Inf"]},{"metric":{},"value":[1,"1e+06"]}]}}"#;
        let Ok(Value::Vector(elements)) = found(vector) else { panic!("no vector") };
        assert_eq!((elements[0].value, elements[1].value), (f64::INFINITY, 1e6));
        assert_eq!(elements[0].labels, Labels::metric("up").with("job", "a"));
        let matrix = r#"{"status":"success","data":{"resultType":"matrix","result":[
            {"metric":{"a":"b"},"values":[[2,"2"],[1.5,"NaN"],[2,"3"]]},{"metric":{"a":"a"},"values":[[1,"1"]]}]}}"#;
        let Ok(Value::Matrix(matrix)) = found(matrix) else { panic!("no matrix") };
        assert_eq!(matrix[0].labels, Labels::new([("a", "a")]));
        let times: Vec<i64> = matrix[1].samples.iter().map(|sample| sample.at.as_millis()).collect();
        assert_eq!((times, matrix[1].samples[1].value), (vec![1500, 2000], 2.0));
        let scalar = r#"{"status":"success","data":{"resultType":"scalar","result":[1,"-3"]}}"#;
        assert_eq!(found(scalar), Ok(Value::Scalar(-3.0)));
        let text = r#"{"status":"success","data":{"resultType":"string","result":[1,"x"]}}"#;
        assert_eq!(found(text), Ok(Value::Text("x".to_owned())));
    }

    #[test]
    fn an_error_keeps_its_kind_and_words() {
        let fault = found(r#"{"status":"error","errorType":"bad_data","error":"parse error"}"#).unwrap_err();
        assert_eq!(fault, Fault { kind: ErrorKind::BadData, detail: "parse error".to_owned() });
    }

    #[test]
    fn a_selector_says_what_the_matchers_mean() {
        let matchers = [
            Matcher::equal("a", "x\"\\\n"),
            Matcher::not_equal("b", ""),
            Matcher::regex("c", "1|2").unwrap(),
            Matcher::not_regex("d", ".+").unwrap(),
        ];
        assert_eq!(selector(&matchers), r#"{a="x\"\\\n",b!="",c=~"1|2",d!~".+"}"#);
        assert_eq!(selector(&[]), r#"{__name__!=""}"#);
        assert_eq!(selector(&[Matcher::equal("a", "")]), r#"{a="",__name__!=""}"#);
        let range = TimeRange { from: Timestamp::from_secs(10), to: Timestamp::from_secs(20) };
        let (text, at) = range_selector(&matchers[1..2], range).unwrap();
        assert_eq!((text.as_str(), at), (r#"{b!=""}[10001ms]"#, Timestamp::from_secs(20)));
        let before = TimeRange { from: Timestamp::MIN, to: Timestamp::from_secs(-1) };
        assert!(range_selector(&[], before).is_none());
    }
}
