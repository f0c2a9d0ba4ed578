//! A block: the sealed samples of one time partition, written once and never changed.
//!
//! Header; pages of series labels; the chunks, grouped by series; a directory of where each series lies; a trailer that
//! points to the directory. Every piece is a frame with a CRC. A block appears under its name only when it is whole and
//! durable, so a block that does not read back was damaged later.

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bellwether_models::series::Labels;
use flate2::Compression;
use flate2::read::DeflateDecoder;
use flate2::write::DeflateEncoder;
use roaring::RoaringBitmap;

use super::chunk::{self, Point};
use super::disk::{AppendFile, Disk, ReadFile, read_range};
use super::joined::Joined;
use super::journal::{put_labels, take_labels};
use super::labels::SeriesId;
use super::wire::{Reader, put_frame, put_varint, put_zigzag};

const HEADER: &[u8; 8] = b"BWBLOCK2";
const TRAILER: &[u8; 8] = b"BWBLKEND";
const TRAILER_LEN: usize = 24;
const LABEL_PAGE: u8 = 1;
const CHUNK: u8 = 2;
const DIRECTORY: u8 = 3;
const SERIES_PER_PAGE: usize = 256;
const FLUSH_AT: usize = 1 << 20;

/// Which samples a block holds: those of `partition` that were journaled in the segments `generations`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BlockName {
    /// First millisecond of the partition.
    pub(super) partition: i64,
    /// First and last journal segment.
    pub(super) generations: (u64, u64),
}

impl BlockName {
    /// The name of its file.
    pub(super) fn file(self) -> String {
        format!("{}_{}_{}.block", self.partition, self.generations.0, self.generations.1)
    }

    /// Reads the name of a file.
    pub(super) fn parse(path: &Path) -> Option<Self> {
        let mut parts = path.file_name()?.to_str()?.strip_suffix(".block")?.split('_');
        let name = Self {
            partition: parts.next()?.parse().ok()?,
            generations: (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?),
        };
        parts.next().is_none().then_some(name)
    }

    /// Whether everything in `other` is in this block too.
    pub(super) fn covers(self, other: Self) -> bool {
        self.partition == other.partition
            && self.generations.0 <= other.generations.0
            && self.generations.1 >= other.generations.1
    }
}

/// Why bytes of a block could not be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum BlockError {
    #[error("could not read {path}")]
    Io { path: PathBuf, source: io::Error },
    #[error("{path}: {part} at byte {offset} is damaged")]
    Damaged { path: PathBuf, part: String, offset: u64 },
}

/// Where the chunks of one series lie.
#[derive(Clone, Copy, Debug)]
struct Place {
    id: SeriesId,
    offset: u64,
    len: usize,
}

/// A block opened for reading: its directory is in memory, its chunks are on disk.
#[derive(Debug)]
pub(super) struct Block {
    pub(super) name: BlockName,
    pub(super) path: PathBuf,
    /// Number of samples.
    pub(super) samples: u64,
    /// Time of the oldest and the newest sample.
    pub(super) span: (i64, i64),
    /// Length of the file.
    pub(super) bytes: u64,
    /// Series with samples here.
    pub(super) ids: RoaringBitmap,
    /// Where the chunks of each series begin, in order of number, and where the last ones end.
    bounds: Vec<u64>,
    file: Box<dyn ReadFile>,
}

/// A chunk as found in a block: its series, its time range, how many points it has, and these encoded.
pub(super) struct RawChunk<'a> {
    pub(super) id: SeriesId,
    pub(super) span: (i64, i64),
    pub(super) count: usize,
    pub(super) encoded: &'a [u8],
    payload: &'a [u8],
}

impl Block {
    /// Opens a block and reads its directory.
    pub(super) fn open(disk: &dyn Disk, path: &Path, name: BlockName) -> Result<Self, BlockError> {
        let io_error = |source| BlockError::Io { path: path.to_owned(), source };
        let damaged = |part: &str, offset| BlockError::Damaged { path: path.to_owned(), part: part.to_owned(), offset };
        let file = disk.open(path).map_err(io_error)?;
        let bytes = file.len().map_err(io_error)?;
        if read_range(&*file, 0, HEADER.len()).map_or(true, |header| header != HEADER) {
            return Err(damaged("the header", 0));
        }
        let (at, len) = directory_place(&*file, bytes).ok_or_else(|| damaged("the trailer", bytes))?;
        let frame = read_range(&*file, at, len).map_err(io_error)?;
        let directory =
            Reader::new(&frame).frame().and_then(parse_directory).ok_or_else(|| damaged("the directory", at))?;
        let Directory { samples, span, ids, bounds } = directory;
        Ok(Self { name, path: path.to_owned(), samples, span, bytes, ids, bounds, file })
    }

    /// Gives the labels of every series here to `take`, page by page.
    pub(super) fn each_label(&self, mut take: impl FnMut(SeriesId, Labels)) -> Result<(), BlockError> {
        let start = HEADER.len() as u64;
        let len = self.labels_end().saturating_sub(start) as usize;
        let bytes = read_range(&*self.file, start, len).map_err(|source| self.io(source))?;
        let mut reader = Reader::new(&bytes);
        while !reader.is_empty() {
            let at = start + reader.position() as u64;
            let page = reader.frame().and_then(parse_labels);
            let page = page.ok_or_else(|| self.damaged("a page of labels", at))?;
            page.into_iter().for_each(|(id, labels)| take(id, labels));
        }
        Ok(())
    }

    /// Its bytes.
    pub(super) fn file(&self) -> &dyn ReadFile {
        &*self.file
    }

    /// The series whose chunks lie at an offset.
    pub(super) fn series_at(&self, offset: u64) -> Option<SeriesId> {
        let index = self.bounds.partition_point(|bound| *bound <= offset).checked_sub(1)?;
        self.ids.select(index as u32)
    }

    /// Where the pages of labels end and the chunks begin.
    pub(super) fn labels_end(&self) -> u64 {
        self.bounds[0]
    }

    /// Adds the samples of a series that are wanted.
    pub(super) fn points(&self, id: SeriesId, all: &mut Joined) -> Result<(), BlockError> {
        let Some(place) = self.place(id) else { return Ok(()) };
        let region = self.region(place)?;
        for (at, chunk) in self.chunks(place, &region) {
            let chunk = chunk.ok_or_else(|| self.damaged(&format!("a chunk of series {id}"), at))?;
            let wanted = all.window().touches(chunk.span);
            if wanted && !all.add(|points| chunk::decode_into(chunk.encoded, points)) {
                return Err(self.damaged(&format!("a chunk of series {id}"), at));
            }
        }
        Ok(())
    }

    /// The newest sample of a series.
    pub(super) fn newest(&self, id: SeriesId) -> Result<Option<Point>, BlockError> {
        let Some(place) = self.place(id) else { return Ok(None) };
        let region = self.region(place)?;
        let last = self.chunks(place, &region).filter_map(|(_, chunk)| chunk).max_by_key(|chunk| chunk.span.1);
        Ok(last.and_then(|chunk| chunk::decode(chunk.encoded)).and_then(|points| points.last().copied()))
    }

    /// The bytes of all chunks of a series, as they lie in the file.
    fn region(&self, place: Place) -> Result<Vec<u8>, BlockError> {
        if place.offset + place.len as u64 > self.bytes {
            return Err(self.damaged(&format!("the end of series {}", place.id), place.offset));
        }
        let mut region = vec![0; place.len];
        let read = self.file.read_at(&mut region, place.offset).map(|()| region);
        read.map_err(|source| match source.kind() {
            io::ErrorKind::UnexpectedEof => self.damaged(&format!("the end of series {}", place.id), place.offset),
            _ => self.io(source),
        })
    }

    /// The chunks in a region with their offsets; `None` for one whose CRC or identity does not hold, and then no more.
    fn chunks<'a>(
        &self,
        place: Place,
        region: &'a [u8],
    ) -> impl Iterator<Item = (u64, Option<RawChunk<'a>>)> + use<'a> {
        let mut reader = Reader::new(region);
        let mut broken = false;
        std::iter::from_fn(move || {
            if broken || reader.is_empty() {
                return None;
            }
            let at = place.offset + reader.position() as u64;
            let chunk = reader.frame().and_then(parse_chunk).filter(|chunk| chunk.id == place.id);
            broken = chunk.is_none();
            Some((at, chunk))
        })
    }

    fn place(&self, id: SeriesId) -> Option<Place> {
        let index = self.ids.contains(id).then(|| self.ids.rank(id) as usize - 1)?;
        let (offset, end) = (*self.bounds.get(index)?, *self.bounds.get(index + 1)?);
        Some(Place { id, offset, len: (end - offset) as usize })
    }

    fn io(&self, source: io::Error) -> BlockError {
        BlockError::Io { path: self.path.clone(), source }
    }

    fn damaged(&self, part: &str, offset: u64) -> BlockError {
        BlockError::Damaged { path: self.path.clone(), part: part.to_owned(), offset }
    }
}

/// What was put for a series.
#[derive(Default)]
struct Tally {
    samples: u64,
    span: Option<(i64, i64)>,
}

impl Tally {
    fn add(&mut self, samples: usize, span: (i64, i64)) {
        self.samples += samples as u64;
        self.span = Some(self.span.map_or(span, |all| (all.0.min(span.0), all.1.max(span.1))));
    }
}

/// Writes a block; it appears under its name when [`BlockWriter::finish`] has made it durable.
pub(super) struct BlockWriter<'d> {
    disk: &'d dyn Disk,
    dir: PathBuf,
    name: BlockName,
    file: Box<dyn AppendFile>,
    buffer: Vec<u8>,
    offset: u64,
    directory: Directory,
}

impl<'d> BlockWriter<'d> {
    /// Starts a block that will hold these series, whose labels are given in order of number.
    pub(super) fn start(
        disk: &'d dyn Disk,
        dir: &Path,
        name: BlockName,
        series: impl Iterator<Item = (SeriesId, Labels)>,
    ) -> io::Result<Self> {
        let file = disk.create(&temporary(dir, name))?;
        let directory = Directory { span: (i64::MAX, i64::MIN), ..Directory::default() };
        let (dir, buffer) = (dir.to_owned(), HEADER.to_vec());
        let mut writer = Self { disk, dir, name, file, buffer, offset: HEADER.len() as u64, directory };
        writer.put_label_pages(series)?;
        writer.directory.bounds.push(writer.offset);
        Ok(writer)
    }

    /// Adds the samples of the next series, in ascending order of time, in chunks of at most `per_chunk`.
    pub(super) fn series(&mut self, id: SeriesId, points: &[Point], per_chunk: usize, level: usize) -> io::Result<()> {
        let mut tally = Tally::default();
        self.put_chunks(id, points, per_chunk, level, &mut tally);
        self.placed(id, &tally)
    }

    /// Adds the samples of a series that lie in other blocks. Chunks at least half as long as `per_chunk` are copied as they
    /// are; shorter ones are joined, for a longer chunk takes fewer bytes a sample.
    pub(super) fn joined(
        &mut self,
        id: SeriesId,
        blocks: &[Arc<Block>],
        per_chunk: usize,
        level: usize,
    ) -> Result<(), BlockError> {
        let mut tally = Tally::default();
        let mut short = Joined::default();
        for block in blocks {
            let Some(place) = block.place(id) else { continue };
            let region = block.region(place)?;
            for (at, chunk) in block.chunks(place, &region) {
                let damaged = || block.damaged(&format!("a chunk of series {id}"), at);
                let chunk = chunk.ok_or_else(damaged)?;
                if chunk.count >= per_chunk / 2 {
                    tally.add(chunk.count, chunk.span);
                    self.offset += put_frame(&mut self.buffer, chunk.payload) as u64;
                } else if !short.add(|points| chunk::decode_into(chunk.encoded, points)) {
                    return Err(damaged());
                }
            }
        }
        self.put_chunks(id, &short.finish(), per_chunk, level, &mut tally);
        self.placed(id, &tally).map_err(|source| BlockError::Io { path: self.dir.clone(), source })
    }

    /// Makes the block durable, gives it its name and opens it.
    pub(super) fn finish(mut self) -> io::Result<PathBuf> {
        let directory = encode_directory(&self.directory);
        let at = self.offset;
        let len = put_frame(&mut self.buffer, &directory) as u64;
        self.buffer.extend_from_slice(&at.to_le_bytes());
        self.buffer.extend_from_slice(&len.to_le_bytes());
        self.buffer.extend_from_slice(TRAILER);
        self.flush()?;
        self.file.sync()?;
        let path = self.dir.join(self.name.file());
        self.disk.rename(&temporary(&self.dir, self.name), &path)?;
        Ok(path)
    }

    fn put_label_pages(&mut self, series: impl Iterator<Item = (SeriesId, Labels)>) -> io::Result<()> {
        let mut series = series.peekable();
        while series.peek().is_some() {
            let mut page = Vec::new();
            for (id, labels) in series.by_ref().take(SERIES_PER_PAGE) {
                put_varint(&mut page, u64::from(id));
                put_labels(&mut page, &labels);
            }
            self.offset += put_frame(&mut self.buffer, &packed_page(&page)?) as u64;
            self.flush_when_large()?;
        }
        Ok(())
    }

    /// Puts points into chunks of about equal length.
    fn put_chunks(&mut self, id: SeriesId, points: &[Point], per_chunk: usize, level: usize, tally: &mut Tally) {
        let pieces = points.len().div_ceil(per_chunk.max(1)).max(1);
        for piece in points.chunks(points.len().div_ceil(pieces).max(1)) {
            let span = (piece[0].0, piece[piece.len() - 1].0);
            let mut payload = vec![CHUNK];
            put_varint(&mut payload, u64::from(id));
            put_varint(&mut payload, span.1.wrapping_sub(span.0) as u64);
            payload.extend(chunk::encode(piece, level));
            self.offset += put_frame(&mut self.buffer, &payload) as u64;
            tally.add(piece.len(), span);
        }
    }

    /// Notes in the directory what was put for a series.
    fn placed(&mut self, id: SeriesId, tally: &Tally) -> io::Result<()> {
        let Some(span) = tally.span else { return Ok(()) };
        let directory = &mut self.directory;
        directory.samples += tally.samples;
        directory.span = (directory.span.0.min(span.0), directory.span.1.max(span.1));
        directory.ids.insert(id);
        directory.bounds.push(self.offset);
        self.flush_when_large()
    }

    fn flush_when_large(&mut self) -> io::Result<()> {
        if self.buffer.len() >= FLUSH_AT { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.append(&self.buffer)?;
        self.buffer.clear();
        Ok(())
    }
}

/// One thing found in the bytes of a block without its directory.
pub(super) enum Piece<'a> {
    Labels(Vec<(SeriesId, Labels)>),
    Chunk(RawChunk<'a>),
    Directory,
    /// Bytes up to `end` that are none of these.
    Broken {
        end: usize,
    },
}

/// Everything in the bytes of a block with its offset, damaged stretches included.
pub(super) fn walk(bytes: &[u8]) -> impl Iterator<Item = (usize, Piece<'_>)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        if at == 0 && bytes.starts_with(HEADER) {
            at = HEADER.len();
        }
        let start = at;
        if start >= bytes.len() || is_trailer(bytes, start) {
            return None;
        }
        let piece = match piece_at(bytes, start) {
            Some((len, piece)) => {
                at += len;
                piece
            }
            None => {
                let whole = |next: &usize| is_trailer(bytes, *next) || piece_at(bytes, *next).is_some();
                at = (start + 1..bytes.len()).find(whole).unwrap_or(bytes.len());
                Piece::Broken { end: at }
            }
        };
        Some((start, piece))
    })
}

/// The chunk at an offset that [`walk`] gave.
pub(super) fn chunk_at(bytes: &[u8], at: usize) -> Option<RawChunk<'_>> {
    Reader::new(bytes.get(at..)?).frame().and_then(parse_chunk)
}

fn is_trailer(bytes: &[u8], at: usize) -> bool {
    bytes.len() - at == TRAILER_LEN && bytes.ends_with(TRAILER)
}

/// The frame at an offset, if there is a whole one. Its first bytes are looked at before its CRC is worked out.
fn piece_at(bytes: &[u8], at: usize) -> Option<(usize, Piece<'_>)> {
    let mut reader = Reader::new(&bytes[at..]);
    reader.take(4)?;
    reader.length()?;
    if !(LABEL_PAGE..=DIRECTORY).contains(&reader.byte()?) {
        return None;
    }
    let mut reader = Reader::new(&bytes[at..]);
    let payload = reader.frame()?;
    let piece = match *payload.first()? {
        LABEL_PAGE => Piece::Labels(parse_labels(payload)?),
        CHUNK => Piece::Chunk(parse_chunk(payload)?),
        _ => parse_directory(payload).map(|_| Piece::Directory)?,
    };
    Some((reader.position(), piece))
}

/// Ending of files that are still being written; left over ones are removed at the next start.
pub(super) const TEMPORARY: &str = "tmp";

fn temporary(dir: &Path, name: BlockName) -> PathBuf {
    dir.join(name.file()).with_extension(TEMPORARY)
}

/// What a block holds and where: the chunks of the first series begin at the first bound and end at the second, and so on.
#[derive(Default)]
struct Directory {
    samples: u64,
    span: (i64, i64),
    ids: RoaringBitmap,
    bounds: Vec<u64>,
}

fn encode_directory(directory: &Directory) -> Vec<u8> {
    let mut out = vec![DIRECTORY];
    put_varint(&mut out, directory.samples);
    put_zigzag(&mut out, directory.span.0);
    put_zigzag(&mut out, directory.span.1);
    put_varint(&mut out, directory.bounds[0]);
    put_varint(&mut out, directory.ids.len());
    let mut last = 0;
    for (id, bounds) in directory.ids.iter().zip(directory.bounds.windows(2)) {
        put_varint(&mut out, u64::from(id - last));
        put_varint(&mut out, bounds[1] - bounds[0]);
        last = id;
    }
    out
}

fn parse_directory(payload: &[u8]) -> Option<Directory> {
    let mut reader = Reader::new(payload);
    let tag = reader.byte()?;
    let samples = reader.varint()?;
    let span = (reader.zigzag()?, reader.zigzag()?);
    let mut end = reader.varint()?;
    let count = reader.length()?;
    let (mut id, mut ids, mut bounds) = (0u32, RoaringBitmap::new(), Vec::with_capacity(count.min(payload.len()) + 1));
    bounds.push(end);
    for _ in 0..count {
        id = id.checked_add(u32::try_from(reader.varint()?).ok()?)?;
        end = end.checked_add(reader.varint()?)?;
        bounds.push(end);
        ids.insert(id);
    }
    ids.optimize();
    (tag == DIRECTORY && ids.len() == count as u64).then_some(Directory { samples, span, ids, bounds })
}

/// A page of labels as it lies in a block: its length, then the page deflated. Label texts repeat a lot.
fn packed_page(page: &[u8]) -> io::Result<Vec<u8>> {
    let mut out = vec![LABEL_PAGE];
    put_varint(&mut out, page.len() as u64);
    let mut packer = DeflateEncoder::new(out, Compression::default());
    packer.write_all(page)?;
    packer.finish()
}

/// Deflate makes nothing shorter than by this factor; a page that claims more is damage.
const DEFLATE_AT_BEST: usize = 1032;

fn unpacked_page(payload: &[u8]) -> Option<Vec<u8>> {
    let mut reader = Reader::new(payload);
    let tag = reader.byte()?;
    let len = reader.length().filter(|len| *len <= payload.len().saturating_mul(DEFLATE_AT_BEST))?;
    let mut page = Vec::with_capacity(len);
    DeflateDecoder::new(&payload[reader.position()..]).take(len as u64).read_to_end(&mut page).ok()?;
    (tag == LABEL_PAGE && page.len() == len).then_some(page)
}

fn directory_place(file: &dyn ReadFile, bytes: u64) -> Option<(u64, usize)> {
    let trailer = read_range(file, bytes.checked_sub(TRAILER_LEN as u64)?, TRAILER_LEN).ok()?;
    let at = u64::from_le_bytes(trailer[..8].try_into().ok()?);
    let len = u64::from_le_bytes(trailer[8..16].try_into().ok()?);
    let fits = at.checked_add(len)?.checked_add(TRAILER_LEN as u64)? == bytes;
    (trailer.ends_with(TRAILER) && fits).then_some((at, usize::try_from(len).ok()?))
}

fn parse_labels(payload: &[u8]) -> Option<Vec<(SeriesId, Labels)>> {
    let page = unpacked_page(payload)?;
    let mut reader = Reader::new(&page);
    let mut labels = Vec::new();
    while !reader.is_empty() {
        labels.push((SeriesId::try_from(reader.varint()?).ok()?, take_labels(&mut reader)?));
    }
    Some(labels)
}

fn parse_chunk(payload: &[u8]) -> Option<RawChunk<'_>> {
    let mut reader = Reader::new(payload);
    let tag = reader.byte()?;
    let id = SeriesId::try_from(reader.varint()?).ok()?;
    let length = reader.varint()?;
    let encoded = &payload[reader.position()..];
    let count = reader.length()?;
    let first = reader.zigzag()?;
    let span = (first, first.wrapping_add(length as i64));
    (tag == CHUNK).then_some(RawChunk { id, span, count, encoded, payload })
}
