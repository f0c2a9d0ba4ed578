//! The replies of the query API, written by hand: they may hold millions of numbers.

use std::error::Error;
use std::fmt::Write as _;

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use bellwether_models::series::{Labels, Sample, Timestamp};

use crate::query::number::write_sample_value;
use crate::query::{ErrorKind, InstantSample, Matrix, QueryError, Value};

/// A successful answer.
pub(super) struct Reply(String);

impl Reply {
    /// With `data` as it stands, which is JSON.
    pub fn data(data: &str) -> Self {
        Self(format!(r#"{{"status":"success","data":{data}}}"#))
    }

    /// With `data` as JSON.
    pub fn json(data: &impl serde::Serialize) -> Self {
        Self::data(&serde_json::to_string(data).unwrap_or_else(|_| "null".to_owned()))
    }

    /// With warnings, where there are any.
    pub fn with_warnings(mut self, warnings: &[String]) -> Self {
        if !warnings.is_empty() {
            self.0.pop();
            self.0.push_str(r#","warnings":"#);
            write_list(&mut self.0, warnings, |out, warning| write_text(out, warning));
            self.0.push('}');
        }
        self
    }
}

impl IntoResponse for Reply {
    fn into_response(self) -> Response {
        ([(header::CONTENT_TYPE, "application/json")], self.0).into_response()
    }
}

/// An answer that says why there is none.
pub(super) struct Failure {
    kind: ErrorKind,
    error: String,
}

impl Failure {
    pub fn bad_data(error: &str) -> Self {
        Self { kind: ErrorKind::BadData, error: error.to_owned() }
    }

    pub fn bad_parameter(name: &str, why: &str) -> Self {
        Self::bad_data(&format!("invalid parameter {name:?}: {why}"))
    }

    pub fn about(name: &str, error: QueryError) -> Self {
        Self { kind: error.kind(), error: format!("invalid parameter {name:?}: {error}") }
    }
}

impl From<QueryError> for Failure {
    fn from(error: QueryError) -> Self {
        let mut text = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            put(&mut text, format_args!(": {error}"));
            cause = error.source();
        }
        Self { kind: error.kind(), error: text }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let (status, kind) = match self.kind {
            ErrorKind::BadData => (StatusCode::BAD_REQUEST, "bad_data"),
            ErrorKind::Execution => (StatusCode::UNPROCESSABLE_ENTITY, "execution"),
            ErrorKind::Timeout => (StatusCode::SERVICE_UNAVAILABLE, "timeout"),
            ErrorKind::Internal => (StatusCode::INTERNAL_SERVER_ERROR, "internal"),
        };
        let mut body = format!(r#"{{"status":"error","errorType":"{kind}","error":"#);
        write_text(&mut body, &self.error);
        body.push('}');
        (status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
    }
}

/// The answer to an instant query made at `at`.
pub(super) fn value(value: &Value, at: Timestamp) -> Reply {
    match value {
        Value::Scalar(number) => result("scalar", |out| write_point(out, at, *number)),
        Value::Text(text) => result("string", |out| write_text_point(out, at, text)),
        Value::Vector(elements) => {
            result("vector", |out| write_list(out, elements, |out, element| write_element(out, element, at)))
        }
        Value::Matrix(series) => matrix(series),
    }
}

/// About as long as a point is in a reply.
const BYTES_A_POINT: usize = 24;

/// The answer to a range query.
pub(super) fn matrix(matrix: &Matrix) -> Reply {
    let points: usize = matrix.iter().map(|series| series.samples.len()).sum();
    result("matrix", |out| {
        out.reserve(points.saturating_mul(BYTES_A_POINT));
        write_list(out, matrix, |out, series| {
            out.push_str(r#"{"metric":"#);
            write_labels(out, &series.labels);
            out.push_str(r#","values":"#);
            write_list(out, &series.samples, |out, Sample { at, value }| write_point(out, *at, *value));
            out.push('}');
        });
    })
}

/// A list of label sets.
pub(super) fn series(series: &[Labels]) -> Reply {
    let mut data = String::new();
    write_list(&mut data, series, write_labels);
    Reply::data(&data)
}

/// A list of texts.
pub(super) fn texts(texts: Vec<&str>) -> Reply {
    let mut data = String::new();
    write_list(&mut data, texts, write_text);
    Reply::data(&data)
}

/// What this server is.
pub(super) fn build_info(version: &str) -> Reply {
    Reply::data(&format!(
        r#"{{"version":"{version}","revision":"","branch":"","buildUser":"","buildDate":"","goVersion":""}}"#
    ))
}

fn result(kind: &str, write: impl FnOnce(&mut String)) -> Reply {
    let mut out = format!(r#"{{"status":"success","data":{{"resultType":"{kind}","result":"#);
    write(&mut out);
    out.push_str("}}");
    Reply(out)
}

fn write_list<T>(out: &mut String, items: impl IntoIterator<Item = T>, write: impl Fn(&mut String, T)) {
    out.push('[');
    for (index, item) in items.into_iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        write(out, item);
    }
    out.push(']');
}

fn write_element(out: &mut String, element: &InstantSample, at: Timestamp) {
    out.push_str(r#"{"metric":"#);
    write_labels(out, &element.labels);
    out.push_str(r#","value":"#);
    write_point(out, at, element.value);
    out.push('}');
}

fn write_labels(out: &mut String, labels: &Labels) {
    out.push('{');
    for (index, (name, value)) in labels.iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        write_text(out, name);
        out.push(':');
        write_text(out, value);
    }
    out.push('}');
}

fn write_point(out: &mut String, at: Timestamp, value: f64) {
    out.push('[');
    write_time(out, at);
    out.push_str(",\"");
    write_sample_value(out, value);
    out.push_str("\"]");
}

fn write_text_point(out: &mut String, at: Timestamp, text: &str) {
    out.push('[');
    write_time(out, at);
    out.push(',');
    write_text(out, text);
    out.push(']');
}

/// Seconds, with milliseconds only where there are any.
fn write_time(out: &mut String, at: Timestamp) {
    let millis = at.as_millis();
    if millis < 0 {
        out.push('-');
    }
    let (seconds, fraction) = (millis.unsigned_abs() / 1000, millis.unsigned_abs() % 1000);
    out.push_str(itoa::Buffer::new().format(seconds));
    if fraction != 0 {
        put(out, format_args!(".{fraction:03}"));
    }
}

/// A JSON string. Most label values need no escape and are copied whole.
fn write_text(out: &mut String, text: &str) {
    if text.bytes().all(|b| b >= 0x20 && b != b'"' && b != b'\\') {
        out.push('"');
        out.push_str(text);
        out.push('"');
    } else {
        out.push_str(&serde_json::Value::from(text).to_string());
    }
}

fn put(out: &mut String, text: std::fmt::Arguments<'_>) {
    let written = out.write_fmt(text);
    debug_assert!(written.is_ok(), "a text can grow");
}
