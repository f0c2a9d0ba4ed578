//! The files of the embedded store.

use std::path::Path;
use std::sync::OnceLock;

use bellwether_collector::store::embedded::{EmbeddedConfig, EmbeddedStore, repair, verify};
use bellwether_collector::store::{Store, TimeRange};
use bellwether_models::series::Timestamp;
use tempfile::TempDir;

use super::door::{Kept, flat, wait_for};

/// The bytes are a segment of the journal.
pub fn journal(bytes: &[u8]) {
    let mut bytes = bytes.to_vec();
    seal_records(&mut bytes);
    taken_up("journal/1.log", &bytes);
}

/// The bytes are a block of the first day.
pub fn block(bytes: &[u8]) {
    let mut bytes = bytes.to_vec();
    seal_frames(&mut bytes);
    taken_up("blocks/0_1_1.block", &bytes);
}

/// A store opens over any file and answers; repaired, it has no damage left but samples that lost their names with another
/// record, and has all that it had.
fn taken_up(file: &str, bytes: &[u8]) {
    let folder = folder();
    for part in ["journal", "blocks"] {
        std::fs::create_dir_all(folder.path().join(part)).expect("a folder");
    }
    std::fs::write(folder.path().join("FORMAT"), format()).expect("a file");
    std::fs::write(folder.path().join(file), bytes).expect("a file");
    let before = held(folder.path());
    repair(folder.path()).expect("a store that opened can be repaired");
    let report = verify(folder.path()).expect("and looked at");
    let nameless = "the samples in later records";
    assert!(report.damages.iter().all(|damage| damage.part == nameless), "after repair: {report}");
    let after = held(folder.path());
    if let Some(before) = before {
        let after = after.expect("what answered before it was repaired answers afterwards");
        assert!(before.iter().all(|sample| after.binary_search(sample).is_ok()), "{before:?} before, {after:?} after");
    }
}

/// All samples of the store in a folder; `None` when it refuses to answer because of damage.
fn held(folder: &Path) -> Option<Vec<Kept>> {
    let store = EmbeddedStore::open(EmbeddedConfig { path: folder.to_owned(), ..EmbeddedConfig::default() });
    let store = store.expect("a damaged store opens");
    let always = TimeRange { from: Timestamp::MIN, to: Timestamp::MAX };
    wait_for(store.select(&[], always, 1 << 24)).ok().map(flat)
}

/// What a new store says of itself.
fn format() -> &'static [u8] {
    static FORMAT: OnceLock<Vec<u8>> = OnceLock::new();
    FORMAT.get_or_init(|| {
        let folder = folder();
        drop(EmbeddedStore::open(EmbeddedConfig { path: folder.path().to_owned(), ..EmbeddedConfig::default() }));
        std::fs::read(folder.path().join("FORMAT")).expect("a new store has a format")
    })
}

/// In memory where there is such a place: thousands of stores are made.
fn folder() -> TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a folder")
}

const HEADER: usize = 8;
const TRAILER: usize = 24;

/// Puts the right CRC on each record of a journal: what a record says is read only behind it.
fn seal_records(bytes: &mut [u8]) {
    let mut at = HEADER;
    while let Some(head) = bytes.get(at..at + 12) {
        let length = u32::from_le_bytes([head[4], head[5], head[6], head[7]]) as usize;
        let Some(payload) = bytes.get(at + 12..at.saturating_add(12).saturating_add(length)) else { return };
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&head[4..8]);
        hasher.update(payload);
        let crc = hasher.finalize().to_le_bytes();
        bytes[at + 8..at + 12].copy_from_slice(&crc);
        at += 12 + length;
    }
}

/// Puts the right CRC on each frame of a block.
fn seal_frames(bytes: &mut [u8]) {
    let mut at = HEADER;
    while at + TRAILER < bytes.len() {
        let Some(end) = end_of_frame(bytes, at) else { return };
        let crc = crc32fast::hash(&bytes[at + 4..end]).to_le_bytes();
        bytes[at..at + 4].copy_from_slice(&crc);
        at = end;
    }
}

/// Four bytes of CRC, a length in groups of seven bits, the payload.
fn end_of_frame(bytes: &[u8], at: usize) -> Option<usize> {
    let (mut length, mut next) = (0usize, at + 4);
    for shift in (0..28).step_by(7) {
        let byte = *bytes.get(next)?;
        next += 1;
        length |= usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(next + length).filter(|end| *end + TRAILER <= bytes.len());
        }
    }
    None
}
