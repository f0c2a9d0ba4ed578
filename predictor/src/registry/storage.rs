//! Where artefacts lie: a few kinds of small objects by path, each written once.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;

/// Whether an object may be there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put {
    /// It may, and is then replaced: it is named by its content.
    Over,
    /// It must not: whoever comes second is refused.
    New,
}

/// Why objects could not be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StorageError {
    /// Somebody else was faster.
    #[error("{path} is there already: somebody else wrote to the registry at the same time; try again")]
    Exists {
        /// Which object.
        path: String,
    },
    /// It is larger than anything that belongs there.
    #[error("{path} has {found} bytes, more than {most} are never read")]
    TooLarge {
        /// Which object.
        path: String,
        /// Its size.
        found: u64,
        /// The most that is read.
        most: usize,
    },
    /// The disk or the server refused.
    #[error("could not {action} {path}")]
    Failed {
        /// What was attempted.
        action: &'static str,
        /// Which object.
        path: String,
        /// What went wrong.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// Objects by path. A path is parts of letters, digits, `.`, `-`, `_` and `%`, joined by slashes.
#[async_trait]
pub trait Storage: Send + Sync {
    /// The object's bytes; `None` where there is none.
    ///
    /// # Errors
    /// [`StorageError`], also when it is larger than `most` bytes.
    async fn get(&self, path: &str, most: usize) -> Result<Option<Vec<u8>>, StorageError>;

    /// Writes an object as a whole; it is durable once this returns.
    ///
    /// # Errors
    /// [`StorageError`]; with [`Put::New`] also when it is there already.
    async fn put(&self, path: &str, bytes: Vec<u8>, how: Put) -> Result<(), StorageError>;

    /// Names of what lies directly in a folder (objects and folders), in order; none where there is no such folder.
    ///
    /// # Errors
    /// [`StorageError`].
    async fn list(&self, folder: &str) -> Result<Vec<String>, StorageError>;
}

/// A folder of this machine.
#[derive(Clone, Debug)]
pub struct Folder(pub PathBuf);

#[async_trait]
impl Storage for Folder {
    async fn get(&self, path: &str, most: usize) -> Result<Option<Vec<u8>>, StorageError> {
        let (file, path) = (self.0.join(path), path.to_owned());
        off_thread("read", &path.clone(), move || read(&file, &path, most)).await
    }

    async fn put(&self, path: &str, bytes: Vec<u8>, how: Put) -> Result<(), StorageError> {
        let (file, path) = (self.0.join(path), path.to_owned());
        off_thread("write", &path.clone(), move || write(&file, &path, &bytes, how)).await
    }

    async fn list(&self, folder: &str) -> Result<Vec<String>, StorageError> {
        let (place, folder) = (self.0.join(folder), folder.to_owned());
        off_thread("list", &folder.clone(), move || list(&place, &folder)).await
    }
}

/// Objects in memory, for who keeps nothing.
#[derive(Debug, Default)]
pub struct Memory(Mutex<BTreeMap<String, Vec<u8>>>);

#[async_trait]
impl Storage for Memory {
    async fn get(&self, path: &str, _most: usize) -> Result<Option<Vec<u8>>, StorageError> {
        Ok(self.0.lock().unwrap_or_else(PoisonError::into_inner).get(path).cloned())
    }

    async fn put(&self, path: &str, bytes: Vec<u8>, how: Put) -> Result<(), StorageError> {
        let mut objects = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if how == Put::New && objects.contains_key(path) {
            return Err(StorageError::Exists { path: path.to_owned() });
        }
        objects.insert(path.to_owned(), bytes);
        Ok(())
    }

    async fn list(&self, folder: &str) -> Result<Vec<String>, StorageError> {
        let objects = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let head = if folder.is_empty() { String::new() } else { format!("{folder}/") };
        let names = objects.keys().filter_map(|path| path.strip_prefix(&head)?.split('/').next());
        let mut names: Vec<String> = names.map(str::to_owned).collect();
        names.dedup();
        Ok(names)
    }
}

async fn off_thread<T: Send + 'static>(
    action: &'static str,
    path: &str,
    work: impl FnOnce() -> Result<T, StorageError> + Send + 'static,
) -> Result<T, StorageError> {
    let broken = |source: tokio::task::JoinError| failed(action, path)(io::Error::other(source));
    tokio::task::spawn_blocking(work).await.map_err(broken)?
}

fn failed(action: &'static str, path: &str) -> impl FnOnce(io::Error) -> StorageError {
    let path = path.to_owned();
    move |source| StorageError::Failed { action, path, source: Box::new(source) }
}

fn read(file: &Path, path: &str, most: usize) -> Result<Option<Vec<u8>>, StorageError> {
    let found = match fs::metadata(file) {
        Ok(metadata) => metadata.len(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed("read", path)(error)),
    };
    if found > most as u64 {
        return Err(StorageError::TooLarge { path: path.to_owned(), found, most });
    }
    fs::read(file).map(Some).map_err(failed("read", path))
}

/// Writes beside, makes it durable, gives it its name, makes the name durable.
fn write(file: &Path, path: &str, bytes: &[u8], how: Put) -> Result<(), StorageError> {
    let folder = file.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder).map_err(failed("create the folder of", path))?;
    let mut beside = tempfile::Builder::new().prefix(".new-").tempfile_in(folder).map_err(failed("write", path))?;
    beside.write_all(bytes).and_then(|()| beside.as_file().sync_all()).map_err(failed("write", path))?;
    let named = match how {
        Put::Over => beside.persist(file).map(drop),
        Put::New => beside.persist_noclobber(file).map(drop),
    };
    match named {
        Ok(()) => sync_upwards(folder).map_err(failed("make durable", path)),
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => {
            Err(StorageError::Exists { path: path.to_owned() })
        }
        Err(error) => Err(failed("name", path)(error.error)),
    }
}

/// A name is durable once its folder is, and a new folder once the one above it is.
fn sync_upwards(folder: &Path) -> io::Result<()> {
    folder.ancestors().take(3).filter(|f| f.is_dir()).try_for_each(|folder| File::open(folder)?.sync_all())
}

fn list(place: &Path, folder: &str) -> Result<Vec<String>, StorageError> {
    let entries = match fs::read_dir(place) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed("list", folder)(error)),
    };
    let names = entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
    let mut names = names.collect::<io::Result<Vec<String>>>().map_err(failed("list", folder))?;
    names.retain(|name| !name.starts_with('.'));
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn keeps_the_rules(storage: &dyn Storage) {
        assert_eq!(storage.list("a/log").await.unwrap(), Vec::<String>::new());
        assert_eq!(storage.get("a/log/1", 10).await.unwrap(), None);
        storage.put("a/log/1", b"one".to_vec(), Put::New).await.unwrap();
        storage.put("a/log/2", b"two".to_vec(), Put::New).await.unwrap();
        storage.put("b/x", b"x".to_vec(), Put::Over).await.unwrap();
        let second = storage.put("a/log/1", b"other".to_vec(), Put::New).await;
        assert!(matches!(second, Err(StorageError::Exists { .. })), "{second:?}");
        assert_eq!(storage.get("a/log/1", 10).await.unwrap().as_deref(), Some(b"one".as_slice()));
        assert_eq!(storage.list("a/log").await.unwrap(), ["1", "2"]);
        assert_eq!(storage.list("").await.unwrap(), ["a", "b"]);
    }

    #[tokio::test]
    async fn every_storage_keeps_the_first_of_two_and_lists_what_it_has() {
        let folder = tempfile::tempdir().unwrap();
        keeps_the_rules(&Folder(folder.path().to_owned())).await;
        keeps_the_rules(&Memory::default()).await;
        let large = Folder(folder.path().to_owned()).get("a/log/1", 2).await;
        assert!(matches!(large, Err(StorageError::TooLarge { found: 3, most: 2, .. })), "{large:?}");
    }

    /// Needs an S3-compatible store with an empty bucket, such as moto's: `make models-s3` starts one.
    #[cfg(feature = "s3")]
    #[tokio::test]
    #[ignore = "needs an S3-compatible store at BELLWETHER_S3_ENDPOINT"]
    async fn a_bucket_keeps_the_same_rules() {
        use crate::registry::bucket::Bucket;
        use crate::registry::config::S3Config;
        let _ = rustls::crypto::ring::default_provider().install_default();
        let endpoint = std::env::var("BELLWETHER_S3_ENDPOINT").expect("BELLWETHER_S3_ENDPOINT names the store");
        let config = S3Config {
            bucket: "models".to_owned(),
            prefix: "/registry/".to_owned(),
            endpoint: Some(endpoint),
            ..S3Config::default()
        };
        let bucket = Bucket::open(&config).unwrap();
        keeps_the_rules(&bucket).await;
        let large = bucket.get("a/log/1", 2).await;
        assert!(matches!(large, Err(StorageError::TooLarge { found: 3, most: 2, .. })), "{large:?}");
    }
}
