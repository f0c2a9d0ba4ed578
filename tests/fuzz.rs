//! Every input in the corpora of the fuzzer, through the functions that the fuzzer runs; and the readers of the store's
//! files over what the store writes today, damaged.

#[path = "../fuzz/src/targets/mod.rs"]
mod targets;

use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

use bellwether_collector::store::embedded::{EmbeddedConfig, EmbeddedStore};
use bellwether_collector::store::{SeriesSamples, Store};
use bellwether_models::series::{Labels, Sample, Timestamp};
use targets::{ALL, Target};

fn target(name: &str) -> Target {
    ALL.iter().find(|(known, _)| *known == name).map(|(_, target)| *target).expect("a target")
}

fn corpora() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus")
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    files.sort();
    files
}

#[test]
fn every_known_input_leaves_its_reader_true_to_its_word() {
    let mut broken = Vec::new();
    for (name, target) in ALL {
        let inputs = files(&corpora().join(name));
        assert!(!inputs.is_empty(), "{name} has no corpus");
        for input in inputs {
            let bytes = std::fs::read(&input).expect("the input is there");
            if catch_unwind(|| target(&bytes)).is_err() {
                broken.push(input);
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn every_corpus_has_a_target() {
    for corpus in files(&corpora()) {
        let name = corpus.file_name().and_then(|name| name.to_str()).expect("a name");
        assert!(ALL.iter().any(|(known, _)| *known == name), "{name}");
    }
}

/// The next of a sequence that a seed fixes (xorshift64).
fn next(seed: &mut u64) -> u64 {
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    *seed
}

/// What the store writes today: a segment of the journal, and a block of the same samples.
async fn written() -> (Vec<u8>, Vec<u8>) {
    let folder = tempfile::tempdir().expect("a folder");
    let config = EmbeddedConfig { path: folder.path().to_owned(), memory_bytes: 20_000, ..EmbeddedConfig::default() };
    let store = EmbeddedStore::open(config).expect("a store");
    let newest = |part: &str| files(&folder.path().join(part)).into_iter().next_back().map(std::fs::read);
    let mut journal = Vec::new();
    for step in 0..3000 {
        let sample = |i: i64| SeriesSamples {
            labels: Labels::metric("m").with("i", &i.to_string()),
            samples: vec![Sample { at: Timestamp::from_secs(15 * step), value: (step * i) as f64 / 8.0 }],
        };
        let _ = store.append((0..4).map(sample).collect()).await; // busy while it seals
        if step == 5 {
            journal = newest("journal").expect("a segment").expect("it can be read");
        }
        if let Some(Ok(block)) = newest("blocks")
            && block.len() > 64
        {
            return (journal, block);
        }
    }
    panic!("nothing was sealed");
}

/// With `BELLWETHER_WRITE_SEEDS=1` the files become the seeds of the fuzzer.
fn put_seeds(files: &[(&str, &[u8])]) {
    for (name, bytes) in files.iter().filter(|_| std::env::var_os("BELLWETHER_WRITE_SEEDS").is_some()) {
        std::fs::create_dir_all(corpora().join(name)).expect("a folder");
        std::fs::write(corpora().join(name).join("today"), bytes).expect("a file");
    }
}

#[tokio::test]
async fn the_files_of_today_are_read_whatever_becomes_of_them() {
    let (journal, block) = written().await;
    put_seeds(&[("store_journal", &journal), ("store_block", &block)]);
    std::thread::spawn(move || {
        let mut seed = 0x5eed_u64;
        for (name, whole) in [("store_journal", journal), ("store_block", block)] {
            for round in 0..60 {
                let mut bytes = whole.clone();
                for _ in 0..round % 4 {
                    let at = next(&mut seed) as usize % bytes.len();
                    bytes[at] = next(&mut seed) as u8;
                }
                if round % 5 == 4 {
                    bytes.truncate(next(&mut seed) as usize % whole.len());
                }
                if catch_unwind(|| target(name)(&bytes)).is_err() {
                    panic!("{name}, round {round} of seed 0x5eed");
                }
            }
        }
    })
    .join()
    .expect("no reader breaks");
}
