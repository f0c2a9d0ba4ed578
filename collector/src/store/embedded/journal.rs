//! The journal: every acknowledged sample, on disk, until a block holds it.
//!
//! A segment is a header and then records, each with its length and CRC. Records name the series they are first to use in
//! their segment, so a segment can be read on its own. What a crash leaves behind a segment's last whole record is an
//! unfinished write; a record that fails its CRC with a good one behind it is damage.

use std::collections::HashMap;
use std::io;
use std::ops::Range;
use std::path::Path;

use bellwether_models::series::Labels;
use roaring::RoaringBitmap;

use super::disk::{AppendFile, Disk, read_all};
use super::labels::SeriesId;
use super::wire::{Reader, crc_of, put_bytes, put_varint, put_zigzag};

/// What every segment starts with.
pub(super) const HEADER: &[u8; 8] = b"BWJRNL01";
const MARK: &[u8; 4] = b"\xb5\xe1\x1e\x0d";
const RECORD_HEAD: usize = 12;

/// A sample on its way to disk and into memory.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Entry {
    pub(super) id: SeriesId,
    pub(super) at: i64,
    pub(super) bits: u64,
}

/// The segment being written.
pub(super) struct Segment {
    file: Box<dyn AppendFile>,
    len: u64,
    defined: RoaringBitmap,
}

impl Segment {
    /// Starts an empty segment.
    pub(super) fn create(disk: &dyn Disk, path: &Path) -> io::Result<Self> {
        let mut file = disk.create(path)?;
        file.append(HEADER)?;
        file.sync()?;
        path.parent().map_or(Ok(()), |dir| disk.sync_dir(dir))?;
        Ok(Self { file, len: HEADER.len() as u64, defined: RoaringBitmap::new() })
    }

    /// Writes one record and returns when it is durable. After an error the segment must not be written again: what the
    /// failed write left is cut off as far as the disk lets us.
    pub(super) fn append(&mut self, entries: &[Entry], labels: impl Fn(SeriesId) -> Option<Labels>) -> io::Result<()> {
        let mut fresh: Vec<SeriesId> = entries.iter().map(|e| e.id).filter(|id| !self.defined.contains(*id)).collect();
        fresh.dedup();
        let record = encode(&fresh, entries, labels);
        if let Err(error) = self.file.append(&record).and_then(|()| self.file.sync()) {
            let _ = self.file.truncate(self.len).and_then(|()| self.file.sync());
            return Err(error);
        }
        self.len += record.len() as u64;
        self.defined.extend(fresh);
        Ok(())
    }

    /// Bytes written.
    pub(super) fn len(&self) -> u64 {
        self.len
    }
}

fn encode(fresh: &[SeriesId], entries: &[Entry], labels: impl Fn(SeriesId) -> Option<Labels>) -> Vec<u8> {
    let mut out = Vec::with_capacity(64 + entries.len() * 12);
    out.extend_from_slice(MARK);
    out.extend_from_slice(&[0; 8]);
    put_varint(&mut out, fresh.len() as u64);
    for id in fresh {
        put_varint(&mut out, u64::from(*id));
        put_labels(&mut out, &labels(*id).unwrap_or_default());
    }
    put_varint(&mut out, entries.len() as u64);
    let mut last = Entry { id: 0, at: 0, bits: 0 };
    for entry in entries {
        put_zigzag(&mut out, i64::from(entry.id) - i64::from(last.id));
        put_zigzag(&mut out, entry.at.wrapping_sub(last.at));
        out.extend_from_slice(&entry.bits.to_le_bytes());
        last = *entry;
    }
    let len = ((out.len() - RECORD_HEAD) as u32).to_le_bytes();
    let crc = crc_of(&len, &out[RECORD_HEAD..]).to_le_bytes();
    out[4..8].copy_from_slice(&len);
    out[8..12].copy_from_slice(&crc);
    out
}

/// Writes labels as a count and pairs of texts.
pub(super) fn put_labels(out: &mut Vec<u8>, labels: &Labels) {
    put_varint(out, labels.len() as u64);
    for (name, value) in labels.iter() {
        put_bytes(out, name.as_bytes());
        put_bytes(out, value.as_bytes());
    }
}

/// Reads what [`put_labels`] wrote.
pub(super) fn take_labels(reader: &mut Reader<'_>) -> Option<Labels> {
    let count = reader.length()?;
    let pairs: Option<Vec<(&str, &str)>> = (0..count).map(|_| Some((reader.text()?, reader.text()?))).collect();
    pairs.map(Labels::new)
}

/// What a segment on disk holds.
#[derive(Debug, Default)]
pub(super) struct Replay {
    /// Series named in the segment.
    pub(super) series: HashMap<SeriesId, Labels>,
    /// Samples in the order of their writing.
    pub(super) entries: Vec<Entry>,
    /// Stretches of bytes that are no record, with good records behind them.
    pub(super) damaged: Vec<Range<usize>>,
    /// Bytes after the last good record: an unfinished write.
    pub(super) unfinished: usize,
    /// Whether not even the header is whole: an unfinished start, or damage.
    pub(super) headless: bool,
}

/// The bytes of a segment less what [`parse`] found damaged or unfinished in them.
pub(super) fn without_damage(bytes: &[u8], replay: &Replay) -> Vec<u8> {
    let mut kept = HEADER.to_vec();
    let mut at = if replay.headless { 0 } else { HEADER.len() };
    for stretch in &replay.damaged {
        kept.extend_from_slice(&bytes[at..stretch.start]);
        at = stretch.end;
    }
    kept.extend_from_slice(&bytes[at..bytes.len() - replay.unfinished]);
    kept
}

/// Reads a segment, stepping over damage.
pub(super) fn replay(disk: &dyn Disk, path: &Path) -> io::Result<Replay> {
    Ok(parse(&read_all(&*disk.open(path)?)?))
}

/// What the bytes of a segment hold, whatever state they are in.
pub(super) fn parse(bytes: &[u8]) -> Replay {
    let mut replay = Replay { headless: !bytes.starts_with(HEADER), ..Replay::default() };
    let mut at = if replay.headless { 0 } else { HEADER.len() };
    let mut good_until = at;
    while at < bytes.len() {
        match record_at(bytes, at).and_then(|payload| take_record(payload, &mut replay).map(|()| payload.len())) {
            Some(len) => {
                if good_until < at {
                    replay.damaged.push(good_until..at);
                }
                at += RECORD_HEAD + len;
                good_until = at;
            }
            None => at = next_mark(bytes, at + 1),
        }
    }
    replay.unfinished = bytes.len() - good_until;
    replay
}

fn record_at(bytes: &[u8], at: usize) -> Option<&[u8]> {
    let head = bytes.get(at..at + RECORD_HEAD)?;
    let len = u32::from_le_bytes(head[4..8].try_into().ok()?);
    let crc = u32::from_le_bytes(head[8..12].try_into().ok()?);
    let start = at + RECORD_HEAD;
    let payload = bytes.get(start..start.checked_add(len as usize)?)?;
    (head.starts_with(MARK) && crc_of(&head[4..8], payload) == crc).then_some(payload)
}

fn next_mark(bytes: &[u8], from: usize) -> usize {
    bytes[from..].windows(MARK.len()).position(|w| w == MARK).map_or(bytes.len(), |found| from + found)
}

fn take_record(payload: &[u8], replay: &mut Replay) -> Option<()> {
    let mut reader = Reader::new(payload);
    let mut series = Vec::new();
    for _ in 0..reader.length()? {
        series.push((SeriesId::try_from(reader.varint()?).ok()?, take_labels(&mut reader)?));
    }
    let mut entries = Vec::new();
    let mut last = Entry { id: 0, at: 0, bits: 0 };
    for _ in 0..reader.length()? {
        last.id = SeriesId::try_from(i64::from(last.id) + reader.zigzag()?).ok()?;
        last.at = last.at.wrapping_add(reader.zigzag()?);
        last.bits = u64::from_le_bytes(reader.array()?);
        entries.push(last);
    }
    replay.series.extend(series);
    replay.entries.extend(entries);
    Some(())
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::super::disk::RealDisk;
    use super::*;

    fn entry(id: SeriesId, at: i64) -> Entry {
        Entry { id, at, bits: (at as f64).to_bits() }
    }

    fn written(dir: &Path) -> (PathBuf, Vec<Entry>) {
        let path = dir.join("1.log");
        let mut segment = Segment::create(&RealDisk, &path).unwrap();
        let mut all = Vec::new();
        for round in 0..20 {
            let entries: Vec<Entry> = (0..10).map(|id| entry(id, 1000 * round)).collect();
            segment.append(&entries, |id| Some(Labels::metric(&format!("m{id}")))).unwrap();
            all.extend(entries);
        }
        (path, all)
    }

    #[test]
    fn a_segment_reads_back_as_written_and_names_its_series() {
        let dir = tempfile::tempdir().unwrap();
        let (path, all) = written(dir.path());
        let replay = replay(&RealDisk, &path).unwrap();
        assert_eq!(replay.entries, all);
        assert_eq!(replay.series.len(), 10);
        assert_eq!(replay.series[&4], Labels::metric("m4"));
        assert_eq!((replay.damaged.len(), replay.unfinished), (0, 0));
    }

    #[test]
    fn cut_anywhere_every_record_before_the_cut_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let (path, all) = written(dir.path());
        let bytes = std::fs::read(&path).unwrap();
        let whole = |len: usize| parse(&bytes[..len]).entries;
        for len in 0..bytes.len() {
            let entries = whole(len);
            assert_eq!(entries, all[..entries.len()]);
            assert_eq!(entries.len() % 10, 0);
        }
        assert_eq!(whole(bytes.len() - 1).len(), all.len() - 10);
    }

    #[test]
    fn a_flipped_bit_costs_at_most_its_own_record_and_is_reported() {
        let dir = tempfile::tempdir().unwrap();
        let (path, all) = written(dir.path());
        let bytes = std::fs::read(&path).unwrap();
        for at in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << (at % 8);
            let replay = parse(&flipped);
            assert!(replay.entries.len() >= all.len() - 10);
            assert!(replay.entries.iter().all(|entry| all.contains(entry)));
            assert!(!replay.damaged.is_empty() || replay.unfinished > 0, "flip at {at} went unseen");
        }
    }
}
