//! Small state that outlives a restart: one JSON file each, replaced as a whole.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::PathBuf;

use serde::Serialize;
use serde::de::DeserializeOwned;

/// What people have stopped.
pub(super) const CONTROL: &str = "control.json";
/// What the past of each workload teaches.
pub(super) const LESSONS: &str = "lessons.json";
/// Warnings of what is foreseen.
pub(super) const WARNINGS: &str = "warnings.json";
/// The weights of backends.
pub(super) const ROUTING: &str = "routing.json";
/// Drains and their turns.
pub(super) const DRAINS: &str = "drains.json";
/// Alerts under way.
pub(super) const ALERTS: &str = "notices.json";

/// Why kept state could not be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// Reading or writing failed.
    #[error("could not access {path}; check that the directory is ours and the disk has room")]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The content is not ours.
    #[error("{path} is damaged; move it away to start without it")]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
}

/// The directory of kept state, or none.
pub(super) struct StateDir(Option<PathBuf>);

impl StateDir {
    pub(super) fn new(dir: Option<PathBuf>) -> Self {
        Self(dir)
    }

    /// What was kept under `name`; the default when nothing was.
    pub(super) fn read<T: DeserializeOwned + Default>(&self, name: &str) -> Result<T, StateError> {
        let Some(path) = self.0.as_ref().map(|dir| dir.join(name)) else { return Ok(T::default()) };
        match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|source| StateError::Damaged { path, source }),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(T::default()),
            Err(source) => Err(StateError::Io { path, source }),
        }
    }

    /// Replaces what is kept under `name`: after a crash it is either the old or the new.
    pub(super) fn write(&self, name: &str, value: &impl Serialize) -> Result<(), StateError> {
        let Some(dir) = &self.0 else { return Ok(()) };
        let path = dir.join(name);
        let replace = || {
            let draft = dir.join(format!("{name}.new"));
            let mut file = File::create(&draft)?;
            file.write_all(&serde_json::to_vec(value)?)?;
            file.sync_all()?;
            fs::rename(&draft, &path)?;
            File::open(dir)?.sync_all()
        };
        replace().map_err(|source| StateError::Io { path: path.clone(), source })
    }
}
