//! Reader of the text that exporters serve: Prometheus text 0.0.4 and OpenMetrics 1.0.
//!
//! The text is read in place. A sample carries the text of its series (`name{a="1"}`) so that a caller who has seen it
//! before need not take it apart again; [`series_labels`] does that. A text is good as a whole or bad as a whole:
//! the first error ends the reading, as in Prometheus.
//!
//! Source: the format descriptions of the Prometheus and OpenMetrics projects.

use std::borrow::Cow;

use bellwether_models::series::{METRIC_NAME, Timestamp};

use crate::ingest::{is_label_name, is_metric_name};

/// Which of the two text formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Prometheus text 0.0.4: timestamps in milliseconds.
    Prometheus,
    /// OpenMetrics 1.0: timestamps in seconds, exemplars, `# EOF` at the end.
    OpenMetrics,
}

impl Format {
    /// The format a `Content-Type` announces; Prometheus text unless it says otherwise.
    #[must_use]
    pub fn of_content_type(content_type: &str) -> Self {
        let kind = content_type.split(';').next().unwrap_or("").trim();
        if kind.eq_ignore_ascii_case("application/openmetrics-text") { Self::OpenMetrics } else { Self::Prometheus }
    }
}

/// One sample, borrowed from the text.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Exposed<'a> {
    /// The series as it stands in the text.
    pub series: &'a str,
    /// Its value; every NaN is the one Prometheus stores.
    pub value: f64,
    /// Its timestamp, where the exporter gave one.
    pub at: Option<Timestamp>,
    /// The line it stands on, from 1.
    pub line: usize,
    /// Whether an exemplar stands behind it; it is passed over.
    pub exemplar: bool,
}

/// What a line says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Entry<'a> {
    /// A sample.
    Sample(Exposed<'a>),
    /// `# TYPE`, `# HELP` or `# UNIT` of a metric.
    Metadata {
        /// The metric family.
        metric: &'a str,
        /// Which of the three.
        kind: MetadataKind,
        /// The type, help text (still escaped) or unit.
        text: &'a str,
    },
}

/// What is told about a metric family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetadataKind {
    /// counter, gauge, histogram, …
    Type,
    /// A sentence for people.
    Help,
    /// Its unit.
    Unit,
}

/// Why a text is not an exposition.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {problem}")]
pub struct ExpositionError {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub problem: Problem,
}

/// What is wrong with a line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// Bytes that are not UTF-8.
    #[error("not valid UTF-8")]
    NotUtf8,
    /// No metric name where one must stand.
    #[error("expected a metric name, found {0:?}")]
    MetricName(String),
    /// No label name where one must stand.
    #[error("expected a label name, found {0:?}")]
    LabelName(String),
    /// No `="…"` after a label name.
    #[error("expected a quoted value after the label {0:?}")]
    LabelValue(String),
    /// The braces or a quoted value do not end on the line.
    #[error("the labels do not end")]
    OpenLabels,
    /// A label stands twice.
    #[error("the label {0:?} stands twice")]
    DuplicateLabel(String),
    /// No number after the series.
    #[error("expected a value, found {0:?}")]
    Value(String),
    /// No timestamp where only one may stand.
    #[error("expected a timestamp, found {0:?}")]
    Timestamp(String),
    /// Something after the end of the sample.
    #[error("expected the end of the line, found {0:?}")]
    Trailing(String),
    /// A type no exporter may announce.
    #[error("{0:?} is not a metric type")]
    MetricType(String),
    /// OpenMetrics without its last line.
    #[error("the text does not end with # EOF: it was cut off")]
    NoEof,
    /// OpenMetrics with something after its last line.
    #[error("there is text after # EOF")]
    AfterEof,
}

/// Reads `body` line by line.
///
/// # Errors
/// The iterator yields one [`ExpositionError`] and ends; here, when the bytes are not UTF-8.
pub fn read(body: &[u8], format: Format) -> Result<Entries<'_>, ExpositionError> {
    let text = std::str::from_utf8(body).map_err(|error| ExpositionError {
        line: 1 + body[..error.valid_up_to()].iter().filter(|byte| **byte == b'\n').count(),
        problem: Problem::NotUtf8,
    })?;
    Ok(Entries { rest: text, line: 0, format, state: State::Reading })
}

/// The entries of one text; see [`read`].
#[derive(Clone, Debug)]
pub struct Entries<'a> {
    rest: &'a str,
    line: usize,
    format: Format,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Reading,
    SeenEof,
    Done,
}

impl<'a> Iterator for Entries<'a> {
    type Item = Result<Entry<'a>, ExpositionError>;

    fn next(&mut self) -> Option<Self::Item> {
        while let Some(line) = self.next_line() {
            match self.read_line(line) {
                Ok(None) => {}
                Ok(Some(entry)) => return Some(Ok(entry)),
                Err(problem) => return Some(Err(self.fail(problem))),
            }
        }
        let cut_off = self.format == Format::OpenMetrics && self.state == State::Reading;
        (cut_off).then(|| Err(self.fail(Problem::NoEof)))
    }
}

impl<'a> Entries<'a> {
    fn next_line(&mut self) -> Option<&'a str> {
        if self.state == State::Done || self.rest.is_empty() {
            return None;
        }
        self.line += 1;
        let end = memchr::memchr(b'\n', self.rest.as_bytes()).unwrap_or(self.rest.len());
        let line = &self.rest[..end];
        self.rest = self.rest.get(end + 1..).unwrap_or("");
        Some(line)
    }

    fn fail(&mut self, problem: Problem) -> ExpositionError {
        self.state = State::Done;
        ExpositionError { line: self.line.max(1), problem }
    }

    fn read_line(&mut self, line: &'a str) -> Result<Option<Entry<'a>>, Problem> {
        if self.state == State::SeenEof {
            return Err(Problem::AfterEof);
        }
        let line = trim_start(line);
        match line.as_bytes().first() {
            None => Ok(None),
            Some(b'#') if self.format == Format::OpenMetrics && line == "# EOF" => {
                self.state = State::SeenEof;
                Ok(None)
            }
            Some(b'#') => read_comment(&line[1..]),
            Some(_) => read_sample(line, self.format, self.line).map(|sample| Some(Entry::Sample(sample))),
        }
    }
}

/// Name and value of a label, borrowed unless escapes were undone.
pub type LabelPair<'a> = (Cow<'a, str>, Cow<'a, str>);

/// Takes a series' text apart: the metric's name as [`METRIC_NAME`], then its labels in the order of the text.
///
/// # Errors
/// [`Problem`] when it is not `name{a="1",b="2"}`.
pub fn series_labels(series: &str) -> Result<Vec<LabelPair<'_>>, Problem> {
    let name_end = series.find(['{', ' ', '\t']).unwrap_or(series.len());
    let (name, rest) = series.split_at(name_end);
    if !is_metric_name(name) {
        return Err(Problem::MetricName(shown(series)));
    }
    let mut labels = vec![(Cow::Borrowed(METRIC_NAME), Cow::Borrowed(name))];
    match trim_start(rest) {
        "" => {}
        braced => {
            let inside = braced.strip_prefix('{').ok_or_else(|| Problem::Trailing(shown(braced)))?;
            read_labels(inside.strip_suffix('}').ok_or(Problem::OpenLabels)?, &mut labels)?;
        }
    }
    refuse_duplicates(&labels)?;
    Ok(labels)
}

fn read_labels<'a>(inside: &'a str, labels: &mut Vec<LabelPair<'a>>) -> Result<(), Problem> {
    let mut rest = trim_start(inside);
    while !rest.is_empty() {
        let (name, after) = rest.split_once('=').ok_or_else(|| Problem::LabelName(shown(rest)))?;
        let name = trim_end(name);
        if !is_label_name(name) {
            return Err(Problem::LabelName(shown(rest)));
        }
        let quoted = trim_start(after).strip_prefix('"').ok_or_else(|| Problem::LabelValue(shown(name)))?;
        let end = end_of_quoted(quoted.as_bytes()).ok_or(Problem::OpenLabels)?;
        labels.push((Cow::Borrowed(name), unescape(&quoted[..end])));
        rest = trim_start(&quoted[end + 1..]);
        rest = match rest.strip_prefix(',') {
            Some(next) => trim_start(next),
            None if rest.is_empty() => rest,
            None => return Err(Problem::LabelName(shown(rest))),
        };
    }
    Ok(())
}

fn refuse_duplicates(labels: &[LabelPair<'_>]) -> Result<(), Problem> {
    for (index, (name, _)) in labels.iter().enumerate() {
        if labels[..index].iter().any(|(earlier, _)| earlier == name) {
            return Err(Problem::DuplicateLabel(shown(name)));
        }
    }
    Ok(())
}

fn read_sample(line: &str, format: Format, number: usize) -> Result<Exposed<'_>, Problem> {
    let series_end = end_of_series(line)?;
    let (series, rest) = line.split_at(series_end);
    let (value_text, rest) = next_word(trim_start(rest));
    let value = read_value(value_text)?;
    let (at, exemplar) = match format {
        Format::Prometheus => (read_millis(rest)?, false),
        Format::OpenMetrics => read_seconds(rest)?,
    };
    Ok(Exposed { series, value, at, line: number, exemplar })
}

/// Where the series' text ends: after the name, or after the closing brace.
fn end_of_series(line: &str) -> Result<usize, Problem> {
    let bytes = line.as_bytes();
    let name_end = memchr::memchr3(b'{', b' ', b'\t', bytes).unwrap_or(bytes.len());
    let brace = name_end + (line.len() - name_end - trim_start(&line[name_end..]).len());
    if name_end == 0 || bytes.get(brace) != Some(&b'{') {
        return if name_end == 0 { Err(Problem::MetricName(shown(line))) } else { Ok(name_end) };
    }
    let mut at = brace + 1;
    loop {
        let found = memchr::memchr2(b'"', b'}', &bytes[at..]).ok_or(Problem::OpenLabels)?;
        at += found + 1;
        if bytes[at - 1] == b'}' {
            return Ok(at);
        }
        at += end_of_quoted(&bytes[at..]).ok_or(Problem::OpenLabels)? + 1;
    }
}

/// Index of the quote that ends a value whose opening quote stands just before `bytes`.
fn end_of_quoted(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        at += memchr::memchr2(b'"', b'\\', bytes.get(at..)?)?;
        if bytes[at] == b'"' {
            return Some(at);
        }
        at += 2;
    }
}

/// Undoes the escapes of a label value or a help text.
pub(crate) fn unescape(text: &str) -> Cow<'_, str> {
    if !text.contains('\\') {
        return Cow::Borrowed(text);
    }
    let (mut plain, mut chars) = (String::with_capacity(text.len()), text.chars());
    while let Some(c) = chars.next() {
        match (c, if c == '\\' { chars.next() } else { None }) {
            ('\\', Some('n')) => plain.push('\n'),
            ('\\', Some(escaped @ ('\\' | '"'))) => plain.push(escaped),
            ('\\', Some(other)) => plain.extend(['\\', other]),
            (c, _) => plain.push(c),
        }
    }
    Cow::Owned(plain)
}

/// The NaN that Prometheus stores for a scraped NaN; other bits are left to staleness markers.
const NORMAL_NAN_BITS: u64 = 0x7ff8_0000_0000_0001;

fn read_value(text: &str) -> Result<f64, Problem> {
    let value: f64 = text.parse().map_err(|_| Problem::Value(shown(text)))?;
    let overflowed = value.is_infinite() && text.bytes().any(|byte| byte.is_ascii_digit());
    match value {
        _ if overflowed => Err(Problem::Value(shown(text))),
        value if value.is_nan() => Ok(f64::from_bits(NORMAL_NAN_BITS)),
        value => Ok(value),
    }
}

fn read_millis(rest: &str) -> Result<Option<Timestamp>, Problem> {
    let (text, rest) = next_word(trim_start(rest));
    if text.is_empty() {
        return Ok(None);
    }
    let millis = text.parse().map_err(|_| Problem::Timestamp(shown(text)))?;
    match trim_start(rest) {
        "" => Ok(Some(Timestamp::from_millis(millis))),
        more => Err(Problem::Trailing(shown(more))),
    }
}

/// Timestamp in seconds, and whether an exemplar follows behind `#`.
fn read_seconds(rest: &str) -> Result<(Option<Timestamp>, bool), Problem> {
    let (text, rest) = next_word(trim_start(rest));
    if text.is_empty() || text == "#" {
        return Ok((None, !text.is_empty()));
    }
    let secs: f64 = text.parse().map_err(|_| Problem::Timestamp(shown(text)))?;
    let at = Timestamp::from_secs_f64(secs).ok_or_else(|| Problem::Timestamp(shown(text)))?;
    let (mark, _) = next_word(trim_start(rest));
    if mark.is_empty() || mark == "#" { Ok((Some(at), !mark.is_empty())) } else { Err(Problem::Trailing(shown(mark))) }
}

fn read_comment(comment: &str) -> Result<Option<Entry<'_>>, Problem> {
    let (word, rest) = next_word(trim_start(comment));
    let kind = match word {
        "TYPE" => MetadataKind::Type,
        "HELP" => MetadataKind::Help,
        "UNIT" => MetadataKind::Unit,
        _ => return Ok(None),
    };
    let (metric, rest) = next_word(trim_start(rest));
    if !is_metric_name(metric) {
        return Err(Problem::MetricName(shown(metric)));
    }
    let text = trim_start(rest);
    if kind == MetadataKind::Type && !METRIC_TYPES.contains(&trim_end(text)) {
        return Err(Problem::MetricType(shown(text)));
    }
    Ok(Some(Entry::Metadata { metric, kind, text }))
}

const METRIC_TYPES: [&str; 9] =
    ["counter", "gauge", "histogram", "summary", "untyped", "unknown", "gaugehistogram", "info", "stateset"];

const BLANK: [char; 2] = [' ', '\t'];

fn trim_start(text: &str) -> &str {
    text.trim_start_matches(BLANK)
}

fn trim_end(text: &str) -> &str {
    text.trim_end_matches(BLANK)
}

fn next_word(text: &str) -> (&str, &str) {
    text.split_at(memchr::memchr2(b' ', b'\t', text.as_bytes()).unwrap_or(text.len()))
}

/// A piece of input short enough for a message.
fn shown(text: &str) -> String {
    text.chars().take(40).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn samples(text: &str, format: Format) -> Result<Vec<(String, f64, Option<i64>)>, ExpositionError> {
        let mut samples = Vec::new();
        for entry in read(text.as_bytes(), format)? {
            if let Entry::Sample(sample) = entry? {
                let labels =
                    series_labels(sample.series).map_err(|problem| ExpositionError { line: sample.line, problem })?;
                let labels = bellwether_models::series::Labels::new(
                    labels.into_iter().map(|(name, value)| (name.into_owned(), value.into_owned())),
                );
                samples.push((labels.to_string(), sample.value, sample.at.map(Timestamp::as_millis)));
            }
        }
        Ok(samples)
    }

    #[test]
    fn the_text_format_is_read_with_its_liberties() {
        let text = concat!(
            "# HELP m A help text\n# TYPE m counter\n# just a comment\n\n",
            "m 1\n  m {a=\"1\"} 2\nm{ a = \"1\" , b=\"x\\\"y\\\\z\\n\" , } 3 1700000000000\nm{c=\"}, {\"}4\n",
            "inf +Inf\nneg -Inf -5\ntiny 1e-300",
        );
        let read = samples(text, Format::Prometheus).unwrap();
        let expected = [
            ("m", 1.0, None),
            ("m{a=\"1\"}", 2.0, None),
            ("m{a=\"1\",b=\"x\\\"y\\\\z\\n\"}", 3.0, Some(1_700_000_000_000)),
            ("m{c=\"}, {\"}", 4.0, None),
            ("inf", f64::INFINITY, None),
            ("neg", f64::NEG_INFINITY, Some(-5)),
            ("tiny", 1e-300, None),
        ];
        assert_eq!(read, expected.map(|(labels, value, at)| (labels.to_owned(), value, at)));
    }

    #[test]
    fn openmetrics_has_seconds_exemplars_and_an_end() {
        let text = concat!(
            "# TYPE m counter\n# UNIT m seconds\n",
            "m_total{a=\"1\"} 2 1700000000.25 # {trace_id=\"x\"} 0.5 1700000000\nm_created 3 # {} 1\n# EOF\n",
        );
        let read = samples(text, Format::OpenMetrics).unwrap();
        assert_eq!(read[0], ("m_total{a=\"1\"}".to_owned(), 2.0, Some(1_700_000_000_250)));
        assert_eq!(read[1], ("m_created".to_owned(), 3.0, None));
        let cut = samples("m 1\n", Format::OpenMetrics).unwrap_err();
        assert_eq!(cut, ExpositionError { line: 1, problem: Problem::NoEof });
        let after = samples("# EOF\nm 1\n", Format::OpenMetrics).unwrap_err();
        assert_eq!(after, ExpositionError { line: 2, problem: Problem::AfterEof });
    }

    #[test]
    fn a_scraped_nan_is_never_taken_for_a_staleness_marker() {
        let read = samples("m NaN\n", Format::Prometheus).unwrap();
        assert_eq!(read[0].1.to_bits(), NORMAL_NAN_BITS);
    }

    #[test]
    fn the_first_bad_line_is_named_with_its_number_and_what_is_wrong() {
        let cases = [
            ("{a=\"1\"} 1", "expected a metric name"),
            ("1m 1", "expected a metric name"),
            ("m{a=\"1\"", "the labels do not end"),
            ("m{a=\"1} 1", "the labels do not end"),
            ("m{a=1} 1", "expected a quoted value after the label \"a\""),
            ("m{1a=\"1\"} 1", "expected a label name"),
            ("m{a=\"1\" b=\"2\"} 1", "expected a label name"),
            ("m{a=\"1\",a=\"2\"} 1", "the label \"a\" stands twice"),
            ("m", "expected a value, found \"\""),
            ("m one", "expected a value, found \"one\""),
            ("m 1e999", "expected a value, found \"1e999\""),
            ("m 1 soon", "expected a timestamp, found \"soon\""),
            ("m 1 2 3", "expected the end of the line, found \"3\""),
            ("m 1 1.5", "expected a timestamp"),
            ("# TYPE m thermometer", "\"thermometer\" is not a metric type"),
        ];
        for (line, expected) in cases {
            let error = samples(&format!("good 1\n{line}\ngood 2\n"), Format::Prometheus).unwrap_err();
            let message = error.to_string();
            assert!(message.starts_with("line 2: ") && message.contains(expected), "{line}: {message}");
        }
        let error = read(b"m 1\nm{a=\"\xff\"} 2\n", Format::Prometheus).unwrap_err();
        assert_eq!(error, ExpositionError { line: 2, problem: Problem::NotUtf8 });
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            for format in [Format::Prometheus, Format::OpenMetrics] {
                if let Ok(entries) = read(&body, format) {
                    prop_assert!(entries.count() <= body.len() + 1);
                }
            }
        }

        #[test]
        fn no_text_of_its_own_alphabet_makes_the_reader_panic(text in "[am{}=\",\\\\ #\n\t1.eE+N-]{0,60}") {
            let _ = samples(&text, Format::Prometheus);
            let _ = samples(&text, Format::OpenMetrics);
            let _ = series_labels(&text);
        }

        #[test]
        fn any_label_value_survives_escaping(value in "\\PC{0,20}[\n\\\\\"]{0,3}\\PC{0,5}", number in any::<f64>()) {
            let escaped = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let text = format!("m{{a=\"{escaped}\"}} {number:?}\n");
            let entries: Vec<_> = read(text.as_bytes(), Format::Prometheus).unwrap().collect();
            let Ok(Entry::Sample(sample)) = entries[0] else { panic!("{entries:?}") };
            prop_assert_eq!(&series_labels(sample.series).unwrap()[1].1, &value);
            prop_assert!(sample.value.to_bits() == number.to_bits() || number.is_nan());
        }
    }
}
