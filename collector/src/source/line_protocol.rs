//! Reader of InfluxDB's line protocol: `measurement,tag=v field=1.5,other=3i 1700000000000000000`. Pure.
//!
//! Each numeric or boolean field becomes a sample of the series `measurement_field{tags}`; characters a metric or label
//! name cannot have become `_`. A bad line is reported and passed over; the next one is read.
//!
//! Source: the line protocol reference of InfluxDB 2.

use std::borrow::Cow;

use bellwether_models::series::{Labels, METRIC_NAME, Sample, Timestamp};

use crate::store::{Batch, SeriesSamples};

/// The unit of timestamps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// `ns`, `n`
    #[default]
    Nanoseconds,
    /// `us`, `u`, `µ`
    Microseconds,
    /// `ms`
    Milliseconds,
    /// `s`
    Seconds,
    /// `m`
    Minutes,
    /// `h`
    Hours,
}

impl Precision {
    /// By the name in the query parameter `precision`.
    #[must_use]
    pub fn by_name(name: &str) -> Option<Self> {
        Some(match name {
            "" | "ns" | "n" => Self::Nanoseconds,
            "us" | "u" | "µ" => Self::Microseconds,
            "ms" => Self::Milliseconds,
            "s" => Self::Seconds,
            "m" => Self::Minutes,
            "h" => Self::Hours,
            _ => return None,
        })
    }

    fn timestamp(self, number: i64) -> Timestamp {
        Timestamp::from_millis(match self {
            Self::Nanoseconds => number.div_euclid(1_000_000),
            Self::Microseconds => number.div_euclid(1000),
            Self::Milliseconds => number,
            Self::Seconds => number.saturating_mul(1000),
            Self::Minutes => number.saturating_mul(60_000),
            Self::Hours => number.saturating_mul(3_600_000),
        })
    }
}

/// Why a line is not a point.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {problem}")]
pub struct LineError {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub problem: LineProblem,
}

/// What is wrong with a line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LineProblem {
    /// Bytes that are not UTF-8.
    #[error("not valid UTF-8")]
    NotUtf8,
    /// Nothing stands where the measurement must.
    #[error("the measurement is missing")]
    NoMeasurement,
    /// A tag without name or value.
    #[error("expected tag=value, found {0:?}")]
    Tag(String),
    /// Two tags that end up under one label.
    #[error("two tags become the label {0:?}")]
    TagTwice(String),
    /// No field after the tags.
    #[error("expected field=value, found {0:?}")]
    Field(String),
    /// A value that is neither number, boolean nor quoted text.
    #[error("the value of field {field:?} is neither a number, a boolean nor quoted text: {value:?}")]
    Value {
        /// The field.
        field: String,
        /// What stands there.
        value: String,
    },
    /// A quoted text that does not end.
    #[error("the text of field {0:?} does not end")]
    OpenText(String),
    /// No whole number where the timestamp stands.
    #[error("the timestamp is not a whole number: {0:?}")]
    Timestamp(String),
}

/// What a body held.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Points {
    /// The samples of good lines.
    pub batch: Batch,
    /// Fields with text, which are not kept.
    pub text_fields: u64,
    /// Good lines.
    pub good_lines: usize,
    /// Bad lines, in order.
    pub errors: Vec<LineError>,
}

/// Reads all lines; a point without a timestamp is of `now`.
#[must_use]
pub fn read(body: &[u8], precision: Precision, now: Timestamp) -> Points {
    let mut points = Points::default();
    let (mut rest, mut line) = (body, 1);
    while !rest.is_empty() {
        let used = read_line(rest, line, precision, now, &mut points);
        line += rest[..used].iter().filter(|byte| **byte == b'\n').count();
        rest = &rest[used..];
    }
    points
}

/// Reads one point (or blank line or comment) and gives the number of bytes used, its newline included.
fn read_line(body: &[u8], line: usize, precision: Precision, now: Timestamp, points: &mut Points) -> usize {
    let plain_end = next_newline(body, 0);
    let first = body.iter().find(|byte| !matches!(byte, b' ' | b'\t' | b'\r'));
    if matches!(first, None | Some(b'\n' | b'#')) {
        return plain_end;
    }
    let mut cursor = Cursor { bytes: body, at: 0 };
    match cursor.point(precision, now, points) {
        Ok(()) => {
            points.good_lines += 1;
            next_newline(body, cursor.at)
        }
        Err(problem) => {
            points.errors.push(LineError { line, problem });
            plain_end
        }
    }
}

fn next_newline(body: &[u8], from: usize) -> usize {
    memchr::memchr(b'\n', &body[from..]).map_or(body.len(), |at| from + at + 1)
}

struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

type Pairs<'a> = Vec<(Cow<'a, str>, Cow<'a, str>)>;

enum FieldValue {
    Number(f64),
    Text,
}

impl<'a> Cursor<'a> {
    fn point(&mut self, precision: Precision, now: Timestamp, points: &mut Points) -> Result<(), LineProblem> {
        self.skip_blanks();
        let measurement = self.token(b", ", b", ")?;
        if measurement.is_empty() {
            return Err(LineProblem::NoMeasurement);
        }
        let tags = self.tags()?;
        self.skip_blanks();
        let fields = self.fields()?;
        let at = self.timestamp(precision)?.unwrap_or(now);
        for (field, value) in &fields {
            match value {
                FieldValue::Text => points.text_fields += 1,
                FieldValue::Number(value) => {
                    let labels = labels(&measurement, field, &tags)?;
                    points.batch.push(SeriesSamples { labels, samples: vec![Sample { at, value: *value }] });
                }
            }
        }
        Ok(())
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied().filter(|byte| *byte != b'\n')
    }

    fn accept(&mut self, byte: u8) -> bool {
        let there = self.peek() == Some(byte);
        self.at += usize::from(there);
        there
    }

    fn skip_blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r')) {
            self.at += 1;
        }
    }

    /// Text up to one of `ends` or the end of the line; a backslash takes `escapable` literally.
    fn token(&mut self, ends: &[u8], escapable: &[u8]) -> Result<Cow<'a, str>, LineProblem> {
        let (start, mut escaped) = (self.at, false);
        while let Some(byte) = self.peek().filter(|byte| !ends.contains(byte)) {
            let next = self.bytes.get(self.at + 1);
            let escape = byte == b'\\' && next.is_some_and(|next| escapable.contains(next));
            escaped |= escape;
            self.at += if escape { 2 } else { 1 };
        }
        let text = std::str::from_utf8(&self.bytes[start..self.at]).map_err(|_| LineProblem::NotUtf8)?;
        Ok(if escaped { Cow::Owned(unescape(text, escapable)) } else { Cow::Borrowed(text) })
    }

    fn tags(&mut self) -> Result<Pairs<'a>, LineProblem> {
        let mut tags = Pairs::new();
        while self.accept(b',') {
            let name = self.token(b",= ", b",= ")?;
            let value = if self.accept(b'=') { self.token(b",= ", b",= ")? } else { Cow::Borrowed("") };
            if name.is_empty() || value.is_empty() || self.peek() == Some(b'=') {
                return Err(LineProblem::Tag(shown(&format!("{name}={value}"))));
            }
            tags.push((name, value));
        }
        Ok(tags)
    }

    fn fields(&mut self) -> Result<Vec<(Cow<'a, str>, FieldValue)>, LineProblem> {
        let mut fields = Vec::new();
        loop {
            let name = self.token(b",= ", b",= ")?;
            if name.is_empty() || !self.accept(b'=') {
                return Err(LineProblem::Field(shown(&name)));
            }
            let value = self.value(&name)?;
            fields.push((name, value));
            if !self.accept(b',') {
                return Ok(fields);
            }
        }
    }

    fn value(&mut self, field: &str) -> Result<FieldValue, LineProblem> {
        if self.accept(b'"') {
            return self.text(field);
        }
        let text = self.token(b", \r", b"")?;
        let refused = || LineProblem::Value { field: shown(field), value: shown(&text) };
        number(&text).map(FieldValue::Number).ok_or_else(refused)
    }

    /// Passes over a quoted text, which may span lines.
    fn text(&mut self, field: &str) -> Result<FieldValue, LineProblem> {
        let open = || LineProblem::OpenText(shown(field));
        let start = self.at;
        loop {
            let rest = self.bytes.get(self.at..).ok_or_else(open)?;
            let found = memchr::memchr2(b'"', b'\\', rest).ok_or_else(open)?;
            self.at += found + 1;
            if rest[found] == b'"' {
                break;
            }
            self.at += 1;
        }
        std::str::from_utf8(&self.bytes[start..self.at]).map_err(|_| LineProblem::NotUtf8)?;
        match self.peek() {
            None | Some(b',' | b' ' | b'\r') => Ok(FieldValue::Text),
            Some(_) => {
                Err(LineProblem::Value { field: shown(field), value: "text after the closing quote".to_owned() })
            }
        }
    }

    fn timestamp(&mut self, precision: Precision) -> Result<Option<Timestamp>, LineProblem> {
        self.skip_blanks();
        let text = self.token(b"\r", b"")?;
        let text = text.trim_end();
        if text.is_empty() {
            return Ok(None);
        }
        let number: i64 = text.parse().map_err(|_| LineProblem::Timestamp(shown(text)))?;
        Ok(Some(precision.timestamp(number)))
    }
}

fn number(text: &str) -> Option<f64> {
    match text {
        "t" | "T" | "true" | "True" | "TRUE" => return Some(1.0),
        "f" | "F" | "false" | "False" | "FALSE" => return Some(0.0),
        _ => {}
    }
    if let Some(whole) = text.strip_suffix('i') {
        return whole.parse::<i64>().ok().map(|number| number as f64);
    }
    if let Some(whole) = text.strip_suffix('u') {
        return whole.parse::<u64>().ok().map(|number| number as f64);
    }
    text.parse::<f64>().ok().filter(|number| number.is_finite())
}

fn labels(measurement: &str, field: &str, tags: &Pairs<'_>) -> Result<Labels, LineProblem> {
    let mut pairs: Vec<(String, &str)> = Vec::with_capacity(tags.len() + 1);
    let name = metric_name(&format!("{measurement}_{field}"));
    pairs.push((METRIC_NAME.to_owned(), &name));
    for (tag, value) in tags {
        let label = label_name(tag);
        if pairs.iter().any(|(taken, _)| *taken == label) {
            return Err(LineProblem::TagTwice(shown(&label)));
        }
        pairs.push((label, value));
    }
    Ok(Labels::new(pairs))
}

/// The text as a metric name: what cannot stand there becomes `_`.
pub(crate) fn metric_name(text: &str) -> String {
    name_of(text, |c| c == ':')
}

/// The text as a label name: what cannot stand there becomes `_`.
pub(crate) fn label_name(text: &str) -> String {
    name_of(text, |_| false)
}

fn name_of(text: &str, also: impl Fn(char) -> bool) -> String {
    let digit_first = text.starts_with(|c: char| c.is_ascii_digit());
    let good = |c: char| if c.is_ascii_alphanumeric() || also(c) { c } else { '_' };
    digit_first.then_some('_').into_iter().chain(text.chars().map(good)).collect()
}

fn unescape(text: &str, escapable: &[u8]) -> String {
    let (mut plain, mut chars) = (String::with_capacity(text.len()), text.chars().peekable());
    while let Some(c) = chars.next() {
        let escapes = |next: &char| u8::try_from(*next).is_ok_and(|next| escapable.contains(&next));
        match chars.next_if(|next| c == '\\' && escapes(next)) {
            Some(literal) => plain.push(literal),
            None => plain.push(c),
        }
    }
    plain
}

/// A piece of input short enough for a message.
fn shown(text: &str) -> String {
    text.chars().take(40).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1_700_000_000);

    fn told(points: &Points) -> Vec<String> {
        let line = |series: &SeriesSamples| {
            let Sample { at, value } = series.samples[0];
            format!("{} {value} {}", series.labels, at.as_millis())
        };
        points.batch.iter().map(line).collect()
    }

    #[test]
    fn numeric_and_boolean_fields_become_series_and_texts_are_counted() {
        let body = concat!(
            "# comment\n\n",
            "cpu,host=a,zone=eu usage=1.5,n=3i,u=4u,on=t,text=\"x, y = \\\"z\\\"\nsecond line\" 1700000000123456789\n",
            "mem free=-2e3\r\n",
        );
        let points = read(body.as_bytes(), Precision::Nanoseconds, NOW);
        assert_eq!(points.errors, []);
        assert_eq!(
            told(&points),
            [
                r#"cpu_usage{host="a",zone="eu"} 1.5 1700000000123"#,
                r#"cpu_n{host="a",zone="eu"} 3 1700000000123"#,
                r#"cpu_u{host="a",zone="eu"} 4 1700000000123"#,
                r#"cpu_on{host="a",zone="eu"} 1 1700000000123"#,
                "mem_free -2000 1700000000000",
            ]
        );
        assert_eq!((points.text_fields, points.good_lines), (1, 2));
    }

    #[test]
    fn escapes_are_undone_and_names_made_fit() {
        let body = r"my\ m.e\,as,ta\=g\ 1=va\,l\ ue,b=c\d 9f\ ield=1 5";
        let points = read(body.as_bytes(), Precision::Seconds, NOW);
        assert_eq!(told(&points), [r#"my_m_e_as_9f_ield{b="c\\d",ta_g_1="va,l ue"} 1 5000"#]);
    }

    #[test]
    fn each_bad_line_is_named_and_the_good_ones_are_kept() {
        let cases: [(&[u8], &str); 14] = [
            (b",a=b f=1", "the measurement is missing"),
            (b"m,a f=1", "expected tag=value, found \"a=\""),
            (b"m,a= f=1", "expected tag=value"),
            (b"m,a=b=c f=1", "expected tag=value"),
            (b"m,a.b=1,a_b=2 f=1", "two tags become the label \"a_b\""),
            (b"m,__name__=x f=1", "two tags become the label \"__name__\""),
            (b"m", "expected field=value"),
            (b"m f", "expected field=value, found \"f\""),
            (b"m f=", "neither a number"),
            (b"m f=NaN", "neither a number"),
            (b"m f=1.5i", "neither a number"),
            (b"m f=\"open", "the text of field \"f\" does not end"),
            (b"m f=1 soon", "the timestamp is not a whole number: \"soon\""),
            (b"m,a=\xff f=1", "not valid UTF-8"),
        ];
        for (bad, expected) in cases {
            let body = [b"good f=1 1\n", bad, b"\nbetter f=2 2\n"].concat();
            let points = read(&body, Precision::Milliseconds, NOW);
            let message = points.errors[0].to_string();
            assert!(message.starts_with("line 2: ") && message.contains(expected), "{message}, not {expected}");
            assert_eq!(told(&points), ["good_f 1 1", "better_f 2 2"], "{message}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let points = read(&body, Precision::Nanoseconds, NOW);
            prop_assert!(points.good_lines + points.errors.len() <= body.len());
        }

        #[test]
        fn no_text_of_its_own_alphabet_makes_the_reader_panic(text in "[m,= \\\\\"\n1i.e-]{0,60}") {
            let points = read(text.as_bytes(), Precision::Seconds, NOW);
            prop_assert!(points.errors.iter().all(|error| error.line <= text.matches('\n').count() + 1));
        }

        #[test]
        fn any_tag_value_survives_escaping(value in "[^\\\\\n\r\t]{1,20}", number in -1e300f64..1e300) {
            let escaped = value.replace(',', "\\,").replace('=', "\\=").replace(' ', "\\ ");
            let points = read(format!("m,t={escaped} f={number:?} 1").as_bytes(), Precision::Seconds, NOW);
            prop_assert_eq!(&points.errors, &[]);
            prop_assert_eq!(points.batch[0].labels.get("t"), Some(value.as_str()));
            prop_assert_eq!(points.batch[0].samples[0].value, number);
        }
    }
}
