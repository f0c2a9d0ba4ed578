//! Label matchers: `=`, `!=`, `=~`, `!~`, as in Prometheus.

use bellwether_models::series::Labels;
use regex::Regex;

/// How a matcher compares.
#[derive(Clone, Debug)]
pub enum MatchOp {
    /// `=`
    Equal,
    /// `!=`
    NotEqual,
    /// `=~`, anchored at both ends.
    Regex(Regex),
    /// `!~`, anchored at both ends.
    NotRegex(Regex),
}

/// A condition on one label; an absent label counts as empty.
#[derive(Clone, Debug)]
pub struct Matcher {
    /// The label's name.
    pub name: String,
    /// The value or pattern compared with.
    pub value: String,
    /// How it compares.
    pub op: MatchOp,
}

/// A pattern that is not a regular expression.
#[derive(Debug, thiserror::Error)]
#[error("the pattern {pattern:?} for label {name} is not a regular expression")]
pub struct BadMatcher {
    /// The label.
    pub name: String,
    /// The pattern.
    pub pattern: String,
    /// What is wrong with it.
    #[source]
    pub source: Box<regex::Error>,
}

impl Matcher {
    /// `name="value"`.
    pub fn equal(name: impl Into<String>, value: impl Into<String>) -> Self {
        Self { name: name.into(), value: value.into(), op: MatchOp::Equal }
    }

    /// `name!="value"`.
    pub fn not_equal(name: impl Into<String>, value: impl Into<String>) -> Self {
        Self { name: name.into(), value: value.into(), op: MatchOp::NotEqual }
    }

    /// `name=~"pattern"`.
    ///
    /// # Errors
    /// [`BadMatcher`] when the pattern does not compile.
    pub fn regex(name: impl Into<String>, pattern: impl Into<String>) -> Result<Self, BadMatcher> {
        let (name, value) = (name.into(), pattern.into());
        let op = MatchOp::Regex(anchored(&name, &value)?);
        Ok(Self { name, value, op })
    }

    /// `name!~"pattern"`.
    ///
    /// # Errors
    /// [`BadMatcher`] when the pattern does not compile.
    pub fn not_regex(name: impl Into<String>, pattern: impl Into<String>) -> Result<Self, BadMatcher> {
        let (name, value) = (name.into(), pattern.into());
        let op = MatchOp::NotRegex(anchored(&name, &value)?);
        Ok(Self { name, value, op })
    }

    /// Whether a label value (empty when absent) satisfies the matcher.
    #[must_use]
    pub fn matches_value(&self, value: &str) -> bool {
        match &self.op {
            MatchOp::Equal => value == self.value,
            MatchOp::NotEqual => value != self.value,
            MatchOp::Regex(regex) => regex.is_match(value),
            MatchOp::NotRegex(regex) => !regex.is_match(value),
        }
    }

    /// Whether a series satisfies the matcher.
    #[must_use]
    pub fn matches(&self, labels: &Labels) -> bool {
        self.matches_value(labels.get(&self.name).unwrap_or(""))
    }
}

fn anchored(name: &str, pattern: &str) -> Result<Regex, BadMatcher> {
    Regex::new(&format!("^(?s:{pattern})$")).map_err(|source| BadMatcher {
        name: name.to_owned(),
        pattern: pattern.to_owned(),
        source: Box::new(source),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_anchored_and_absent_labels_are_empty() {
        let labels = Labels::new([("job", "node")]);
        assert!(Matcher::regex("job", "no.e").expect("valid").matches(&labels));
        assert!(!Matcher::regex("job", "o").expect("valid").matches(&labels));
        assert!(Matcher::equal("absent", "").matches(&labels));
        assert!(Matcher::not_regex("absent", ".+").expect("valid").matches(&labels));
        assert!(Matcher::regex("job", "(").is_err());
    }
}
