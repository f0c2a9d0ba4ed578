//! What metrics are, as their senders say: type, help, unit. Kept in memory, within bounds; never decides anything.

use std::collections::HashMap;
use std::sync::Arc;

use serde::Serialize;

use crate::ingest::is_metric_name;

/// Texts of one metric that differ, as different targets may tell it.
const MAX_VARIANTS: usize = 8;
const MAX_HELP_BYTES: usize = 1024;
const MAX_UNIT_BYTES: usize = 64;

/// The kind of a metric.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum MetricType {
    /// Nobody said.
    #[default]
    Unknown,
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts by size.
    Histogram,
    /// Counts by size that may go down.
    GaugeHistogram,
    /// Quantiles made by the sender.
    Summary,
    /// Facts as labels.
    Info,
    /// One of several states.
    StateSet,
}

impl MetricType {
    /// By its name in an exposition.
    #[must_use]
    pub fn by_name(name: &str) -> Self {
        match name {
            "counter" => Self::Counter,
            "gauge" => Self::Gauge,
            "histogram" => Self::Histogram,
            "gaugehistogram" => Self::GaugeHistogram,
            "summary" => Self::Summary,
            "info" => Self::Info,
            "stateset" => Self::StateSet,
            _ => Self::Unknown,
        }
    }

    /// By its number in remote write.
    #[must_use]
    pub fn by_number(number: u64) -> Self {
        let all = [
            Self::Unknown,
            Self::Counter,
            Self::Gauge,
            Self::Histogram,
            Self::GaugeHistogram,
            Self::Summary,
            Self::Info,
            Self::StateSet,
        ];
        usize::try_from(number).ok().and_then(|number| all.get(number).copied()).unwrap_or_default()
    }
}

/// What a sender says about a metric family.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize)]
pub struct Described {
    /// The metric family.
    #[serde(skip)]
    pub metric: String,
    /// Its kind.
    #[serde(rename = "type")]
    pub kind: MetricType,
    /// A sentence for people.
    pub help: String,
    /// Its unit.
    pub unit: String,
}

/// All that was said, each text once.
#[derive(Debug, Default)]
pub struct Book {
    metrics: HashMap<Box<str>, Vec<Arc<Described>>>,
    refused: u64,
}

impl Book {
    /// Keeps what is said of a metric, unless `max_metrics` others are described already or the name is none. The same text is
    /// kept once; of many differing ones, the latest.
    pub fn keep(&mut self, described: Described, max_metrics: usize) -> Option<Arc<Described>> {
        let described = shortened(described);
        let room = self.metrics.len() < max_metrics || self.metrics.contains_key(described.metric.as_str());
        if !room || !is_metric_name(&described.metric) {
            self.refused += 1;
            return None;
        }
        let variants = self.metrics.entry(described.metric.as_str().into()).or_default();
        if let Some(known) = variants.iter().find(|known| ***known == described) {
            return Some(known.clone());
        }
        if variants.len() >= MAX_VARIANTS {
            variants.remove(0);
        }
        let new = Arc::new(described);
        variants.push(new.clone());
        Some(new)
    }

    /// What is kept of one metric, or of all, in order of names.
    #[must_use]
    pub fn look_up(&self, metric: Option<&str>) -> Vec<Arc<Described>> {
        let mut found: Vec<Arc<Described>> = match metric {
            Some(metric) => self.metrics.get(metric).cloned().unwrap_or_default(),
            None => self.metrics.values().flatten().cloned().collect(),
        };
        found.sort_by(|a, b| a.metric.cmp(&b.metric));
        found
    }

    /// How many metrics are described, and how many descriptions found no room.
    #[must_use]
    pub fn size(&self) -> (usize, u64) {
        (self.metrics.len(), self.refused)
    }
}

fn shortened(mut described: Described) -> Described {
    described.help.truncate(described.help.floor_char_boundary(MAX_HELP_BYTES));
    described.unit.truncate(described.unit.floor_char_boundary(MAX_UNIT_BYTES));
    described
}

#[cfg(test)]
mod tests {
    use super::*;

    fn described(metric: &str, help: &str) -> Described {
        Described { metric: metric.to_owned(), help: help.to_owned(), ..Described::default() }
    }

    #[test]
    fn a_text_is_kept_once_and_the_book_stays_within_its_bounds() {
        let mut book = Book::default();
        let first = book.keep(described("up", "Is it?"), 2).unwrap();
        assert!(Arc::ptr_eq(&first, &book.keep(described("up", "Is it?"), 2).unwrap()));
        for round in 0..100 {
            book.keep(described("load", &format!("text {round}")), 2);
        }
        assert_eq!(book.keep(described("third", ""), 2), None);
        assert_eq!(book.keep(described("no name", ""), 2), None);
        assert_eq!(book.look_up(Some("load")).len(), MAX_VARIANTS);
        assert_eq!((book.look_up(None).len(), book.size()), (MAX_VARIANTS + 1, (2, 2)));
    }

    #[test]
    fn a_help_of_a_megabyte_is_cut_at_a_letter() {
        let kept = Book::default().keep(described("m", &"ä".repeat(1 << 20)), 1).unwrap();
        assert_eq!(kept.help.len(), MAX_HELP_BYTES);
    }
}
