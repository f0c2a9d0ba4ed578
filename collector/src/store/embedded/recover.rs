//! Opening: what is on disk becomes what is in memory, whatever state a crash left it in.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tracing::{error, info, warn};

use super::block::{Block, BlockName, TEMPORARY};
use super::disk::{Disk, read_all};
use super::journal::{self, Replay};
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
        std::fs::create_dir_all(&path).map_err(|source| OpenError::Io { path, source })?;
    }
    let partition_ms = format(config, disk)?;
    let mut state = State::default();
    load_blocks(&config.path.join("blocks"), disk, &mut state)?;
    let segments = segments(&config.path.join("journal"), disk)?;
    for (generation, path) in &segments {
        let replay = journal::replay(disk, path).map_err(|source| OpenError::Io { path: path.clone(), source })?;
        take_up(&mut state, *generation, path, replay, partition_ms);
    }
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
    if path.exists() || !empty {
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
    let detail = || format!("it says {:?}, not \"{FORMAT}\" and the partition span it was made with", text.trim());
    millis.ok_or_else(|| OpenError::Format { path: path.clone(), detail: detail() })
}

fn load_blocks(dir: &Path, disk: &dyn Disk, state: &mut State) -> Result<(), OpenError> {
    let failed = |path: &Path, source| OpenError::Io { path: path.to_owned(), source };
    let files = disk.list(dir).map_err(|source| failed(dir, source))?;
    let mut named: Vec<(BlockName, PathBuf)> = Vec::new();
    for (path, _) in files {
        if path.extension().is_some_and(|ending| ending == TEMPORARY) {
            disk.remove(&path).map_err(|source| failed(&path, source))?;
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
            disk.remove(&path).map_err(|source| failed(&path, source))?;
        } else {
            load_block(disk, name, &path, state);
        }
    }
    Ok(())
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

/// Journal segments by number.
pub(super) fn segments(dir: &Path, disk: &dyn Disk) -> Result<Vec<(u64, PathBuf)>, OpenError> {
    let files = disk.list(dir).map_err(|source| OpenError::Io { path: dir.to_owned(), source })?;
    let generation = |path: &Path| path.file_name()?.to_str()?.strip_suffix(".log")?.parse::<u64>().ok();
    let mut segments: Vec<(u64, PathBuf)> =
        files.into_iter().filter_map(|(path, _)| Some((generation(&path)?, path))).collect();
    segments.sort();
    Ok(segments)
}

fn take_up(state: &mut State, generation: u64, path: &Path, replay: Replay, partition_ms: i64) {
    for stretch in &replay.damaged {
        note(
            state,
            format!(
                "{}: bytes {} to {} are damaged; the samples in them are lost",
                path.display(),
                stretch.start,
                stretch.end
            ),
        );
    }
    if replay.unfinished > 0 {
        warn!(path = %path.display(), bytes = replay.unfinished, "left out an unfinished write at the end of the journal");
    }
    for (id, labels) in &replay.series {
        if !state.index.define(*id, labels) {
            note(state, format!("{}: series number {id} stands for two series", path.display()));
        }
    }
    let sealed: Vec<BlockName> = state.blocks.iter().map(|block| block.name).collect();
    let mut nameless = 0u64;
    for entry in replay.entries {
        let partition = entry.at.saturating_sub(entry.at.rem_euclid(partition_ms));
        let one = BlockName { partition, generations: (generation, generation) };
        if sealed.iter().any(|block| block.covers(one)) {
            continue;
        }
        state.index.reserve(entry.id);
        if state.index.labels(entry.id).is_some() {
            state.head.push(entry.id, (entry.at, entry.bits));
        } else {
            nameless += 1;
        }
    }
    if nameless > 0 {
        note(
            state,
            format!("{}: {nameless} samples are lost: the names of their series were in damaged bytes", path.display()),
        );
    }
}

fn note(state: &mut State, damage: String) {
    error!(%damage, "found damage in the store");
    state.damage.push(damage);
}
