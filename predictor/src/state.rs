//! What is remembered over a restart: one file, replaced as a whole, believed only when it is whole.
//!
//! Layout: magic (8 bytes), CRC-32 of the rest (4 bytes, little endian), body in CBOR (RFC 8949), which keeps NaN and
//! infinities. A change of the body's meaning changes the magic.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

const MAGIC: &[u8; 8] = b"BWPRED06";
const HEAD: usize = MAGIC.len() + 4;

/// Why what was remembered could not be written or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// The disk refused.
    #[error("could not {action} {}", path.display())]
    Io {
        /// What was attempted.
        action: &'static str,
        /// Which file.
        path: PathBuf,
        /// What went wrong.
        source: io::Error,
    },
    /// The file is not one of ours, or of another version.
    #[error("{} is not a state of this version", path.display())]
    Foreign {
        /// Which file.
        path: PathBuf,
    },
    /// The file is not what was written.
    #[error("{} is damaged: {detail}", path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What was found.
        detail: String,
    },
}

/// Replaces the file at `path` by `state`: a reader, and a restart after a crash, see the old one or the new one.
///
/// # Errors
/// [`StateError::Io`] when the disk refuses; the old file stays.
pub fn save<T: Serialize>(path: &Path, state: &T) -> Result<(), StateError> {
    let failed = |action| move |source| StateError::Io { action, path: path.to_owned(), source };
    let bytes = encode(state).map_err(failed("encode the state for"))?;
    let beside = path.with_extension("new");
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(failed("create the folder of"))?;
    }
    write_durably(&beside, &bytes).map_err(failed("write beside"))?;
    fs::rename(&beside, path).map_err(failed("replace"))?;
    sync_folder(path).map_err(failed("make durable the renaming of"))
}

/// Reads what [`save`] wrote; `None` when there is no file.
///
/// # Errors
/// [`StateError`] when it cannot be read or is not what was written.
pub fn load<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, StateError> {
    match fs::read(path) {
        Ok(bytes) => decode(path, &bytes).map(Some),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(StateError::Io { action: "read", path: path.to_owned(), source }),
    }
}

fn encode<T: Serialize>(state: &T) -> io::Result<Vec<u8>> {
    let mut bytes = [MAGIC.as_slice(), &[0; 4]].concat();
    ciborium::into_writer(state, &mut bytes).map_err(io::Error::other)?;
    let crc = crc32fast::hash(&bytes[HEAD..]);
    bytes[MAGIC.len()..HEAD].copy_from_slice(&crc.to_le_bytes());
    Ok(bytes)
}

fn decode<T: DeserializeOwned>(path: &Path, bytes: &[u8]) -> Result<T, StateError> {
    let damaged = |detail: String| StateError::Damaged { path: path.to_owned(), detail };
    if !bytes.starts_with(MAGIC) {
        return Err(StateError::Foreign { path: path.to_owned() });
    }
    let body = bytes.get(HEAD..).ok_or_else(|| damaged("it ends within its head".to_owned()))?;
    if crc32fast::hash(body).to_le_bytes() != bytes[MAGIC.len()..HEAD] {
        return Err(damaged("its checksum does not match".to_owned()));
    }
    ciborium::from_reader(body).map_err(|error| damaged(error.to_string()))
}

fn write_durably(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// A renaming is durable once the folder is.
fn sync_folder(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_saved_is_loaded_nan_included() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/state");
        assert!(load::<Vec<f64>>(&path).unwrap().is_none());
        save(&path, &vec![1.5, f64::NAN]).unwrap();
        save(&path, &vec![2.5, f64::NAN, f64::INFINITY]).unwrap();
        let loaded: Vec<f64> = load(&path).unwrap().unwrap();
        assert!(loaded[0] == 2.5 && loaded[1].is_nan() && loaded[2] == f64::INFINITY);
    }

    #[test]
    fn no_damaged_file_is_believed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        save(&path, &(0..20u32).collect::<Vec<_>>()).unwrap();
        let whole = fs::read(&path).unwrap();
        for cut in 0..whole.len() {
            fs::write(&path, &whole[..cut]).unwrap();
            assert!(load::<Vec<u32>>(&path).is_err(), "cut at {cut}");
        }
        for bit in 0..whole.len() * 8 {
            let mut flipped = whole.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            fs::write(&path, &flipped).unwrap();
            assert!(load::<Vec<u32>>(&path).is_err(), "bit {bit}");
        }
    }
}
