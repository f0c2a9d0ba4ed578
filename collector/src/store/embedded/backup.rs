//! Backups: a directory with the same files, on which a store can be opened.
//!
//! Files of a store never change once they are closed, so a backup gives them a second name where it can, and copies them
//! where the directory lies on another file system. What others keep in the folder `state` beside the samples is copied:
//! such files are appended to, or replaced as a whole. The format file is written last: a backup that was broken off does
//! not pass for a whole one.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::block::Block;
use super::disk::{Disk, ReadFile, RealDisk};
use super::recover::{self, FORMAT_FILE};
use super::state::unavailable;
use super::{OpenError, journal, lock};
use crate::store::{Backup, StoreError};

/// Why there is no backup.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackupError {
    /// The store cannot be taken.
    #[error("could not take the store to back it up")]
    Store(#[source] Box<OpenError>),
    /// There is something in the directory already.
    #[error("{to} is not empty; a backup needs a directory of its own")]
    NotEmpty {
        /// The directory.
        to: PathBuf,
    },
    /// The disk failed.
    #[error("could not back up to {path}")]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl From<BackupError> for StoreError {
    fn from(error: BackupError) -> Self {
        match error {
            BackupError::Io { path, source } => unavailable(format!("back up to {}", path.display()), source),
            other => unavailable("back the store up".to_owned(), other),
        }
    }
}

/// Backs up the store at `path`, which no process may have open, to the empty directory `to`. Blocks.
///
/// # Errors
/// [`BackupError`] when the store is in use or of another version, `to` is not empty, or the disk fails.
pub fn backup(path: &Path, to: &Path) -> Result<Backup, BackupError> {
    let taken = |error| BackupError::Store(Box::new(error));
    recover::partition_ms(path, &RealDisk).map_err(taken)?;
    let _lock = lock(path, &RealDisk).map_err(taken)?;
    let mut picture = Picture::new(path);
    let mut files = vec![path.join(FORMAT_FILE)];
    for dir in ["blocks", "journal"] {
        let listed =
            RealDisk.list(&path.join(dir)).map_err(|source| BackupError::Io { path: path.join(dir), source })?;
        let ending = |file: &Path| file.extension().is_some_and(|ending| ending == "block" || ending == "log");
        files.extend(listed.into_iter().map(|(file, _)| file).filter(|file| ending(file)));
    }
    for file in files {
        picture
            .open(&RealDisk, file.clone())
            .map_err(|source| BackupError::Io { path: file, source: io::Error::other(source) })?;
    }
    write(&picture, &RealDisk, to)
}

/// The files of a store at one moment, held open: they can be read even when the store has removed them since.
pub(super) struct Picture {
    root: PathBuf,
    files: Vec<(PathBuf, Held)>,
}

enum Held {
    File(Box<dyn ReadFile>),
    Block(Arc<Block>),
}

impl Held {
    fn file(&self) -> &dyn ReadFile {
        match self {
            Self::File(file) => &**file,
            Self::Block(block) => block.file(),
        }
    }
}

impl Picture {
    /// No files of the store at `root` yet.
    pub(super) fn new(root: &Path) -> Self {
        Self { root: root.to_owned(), files: Vec::new() }
    }

    /// Adds a file, unless it is gone.
    pub(super) fn open(&mut self, disk: &dyn Disk, path: PathBuf) -> Result<(), StoreError> {
        match disk.open(&path) {
            Ok(file) => self.files.push((path, Held::File(file))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(unavailable(format!("open {}", path.display()), source)),
        }
        Ok(())
    }

    /// Adds blocks.
    pub(super) fn blocks(&mut self, blocks: Vec<Arc<Block>>) {
        self.files.extend(blocks.into_iter().map(|block| (block.path.clone(), Held::Block(block))));
    }
}

/// The folder beside the samples.
const STATE: &str = "state";

/// Copies a folder with all that is in it; no folder, no copy.
fn copy_folder(from: &Path, to: &Path, done: &mut Backup) -> io::Result<()> {
    let entries = match fs::read_dir(from) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    fs::create_dir_all(to)?;
    for entry in entries {
        let entry = entry?;
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        if entry.file_type()?.is_dir() {
            copy_folder(&path, &target, done)?;
        } else {
            copy_file(&path, &target, done)?;
        }
    }
    File::open(to)?.sync_all()
}

/// Copies a file, unless it was replaced by another name meanwhile.
fn copy_file(from: &Path, to: &Path, done: &mut Backup) -> io::Result<()> {
    match fs::copy(from, to) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        bytes => done.bytes += bytes?,
    }
    done.files += 1;
    File::open(to)?.sync_all()
}

/// Writes the files of a picture to an empty directory.
pub(super) fn write(picture: &Picture, disk: &dyn Disk, to: &Path) -> Result<Backup, BackupError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| BackupError::Io { path, source }
    };
    let dirs = [to.to_owned(), to.join("blocks"), to.join("journal")];
    disk.make_dir(to).map_err(failed(to))?;
    if !disk.list(to).map_err(failed(to))?.is_empty() {
        return Err(BackupError::NotEmpty { to: to.to_owned() });
    }
    dirs.iter().try_for_each(|dir| disk.make_dir(dir).map_err(failed(dir)))?;
    let mut backup = Backup::default();
    let (format, others): (Vec<_>, Vec<_>) =
        picture.files.iter().partition(|(path, _)| path.file_name().is_some_and(|name| name == FORMAT_FILE));
    for (path, held) in others {
        put(path, held, picture, disk, to, &mut backup).map_err(failed(path))?;
    }
    dirs.iter().try_for_each(|dir| disk.sync_dir(dir).map_err(failed(dir)))?;
    let beside = picture.root.join(STATE);
    copy_folder(&beside, &to.join(STATE), &mut backup).map_err(failed(&beside))?;
    for (path, held) in format {
        put(path, held, picture, disk, to, &mut backup).map_err(failed(path))?;
    }
    disk.sync_dir(to).map_err(failed(to))?;
    Ok(backup)
}

fn put(path: &Path, held: &Held, picture: &Picture, disk: &dyn Disk, to: &Path, done: &mut Backup) -> io::Result<()> {
    let target = to.join(path.strip_prefix(&picture.root).map_err(io::Error::other)?);
    let file = held.file();
    let len = file.len()?;
    // A second name does for what never changes; across file systems, and for what is gone by now, a copy.
    if disk.link(path, &target).is_ok() {
        done.linked += 1;
    } else {
        let mut copy = disk.create(&target)?;
        journal::copy_range(file, 0, len, &mut *copy)?;
        copy.sync()?;
    }
    done.files += 1;
    done.bytes += len;
    Ok(())
}
