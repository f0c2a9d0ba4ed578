//! Samples as line protocol. Pure.
//!
//! A series is a measurement (its name) with its labels as tags; a sample is the field `value`. What InfluxDB cannot keep as
//! a float, NaN with its payload (staleness markers are such) and the infinities, is the field `bits` instead: the 64 bits of
//! the float as an integer. Tags cannot hold a backslash at their end or a line break, and some of their names are taken by
//! Flux; those are escaped so that every label comes back as it was. Source: the line protocol page of the InfluxDB 2 docs.

use std::fmt::Write as _;

use bellwether_models::series::{Labels, METRIC_NAME};

use crate::store::SeriesSamples;

/// The field of a finite value.
pub(super) const VALUE: &str = "value";
/// The field of all other floats, as their bits.
pub(super) const BITS: &str = "bits";

/// Put before the name of a label that InfluxDB or Flux would take for its own. No label of Prometheus holds a dot.
const LABEL: &str = "label.";
/// Names of columns of Flux's answers and of line protocol that a tag must not have.
const TAKEN: [&str; 4] = ["result", "table", "time", "error"];

/// Times that InfluxDB can keep: 1677 to 2262, in milliseconds.
pub(super) const TIMES_MS: std::ops::RangeInclusive<i64> = -9_223_372_036_854..=9_223_372_036_853;

/// One line a sample, times in milliseconds.
///
/// `None` when a series has no name or a sample lies outside the times that InfluxDB knows.
#[must_use]
pub fn lines(batch: &[SeriesSamples]) -> Option<String> {
    let mut out = String::new();
    for SeriesSamples { labels, samples } in batch {
        let key = series_key(labels)?;
        for sample in samples {
            let at = sample.at.as_millis();
            if !TIMES_MS.contains(&at) {
                return None;
            }
            // `{:?}` is the shortest text that reads back to the same bits
            let written = if sample.value.is_finite() {
                writeln!(out, "{key} {VALUE}={:?} {at}", sample.value)
            } else {
                writeln!(out, "{key} {BITS}={}i {at}", sample.value.to_bits() as i64)
            };
            written.ok()?;
        }
    }
    Some(out)
}

fn series_key(labels: &Labels) -> Option<String> {
    let name = Some(labels.metric_name()).filter(|name| !name.is_empty() && !name.starts_with('#'))?;
    let mut key = escaped(&encoded(name));
    for (name, value) in labels.iter().filter(|(name, _)| *name != METRIC_NAME) {
        key.push(',');
        key.push_str(&escaped(&tag_name(name)));
        key.push('=');
        key.push_str(&escaped(&encoded(value)));
    }
    Some(key)
}

/// The tag of a label.
pub(super) fn tag_name(label: &str) -> String {
    let taken = label.starts_with('_') || TAKEN.contains(&label);
    if taken { format!("{LABEL}{label}") } else { encoded(label) }
}

/// The label of a tag.
pub(super) fn label_name(tag: &str) -> String {
    tag.strip_prefix(LABEL).map_or_else(|| decoded(tag), str::to_owned)
}

/// The characters that tags cannot hold, and how they are written; a per cent sign only where it would read as one of these.
const CODES: [(char, &str); 4] = [('\\', "%5C"), ('\n', "%0A"), ('\r', "%0D"), ('%', "%25")];

/// A text as it stands in a tag.
pub(super) fn encoded(text: &str) -> String {
    if !text.contains(['\\', '\n', '\r', '%']) {
        return text.to_owned();
    }
    let mut out = String::with_capacity(text.len() + 8);
    for (at, c) in text.char_indices() {
        let code = CODES.iter().find(|(coded, _)| *coded == c);
        match code.filter(|_| c != '%' || is_code(&text[at..])) {
            Some((_, code)) => out.push_str(code),
            None => out.push(c),
        }
    }
    out
}

/// The text that stands in a tag.
pub(super) fn decoded(tag: &str) -> String {
    let mut out = String::with_capacity(tag.len());
    let mut rest = tag;
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let code = CODES.iter().find(|(_, code)| rest.starts_with(code));
        out.push(code.map_or('%', |(c, _)| *c));
        rest = &rest[code.map_or(1, |(_, code)| code.len())..];
    }
    out + rest
}

fn is_code(text: &str) -> bool {
    CODES.iter().any(|(_, code)| text.starts_with(code))
}

/// Comma, space and equals sign end a part of a key unless a backslash stands before them.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if matches!(c, ',' | ' ' | '=') {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

#[cfg(test)]
mod tests {
    use bellwether_models::series::{Sample, Timestamp, stale_marker};
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn samples_are_written_one_a_line_and_what_is_no_number_as_its_bits() {
        let labels = Labels::metric("up").with("zone", "eu west,1=a").with("_x", "50%").with("p", "a\\\n%25");
        let sample = |at, value| Sample { at: Timestamp::from_millis(at), value };
        let batch =
            [SeriesSamples { labels, samples: vec![sample(1, 0.1), sample(2, stale_marker()), sample(3, 5e-324)] }];
        let key = "up,label._x=50%,p=a%5C%0A%2525,zone=eu\\ west\\,1\\=a";
        let expected = format!("{key} value=0.1 1\n{key} bits=9218868437227405314i 2\n{key} value=5e-324 3\n");
        assert_eq!(lines(&batch).unwrap(), expected);
    }

    #[test]
    fn what_has_no_name_or_no_time_there_is_refused() {
        let batch = |labels, at| [SeriesSamples { labels, samples: vec![Sample { at, value: 1.0 }] }];
        assert_eq!(lines(&batch(Labels::new([("a", "b")]), Timestamp::from_millis(1))), None);
        assert_eq!(lines(&batch(Labels::metric("a"), Timestamp::MAX)), None);
    }

    proptest! {
        #[test]
        fn every_text_comes_back(text in "[a%5C0AD2\\\\\n\r, =]{0,12}") {
            prop_assert_eq!(decoded(&encoded(&text)), text.clone());
            prop_assert!(!encoded(&text).contains(['\\', '\n', '\r']));
        }

        #[test]
        fn every_name_comes_back(name in "(_|a|result|table|time|error)[a-z_]{0,3}") {
            prop_assert_eq!(label_name(&tag_name(&name)), name);
        }
    }
}
