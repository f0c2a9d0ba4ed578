//! Label selectors as Kubernetes writes them: `a=b,c!=d,e in (f,g),h notin (i),j,!k`.

use std::collections::{BTreeMap, BTreeSet};

/// All of its conditions must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Selector(Vec<Condition>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Condition {
    In(String, BTreeSet<String>),
    /// Holds too where there is no such label.
    NotIn(String, BTreeSet<String>),
    Exists(String),
    Absent(String),
}

/// What is no selector.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no label selector: {why}; write such as `workload=checkout` or `workload in (a,b)`")]
pub(super) struct NoSelector {
    text: String,
    why: &'static str,
}

impl Selector {
    /// Reads a selector; nothing selects everything.
    pub(super) fn parse(text: &str) -> Result<Self, NoSelector> {
        let read = |part: &str| condition(part.trim()).map_err(|why| NoSelector { text: text.to_owned(), why });
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        split(text).into_iter().map(read).collect::<Result<_, _>>().map(Self)
    }

    /// Whether something with these labels is selected.
    pub(super) fn matches(&self, labels: &BTreeMap<&str, String>) -> bool {
        self.0.iter().all(|condition| condition.holds(labels.get(condition.key()).map(String::as_str)))
    }

    /// Whether something of which only this label is known may be selected.
    pub(super) fn may_match(&self, key: &str, value: &str) -> bool {
        self.0.iter().filter(|condition| condition.key() == key).all(|condition| condition.holds(Some(value)))
    }
}

impl Condition {
    fn key(&self) -> &str {
        match self {
            Self::In(key, _) | Self::NotIn(key, _) | Self::Exists(key) | Self::Absent(key) => key,
        }
    }

    fn holds(&self, value: Option<&str>) -> bool {
        match self {
            Self::In(_, values) => value.is_some_and(|value| values.contains(value)),
            Self::NotIn(_, values) => value.is_none_or(|value| !values.contains(value)),
            Self::Exists(_) => value.is_some(),
            Self::Absent(_) => value.is_none(),
        }
    }
}

/// At the commas that do not stand within a set.
fn split(text: &str) -> Vec<&str> {
    let (mut parts, mut begin, mut within) = (Vec::new(), 0, false);
    for (at, c) in text.char_indices() {
        match c {
            '(' => within = true,
            ')' => within = false,
            ',' if !within => {
                parts.push(&text[begin..at]);
                begin = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[begin..]);
    parts
}

fn condition(part: &str) -> Result<Condition, &'static str> {
    if let Some(key) = part.strip_prefix('!') {
        return Ok(Condition::Absent(word(key)?));
    }
    if let Some((key, set)) = part.split_once('(') {
        return membership(key, set);
    }
    let single = |value: &str| Ok::<_, &'static str>(BTreeSet::from([plain(value)?]));
    if let Some((key, value)) = part.split_once("!=") {
        return Ok(Condition::NotIn(word(key)?, single(value)?));
    }
    if let Some((key, value)) = part.split_once("==").or_else(|| part.split_once('=')) {
        return Ok(Condition::In(word(key)?, single(value)?));
    }
    Ok(Condition::Exists(word(part)?))
}

fn membership(key: &str, set: &str) -> Result<Condition, &'static str> {
    let inner = set.strip_suffix(')').ok_or("a set is not closed")?;
    let values = inner.split(',').map(plain).collect::<Result<BTreeSet<_>, _>>()?;
    match key.trim().rsplit_once(char::is_whitespace) {
        Some((key, "in")) => Ok(Condition::In(word(key)?, values)),
        Some((key, "notin")) => Ok(Condition::NotIn(word(key)?, values)),
        _ => Err("a set stands after `in` or `notin`"),
    }
}

fn word(text: &str) -> Result<String, &'static str> {
    let word = plain(text)?;
    if word.is_empty() { Err("a label has no name") } else { Ok(word) }
}

/// May be empty: a label may be.
fn plain(text: &str) -> Result<String, &'static str> {
    let text = text.trim();
    let odd = |c: char| c.is_whitespace() || "=!<>()\"'".contains(c);
    if text.contains(odd) { Err("a word holds what no label may") } else { Ok(text.to_owned()) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn selects(selector: &str, labels: &[(&'static str, &str)]) -> bool {
        let labels = labels.iter().map(|(key, value)| (*key, (*value).to_owned())).collect();
        Selector::parse(selector).expect(selector).matches(&labels)
    }

    #[test]
    fn each_form_that_kubernetes_writes_selects_what_it_says() {
        let labels = [("workload", "checkout"), ("quantile", "0.95")];
        for selector in [
            "",
            " ",
            "workload",
            "!team",
            "workload=checkout",
            "workload==checkout",
            "workload = checkout , quantile=0.95",
            "workload!=cart",
            "team!=a",
            "workload in (cart,checkout)",
            "workload in (cart, checkout),quantile notin (0.5)",
            "team notin (a,b)",
        ] {
            assert!(selects(selector, &labels), "{selector}");
        }
        for selector in [
            "team",
            "!workload",
            "workload=cart",
            "workload=",
            "workload!=checkout",
            "team in (a)",
            "workload notin (checkout)",
        ] {
            assert!(!selects(selector, &labels), "{selector}");
        }
        assert!(selects("team=", &[("team", "")]), "a label may be empty");
    }

    #[test]
    fn what_only_an_unknown_label_rules_out_may_be_selected() {
        let may = |text: &str| Selector::parse(text).expect(text).may_match("workload", "checkout");
        assert!(may("quantile=0.5") && may("") && may("workload=checkout,quantile=0.5"));
        assert!(!may("workload=cart") && !may("!workload,quantile=0.5"));
    }

    #[test]
    fn what_is_no_selector_is_refused_with_what_to_write() {
        for text in ["=a", "a=b=c", "a in (b", "a (b)", "a,,b", "a>1", "a b", "(", "!", "a in b"] {
            let error = Selector::parse(text).expect_err(text);
            assert!(error.to_string().contains("workload=checkout"), "{error}");
        }
    }

    proptest! {
        #[test]
        fn no_text_breaks_the_reader(text in "[a-c=!(),<> in\u{e4}]{0,40}") {
            let _ = Selector::parse(&text).map(|selector| selector.matches(&BTreeMap::new()));
        }
    }
}
