//! Files of JSON lines that outlive the process: appended to, never rewritten in place.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;
use tracing::warn;

/// Why a file of lines could not be used.
#[derive(Debug, thiserror::Error)]
#[error("could not {attempt} the file {path}; check that the disk has room and the directory is ours")]
pub struct LogError {
    /// What was attempted.
    attempt: &'static str,
    /// Which file.
    path: PathBuf,
    /// Why it failed.
    source: io::Error,
}

/// A file that lines are appended to.
#[derive(Debug)]
pub(crate) struct Lines {
    dir: PathBuf,
    name: &'static str,
    file: File,
    bytes: u64,
}

impl Lines {
    /// Opens or makes `name` in `dir`, which is made too.
    pub(crate) fn open(dir: &Path, name: &'static str) -> Result<Self, LogError> {
        let path = dir.join(name);
        fs::create_dir_all(dir).map_err(|e| failed("create", dir, e))?;
        let open = || {
            let mut file = OpenOptions::new().create(true).read(true).append(true).open(&path)?;
            let bytes = end_last_line(&mut file)?;
            Ok((file, bytes))
        };
        let (file, bytes) = open().map_err(|e| failed("open", &path, e))?;
        Ok(Self { dir: dir.to_owned(), name, file, bytes })
    }

    /// Appends whole lines, each ended, and returns when they are durable.
    pub(crate) fn append(&mut self, text: &[u8]) -> Result<(), LogError> {
        let written = self.file.write_all(text).and_then(|()| self.file.sync_data());
        written.map_err(|e| failed("append to", &self.dir.join(self.name), e))?;
        self.bytes += text.len() as u64;
        Ok(())
    }

    /// Appends one value as a line.
    pub(crate) fn append_value(&mut self, value: &impl Serialize) -> Result<(), LogError> {
        let mut text = serde_json::to_vec(value).map_err(|e| failed("encode a line of", &self.path(), e.into()))?;
        text.push(b'\n');
        self.append(&text)
    }

    /// Puts the file aside as `rotated`, replacing what was there, once it has reached `at` bytes.
    pub(crate) fn rotate(&mut self, rotated: &str, at: u64) -> Result<(), LogError> {
        if self.bytes < at {
            return Ok(());
        }
        fs::rename(self.path(), self.dir.join(rotated)).map_err(|e| failed("rotate", &self.path(), e))?;
        *self = Self::open(&self.dir.clone(), self.name)?;
        Ok(())
    }

    /// Where it lies.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    fn path(&self) -> PathBuf {
        self.dir.join(self.name)
    }
}

/// Each line of a file in order; none when there is no file. A line that cannot be read, such as one torn by a crash, is
/// skipped with a warning.
pub(crate) fn read<T: DeserializeOwned>(path: &Path, mut each: impl FnMut(T)) -> Result<(), LogError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(failed("open", path, e)),
    };
    for (number, line) in BufReader::new(file).split(b'\n').enumerate() {
        let line = line.map_err(|e| failed("read", path, e))?;
        match serde_json::from_slice(&line) {
            Ok(value) => each(value),
            Err(_) if line.is_empty() => {}
            Err(error) => warn!(path = %path.display(), line = number + 1, %error, "unreadable line skipped"),
        }
    }
    Ok(())
}

/// A crash may have torn the last line: what follows must begin a new one.
fn end_last_line(file: &mut File) -> io::Result<u64> {
    let bytes = file.seek(SeekFrom::End(0))?;
    if bytes == 0 {
        return Ok(0);
    }
    file.seek(SeekFrom::End(-1))?;
    let mut last = [0];
    file.read_exact(&mut last)?;
    if last != [b'\n'] {
        file.write_all(b"\n")?;
    }
    Ok(bytes + 1)
}

fn failed(attempt: &'static str, path: &Path, source: io::Error) -> LogError {
    LogError { attempt, path: path.to_owned(), source }
}
