//! A copy of a store with a bit flipped or its end cut off, at many places.

use std::collections::BTreeMap;
use std::path::Path;

use super::*;
use crate::store::embedded::block::{Piece, walk};
use crate::store::embedded::wire::{Reader, put_frame};

type Contents = BTreeMap<String, BTreeMap<i64, u64>>;

/// A store with several partitions, sealed blocks of several series and a journal.
async fn written() -> (TempDir, Contents) {
    let dir = TempDir::new().unwrap();
    let config = EmbeddedConfig { memory_bytes: 20_000, ..eager(&dir) };
    let store = open(&config);
    for round in 0..150 {
        append(&store, &scrape(round, 40)).await;
    }
    settled(&store).await;
    for round in 150..170 {
        append(&store, &scrape(round, 40)).await;
    }
    settled(&store).await;
    let all = maps(contents(&store).await);
    drop(store);
    (dir, all)
}

fn maps(contents: Vec<(String, Vec<(i64, u64)>)>) -> Contents {
    contents.into_iter().map(|(labels, points)| (labels, points.into_iter().collect())).collect()
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap().map(Result::unwrap) {
        if entry.path().is_dir() { all.extend(files(&entry.path())) } else { all.push(entry.path()) }
    }
    all.sort();
    all
}

fn copy(from: &Path) -> TempDir {
    let to = TempDir::new().unwrap();
    for file in files(from) {
        let target = to.path().join(file.strip_prefix(from).unwrap());
        std::fs::create_dir_all(target.parent().unwrap()).unwrap();
        std::fs::copy(file, target).unwrap();
    }
    to
}

/// How many samples are missing; panics when one is there that should not be.
fn missing(found: &Contents, all: &Contents) -> usize {
    for (labels, points) in found {
        points.iter().for_each(|(at, bits)| assert_eq!(all[labels].get(at), Some(bits), "{labels} at {at} is wrong"));
    }
    let count = |contents: &Contents| contents.values().map(BTreeMap::len).sum::<usize>();
    count(all) - count(found)
}

/// Opens, asks, verifies, repairs and asks again. Gives how many samples repair could not keep.
async fn survives(dir: &TempDir, all: &Contents, what: &str) -> usize {
    let report = match verify(dir.path()) {
        Ok(report) => report,
        Err(error @ OpenError::Format { .. }) => {
            assert!(error.to_string().contains("FORMAT"), "{what}: {error}");
            assert!(EmbeddedStore::open(config(dir)).is_err(), "{what}");
            return 0;
        }
        Err(error) => panic!("{what}: {error}"),
    };
    {
        let store = open(&config(dir));
        match store.select(&[], ALL, usize::MAX).await {
            Ok(_) => {
                let lost = missing(&maps(contents(&store).await), all);
                assert!(lost == 0 || !report.damages.is_empty(), "{what}: {lost} samples lost without a word");
            }
            Err(StoreError::Damaged { place, .. }) => {
                assert!(!report.damages.is_empty(), "{what}: {place} not in {report}")
            }
            Err(error) => panic!("{what}: {error}"),
        }
    }
    repair(dir.path()).unwrap();
    let store = open(&config(dir));
    let lost = missing(&maps(contents(&store).await), all);
    drop(store);
    assert!(lost == 0 || !report.damages.is_empty(), "{what}: {lost} samples lost without a word");
    assert!(report.damages.iter().all(|damage| damage.file.starts_with(dir.path()) && !damage.to_string().is_empty()));
    lost
}

fn places(len: usize, count: usize) -> impl Iterator<Item = usize> {
    (0..count).map(move |i| (i * 7919 + i * len / count) % len)
}

#[tokio::test]
async fn a_flipped_bit_anywhere_is_found_and_costs_no_more_than_what_it_hit() {
    let (dir, all) = written().await;
    let kept = files(dir.path()).into_iter().filter(|path| path.file_name().is_some_and(|name| name != "lock"));
    for file in kept {
        let bytes = std::fs::read(&file).unwrap();
        for at in places(bytes.len(), 24) {
            let damaged = copy(dir.path());
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << (at % 8);
            let name = file.strip_prefix(dir.path()).unwrap();
            std::fs::write(damaged.path().join(name), flipped).unwrap();
            let lost =
                survives(&damaged, &all, &format!("{} bit flipped at {at} of {}", name.display(), bytes.len())).await;
            assert!(lost <= 60, "{lost} samples lost by one bit at {at} in {}", name.display());
        }
    }
}

#[tokio::test]
async fn a_file_cut_off_anywhere_keeps_what_lies_before_the_cut() {
    let (dir, all) = written().await;
    let kept = files(dir.path()).into_iter().filter(|path| path.file_name().is_some_and(|name| name != "lock"));
    for file in kept {
        let bytes = std::fs::read(&file).unwrap();
        let mut lost_before = usize::MAX;
        let mut cuts: Vec<usize> = places(bytes.len(), 16).collect();
        cuts.sort_unstable();
        // Cut between two records, a journal is as it was before the later one was written: nobody can tell.
        let journal = file.extension().is_some_and(|ending| ending == "log");
        let seamless = |at: usize| {
            journal && at >= 8 && journal::replay(&bytes[..at].to_vec(), |_, _| {}).unwrap().unfinished == 0
        };
        for at in cuts.into_iter().filter(|at| !seamless(*at)) {
            let damaged = copy(dir.path());
            let name = file.strip_prefix(dir.path()).unwrap();
            std::fs::write(damaged.path().join(name), &bytes[..at]).unwrap();
            let lost = survives(&damaged, &all, &format!("{} cut at {at} of {}", name.display(), bytes.len())).await;
            assert!(lost <= lost_before || name.ends_with("FORMAT"), "a later cut of {} lost more", name.display());
            lost_before = lost;
        }
    }
}

#[tokio::test]
async fn the_report_names_the_file_the_series_and_the_time() {
    let (dir, _) = written().await;
    let block = files(dir.path()).into_iter().find(|path| path.extension().is_some_and(|e| e == "block")).unwrap();
    let mut bytes = std::fs::read(&block).unwrap();
    let middle = bytes.len() * 6 / 10;
    bytes[middle] ^= 1;
    std::fs::write(&block, bytes).unwrap();
    let report = verify(dir.path()).unwrap();
    let [damage] = report.damages.as_slice() else { panic!("{report}") };
    assert_eq!((damage.file.as_path(), damage.part), (block.as_path(), "a chunk"));
    assert!(damage.series.as_ref().is_some_and(|series| series.starts_with("cpu_seconds_total{cpu=")), "{report}");
    assert!(damage.range.is_some(), "{report}");
    repair(dir.path()).unwrap();
    assert_eq!(verify(dir.path()).unwrap().damages, []);
    assert!(block.with_extension("block.damaged").exists());
}

#[tokio::test]
async fn a_whole_store_verifies_without_a_word() {
    let (dir, all) = written().await;
    let report = verify(dir.path()).unwrap();
    assert_eq!((report.damages.as_slice(), report.series), ([].as_slice(), all.len() as u64));
    let samples: u64 = all.values().map(|points| points.len() as u64).sum();
    assert_eq!(report.sealed_samples + report.journal_samples, samples);
}

#[tokio::test]
async fn a_chunk_that_is_whole_and_says_nothing_is_damage_too() {
    let (dir, _) = written().await;
    let block = files(&dir.path().join("blocks")).remove(0);
    let mut bytes = std::fs::read(&block).unwrap();
    let chunk = walk(&bytes).find_map(|(at, piece)| matches!(piece, Piece::Chunk(_)).then_some(at)).unwrap();
    let mut payload = Reader::new(&bytes[chunk..]).frame().unwrap().to_vec();
    *payload.last_mut().unwrap() ^= 0x80; // the end of the last varint is none any more
    let mut frame = Vec::new();
    put_frame(&mut frame, &payload);
    bytes[chunk..chunk + frame.len()].copy_from_slice(&frame);
    std::fs::write(&block, bytes).unwrap();

    let report = verify(dir.path()).unwrap();
    let found: Vec<_> = report.damages.iter().map(|damage| (&damage.file, damage.offset, damage.part)).collect();
    assert_eq!(found, [(&block, chunk as u64, "a chunk")]);
    repair(dir.path()).unwrap();
    let after = verify(dir.path()).unwrap();
    assert_eq!((after.damages.len(), after.sealed_samples), (0, report.sealed_samples));
}
