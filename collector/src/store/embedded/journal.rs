//! The journal: every acknowledged sample, on disk, until a block holds it.
//!
//! A segment is a header and then records, each with its length and CRC. Records name the series they are first to use in
//! their segment, so a segment can be read on its own. What a crash leaves behind a segment's last whole record is an
//! unfinished write; a record that fails its CRC with a good one behind it is damage.

use std::io;
use std::ops::Range;
use std::path::Path;

use bellwether_models::series::Labels;
use roaring::RoaringBitmap;

use super::disk::{AppendFile, Disk, ReadFile, read_range};
use super::labels::SeriesId;
use super::wire::{Reader, crc_of, put_bytes, put_varint, put_zigzag};

/// What every segment starts with.
pub(super) const HEADER: &[u8; 8] = b"BWJRNL01";
const MARK: &[u8; 4] = b"\xb5\xe1\x1e\x0d";
const RECORD_HEAD: usize = 12;
/// A record holds no more samples, so that replay needs little memory.
const ENTRIES_PER_RECORD: usize = 1 << 14;
/// A longer record is never written; a longer claim is damage.
const LONGEST_RECORD: usize = 64 << 20;
/// Read from a segment at once.
const WINDOW: usize = 1 << 20;

/// A sample on its way to disk and into memory.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::store) struct Entry {
    pub(in crate::store) id: SeriesId,
    pub(in crate::store) at: i64,
    pub(in crate::store) bits: u64,
}

/// The segment being written.
pub(in crate::store) struct Segment {
    file: Box<dyn AppendFile>,
    len: u64,
    defined: RoaringBitmap,
}

impl Segment {
    /// Starts an empty segment.
    pub(in crate::store) fn create(disk: &dyn Disk, path: &Path) -> io::Result<Self> {
        let mut file = disk.create(path)?;
        file.append(HEADER)?;
        file.sync()?;
        path.parent().map_or(Ok(()), |dir| disk.sync_dir(dir))?;
        Ok(Self { file, len: HEADER.len() as u64, defined: RoaringBitmap::new() })
    }

    /// Writes records and returns when they are durable. After an error the segment must not be written again: what the
    /// failed write left is cut off as far as the disk lets us.
    pub(in crate::store) fn append(
        &mut self,
        entries: &[Entry],
        labels: impl Fn(SeriesId) -> Option<Labels>,
    ) -> io::Result<()> {
        let before = self.len;
        let written = self.put_records(entries, labels).and_then(|()| self.file.sync());
        if written.is_err() {
            let _ = self.file.truncate(before).and_then(|()| self.file.sync());
        }
        written
    }

    fn put_records(&mut self, entries: &[Entry], labels: impl Fn(SeriesId) -> Option<Labels>) -> io::Result<()> {
        for some in entries.chunks(ENTRIES_PER_RECORD) {
            let mut fresh: Vec<SeriesId> = some.iter().map(|e| e.id).filter(|id| !self.defined.contains(*id)).collect();
            fresh.dedup();
            let record = encode(&fresh, some, &labels);
            if record.len() > LONGEST_RECORD {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidInput,
                    "the labels of a batch are too long to be kept",
                ));
            }
            self.file.append(&record)?;
            self.len += record.len() as u64;
            self.defined.extend(fresh);
        }
        Ok(())
    }

    /// Bytes written.
    pub(in crate::store) fn len(&self) -> u64 {
        self.len
    }
}

fn encode(fresh: &[SeriesId], entries: &[Entry], labels: &impl Fn(SeriesId) -> Option<Labels>) -> Vec<u8> {
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

/// One record of a segment.
#[derive(Debug, Default)]
pub(in crate::store) struct Record {
    /// Series that it names.
    pub(in crate::store) series: Vec<(SeriesId, Labels)>,
    /// Its samples, in the order of their writing.
    pub(in crate::store) entries: Vec<Entry>,
}

/// What a segment holds besides good records.
#[derive(Clone, Debug, Default)]
pub(in crate::store) struct Condition {
    /// Length of the file.
    pub(super) len: u64,
    /// Stretches of bytes that are no record, with good records behind them.
    pub(in crate::store) damaged: Vec<Range<u64>>,
    /// Bytes after the last good record: an unfinished write.
    pub(super) unfinished: u64,
    /// Whether not even the header is whole: an unfinished start, or damage.
    pub(super) headless: bool,
}

impl Condition {
    /// The stretches of good records, without header.
    fn good(&self) -> Vec<Range<u64>> {
        let mut good = Vec::new();
        let mut at = if self.headless { 0 } else { HEADER.len() as u64 };
        for stretch in &self.damaged {
            good.push(at..stretch.start);
            at = stretch.end;
        }
        good.push(at..self.len - self.unfinished);
        good
    }
}

/// Writes what is good in a segment to another file, durably.
pub(super) fn copy_good(from: &dyn ReadFile, condition: &Condition, to: &mut dyn AppendFile) -> io::Result<()> {
    to.append(HEADER)?;
    for Range { start, end } in condition.good() {
        copy_range(from, start, end, to)?;
    }
    to.sync()
}

/// Appends a stretch of one file to another, a window at a time.
pub(super) fn copy_range(from: &dyn ReadFile, start: u64, end: u64, to: &mut dyn AppendFile) -> io::Result<()> {
    let mut at = start;
    while at < end {
        let piece = read_range(from, at, (end - at).min(WINDOW as u64) as usize)?;
        to.append(&piece)?;
        at += piece.len() as u64;
    }
    Ok(())
}

/// Reads a segment record by record, whatever state it is in, and steps over damage. `take` is given each good record and
/// where it ends. Holds one record in memory.
pub(in crate::store) fn replay(file: &dyn ReadFile, mut take: impl FnMut(u64, Record)) -> io::Result<Condition> {
    let mut window = Window { file, len: file.len()?, start: 0, bytes: Vec::new() };
    let headless = window.at(0, HEADER.len())?.is_none_or(|header| header != HEADER);
    let mut condition = Condition { len: window.len, headless, ..Condition::default() };
    let mut at = if headless { 0 } else { HEADER.len() as u64 };
    let mut good_until = at;
    while at < window.len {
        match window.record(at)? {
            Some((len, record)) => {
                if good_until < at {
                    condition.damaged.push(good_until..at);
                }
                at += len as u64;
                good_until = at;
                take(at, record);
            }
            None => at = window.next_mark(at + 1)?,
        }
    }
    condition.unfinished = window.len - good_until;
    Ok(condition)
}

/// The bytes of a file around the place being read.
struct Window<'f> {
    file: &'f dyn ReadFile,
    len: u64,
    start: u64,
    bytes: Vec<u8>,
}

impl Window<'_> {
    /// `len` bytes from `at` on; `None` when the file ends before.
    fn at(&mut self, at: u64, len: usize) -> io::Result<Option<&[u8]>> {
        let Some(end) = at.checked_add(len as u64).filter(|end| *end <= self.len) else { return Ok(None) };
        if at < self.start || end > self.start + self.bytes.len() as u64 {
            let wanted = (self.len - at).min(len.max(WINDOW) as u64) as usize;
            self.bytes.resize(wanted, 0);
            self.bytes.shrink_to(WINDOW);
            self.file.read_at(&mut self.bytes, at)?;
            self.start = at;
        }
        let from = (at - self.start) as usize;
        Ok(Some(&self.bytes[from..from + len]))
    }

    /// The record at an offset, and its length, if there is a good one.
    fn record(&mut self, at: u64) -> io::Result<Option<(usize, Record)>> {
        let Some(head) = self.at(at, RECORD_HEAD)? else { return Ok(None) };
        let word = |from: usize| u32::from_le_bytes([head[from], head[from + 1], head[from + 2], head[from + 3]]);
        let (marked, len, crc) = (head.starts_with(MARK), word(4), word(8));
        let whole = RECORD_HEAD + len as usize;
        if !marked || whole > LONGEST_RECORD {
            return Ok(None);
        }
        let Some(bytes) = self.at(at, whole)? else { return Ok(None) };
        let payload = &bytes[RECORD_HEAD..];
        let good = crc_of(&bytes[4..8], payload) == crc;
        Ok(good.then(|| take_record(payload)).flatten().map(|record| (whole, record)))
    }

    /// Where the next mark of a record stands, from an offset on; the end of the file when there is none.
    fn next_mark(&mut self, mut from: u64) -> io::Result<u64> {
        loop {
            let len = (self.len - from.min(self.len)).min(WINDOW as u64) as usize;
            let Some(bytes) = self.at(from, len)?.filter(|bytes| bytes.len() >= MARK.len()) else {
                return Ok(self.len);
            };
            match bytes.windows(MARK.len()).position(|window| window == MARK) {
                Some(found) => return Ok(from + found as u64),
                None => from += (len - MARK.len() + 1) as u64,
            }
        }
    }
}

fn take_record(payload: &[u8]) -> Option<Record> {
    let mut reader = Reader::new(payload);
    let mut record = Record::default();
    for _ in 0..reader.length()? {
        record.series.push((SeriesId::try_from(reader.varint()?).ok()?, take_labels(&mut reader)?));
    }
    let mut last = Entry { id: 0, at: 0, bits: 0 };
    for _ in 0..reader.length()? {
        last.id = SeriesId::try_from(i64::from(last.id) + reader.zigzag()?).ok()?;
        last.at = last.at.wrapping_add(reader.zigzag()?);
        last.bits = u64::from_le_bytes(reader.array()?);
        record.entries.push(last);
    }
    Some(record)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::path::PathBuf;

    use super::super::disk::RealDisk;
    use super::*;

    /// Everything a segment holds.
    #[derive(Default)]
    struct Read {
        series: HashMap<SeriesId, Labels>,
        entries: Vec<Entry>,
        condition: Condition,
    }

    fn parse(bytes: &[u8]) -> Read {
        let mut read = Read::default();
        let take = |_, record: Record| {
            read.series.extend(record.series);
            read.entries.extend(record.entries);
        };
        read.condition = replay(&bytes.to_vec(), take).unwrap();
        read
    }

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
        let read = parse(&std::fs::read(&path).unwrap());
        assert_eq!(read.entries, all);
        assert_eq!(read.series.len(), 10);
        assert_eq!(read.series[&4], Labels::metric("m4"));
        assert_eq!((read.condition.damaged.len(), read.condition.unfinished), (0, 0));
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
            let Read { entries, condition, .. } = parse(&flipped);
            assert!(entries.len() >= all.len() - 10);
            assert!(entries.iter().all(|entry| all.contains(entry)));
            assert!(!condition.damaged.is_empty() || condition.unfinished > 0, "flip at {at} went unseen");
        }
    }

    #[test]
    fn a_batch_longer_than_a_record_and_a_window_is_read_back_around_damage_in_its_middle() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("1.log");
        let mut segment = Segment::create(&RealDisk, &path).unwrap();
        let all: Vec<Entry> = (0..200_000).map(|i| entry(i % 7, i64::from(i))).collect();
        segment.append(&all, |id| Some(Labels::metric(&format!("m{id}")))).unwrap();
        let mut bytes = std::fs::read(&path).unwrap();
        assert_eq!(bytes.len() as u64, segment.len());
        assert!(bytes.len() > 2 * WINDOW);
        assert_eq!(parse(&bytes).entries, all);
        let middle = bytes.len() / 2;
        bytes[middle] ^= 4;
        let Read { entries, condition, .. } = parse(&bytes);
        assert_eq!((entries.len(), condition.damaged.len()), (all.len() - ENTRIES_PER_RECORD, 1));
        let mut copy = RealDisk.create(&dir.path().join("2.log")).unwrap();
        copy_good(&bytes, &condition, &mut *copy).unwrap();
        let again = parse(&std::fs::read(dir.path().join("2.log")).unwrap());
        assert_eq!((again.entries, again.condition.damaged.len()), (entries, 0));
    }
}
