//! Questions in Flux. Pure.
//!
//! The filter lets through at least what the matchers ask for; the answer is compared with the matchers again, because tags
//! hold escaped texts. No `pivot`, no `createEmpty`: every cell of an answer has a value. Source: the Flux language
//! specification.

use bellwether_models::series::METRIC_NAME;

use super::line::{BITS, TIMES_MS, VALUE, encoded, tag_name};
use crate::store::{MatchOp, Matcher, TimeRange};

/// What a text holds that was escaped: such are let through and compared later.
const ESCAPED: &str = "/%(5C|0A|0D|25)/";

/// All samples that match, series by series; `None` when InfluxDB can hold none in `range`.
pub(super) fn samples(bucket: &str, matchers: &[Matcher], range: TimeRange) -> Option<String> {
    let from = range.from.as_millis().max(*TIMES_MS.start());
    let to = range.to.as_millis().min(*TIMES_MS.end());
    if from > to {
        return None;
    }
    let mut conditions = vec![format!("(r._field == {} or r._field == {})", text(VALUE), text(BITS))];
    conditions.extend(matchers.iter().filter_map(condition));
    Some(format!(
        "from(bucket: {})\n  |> range(start: {}, stop: {})\n  |> filter(fn: (r) => {})",
        text(bucket),
        time(from),
        time(to.saturating_add(1).min(*TIMES_MS.end())),
        conditions.join(" and ")
    ))
}

/// The first sample of each series that matches.
pub(super) fn series(bucket: &str, matchers: &[Matcher], range: TimeRange) -> Option<String> {
    samples(bucket, matchers, range).map(|query| query + "\n  |> first()")
}

fn condition(matcher: &Matcher) -> Option<String> {
    let column = match matcher.name.as_str() {
        METRIC_NAME => "_measurement".to_owned(),
        label => tag_name(label),
    };
    let column = format!("r[{}]", text(&column));
    let value = encoded(&matcher.value);
    let is_there = match &matcher.op {
        MatchOp::Equal if value.is_empty() => return Some(format!("not exists {column}")),
        MatchOp::NotEqual if value.is_empty() => return Some(format!("exists {column}")),
        MatchOp::Equal => format!("{column} == {}", text(&value)),
        MatchOp::NotEqual => format!("{column} != {}", text(&value)),
        MatchOp::Regex(_) => format!("({column} =~ {} or {column} =~ {ESCAPED})", pattern(&matcher.value)?),
        MatchOp::NotRegex(_) => format!("({column} !~ {} or {column} =~ {ESCAPED})", pattern(&matcher.value)?),
    };
    Some(if matcher.matches_value("") {
        format!("(not exists {column} or {is_there})")
    } else {
        format!("(exists {column} and {is_there})")
    })
}

/// A string literal. A dollar sign would begin an interpolation.
fn text(value: &str) -> String {
    let mut out = String::with_capacity(value.len() + 2);
    out.push('"');
    for c in value.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '$' => out.push_str("\\x24"),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// A regular expression literal, anchored; `None` for what a literal cannot hold, which is then compared here only.
fn pattern(regex: &str) -> Option<String> {
    if regex.contains(['\n', '\r']) {
        return None;
    }
    let mut out = String::from("/^(?s:");
    let mut escaped = false;
    for c in regex.chars() {
        if c == '/' && !escaped {
            out.push('\\');
        }
        escaped = c == '\\' && !escaped;
        out.push(c);
    }
    out.push_str(")$/");
    Some(out)
}

/// A time literal.
fn time(millis: i64) -> String {
    jiff::Timestamp::from_millisecond(millis).map_or_else(|_| "1970-01-01T00:00:00Z".to_owned(), |at| at.to_string())
}

#[cfg(test)]
mod tests {
    use bellwether_models::series::Timestamp;

    use super::*;

    fn filter(matcher: &Matcher) -> String {
        let range = TimeRange { from: Timestamp::MIN, to: Timestamp::MAX };
        let query = samples("b", std::slice::from_ref(matcher), range).unwrap();
        let filter = query.split_once("\"bits\") and ").unwrap().1;
        filter.strip_suffix(')').unwrap().to_owned()
    }

    #[test]
    fn a_question_names_bucket_times_and_fields() {
        let range = TimeRange { from: Timestamp::from_millis(1), to: Timestamp::from_secs(60) };
        let expected = concat!(
            "from(bucket: \"a\\\"b\\x24{x}\")\n",
            "  |> range(start: 1970-01-01T00:00:00.001Z, stop: 1970-01-01T00:01:00.001Z)\n",
            "  |> filter(fn: (r) => (r._field == \"value\" or r._field == \"bits\"))\n  |> first()",
        );
        assert_eq!(series("a\"b${x}", &[], range).unwrap(), expected);
        assert_eq!(samples("b", &[], TimeRange { from: Timestamp::MAX, to: Timestamp::MAX }), None);
        let ever = samples("b", &[], TimeRange { from: Timestamp::MIN, to: Timestamp::MAX }).unwrap();
        assert!(ever.contains("start: 1677-09-21T00:12:43.146Z, stop: 2262-04-11T23:47:16.853Z"), "{ever}");
    }

    #[test]
    fn an_absent_label_counts_as_empty() {
        let cases = [
            (Matcher::equal("job", "a"), r#"(exists r["job"] and r["job"] == "a")"#),
            (Matcher::equal("job", ""), r#"not exists r["job"]"#),
            (Matcher::not_equal("job", ""), r#"exists r["job"]"#),
            (Matcher::not_equal("job", "a"), r#"(not exists r["job"] or r["job"] != "a")"#),
            (Matcher::equal("__name__", "up"), r#"(exists r["_measurement"] and r["_measurement"] == "up")"#),
            (Matcher::equal("_x", "a\\"), r#"(exists r["label._x"] and r["label._x"] == "a%5C")"#),
            (
                Matcher::regex("p", "a/b|").unwrap(),
                r#"(not exists r["p"] or (r["p"] =~ /^(?s:a\/b|)$/ or r["p"] =~ /%(5C|0A|0D|25)/))"#,
            ),
            (
                Matcher::not_regex("p", r"a\/.*").unwrap(),
                r#"(not exists r["p"] or (r["p"] !~ /^(?s:a\/.*)$/ or r["p"] =~ /%(5C|0A|0D|25)/))"#,
            ),
        ];
        for (matcher, expected) in cases {
            assert_eq!(filter(&matcher), expected);
        }
    }
}
