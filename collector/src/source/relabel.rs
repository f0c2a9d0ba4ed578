//! Relabeling: rules that rewrite, keep or drop label sets, in Prometheus' own syntax and with its results.
//!
//! Source: the `relabel_config` section of the Prometheus configuration reference.

use bellwether_models::series::Labels;
use md5::{Digest, Md5};
use regex::Regex;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ingest::is_label_name;

/// What a rule does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Sets `target_label` to `replacement` when `regex` matches the joined source labels.
    #[default]
    Replace,
    /// Drops what does not match.
    Keep,
    /// Drops what matches.
    Drop,
    /// Sets `target_label` to the MD5 of the joined source labels, modulo `modulus`.
    Hashmod,
    /// Copies each label whose name matches to the name that `replacement` gives.
    Labelmap,
    /// Removes labels whose name matches.
    Labeldrop,
    /// Removes labels whose name does not match.
    Labelkeep,
    /// Sets `target_label` to the joined source labels in lower case.
    Lowercase,
    /// Sets `target_label` to the joined source labels in upper case.
    Uppercase,
    /// Drops where the joined source labels differ from `target_label`.
    Keepequal,
    /// Drops where the joined source labels equal `target_label`.
    Dropequal,
}

/// One relabeling rule as written in a configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RelabelConfig {
    /// Labels whose values are joined and matched. Default none.
    pub source_labels: Vec<String>,
    /// Stands between the joined values. Default `;`.
    pub separator: String,
    /// The label that is set; may refer to groups of `regex`. Needed by replace, hashmod, lowercase, uppercase,
    /// keepequal and dropequal.
    pub target_label: String,
    /// Regular expression, anchored at both ends. Default `(.*)`.
    pub regex: String,
    /// Divisor of hashmod; at least 1.
    pub modulus: u64,
    /// What is set; may refer to groups of `regex` as `$1` or `${name}`. Default `$1`.
    pub replacement: String,
    /// What the rule does. Default `replace`.
    pub action: Action,
}

impl Default for RelabelConfig {
    fn default() -> Self {
        Self {
            source_labels: Vec::new(),
            separator: ";".to_owned(),
            target_label: String::new(),
            regex: "(.*)".to_owned(),
            modulus: 0,
            replacement: "$1".to_owned(),
            action: Action::Replace,
        }
    }
}

/// Why a rule cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RelabelError {
    /// `regex` does not compile.
    #[error("relabeling rule {index}: {pattern:?} is not a regular expression")]
    Regex {
        /// Place of the rule in its list, from 0.
        index: usize,
        /// The pattern.
        pattern: String,
        /// What is wrong with it.
        #[source]
        source: Box<regex::Error>,
    },
    /// `target_label` is missing or cannot be a label.
    #[error("relabeling rule {index}: {label:?} is not a label name; set target_label")]
    TargetLabel {
        /// Place of the rule in its list, from 0.
        index: usize,
        /// What was given.
        label: String,
    },
    /// hashmod without a divisor.
    #[error("relabeling rule {index}: hashmod needs a modulus of at least 1")]
    Modulus {
        /// Place of the rule in its list, from 0.
        index: usize,
    },
}

/// Rules ready for use, applied in order.
#[derive(Clone, Debug, Default)]
pub struct Relabeling(Vec<Rule>);

#[derive(Clone, Debug)]
struct Rule {
    config: RelabelConfig,
    regex: Regex,
}

impl Relabeling {
    /// Compiles rules.
    ///
    /// # Errors
    /// [`RelabelError`] naming the first rule that cannot be used.
    pub fn new(configs: &[RelabelConfig]) -> Result<Self, RelabelError> {
        configs.iter().enumerate().map(|(index, config)| compile(index, config)).collect::<Result<_, _>>().map(Self)
    }

    /// Whether there is no rule.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The labels after all rules; `None` when a rule drops them.
    #[must_use]
    pub fn apply(&self, labels: Labels) -> Option<Labels> {
        self.0.iter().try_fold(labels, |labels, rule| rule.apply(labels))
    }
}

fn compile(index: usize, config: &RelabelConfig) -> Result<Rule, RelabelError> {
    let regex = Regex::new(&format!("^(?s:{})$", config.regex)).map_err(|source| RelabelError::Regex {
        index,
        pattern: config.regex.clone(),
        source: Box::new(source),
    })?;
    let target_may_refer = config.action == Action::Replace && config.target_label.contains('$');
    let sets_target = !matches!(
        config.action,
        Action::Keep | Action::Drop | Action::Labelmap | Action::Labeldrop | Action::Labelkeep
    );
    if sets_target && !target_may_refer && !is_label_name(&config.target_label) {
        return Err(RelabelError::TargetLabel { index, label: config.target_label.clone() });
    }
    if config.action == Action::Hashmod && config.modulus == 0 {
        return Err(RelabelError::Modulus { index });
    }
    Ok(Rule { config: config.clone(), regex })
}

impl Rule {
    fn apply(&self, labels: Labels) -> Option<Labels> {
        let RelabelConfig { target_label, modulus, action, .. } = &self.config;
        let source = self.joined(&labels);
        let current = || labels.get(target_label).unwrap_or("");
        match action {
            Action::Replace => Some(self.replace(&source, labels)),
            Action::Keep => self.regex.is_match(&source).then_some(labels),
            Action::Drop => (!self.regex.is_match(&source)).then_some(labels),
            Action::Hashmod => Some(labels.with(target_label, &(md5_tail(&source) % modulus).to_string())),
            Action::Labelmap => Some(self.map_names(&labels)),
            Action::Labeldrop => Some(labels.without(|name| self.regex.is_match(name))),
            Action::Labelkeep => Some(labels.without(|name| !self.regex.is_match(name))),
            Action::Lowercase => Some(labels.with(target_label, &source.to_lowercase())),
            Action::Uppercase => Some(labels.with(target_label, &source.to_uppercase())),
            Action::Keepequal => (current() == source).then_some(labels),
            Action::Dropequal => (current() != source).then_some(labels),
        }
    }

    fn joined(&self, labels: &Labels) -> String {
        let values: Vec<&str> = self.config.source_labels.iter().map(|name| labels.get(name).unwrap_or("")).collect();
        values.join(&self.config.separator)
    }

    /// A target that is no label name, or an empty replacement, removes the target.
    fn replace(&self, source: &str, labels: Labels) -> Labels {
        let Some(groups) = self.regex.captures(source) else { return labels };
        let (mut target, mut value) = (String::new(), String::new());
        groups.expand(&self.config.target_label, &mut target);
        groups.expand(&self.config.replacement, &mut value);
        if is_label_name(&target) { labels.with(&target, &value) } else { labels.with(&self.config.target_label, "") }
    }

    fn map_names(&self, labels: &Labels) -> Labels {
        let mapped = labels.iter().filter(|(name, _)| self.regex.is_match(name)).map(|(name, value)| {
            (self.regex.replace_all(name, self.config.replacement.as_str()).into_owned(), value.to_owned())
        });
        let kept = labels.iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
        Labels::new(kept.chain(mapped))
    }
}

/// The last eight bytes of the MD5 as a big-endian number: what Prometheus takes the modulus of.
fn md5_tail(text: &str) -> u64 {
    let digest: [u8; 16] = Md5::digest(text.as_bytes()).into();
    digest[8..].iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(action: Action) -> RelabelConfig {
        RelabelConfig { action, ..RelabelConfig::default() }
    }

    fn apply(config: RelabelConfig, labels: &[(&str, &str)]) -> Option<String> {
        let relabeling = Relabeling::new(&[config]).unwrap();
        relabeling.apply(Labels::new(labels.iter().copied())).map(|labels| labels.to_string())
    }

    fn from(names: &[&str], config: RelabelConfig) -> RelabelConfig {
        RelabelConfig { source_labels: names.iter().map(|name| (*name).to_owned()).collect(), ..config }
    }

    fn to(target_label: &str, config: RelabelConfig) -> RelabelConfig {
        RelabelConfig { target_label: target_label.to_owned(), ..config }
    }

    fn matching(regex: &str, config: RelabelConfig) -> RelabelConfig {
        RelabelConfig { regex: regex.to_owned(), ..config }
    }

    fn giving(replacement: &str, config: RelabelConfig) -> RelabelConfig {
        RelabelConfig { replacement: replacement.to_owned(), ..config }
    }

    const LABELS: [(&str, &str); 3] = [("a", "foo"), ("b", "bar"), ("c", "baz")];

    #[test]
    fn replace_joins_matches_and_expands() {
        let base = from(&["a", "b"], to("d", rule(Action::Replace)));
        let of = |config| apply(config, &LABELS).unwrap();
        assert_eq!(of(base.clone()), r#"{a="foo",b="bar",c="baz",d="foo;bar"}"#);
        let swapped = giving("${2}-$1", matching("f(.*);(.*)r", base.clone()));
        assert_eq!(of(swapped), r#"{a="foo",b="bar",c="baz",d="ba-oo"}"#);
        assert_eq!(of(matching("fo", base.clone())), r#"{a="foo",b="bar",c="baz"}"#, "anchored: no match, no change");
        assert_eq!(of(to("b", giving("", base.clone()))), r#"{a="foo",c="baz"}"#, "empty removes");
        assert_eq!(of(to("x_$1", matching("(.*);.*", base))), r#"{a="foo",b="bar",c="baz",x_foo="foo"}"#);
    }

    #[test]
    fn keep_and_drop_look_at_the_joined_values() {
        let on_a = |action| matching("fo+", from(&["a"], rule(action)));
        assert!(apply(on_a(Action::Keep), &LABELS).is_some());
        assert!(apply(on_a(Action::Drop), &LABELS).is_none());
        assert!(apply(on_a(Action::Keep), &[("a", "xfoo")]).is_none());
        assert!(apply(matching("", from(&["absent"], rule(Action::Keep))), &LABELS).is_some());
    }

    #[test]
    fn equal_actions_compare_with_the_target() {
        let same = [("a", "x"), ("b", "x")];
        let compare = |action| from(&["a"], to("b", rule(action)));
        assert!(apply(compare(Action::Keepequal), &same).is_some());
        assert!(apply(compare(Action::Keepequal), &LABELS).is_none());
        assert!(apply(compare(Action::Dropequal), &same).is_none());
        assert!(apply(compare(Action::Dropequal), &LABELS).is_some());
    }

    #[test]
    fn names_are_mapped_dropped_and_kept() {
        let meta = [("__meta_x_y", "1"), ("__meta_x_z", "2"), ("k", "3")];
        let of = |action, regex| apply(matching(regex, rule(action)), &meta).unwrap();
        assert_eq!(of(Action::Labelmap, "__meta_x_(.+)"), r#"{__meta_x_y="1",__meta_x_z="2",k="3",y="1",z="2"}"#);
        assert_eq!(of(Action::Labeldrop, "__meta.*"), r#"{k="3"}"#);
        assert_eq!(of(Action::Labelkeep, "k"), r#"{k="3"}"#);
    }

    #[test]
    fn case_and_hash_set_the_target() {
        let of = |action| apply(from(&["a"], to("a", rule(action))), &[("a", "FooBar")]).unwrap();
        assert_eq!(of(Action::Lowercase), r#"{a="foobar"}"#);
        assert_eq!(of(Action::Uppercase), r#"{a="FOOBAR"}"#);
        // python3 -c 'import hashlib; print(int.from_bytes(hashlib.md5(b"foo;bar").digest()[8:], "big") % 1000)'
        let hash = RelabelConfig { modulus: 1000, ..from(&["a", "b"], to("d", rule(Action::Hashmod))) };
        assert_eq!(apply(hash, &LABELS).unwrap(), r#"{a="foo",b="bar",c="baz",d="750"}"#);
    }

    #[test]
    fn a_rule_that_cannot_work_is_refused_by_its_place() {
        let refused = |config| Relabeling::new(&[rule(Action::Labeldrop), config]).unwrap_err().to_string();
        assert!(refused(matching("(", rule(Action::Keep))).starts_with("relabeling rule 1: \"(\" is not"));
        assert!(refused(rule(Action::Replace)).contains("set target_label"));
        assert!(refused(to("a-b", rule(Action::Lowercase))).contains("\"a-b\" is not a label name"));
        assert!(refused(to("a", rule(Action::Hashmod))).contains("modulus"));
    }
}
