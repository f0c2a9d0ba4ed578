//! Power cuts at every kind of moment on a simulated file system: nothing acknowledged is lost or doubled, and every start
//! succeeds. `BELLWETHER_CRASHES` sets how many.

use std::collections::BTreeMap;

use super::sim_disk::{SimDisk, Weather, next};
use super::*;

const CRASHES: u64 = 2_000;
/// After so many crashes a new store is begun.
const CRASHES_PER_STORE: u64 = 12;
const SERIES: u64 = 12;

/// What was said of a sample: the value acknowledged, and those sent without an answer.
#[derive(Default)]
struct Told {
    kept: Option<u64>,
    sent: Vec<u64>,
}

/// A sender that remembers what it was told.
#[derive(Default)]
struct Sender {
    told: BTreeMap<(u64, i64), Told>,
    now: i64,
    count: u64,
}

impl Sender {
    /// Some samples: mostly the next of some series, now and then late ones, or ones whose fate is not known, sent again.
    fn batch(&mut self, seed: &mut u64) -> Vec<(u64, i64, u64)> {
        let mut batch = BTreeMap::new();
        self.now += 1 + (next(seed) % 3) as i64;
        for series in 0..SERIES {
            if !next(seed).is_multiple_of(3) {
                batch.insert((series, self.now * 15_000), ());
            }
        }
        if next(seed).is_multiple_of(4) {
            batch.insert((next(seed) % SERIES, (self.now - (next(seed) % 200) as i64) * 15_000), ());
        }
        if next(seed).is_multiple_of(2) {
            let unknown = self.told.iter().rev().filter(|(_, told)| told.kept.is_none());
            batch.extend(unknown.take(6).map(|(key, _)| (*key, ())));
        }
        let keys = batch.into_keys().filter(|key| self.told.get(key).is_none_or(|told| told.kept.is_none()));
        let mut count = self.count;
        let valued = keys.map(|(series, at)| {
            count += 1;
            (series, at, (count as f64).to_bits())
        });
        let batch: Vec<_> = valued.collect();
        self.count = count;
        batch
    }

    fn send(&mut self, store: &EmbeddedStore, samples: &[(u64, i64, u64)]) {
        if samples.is_empty() {
            return;
        }
        for (series, at, bits) in samples {
            self.told.entry((*series, *at)).or_default().sent.push(*bits);
        }
        let batch = samples.iter().map(|(series, at, bits)| SeriesSamples {
            labels: labels(*series),
            samples: vec![Sample { at: Timestamp::from_millis(*at), value: f64::from_bits(*bits) }],
        });
        let Some(appended) = append_blocking(store, batch.collect()) else { return };
        for (series, at, bits) in samples {
            let refused = |(of, when, _): &(Labels, Timestamp, _)| *of == labels(*series) && when.as_millis() == *at;
            if !appended.refused.iter().any(refused)
                && let Some(told) = self.told.get_mut(&(*series, *at))
            {
                told.kept = Some(*bits);
            }
        }
    }

    /// Compares with everything the store holds.
    fn check(&self, store: &EmbeddedStore, story: &str) {
        let found = store.shared.select(&[], ALL, None, usize::MAX).unwrap_or_else(|error| panic!("{story}: {error}"));
        let mut held = BTreeMap::new();
        for one in &found {
            let series: u64 = one.labels.get("series").unwrap().parse().unwrap();
            assert!(one.samples.windows(2).all(|pair| pair[0].at < pair[1].at), "{story}: a sample is there twice");
            for sample in &one.samples {
                let before = held.insert((series, sample.at.as_millis()), sample.value.to_bits());
                assert_eq!(before, None, "{story}: series {series} is there twice");
            }
        }
        for (key, told) in &self.told {
            let held = held.remove(key);
            match told.kept {
                Some(kept) => assert_eq!(held, Some(kept), "{story}: {key:?} was acknowledged"),
                None => assert!(held.is_none_or(|held| told.sent.contains(&held)), "{story}: {key:?} holds {held:?}"),
            }
        }
        assert!(held.is_empty(), "{story}: never sent: {held:?}");
    }
}

fn append_blocking(store: &EmbeddedStore, batch: Batch) -> Option<Appended> {
    let (reply, answer) = oneshot::channel();
    store.queue.as_ref()?.send(Command::Append(batch, reply)).ok()?;
    answer.blocking_recv().ok()?.ok()
}

fn labels(series: u64) -> Labels {
    Labels::metric("crashes").with("series", &series.to_string())
}

/// A store's life from one start to the next power cut.
fn live(disk: &SimDisk, config: &EmbeddedConfig, sender: &mut Sender, seed: &mut u64, story: &str) {
    disk.cut_power_after(if next(seed).is_multiple_of(8) { next(seed) % 8 } else { next(seed) % 300 });
    let store = match EmbeddedStore::open_on(config.clone(), Arc::new(disk.clone())) {
        Ok(store) => store,
        Err(error) => return assert!(disk.is_dark(), "{story}: it does not start: {error}"),
    };
    sender.check(&store, story);
    while !disk.is_dark() {
        let weather = match next(seed) % 24 {
            0 => Weather::Full(disk.used() + next(seed) % 600),
            1 => Weather::SyncsFail,
            2 => Weather::ReadOnly,
            3..10 => Weather::Fair,
            _ => {
                let batch = sender.batch(seed);
                sender.send(&store, &batch);
                continue;
            }
        };
        disk.weather(weather);
    }
}

/// Crashes stores until the count is reached; gives how often a block was there at a start.
fn crash(stores: Range<u64>) -> u64 {
    let mut with_blocks = 0;
    for number in stores {
        let mut seed = number;
        let config = EmbeddedConfig {
            path: PathBuf::from("/simulated"),
            memory_bytes: 6000,
            partition: Duration::from_secs(3600),
            retention: Duration::ZERO,
            ..EmbeddedConfig::default()
        };
        let (mut disk, mut sender) = (SimDisk::new(next(&mut seed)), Sender::default());
        for crash in 0..CRASHES_PER_STORE {
            live(&disk, &config, &mut sender, &mut seed, &format!("store {number}, crash {crash}"));
            disk = disk.after_power_cut();
            with_blocks += u64::from(disk.has(".block"));
        }
        let store = EmbeddedStore::open_on(config, Arc::new(disk)).unwrap();
        sender.check(&store, &format!("store {number}, at its end"));
        assert_eq!(store.damage(), Vec::<String>::new(), "store {number}");
        assert!(sender.told.values().filter(|told| told.kept.is_some()).count() > 100, "too little was acknowledged");
    }
    with_blocks
}

#[test]
fn whenever_the_power_goes_nothing_acknowledged_is_lost_or_doubled_and_it_starts_again() {
    let crashes = std::env::var("BELLWETHER_CRASHES").ok().and_then(|count| count.parse().ok()).unwrap_or(CRASHES);
    let with_blocks = crash(0..crashes.div_ceil(CRASHES_PER_STORE));
    assert!(with_blocks > crashes / 4, "only {with_blocks} of {crashes} starts found blocks");
}
