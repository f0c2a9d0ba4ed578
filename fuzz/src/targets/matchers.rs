//! Label matchers: the index of the embedded store against plain comparison.

use std::cell::LazyCell;

use bellwether_collector::store::embedded::{EmbeddedConfig, EmbeddedStore};
use bellwether_collector::store::memory::MemoryStore;
use bellwether_collector::store::{Batch, Matcher, SeriesSamples, Store, TimeRange};
use bellwether_models::series::{Labels, Sample, Timestamp};
use tempfile::TempDir;

use super::choice;
use super::door::{NOW, wait_for};

/// Pairs of lines are a label's name and a pattern, the first byte chooses the operators. A matcher and its opposite
/// share out every value, a literal pattern is equality, and both stores find the same series.
pub fn matchers(bytes: &[u8]) {
    let (operators, text) = choice(bytes);
    let Ok(text) = std::str::from_utf8(text) else { return };
    let lines: Vec<&str> = text.lines().take(6).collect();
    let mut all = Vec::new();
    for (index, pair) in lines.chunks_exact(2).enumerate() {
        shared_out(pair[0], pair[1]);
        let Some(matcher) = matcher(operators >> (2 * index), pair[0], pair[1]) else { return };
        all.push(matcher);
    }
    STORES.with(|stores| assert_eq!(found(&stores.embedded, &all), found(&stores.memory, &all), "{all:?}"));
}

fn matcher(operator: u8, name: &str, value: &str) -> Option<Matcher> {
    match operator & 3 {
        0 => Some(Matcher::equal(name, value)),
        1 => Some(Matcher::not_equal(name, value)),
        2 => Matcher::regex(name, value).ok(),
        _ => Matcher::not_regex(name, value).ok(),
    }
}

fn shared_out(name: &str, pattern: &str) {
    let literal = Matcher::regex(name, regex::escape(pattern)).expect("an escaped text is a pattern");
    for value in VALUES.iter().copied().chain(["", pattern]) {
        assert_eq!(literal.matches_value(value), Matcher::equal(name, pattern).matches_value(value));
        if let (Ok(yes), Ok(no)) = (Matcher::regex(name, pattern), Matcher::not_regex(name, pattern)) {
            assert_ne!(yes.matches_value(value), no.matches_value(value));
        }
    }
}

fn found(store: &dyn Store, matchers: &[Matcher]) -> Vec<Labels> {
    let always = TimeRange { from: Timestamp::MIN, to: Timestamp::MAX };
    let series = wait_for(store.series(matchers, always)).expect("the store answers");
    let samples = wait_for(store.select(matchers, always, usize::MAX)).expect("the store answers");
    assert_eq!(series, samples.into_iter().map(|one| one.labels).collect::<Vec<_>>());
    series
}

const VALUES: [&str; 9] = ["a", "b", "ab", "a:80", "A", "日本", "a\nb", "a.b", "web|db"];

struct Stores {
    embedded: EmbeddedStore,
    memory: MemoryStore,
    _folder: TempDir,
}

thread_local! {
    static STORES: LazyCell<Stores> = LazyCell::new(|| {
        let folder = tempfile::tempdir().expect("a folder");
        let embedded = EmbeddedStore::open(EmbeddedConfig { path: folder.path().to_owned(), ..EmbeddedConfig::default() });
        let stores = Stores { embedded: embedded.expect("a store"), memory: MemoryStore::default(), _folder: folder };
        wait_for(stores.embedded.append(batch())).expect("it takes the batch");
        wait_for(stores.memory.append(batch())).expect("it takes the batch");
        stores
    });
}

fn batch() -> Batch {
    let series = |labels: Labels| SeriesSamples { labels, samples: vec![Sample { at: NOW, value: 1.0 }] };
    let pairs = VALUES.iter().flat_map(|a| ["", "x", "y"].map(|b| (*a, b)));
    let labels = pairs.map(|(a, b)| Labels::metric("up").with("a", a).with("b", b));
    labels.chain([Labels::metric("up"), Labels::metric("load").with("a", "a")]).map(series).collect()
}
