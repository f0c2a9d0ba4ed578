//! From labels to series numbers and back: shared text, postings per label value.

use std::collections::HashMap;
use std::hash::BuildHasher;

use bellwether_models::series::Labels;
use hashbrown::{DefaultHashBuilder, HashTable};
use roaring::RoaringBitmap;

use super::paged::Paged;
use crate::store::Matcher;

/// The number of a series; never used twice while anything on disk may still speak of it.
pub(super) type SeriesId = u32;

/// The labels of a series as symbols of names and values.
type Pairs = Box<[(u32, u32)]>;

/// What is known of a series; no pairs for a number that is not in use.
#[derive(Debug, Default, PartialEq)]
struct Known {
    /// Hash of the labels, so that the table can grow without them.
    hash: u64,
    pairs: Option<Pairs>,
}

/// Every series known, found by its labels or by matchers.
#[derive(Debug, Default)]
pub(super) struct LabelIndex {
    hasher: DefaultHashBuilder,
    symbols: Symbols,
    series: Paged<Known>,
    /// Above every number seen so far; after the last number of all it starts again from the first that is free.
    next: SeriesId,
    by_labels: HashTable<SeriesId>,
    postings: HashMap<u32, HashMap<u32, RoaringBitmap>>,
    all: RoaringBitmap,
}

impl LabelIndex {
    /// The number of a series, if it is known.
    pub(super) fn find(&self, labels: &Labels) -> Option<SeriesId> {
        self.by_labels.find(self.hash(labels), |id| self.equals(*id, labels)).copied()
    }

    /// The number of a series, given to it now if it is new.
    pub(super) fn find_or_add(&mut self, labels: &Labels) -> SeriesId {
        self.find(labels).unwrap_or_else(|| {
            while self.is_known(self.next) {
                self.next = self.next.wrapping_add(1);
            }
            let id = self.next;
            self.set(id, labels);
            id
        })
    }

    /// Gives a series the number it has on disk. `false` when the number belongs to another series.
    pub(super) fn define(&mut self, id: SeriesId, labels: &Labels) -> bool {
        if self.is_known(id) {
            return self.equals(id, labels);
        }
        self.set(id, labels);
        true
    }

    /// Makes sure that a number is not given to a new series.
    pub(super) fn reserve(&mut self, id: SeriesId) {
        if id >= self.next {
            self.next = id.wrapping_add(1);
        }
    }

    /// How many series are known.
    pub(super) fn len(&self) -> u64 {
        self.all.len()
    }

    /// Whether a number stands for a series.
    pub(super) fn is_known(&self, id: SeriesId) -> bool {
        self.series.get(id).is_some()
    }

    /// The labels of a series; none for a number that is not in use.
    pub(super) fn labels(&self, id: SeriesId) -> Option<Labels> {
        let pairs = self.series.get(id)?.pairs.as_deref()?;
        Some(Labels::new(pairs.iter().map(|(name, value)| (self.symbols.text(*name), self.symbols.text(*value)))))
    }

    /// Series that satisfy every matcher.
    pub(super) fn select(&self, matchers: &[Matcher]) -> RoaringBitmap {
        let mut found = self.all.clone();
        for matcher in matchers {
            let by_value = self.symbols.find(&matcher.name, &self.hasher).and_then(|name| self.postings.get(&name));
            let matching = by_value.map_or_else(RoaringBitmap::new, |values| self.matching(matcher, values));
            if matcher.matches_value("") {
                // Series without the label match too: take away those that have it with another value.
                let mut having = RoaringBitmap::new();
                by_value.into_iter().flat_map(HashMap::values).for_each(|ids| having |= ids);
                found -= having - matching;
            } else {
                found &= matching;
            }
        }
        found
    }

    /// Forgets a series.
    pub(super) fn remove(&mut self, id: SeriesId) {
        let Some(labels) = self.labels(id) else { return };
        if let Ok(entry) = self.by_labels.find_entry(self.hash(&labels), |other| *other == id) {
            entry.remove();
        }
        self.all.remove(id);
        for (name, value) in self.series.set(id, Known::default()).pairs.unwrap_or_default() {
            self.unpost(name, value, id);
            self.symbols.release(name, &self.hasher);
            self.symbols.release(value, &self.hasher);
        }
    }

    fn matching(&self, matcher: &Matcher, values: &HashMap<u32, RoaringBitmap>) -> RoaringBitmap {
        let mut ids = RoaringBitmap::new();
        if let crate::store::MatchOp::Equal = matcher.op {
            let value = self.symbols.find(&matcher.value, &self.hasher);
            return value.and_then(|value| values.get(&value)).cloned().unwrap_or(ids);
        }
        for (value, posted) in values {
            if matcher.matches_value(self.symbols.text(*value)) {
                ids |= posted;
            }
        }
        ids
    }

    fn set(&mut self, id: SeriesId, labels: &Labels) {
        self.reserve(id);
        let mut pairs = Vec::with_capacity(labels.len());
        for (name, value) in labels.iter() {
            let pair = (self.symbols.intern(name, &self.hasher), self.symbols.intern(value, &self.hasher));
            self.postings.entry(pair.0).or_default().entry(pair.1).or_default().insert(id);
            pairs.push(pair);
        }
        self.all.insert(id);
        let hash = self.hash(labels);
        self.series.set(id, Known { hash, pairs: Some(pairs.into()) });
        let series = &self.series;
        self.by_labels.insert_unique(hash, id, |other| series.get(*other).map_or(0, |known| known.hash));
    }

    fn unpost(&mut self, name: u32, value: u32, id: SeriesId) {
        let Some(values) = self.postings.get_mut(&name) else { return };
        if let Some(ids) = values.get_mut(&value) {
            ids.remove(id);
            if ids.is_empty() {
                values.remove(&value);
            }
        }
        if values.is_empty() {
            self.postings.remove(&name);
        }
    }

    fn hash(&self, labels: &Labels) -> u64 {
        self.hasher.hash_one(labels)
    }

    fn equals(&self, id: SeriesId, labels: &Labels) -> bool {
        let pairs = self.series.get(id).and_then(|known| known.pairs.as_deref()).unwrap_or_default();
        let mut texts = self.symbols.texts(Some(pairs));
        labels.iter().all(|pair| texts.next() == Some(pair)) && texts.next().is_none()
    }
}

/// Every label name and value once, counted by how many series use it.
#[derive(Debug, Default)]
struct Symbols {
    texts: Vec<(Box<str>, u32)>,
    free: Vec<u32>,
    by_text: HashTable<u32>,
}

impl Symbols {
    fn text(&self, symbol: u32) -> &str {
        &self.texts[symbol as usize].0
    }

    fn texts<'a>(&'a self, pairs: Option<&'a [(u32, u32)]>) -> impl Iterator<Item = (&'a str, &'a str)> {
        pairs.unwrap_or_default().iter().map(|(name, value)| (self.text(*name), self.text(*value)))
    }

    fn find(&self, text: &str, hasher: &DefaultHashBuilder) -> Option<u32> {
        self.by_text.find(hasher.hash_one(text), |symbol| self.text(*symbol) == text).copied()
    }

    fn intern(&mut self, text: &str, hasher: &DefaultHashBuilder) -> u32 {
        let symbol = self.find(text, hasher).unwrap_or_else(|| self.add(text, hasher));
        self.texts[symbol as usize].1 += 1;
        symbol
    }

    fn add(&mut self, text: &str, hasher: &DefaultHashBuilder) -> u32 {
        let symbol = self.free.pop().unwrap_or_else(|| {
            self.texts.push(Default::default());
            self.texts.len() as u32 - 1
        });
        self.texts[symbol as usize] = (text.into(), 0);
        let texts = &self.texts;
        self.by_text.insert_unique(hasher.hash_one(text), symbol, |other| hasher.hash_one(&*texts[*other as usize].0));
        symbol
    }

    fn release(&mut self, symbol: u32, hasher: &DefaultHashBuilder) {
        let (text, uses) = &mut self.texts[symbol as usize];
        *uses = uses.saturating_sub(1);
        if *uses == 0 {
            if let Ok(entry) = self.by_text.find_entry(hasher.hash_one(&**text), |other| *other == symbol) {
                entry.remove();
            }
            *text = Default::default();
            self.free.push(symbol);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(job: &str, instance: &str) -> Labels {
        Labels::metric("up").with("job", job).with("instance", instance)
    }

    #[test]
    fn series_are_found_by_labels_and_by_every_kind_of_matcher() {
        let mut index = LabelIndex::default();
        let all = [series("a", "1"), series("a", "2"), series("b", "1"), Labels::metric("down")];
        let ids: Vec<u32> = all.iter().map(|labels| index.find_or_add(labels)).collect();
        assert_eq!(ids, [0, 1, 2, 3]);
        assert_eq!(index.find_or_add(&all[2]), 2);
        let select = |matchers: &[Matcher]| index.select(matchers).iter().collect::<Vec<_>>();
        assert_eq!(select(&[]), [0, 1, 2, 3]);
        assert_eq!(select(&[Matcher::equal("job", "a")]), [0, 1]);
        assert_eq!(select(&[Matcher::not_equal("job", "a")]), [2, 3]);
        assert_eq!(select(&[Matcher::equal("job", "")]), [3]);
        assert_eq!(select(&[Matcher::regex("job", "a|b").unwrap(), Matcher::equal("instance", "1")]), [0, 2]);
        assert_eq!(select(&[Matcher::not_regex("job", "a.*").unwrap()]), [2, 3]);
        assert_eq!(select(&[Matcher::regex("job", ".*").unwrap()]), [0, 1, 2, 3]);
        assert_eq!(select(&[Matcher::regex("job", ".+").unwrap()]), [0, 1, 2]);
        assert_eq!(select(&[Matcher::equal("absent", "x")]), Vec::<u32>::new());
    }

    #[test]
    fn numbers_far_apart_cost_little_and_after_the_last_comes_the_first_that_is_free() {
        let mut index = LabelIndex::default();
        assert!(index.define(u32::MAX - 1, &series("a", "1")));
        assert!(index.define(0, &series("a", "2")));
        assert!(!index.define(0, &series("a", "3")));
        let fresh: Vec<u32> = (4..7).map(|i| index.find_or_add(&series("a", &i.to_string()))).collect();
        assert_eq!(fresh, [u32::MAX, 1, 2]);
    }

    #[test]
    fn a_forgotten_series_leaves_no_text_behind_and_its_number_is_not_reused() {
        let mut index = LabelIndex::default();
        let (one, two) = (series("a", "1"), series("a", "2"));
        index.find_or_add(&one);
        index.find_or_add(&two);
        index.remove(0);
        assert_eq!(index.find(&one), None);
        assert_eq!(index.labels(1), Some(two));
        assert_eq!(index.select(&[Matcher::equal("instance", "1")]).len(), 0);
        assert_eq!(index.find_or_add(&one), 2);
        index.remove(1);
        index.remove(2);
        assert_eq!((index.len(), index.symbols.by_text.len(), index.postings.len()), (0, 0, 0));
    }
}
