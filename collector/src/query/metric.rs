//! The labels of a result while it is computed.

use std::hash::{Hash, Hasher};

use bellwether_models::series::{Labels, METRIC_NAME};

/// Labels whose metric name may be struck out: most functions drop the name, and copying all labels for that is dear.
#[derive(Clone, Debug, Default)]
pub(super) struct Metric {
    labels: Labels,
    nameless: bool,
}

impl Metric {
    pub fn get(&self, name: &str) -> &str {
        if self.nameless && name == METRIC_NAME { "" } else { self.labels.get(name).unwrap_or("") }
    }

    pub fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.labels.iter().filter(|(name, _)| !self.nameless || *name != METRIC_NAME)
    }

    pub fn without_name(&self) -> Self {
        Self { labels: self.labels.clone(), nameless: true }
    }

    pub fn with(&self, name: &str, value: &str) -> Self {
        Self::from(Labels::new(self.pairs().chain([(name, value)])))
    }

    pub fn into_labels(self) -> Labels {
        if self.nameless { self.labels.without(|name| name == METRIC_NAME) } else { self.labels }
    }

    /// What two metrics must share to belong together: the values of the named labels (`on`, `by`), or all labels but
    /// the named ones and the metric's name (`ignoring`, `without`).
    pub fn key<'a>(&'a self, on: bool, names: &'a [String]) -> Vec<&'a str> {
        if on {
            return names.iter().map(|name| self.get(name)).collect();
        }
        self.others(names).flat_map(|(name, value)| [name, value]).collect()
    }

    /// The labels that [`Metric::key`] is made of.
    pub fn key_labels(&self, on: bool, names: &[String]) -> Self {
        let labels = if on {
            Labels::new(names.iter().map(|name| (name.as_str(), self.get(name))))
        } else {
            Labels::new(self.others(names))
        };
        Self::from(labels)
    }

    /// All but the named labels; the metric's name stays unless it is named.
    pub fn minus(&self, names: &[String]) -> Self {
        Self::from(Labels::new(self.pairs().filter(|(name, _)| names.iter().all(|n| n != name))))
    }

    fn others<'a>(&'a self, names: &'a [String]) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.labels.iter().filter(move |(name, _)| *name != METRIC_NAME && names.iter().all(|n| n != name))
    }
}

impl From<Labels> for Metric {
    fn from(labels: Labels) -> Self {
        Self { labels, nameless: false }
    }
}

impl PartialEq for Metric {
    fn eq(&self, other: &Self) -> bool {
        self.pairs().eq(other.pairs())
    }
}

impl Eq for Metric {}

impl Hash for Metric {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.pairs().for_each(|pair| pair.hash(state));
    }
}

impl std::fmt::Display for Metric {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.clone().into_labels().fmt(f)
    }
}
