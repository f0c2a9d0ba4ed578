//! Opening: what is on disk becomes what is in memory, whatever state a crash left it in.

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tracing::{debug, error, info, warn};

use super::block::{Block, BlockName, TEMPORARY};
use super::disk::{Disk, read_all};
use super::journal::{self, Condition, Record};
use super::labels::SeriesId;
use super::state::State;
use super::{EmbeddedConfig, OpenError};

/// The file that tells the version and what cannot change.
pub(super) const FORMAT_FILE: &str = "FORMAT";
const FORMAT: &str = "bellwether store 2";

/// What a directory holds.
pub(super) struct Recovered {
    pub(super) state: State,
    /// Journal segments whose samples are in the head.
    pub(super) head_generations: Vec<u64>,
    /// Number of the next journal segment.
    pub(super) next_generation: u64,
    pub(super) partition_ms: i64,
}

/// Reads the directory, making what is missing.
pub(super) fn recover(config: &EmbeddedConfig, disk: &dyn Disk) -> Result<Recovered, OpenError> {
    for dir in ["blocks", "journal"] {
        let path = config.path.join(dir);
        disk.make_dir(&path).map_err(|source| OpenError::Io { path, source })?;
    }
    let partition_ms = format(config, disk)?;
    let mut state = State::default();
    load_blocks(&config.path.join("blocks"), disk, &mut state)?;
    let segments = segments(&config.path.join("journal"), disk)?;
    replay(&segments, disk, &mut state, partition_ms)?;
    let segments: Vec<(u64, PathBuf)> = segments.into_iter().map(|(generation, path, _)| (generation, path)).collect();
    let sealed = state.blocks.iter().map(|block| block.name.generations.1).max().unwrap_or(0);
    let head_generations: Vec<u64> = segments.into_iter().map(|(generation, _)| generation).collect();
    let next_generation = head_generations.iter().copied().max().unwrap_or(0).max(sealed) + 1;
    info!(series = state.index.len(), blocks = state.blocks.len(), unsealed = state.head.samples(), "opened the store");
    Ok(Recovered { state, head_generations, next_generation, partition_ms })
}

/// The partition span of the store, which is made if there is none.
fn format(config: &EmbeddedConfig, disk: &dyn Disk) -> Result<i64, OpenError> {
    let path = config.path.join(FORMAT_FILE);
    let failed = |source| OpenError::Io { path: path.clone(), source };
    let empty = ["blocks", "journal"].iter().all(|dir| disk.list(&config.path.join(dir)).is_ok_and(|l| l.is_empty()));
    let missing = disk.open(&path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound);
    if !missing || !empty {
        return partition_ms(&config.path, disk);
    }
    let millis = i64::try_from(config.partition.as_millis()).unwrap_or(i64::MAX).clamp(60_000, 366 * 86_400_000);
    let temporary = path.with_extension(TEMPORARY);
    let mut file = disk.create(&temporary).map_err(failed)?;
    file.append(format!("{FORMAT}\npartition_ms {millis}\n").as_bytes()).and_then(|()| file.sync()).map_err(failed)?;
    disk.rename(&temporary, &path).map_err(failed)?;
    Ok(millis)
}

/// The partition span that the store in a directory was made with.
pub(super) fn partition_ms(dir: &Path, disk: &dyn Disk) -> Result<i64, OpenError> {
    let path = dir.join(FORMAT_FILE);
    let bytes = disk.open(&path).and_then(|file| read_all(&*file));
    let bytes = bytes.map_err(|source| OpenError::Io { path: path.clone(), source })?;
    let text = String::from_utf8_lossy(&bytes);
    let millis = text.strip_prefix(FORMAT).and_then(|rest| rest.trim().strip_prefix("partition_ms "));
    let millis = millis.and_then(|millis| millis.parse().ok()).filter(|millis| *millis >= 60_000);
    let detail = || {
        format!(
            "it says {:?}, not the two lines \"{FORMAT}\" and \"partition_ms\" with the span it was made with (a day has \
             86400000); write these if you know that it is a store of this version",
            text.trim()
        )
    };
    millis.ok_or_else(|| OpenError::Format { path: path.clone(), detail: detail() })
}

fn load_blocks(dir: &Path, disk: &dyn Disk, state: &mut State) -> Result<(), OpenError> {
    let failed = |path: &Path, source| OpenError::Io { path: path.to_owned(), source };
    let files = disk.list(dir).map_err(|source| failed(dir, source))?;
    let mut named: Vec<(BlockName, PathBuf)> = Vec::new();
    for (path, _) in files {
        if path.extension().is_some_and(|ending| ending == TEMPORARY) {
            remove_left_over(disk, &path);
        } else if let Some(name) = BlockName::parse(&path) {
            named.push((name, path));
        } else if path.extension().is_none_or(|ending| ending != "damaged") {
            warn!(path = %path.display(), "passed over a file that is no block");
        }
    }
    let names: Vec<BlockName> = named.iter().map(|(name, _)| *name).collect();
    named.sort_by_key(|(name, _)| (name.partition, name.generations));
    for (name, path) in named {
        // A crash between writing a merged block and removing its parts leaves both.
        if names.iter().any(|other| *other != name && other.covers(name)) {
            remove_left_over(disk, &path);
        } else {
            load_block(disk, name, &path, state);
        }
    }
    Ok(())
}

/// What cannot be removed is passed over again at the next start.
fn remove_left_over(disk: &dyn Disk, path: &Path) {
    if let Err(source) = disk.remove(path) {
        warn!(%source, path = %path.display(), "could not remove what a crash left");
    }
}

fn load_block(disk: &dyn Disk, name: BlockName, path: &Path, state: &mut State) {
    let mut twice = Vec::new();
    let opened = Block::open(disk, path, name).and_then(|block| {
        block.each_label(|id, labels| {
            if !state.index.define(id, &labels) {
                twice.push(id);
            }
        })?;
        Ok(block)
    });
    for id in twice {
        note(state, format!("{}: series number {id} stands for two series", path.display()));
    }
    match opened {
        Ok(block) => state.blocks.push(Arc::new(block)),
        Err(error) => {
            note(state, format!("{error}; queries over its time range are refused until it is repaired"));
            state.unreadable.push((name.partition, path.display().to_string(), error.to_string()));
        }
    }
}

/// Journal segments by number, with their lengths.
pub(super) fn segments(dir: &Path, disk: &dyn Disk) -> Result<Vec<(u64, PathBuf, u64)>, OpenError> {
    let files = disk.list(dir).map_err(|source| OpenError::Io { path: dir.to_owned(), source })?;
    let generation = |path: &Path| path.file_name()?.to_str()?.strip_suffix(".log")?.parse::<u64>().ok();
    let mut segments: Vec<_> =
        files.into_iter().filter_map(|(path, len)| Some((generation(&path)?, path, len))).collect();
    segments.sort();
    Ok(segments)
}

/// Takes up the samples of all segments, record by record, and tells how far it is at each tenth.
fn replay(
    segments: &[(u64, PathBuf, u64)],
    disk: &dyn Disk,
    state: &mut State,
    partition_ms: i64,
) -> Result<(), OpenError> {
    let total: u64 = segments.iter().map(|(.., len)| len).sum();
    let mut progress = Progress { total, done: 0, tenths: 0 };
    for (generation, path, len) in segments {
        let failed = |source| OpenError::Io { path: path.clone(), source };
        let file = disk.open(path).map_err(failed)?;
        let mut taking = Taking::of(state, *generation, partition_ms);
        let before = progress.done;
        let condition = journal::replay(&*file, |end, record| {
            taking.record(record);
            progress.reached(before + end);
        });
        let outcome = taking.finish();
        tell(state, path, &condition.map_err(failed)?, &outcome);
        progress.reached(before + len);
    }
    Ok(())
}

/// How much of the journal has been replayed.
struct Progress {
    total: u64,
    done: u64,
    tenths: u64,
}

impl Progress {
    fn reached(&mut self, done: u64) {
        self.done = done;
        let tenths = (done * 10).checked_div(self.total).unwrap_or(10);
        if tenths > self.tenths {
            self.tenths = tenths;
            info!(percent = tenths * 10, bytes = done, of = self.total, "replaying the journal");
        }
    }
}

/// A segment being taken up.
struct Taking<'s> {
    state: &'s mut State,
    generation: u64,
    partition_ms: i64,
    /// Partitions whose blocks hold the segment's samples already.
    sealed: Vec<i64>,
    outcome: Taken,
}

/// What was odd about the samples of a segment.
#[derive(Default)]
struct Taken {
    /// Samples whose series is named nowhere.
    nameless: u64,
    /// Numbers that stand for two series.
    twice: Vec<SeriesId>,
}

impl<'s> Taking<'s> {
    fn of(state: &'s mut State, generation: u64, partition_ms: i64) -> Self {
        let covers = |name: BlockName| (name.generations.0..=name.generations.1).contains(&generation);
        let names = state.blocks.iter().map(|block| block.name);
        let sealed = names.filter(|name| covers(*name)).map(|name| name.partition).collect();
        Self { state, generation, partition_ms, sealed, outcome: Taken::default() }
    }

    fn record(&mut self, record: Record) {
        for (id, labels) in &record.series {
            if !self.state.index.define(*id, labels) {
                self.outcome.twice.push(*id);
            }
        }
        for entry in record.entries {
            let partition = entry.at.saturating_sub(entry.at.rem_euclid(self.partition_ms));
            if self.sealed.contains(&partition) {
                continue;
            }
            self.state.index.reserve(entry.id);
            if self.state.index.is_known(entry.id) {
                self.state.head.push(entry.id, (entry.at, entry.bits));
            } else {
                self.outcome.nameless += 1;
            }
        }
    }

    fn finish(self) -> Taken {
        debug!(segment = self.generation, unsealed = self.state.head.samples(), "replayed a segment of the journal");
        self.outcome
    }
}

fn tell(state: &mut State, path: &Path, condition: &Condition, taken: &Taken) {
    let place = path.display();
    for Range { start, end } in &condition.damaged {
        note(state, format!("{place}: bytes {start} to {end} are damaged; the samples in them are lost"));
    }
    if condition.unfinished > 0 {
        let bytes = condition.unfinished;
        warn!(path = %place, bytes, "left out an unfinished write at the end of the journal");
    }
    for id in &taken.twice {
        note(state, format!("{place}: series number {id} stands for two series"));
    }
    if taken.nameless > 0 {
        let lost = taken.nameless;
        note(state, format!("{place}: {lost} samples are lost: the names of their series were in damaged bytes"));
    }
}

fn note(state: &mut State, damage: String) {
    error!(%damage, "found damage in the store");
    state.damage.push(damage);
}
