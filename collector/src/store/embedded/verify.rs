//! Looking for damage, byte by byte, and putting what is whole back in order.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use bellwether_models::series::{Labels, Timestamp};

use super::block::{Block, BlockName, BlockWriter, Piece, RawChunk, chunk_at, walk};
use super::chunk::{self, Point};
use super::disk::{Disk, RealDisk, read_all};
use super::joined::Joined;
use super::journal::{self, Condition, HEADER};
use super::labels::SeriesId;
use super::recover;
use super::sealer::{LEVEL, POINTS_PER_CHUNK};
use super::{OpenError, lock};
use crate::store::TimeRange;

/// What a look at every byte of a store found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct VerifyReport {
    /// Files read.
    pub files: u64,
    /// Series named in them.
    pub series: u64,
    /// Samples in blocks that read back well.
    pub sealed_samples: u64,
    /// Bytes of the blocks.
    pub sealed_bytes: u64,
    /// Samples in the journal that read back well; after a crash some of them are in blocks already.
    pub journal_samples: u64,
    /// What did not, in order of file and place.
    pub damages: Vec<Damage>,
}

/// One damaged place.
#[derive(Clone, Debug, PartialEq)]
pub struct Damage {
    /// The file.
    pub file: PathBuf,
    /// First byte of the damaged part.
    pub offset: u64,
    /// Which part of the file: the directory, a page of labels, a chunk, a journal record, …
    pub part: &'static str,
    /// The series it held, where that is known: its labels, or its number when they are lost too.
    pub series: Option<String>,
    /// The stretch of time from which samples are missing, as far as the neighbours tell; both ends are still there.
    pub range: Option<TimeRange>,
    /// What is lost by it, and what repair does.
    pub outcome: &'static str,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, byte {}: {}", self.file.display(), self.offset, self.part)?;
        if let Some(series) = &self.series {
            write!(f, " of {series}")?;
        }
        if let Some(range) = self.range {
            write!(f, ", samples between {} and {} ms", range.from.as_millis(), range.to.as_millis())?;
        }
        write!(f, ": {}", self.outcome)
    }
}

impl fmt::Display for VerifyReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let each = self.sealed_bytes as f64 / self.sealed_samples.max(1) as f64;
        write!(f, "{} files, {} series; ", self.files, self.series)?;
        write!(f, "{} samples in blocks of {} bytes ({each:.3} each), ", self.sealed_samples, self.sealed_bytes)?;
        writeln!(f, "{} in the journal; {} damaged places", self.journal_samples, self.damages.len())?;
        self.damages.iter().try_for_each(|damage| writeln!(f, "{damage}"))
    }
}

const LOST: &str = "lost; repair drops it and keeps all the rest";
const LOST_TO_THE_END: &str = "everything from here on is lost; repair keeps what lies before";
const REBUILT: &str = "no sample is lost by it; repair writes it anew";
const UNFINISHED: &str = "a write that was never acknowledged, or damage to the last one; repair cuts it off";

/// Reads every byte of the store at `path` and says what is damaged. Changes nothing. Blocks.
///
/// # Errors
/// [`OpenError`] when there is no store, it is in use or of another version, or the disk fails.
pub fn verify(path: &Path) -> Result<VerifyReport, OpenError> {
    inspect(path, false)
}

/// As [`verify`]; then writes every damaged file anew from what is whole in it. The damaged one stays beside it, with
/// `.damaged` at the end of its name.
///
/// # Errors
/// As [`verify`].
pub fn repair(path: &Path) -> Result<VerifyReport, OpenError> {
    inspect(path, true)
}

fn inspect(path: &Path, repair: bool) -> Result<VerifyReport, OpenError> {
    let partition_ms = recover::partition_ms(path, &RealDisk)?;
    let _lock = lock(path, &RealDisk)?;
    let blocks: Vec<(PathBuf, BlockName)> = listed(&path.join("blocks"))?
        .into_iter()
        .filter_map(|path| BlockName::parse(&path).map(|name| (path, name)))
        .collect();
    let segments = recover::segments(&path.join("journal"), &RealDisk)?;
    let known = known_labels(&blocks, &segments)?;
    let mut report = VerifyReport { series: known.len() as u64, ..VerifyReport::default() };
    for (file, name) in &blocks {
        let found = Found::read(file, *name).map_err(|source| failed(file, source))?;
        report.files += 1;
        report.sealed_samples += found.samples;
        report.sealed_bytes += found.bytes.len() as u64;
        let damages = found.damages(file, *name, partition_ms, &known);
        if repair && !damages.is_empty() {
            found.rewrite(file, *name, &known).map_err(|source| failed(file, source))?;
        }
        report.damages.extend(damages);
    }
    for (_, file, _) in &segments {
        let found = Records::read(file, &known).map_err(|source| failed(file, source))?;
        report.files += 1;
        report.journal_samples += found.samples;
        let damages = found.damages(file, &known);
        if repair && !damages.is_empty() {
            rewrite_segment(file, &found.condition).map_err(|source| failed(file, source))?;
        }
        report.damages.extend(damages);
    }
    Ok(report)
}

fn failed(path: &Path, source: io::Error) -> OpenError {
    OpenError::Io { path: path.to_owned(), source }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    read_all(&*RealDisk.open(path)?)
}

fn listed(dir: &Path) -> Result<Vec<PathBuf>, OpenError> {
    let files = RealDisk.list(dir).map_err(|source| failed(dir, source))?;
    Ok(files.into_iter().map(|(path, _)| path).collect())
}

type Known = HashMap<SeriesId, Labels>;

/// The labels of all series, as far as any file still tells them.
fn known_labels(blocks: &[(PathBuf, BlockName)], segments: &[(u64, PathBuf, u64)]) -> Result<Known, OpenError> {
    let mut known = Known::new();
    for (file, name) in blocks {
        let whole = Block::open(&RealDisk, file, *name).and_then(|block| {
            block.each_label(|id, labels| {
                known.insert(id, labels);
            })
        });
        if whole.is_err() {
            known.extend(Found::read(file, *name).map_err(|source| failed(file, source))?.labels);
        }
    }
    for (_, file, _) in segments {
        let opened = RealDisk.open(file).map_err(|source| failed(file, source))?;
        let replayed = journal::replay(&*opened, |_, record| known.extend(record.series));
        replayed.map_err(|source| failed(file, source))?;
    }
    Ok(known)
}

/// What can be read of a block, whether or not its directory is whole. Samples stay encoded: a block of a day and many
/// series is small, its samples are not.
#[derive(Default)]
struct Found {
    bytes: Vec<u8>,
    labels: Known,
    /// Where the chunks of each series lie that read back well.
    chunks: BTreeMap<SeriesId, Vec<usize>>,
    /// How many samples these hold.
    samples: u64,
    gaps: Vec<Gap>,
    /// Series by the offsets of their chunks; nothing when the directory is damaged.
    opened: Option<Block>,
}

/// Bytes that are no frame, with the series and the times next to them.
#[derive(Clone, Copy, Default)]
struct Gap {
    offset: u64,
    end: u64,
    before: Option<(SeriesId, i64)>,
    after: Option<(SeriesId, i64)>,
}

impl Found {
    fn read(file: &Path, name: BlockName) -> io::Result<Self> {
        let bytes = read(file)?;
        let mut found = Self { opened: Block::open(&RealDisk, file, name).ok(), ..Self::default() };
        let (mut last, mut points) = (None, Vec::new());
        for (offset, piece) in walk(&bytes) {
            let end = match piece {
                Piece::Directory => continue,
                Piece::Labels(labels) => {
                    found.labels.extend(labels);
                    continue;
                }
                Piece::Chunk(chunk) => {
                    points.clear();
                    if chunk::decode_into(chunk.encoded, &mut points) {
                        found.whole(offset, &chunk);
                        last = Some((chunk.id, chunk.span.1));
                        continue;
                    }
                    offset + chunk.encoded.len()
                }
                Piece::Broken { end } => end,
            };
            found.gaps.push(Gap { offset: offset as u64, end: end as u64, before: last, after: None });
        }
        found.bytes = bytes;
        Ok(found)
    }

    fn whole(&mut self, offset: usize, chunk: &RawChunk<'_>) {
        if let Some(gap) = self.gaps.last_mut().filter(|gap| gap.after.is_none()) {
            gap.after = Some((chunk.id, chunk.span.0));
        }
        self.samples += chunk.count as u64;
        self.chunks.entry(chunk.id).or_default().push(offset);
    }

    /// The samples of a series that read back well.
    fn points(&self, offsets: &[usize]) -> Vec<Point> {
        let mut all = Joined::default();
        for chunk in offsets.iter().filter_map(|offset| chunk_at(&self.bytes, *offset)) {
            all.add(|points| chunk::decode_into(chunk.encoded, points));
        }
        all.finish()
    }

    fn damages(&self, file: &Path, name: BlockName, partition_ms: i64, known: &Known) -> Vec<Damage> {
        let mut damages: Vec<Damage> =
            self.gaps.iter().map(|gap| self.damage_of(gap, file, name, partition_ms, known)).collect();
        let part = "the directory";
        if self.opened.is_none() && !damages.iter().any(|damage| damage.part == part) {
            damages.push(Damage {
                file: file.to_owned(),
                offset: self.bytes.len() as u64,
                part,
                series: None,
                range: None,
                outcome: REBUILT,
            });
        }
        for id in self.chunks.keys().filter(|id| !known.contains_key(id)) {
            damages.push(Damage {
                file: file.to_owned(),
                offset: 0,
                part: "the labels, and with them all samples",
                series: Some(named(*id, known)),
                range: None,
                outcome: LOST,
            });
        }
        damages
    }

    fn damage_of(&self, gap: &Gap, file: &Path, name: BlockName, partition_ms: i64, known: &Known) -> Damage {
        let series = self.opened.as_ref().and_then(|block| block.series_at(gap.offset));
        let in_labels = self.opened.as_ref().map_or(gap.before.is_none(), |block| gap.offset < block.labels_end());
        let (part, outcome) = match () {
            () if gap.offset == 0 => ("the header", REBUILT),
            () if self.opened.is_none() && gap.end == self.bytes.len() as u64 => {
                ("the end of the file", LOST_TO_THE_END)
            }
            () if in_labels => {
                ("a page of labels", "lost unless another file names the series; repair keeps what is named")
            }
            () if self.opened.is_none() => ("a chunk", LOST),
            () if series.is_none() => ("the directory", REBUILT),
            () => ("a chunk", LOST),
        };
        let series = series.or_else(|| gap.before.zip(gap.after).filter(|(b, a)| b.0 == a.0).map(|(b, _)| b.0));
        let neighbour = |side: Option<(SeriesId, i64)>| side.filter(|(id, _)| Some(*id) == series).map(|(_, at)| at);
        let from = neighbour(gap.before).unwrap_or(name.partition);
        let to = neighbour(gap.after).unwrap_or(name.partition.saturating_add(partition_ms));
        let range = TimeRange { from: Timestamp::from_millis(from), to: Timestamp::from_millis(to) };
        Damage {
            file: file.to_owned(),
            offset: gap.offset,
            part,
            series: series.map(|id| named(id, known)),
            range: (outcome != REBUILT).then_some(range),
            outcome,
        }
    }

    /// Writes the block anew with the chunks that are whole and whose series still have a name.
    fn rewrite(&self, file: &Path, name: BlockName, known: &Known) -> io::Result<()> {
        set_aside(file)?;
        let dir = file.parent().unwrap_or(Path::new("."));
        let named: Vec<_> = self.chunks.iter().filter_map(|(id, at)| Some((*id, known.get(id)?, at))).collect();
        if named.is_empty() {
            return RealDisk.remove(file).and_then(|()| RealDisk.sync_dir(dir));
        }
        let labels = named.iter().map(|(id, labels, _)| (*id, (*labels).clone()));
        let mut writer = BlockWriter::start(&RealDisk, dir, name, labels)?;
        for (id, _, offsets) in named {
            writer.series(id, &self.points(offsets), POINTS_PER_CHUNK, LEVEL)?;
        }
        writer.finish().map(drop)
    }
}

fn named(id: SeriesId, known: &Known) -> String {
    known.get(&id).map_or_else(|| format!("series number {id}, whose labels are lost"), Labels::to_string)
}

/// What can be read of a journal segment.
struct Records {
    samples: u64,
    nameless: BTreeSet<SeriesId>,
    condition: Condition,
}

impl Records {
    fn read(file: &Path, known: &Known) -> io::Result<Self> {
        let (mut samples, mut nameless) = (0, BTreeSet::new());
        let condition = journal::replay(&*RealDisk.open(file)?, |_, record| {
            samples += record.entries.len() as u64;
            nameless.extend(record.entries.iter().map(|entry| entry.id).filter(|id| !known.contains_key(id)));
        })?;
        Ok(Self { samples, nameless, condition })
    }

    fn damages(&self, file: &Path, known: &Known) -> Vec<Damage> {
        let damage = |offset, part, series, outcome| Damage {
            file: file.to_owned(),
            offset,
            part,
            series,
            range: None,
            outcome,
        };
        let Condition { len, damaged, unfinished, headless } = &self.condition;
        let mut damages = Vec::new();
        if *headless {
            damages.push(damage(0, "the header of the journal", None, REBUILT));
        }
        let records = damaged.iter().filter(|stretch| !headless || stretch.end > HEADER.len() as u64);
        damages.extend(records.map(|stretch| damage(stretch.start, "a journal record", None, LOST)));
        if *unfinished > 0 {
            damages.push(damage(len - unfinished, "the end of the journal", None, UNFINISHED));
        }
        let named = |id: &SeriesId| damage(0, "the samples in later records", Some(named(*id, known)), LOST);
        damages.extend(self.nameless.iter().map(named));
        damages
    }
}

/// Writes a journal segment anew without its damaged bytes.
fn rewrite_segment(file: &Path, condition: &Condition) -> io::Result<()> {
    set_aside(file)?;
    let temporary = file.with_extension(super::block::TEMPORARY);
    let mut anew = RealDisk.create(&temporary)?;
    journal::copy_good(&*RealDisk.open(file)?, condition, &mut *anew)?;
    RealDisk.rename(&temporary, file)
}

/// Keeps the damaged file under another name.
fn set_aside(file: &Path) -> io::Result<()> {
    let mut name = file.as_os_str().to_owned();
    name.push(".damaged");
    std::fs::copy(file, PathBuf::from(name)).map(drop)
}
