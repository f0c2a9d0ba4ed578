//! A bound on how deep a query may be nested, found before it is parsed: parsing and evaluating follow the nesting, and
//! a text of a few kilobytes must not exhaust the stack.

use super::super::QueryError;

/// Longest text accepted.
const MAX_LENGTH: usize = 256 * 1024;
/// Most brackets that may be open at a time.
const MAX_BRACKETS: usize = 128;
/// Most operators in a query: a chain of them is as deep as it is long.
const MAX_OPERATORS: usize = 300;

/// Refuses what is too long or too deep.
pub(super) fn check(query: &str) -> Result<(), QueryError> {
    let limit = |what: &str, limit: usize| {
        Err(QueryError::invalid(format!("the query has more than {limit} {what}; split it, or use recorded series")))
    };
    if query.len() > MAX_LENGTH {
        return limit("bytes", MAX_LENGTH);
    }
    let shape = Shape::of(query);
    if shape.brackets > MAX_BRACKETS {
        return limit("brackets within each other", MAX_BRACKETS);
    }
    if shape.operators > MAX_OPERATORS {
        return limit("operators", MAX_OPERATORS);
    }
    Ok(())
}

#[derive(Default)]
struct Shape {
    brackets: usize,
    operators: usize,
}

impl Shape {
    fn of(query: &str) -> Self {
        let (mut shape, mut open, mut quote, mut escaped) = (Self::default(), 0usize, None, false);
        for (at, c) in query.char_indices() {
            if let Some(closing) = quote {
                if c == closing && !escaped {
                    quote = None;
                }
                escaped = c == '\\' && closing != '`' && !escaped;
                continue;
            }
            match c {
                '"' | '\'' | '`' => quote = Some(c),
                '(' | '[' => open += 1,
                ')' | ']' => open = open.saturating_sub(1),
                '+' | '-' | '*' | '/' | '%' | '^' | '<' | '>' | '=' | '!' => shape.operators += 1,
                'a' | 'A' | 'o' | 'O' | 'u' | 'U' if starts_word_operator(query, at) => shape.operators += 1,
                _ => {}
            }
            shape.brackets = shape.brackets.max(open);
        }
        shape
    }
}

fn starts_word_operator(query: &str, at: usize) -> bool {
    let word_byte = |b: &u8| b.is_ascii_alphanumeric() || *b == b'_' || *b == b':';
    if at > 0 && query.as_bytes().get(at - 1).is_some_and(word_byte) {
        return false;
    }
    let rest = &query.as_bytes()[at..];
    ["and", "or", "unless", "atan2"].iter().any(|word| {
        rest.len() >= word.len()
            && rest[..word.len()].eq_ignore_ascii_case(word.as_bytes())
            && !rest.get(word.len()).is_some_and(word_byte)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_queries_pass() {
        assert!(check("sum(rate(http_requests_total{path=~\"(((((((a|b+-*/\"}[5m])) / 2 or vector(0)").is_ok());
    }

    #[test]
    fn what_would_exhaust_the_stack_is_refused() {
        for query in [
            "(".repeat(100_000),
            "-".repeat(100_000),
            format!("1{}", "+1".repeat(50_000)),
            format!("a{}", " or a".repeat(50_000)),
            "a".repeat(MAX_LENGTH + 1),
        ] {
            assert!(check(&query).is_err(), "{}…", &query[..20]);
        }
    }

    #[test]
    fn what_stands_between_quotes_does_not_count() {
        let quoted = format!("foo{{a=\"{}\\\"{}\"}}", "(".repeat(1000), "+".repeat(5000));
        assert!(check(&quoted).is_ok());
    }
}
