//! A fake of InfluxDB 2: no server of that version can be installed from a distribution, so this one follows the public
//! contract. It holds what is written to it and answers the Flux that our store asks, and nothing beyond; some queries
//! are answered with recorded texts. The official clients of Python and JavaScript judge its answers (`tests/senders.rs`).

use std::collections::BTreeMap;
use std::io::Read;
use std::sync::{Arc, Mutex};

use axum::body::{Body, Bytes};
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};

/// The token that it wants to be shown.
pub const TOKEN: &str = "s3cret";
/// Its organisation and its bucket.
pub const ORG: &str = "ops";
pub const BUCKET: &str = "metrics";

/// One series of one field: its tags with `_measurement` and `_field`, and values by nanosecond as they were written.
type Tables = BTreeMap<BTreeMap<String, String>, BTreeMap<i64, String>>;

/// The fake, which other requests share.
#[derive(Clone, Default)]
pub struct Influx2(Arc<Mutex<Held>>);

#[derive(Default)]
struct Held {
    tables: Tables,
    /// Answers by query, and whether the connection breaks after them.
    recorded: BTreeMap<String, (String, bool)>,
}

impl Influx2 {
    /// Answers `query` with `body`; with `cut` the connection breaks off behind it.
    pub fn record(&self, query: &str, body: &str, cut: bool) {
        self.held().recorded.insert(query.to_owned(), (body.to_owned(), cut));
    }

    /// Serves it on a free loopback port.
    pub async fn serve(&self) -> String {
        let router = Router::new()
            .route("/health", get(async || Json(json!({ "name": "influxdb", "status": "pass", "checks": [] }))))
            .route("/ping", get(async || StatusCode::NO_CONTENT))
            .route("/api/v2/buckets", get(buckets))
            .route("/api/v2/write", post(write))
            .route("/api/v2/query", post(query))
            .with_state(self.clone());
        super::http::serve(router).await
    }

    fn held(&self) -> std::sync::MutexGuard<'_, Held> {
        self.0.lock().expect("nobody panicked")
    }
}

fn refusal(status: StatusCode, code: &str, message: &str) -> Response {
    (status, Json(json!({ "code": code, "message": message }))).into_response()
}

fn unauthorized(headers: &HeaderMap) -> Option<Response> {
    let shown = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let good = shown == Some(&format!("Token {TOKEN}"));
    (!good).then(|| refusal(StatusCode::UNAUTHORIZED, "unauthorized", "unauthorized access"))
}

async fn buckets(headers: HeaderMap, Query(asked): Query<BTreeMap<String, String>>) -> Response {
    if let Some(refusal) = unauthorized(&headers) {
        return refusal;
    }
    if asked.get("name").is_some_and(|name| name != BUCKET) {
        return refusal(StatusCode::NOT_FOUND, "not found", "bucket not found");
    }
    let rules = json!([{ "type": "expire", "everySeconds": 2_592_000, "shardGroupDurationSeconds": 86_400 }]);
    let bucket =
        json!({ "id": "0000000000000001", "orgID": "0000000000000002", "name": BUCKET, "retentionRules": rules });
    Json(json!({ "links": { "self": "/api/v2/buckets" }, "buckets": [bucket] })).into_response()
}

async fn write(
    State(influx): State<Influx2>,
    headers: HeaderMap,
    Query(asked): Query<BTreeMap<String, String>>,
    body: Bytes,
) -> Response {
    if let Some(refusal) = unauthorized(&headers) {
        return refusal;
    }
    if (asked["org"].as_str(), asked["bucket"].as_str()) != (ORG, BUCKET) {
        return refusal(StatusCode::NOT_FOUND, "not found", "bucket not found");
    }
    let mut text = String::new();
    let packed = headers.get(header::CONTENT_ENCODING).is_some_and(|encoding| encoding == "gzip");
    let read = if packed {
        flate2::read::GzDecoder::new(&body[..]).read_to_string(&mut text)
    } else {
        (&body[..]).read_to_string(&mut text)
    };
    if read.is_err() {
        return refusal(StatusCode::BAD_REQUEST, "invalid", "the body cannot be read");
    }
    let scale = match asked.get("precision").map_or("ns", String::as_str) {
        "s" => 1_000_000_000,
        "ms" => 1_000_000,
        "us" => 1_000,
        _ => 1,
    };
    let mut bad = Vec::new();
    let mut held = influx.held();
    for line in text.lines() {
        match point(line) {
            Some((tags, field, value, at)) => {
                let mut key = tags;
                key.insert("_field".to_owned(), field);
                held.tables.entry(key).or_default().insert(at * scale, value);
            }
            None => bad.push(line),
        }
    }
    match bad.first() {
        None => StatusCode::NO_CONTENT.into_response(),
        Some(line) => refusal(StatusCode::BAD_REQUEST, "invalid", &format!("unable to parse {line:?}")),
    }
}

/// Tags with `_measurement`, the one field, its value, the time.
fn point(line: &str) -> Option<(BTreeMap<String, String>, String, String, i64)> {
    let parts = split(line, ' ');
    let [key, field, at] = parts.as_slice() else { return None };
    let mut pairs = split(key, ',').into_iter();
    let mut tags = BTreeMap::from([("_measurement".to_owned(), plain(&pairs.next()?))]);
    for pair in pairs {
        let halves = split(&pair, '=');
        let [name, value] = halves.as_slice() else { return None };
        tags.insert(plain(name), plain(value));
    }
    let (field, value) = field.split_once('=')?;
    let is_number = value
        .strip_suffix('i')
        .map_or(value.parse::<f64>().is_ok_and(f64::is_finite), |whole| whole.parse::<i64>().is_ok());
    is_number.then_some(())?;
    Some((tags, field.to_owned(), value.to_owned(), at.parse().ok()?))
}

/// Splits where `by` stands without a backslash before it.
fn split(text: &str, by: char) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        let last = parts.last_mut().expect("one part at least");
        if c == '\\' {
            last.push(c);
            last.extend(chars.next());
        } else if c == by {
            parts.push(String::new());
        } else {
            last.push(c);
        }
    }
    parts
}

fn plain(text: &str) -> String {
    text.replace("\\,", ",").replace("\\ ", " ").replace("\\=", "=")
}

async fn query(
    State(influx): State<Influx2>,
    headers: HeaderMap,
    Query(asked): Query<BTreeMap<String, String>>,
    Json(body): Json<Value>,
) -> Response {
    if let Some(refusal) = unauthorized(&headers) {
        return refusal;
    }
    if asked.get("org").is_none_or(|org| org != ORG) {
        return refusal(StatusCode::NOT_FOUND, "not found", "organization not found");
    }
    let query = body["query"].as_str().unwrap_or_default();
    let held = influx.held();
    let (answer, cut) = match held.recorded.get(query) {
        Some(recorded) => recorded.clone(),
        None => match Flux::parse(query) {
            Some(flux) => (flux.answer(&held.tables), false),
            None => return refusal(StatusCode::BAD_REQUEST, "invalid", &format!("this fake does not know {query}")),
        },
    };
    let kind = [(header::CONTENT_TYPE, "text/csv; charset=utf-8")];
    if !cut {
        return (kind, answer).into_response();
    }
    let part = broken_off(answer);
    (kind, Body::from_stream(part)).into_response()
}

/// What is there, and then the connection breaks.
fn broken_off(text: String) -> impl futures::Stream<Item = Result<String, std::io::Error>> {
    futures::stream::iter([Ok(text), Err(std::io::Error::other("cut off"))])
}

/// The one kind of query that our store asks.
struct Flux<'a> {
    from: i64,
    to: i64,
    filter: &'a str,
    first: bool,
}

impl<'a> Flux<'a> {
    fn parse(query: &'a str) -> Option<Self> {
        let rest = query.strip_prefix(&format!("from(bucket: \"{BUCKET}\")\n  |> range(start: "))?;
        let (from, rest) = rest.split_once(", stop: ")?;
        let (to, rest) = rest.split_once(")\n  |> filter(fn: (r) => ")?;
        let (filter, first) = match rest.strip_suffix(")\n  |> first()") {
            Some(filter) => (filter, true),
            None => (rest.strip_suffix(')')?, false),
        };
        let nanos = |text: &str| Some(text.parse::<jiff::Timestamp>().ok()?.as_nanosecond() as i64);
        Some(Self { from: nanos(from)?, to: nanos(to)?, filter, first })
    }

    fn answer(&self, tables: &Tables) -> String {
        let mut out = String::new();
        let mut columns: Vec<&str> = Vec::new();
        for (number, (key, points)) in tables.iter().filter(|(key, _)| self.lets_through(key)).enumerate() {
            let points: Vec<_> = points.range(self.from..self.to.max(self.from)).collect();
            let points = &points[..if self.first { points.len().min(1) } else { points.len() }];
            if points.is_empty() {
                continue;
            }
            let now: Vec<&str> = key.keys().map(String::as_str).collect();
            let whole = points[0].1.ends_with('i');
            if now != columns {
                begin(&mut out, &now, whole);
                columns = now;
            }
            for (at, value) in points {
                let at = jiff::Timestamp::from_nanosecond(i128::from(**at)).expect("a time");
                let value = value.trim_end_matches('i');
                out.push_str(&format!(",,{number},{at},{value}"));
                key.values().for_each(|cell| out.push_str(&format!(",{}", quoted(cell))));
                out.push_str("\r\n");
            }
            if whole {
                columns.clear(); // the type of the values changes with the field
            }
        }
        out + "\r\n"
    }

    fn lets_through(&self, key: &BTreeMap<String, String>) -> bool {
        let mut parser = Parser { rest: self.filter, key };
        let holds = parser.any();
        assert!(parser.rest.is_empty(), "not understood: {}", parser.rest);
        holds
    }
}

fn begin(out: &mut String, columns: &[&str], whole: bool) {
    if !out.is_empty() {
        out.push_str("\r\n");
    }
    let number = if whole { "long" } else { "double" };
    let strings = ",string".repeat(columns.len());
    out.push_str(&format!("#datatype,string,long,dateTime:RFC3339,{number}{strings}\r\n"));
    out.push_str(&format!("#group,false,false,false,false{}\r\n", ",true".repeat(columns.len())));
    out.push_str(&format!("#default,_result,,,{}\r\n", ",".repeat(columns.len())));
    out.push_str(&format!(",result,table,_time,_value,{}\r\n", columns.join(",")));
}

fn quoted(cell: &str) -> String {
    if cell.contains([',', '"', '\n', '\r']) { format!("\"{}\"", cell.replace('"', "\"\"")) } else { cell.to_owned() }
}

/// Conditions over the columns of a table: `and`, `or`, `not exists`, `exists`, comparisons with texts and patterns.
struct Parser<'a> {
    rest: &'a str,
    key: &'a BTreeMap<String, String>,
}

impl Parser<'_> {
    fn any(&mut self) -> bool {
        let mut holds = self.every();
        while self.skip(" or ") {
            holds |= self.every();
        }
        holds
    }

    fn every(&mut self) -> bool {
        let mut holds = self.one();
        while self.skip(" and ") {
            holds &= self.one();
        }
        holds
    }

    fn one(&mut self) -> bool {
        if self.skip("(") {
            let holds = self.any();
            assert!(self.skip(")"), "no end: {}", self.rest);
            return holds;
        }
        if self.skip("not exists ") {
            return self.column().is_none();
        }
        if self.skip("exists ") {
            return self.column().is_some();
        }
        let column = self.column();
        // a comparison with what is absent is null, which lets nothing through
        for (operator, equal) in [(" == ", true), (" != ", false)] {
            if self.skip(operator) {
                let text = self.text();
                return column.is_some_and(|value| (value == text) == equal);
            }
        }
        for (operator, matching) in [(" =~ ", true), (" !~ ", false)] {
            if self.skip(operator) {
                let pattern = self.pattern();
                return column.is_some_and(|value| pattern.is_match(&value) == matching);
            }
        }
        panic!("not understood: {}", self.rest);
    }

    fn skip(&mut self, text: &str) -> bool {
        let rest = self.rest.strip_prefix(text);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn column(&mut self) -> Option<String> {
        let name = if self.skip("r[") {
            let name = self.text();
            assert!(self.skip("]"), "no end: {}", self.rest);
            name
        } else {
            assert!(self.skip("r."), "no column: {}", self.rest);
            let end = self.rest.find(' ').unwrap_or(self.rest.len());
            let (name, rest) = self.rest.split_at(end);
            self.rest = rest;
            name.to_owned()
        };
        self.key.get(&name).cloned()
    }

    fn text(&mut self) -> String {
        assert!(self.skip("\""), "no text: {}", self.rest);
        let mut out = String::new();
        loop {
            let c = self.next();
            match c {
                '"' => return out,
                '\\' => match self.next() {
                    'n' => out.push('\n'),
                    'r' => out.push('\r'),
                    't' => out.push('\t'),
                    'x' => {
                        let code = [self.next(), self.next()].iter().collect::<String>();
                        out.push(char::from(u8::from_str_radix(&code, 16).expect("two digits")));
                    }
                    c => out.push(c),
                },
                c => out.push(c),
            }
        }
    }

    fn pattern(&mut self) -> regex::Regex {
        assert!(self.skip("/"), "no pattern: {}", self.rest);
        let mut out = String::new();
        loop {
            match self.next() {
                '/' => return regex::Regex::new(&out).expect("a pattern"),
                '\\' => match self.next() {
                    '/' => out.push('/'),
                    c => out.extend(['\\', c]),
                },
                c => out.push(c),
            }
        }
    }

    fn next(&mut self) -> char {
        let c = self.rest.chars().next().expect("more of the query");
        self.rest = &self.rest[c.len_utf8()..];
        c
    }
}
