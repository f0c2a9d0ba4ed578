//! The store that needs nothing but a directory.
//!
//! A batch is written to the journal and synced before it is acknowledged, then joins the samples in memory. When enough
//! have gathered, a background thread seals them into blocks, one set per time partition, and drops the journal segments
//! they came from. Retention deletes whole partitions. See `docs/explanation/storage.md`.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, RwLock};
use std::thread::JoinHandle;

use async_trait::async_trait;
use bellwether_models::series::{Labels, Timestamp};
use tokio::sync::oneshot;

use self::disk::{Disk, Lock, RealDisk};
use self::state::State;
use self::writer::{Command, Writer};
use super::{Appended, Backup, Batch, Instants, Matcher, SeriesSamples, Store, StoreError, StoreStats, TimeRange};

mod arena;
mod backup;
mod block;
mod chunk;
mod config;
pub(super) mod disk;
mod head;
mod joined;
pub(super) mod journal;
mod labels;
mod merger;
mod paged;
mod recover;
mod sealer;
mod state;
mod verify;
mod wire;
mod writer;

pub use backup::{BackupError, backup};
pub use config::EmbeddedConfig;
pub use verify::{Damage, VerifyReport, repair, verify};

/// Why a store could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Another process has the store open.
    #[error("the store at {path} is in use by another process; stop it, or give this one another path")]
    Locked {
        /// The store's directory.
        path: PathBuf,
    },
    /// The directory could not be made, listed or read.
    #[error("could not open the store at {path}")]
    Io {
        /// The store's directory or a file in it.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The directory holds something this version cannot read.
    #[error("{path} is not a store this version can read: {detail}")]
    Format {
        /// The file that tells.
        path: PathBuf,
        /// What it says.
        detail: String,
    },
}

/// Keeps samples in a directory of this machine.
#[derive(Debug)]
pub struct EmbeddedStore {
    shared: Arc<Shared>,
    queue: Option<SyncSender<Command>>,
    writer: Mutex<Option<JoinHandle<()>>>,
    /// Held open, and locked, for as long as the store lives.
    _lock: Lock,
}

/// What the store's threads and its readers share.
#[derive(Debug)]
struct Shared {
    config: EmbeddedConfig,
    disk: Arc<dyn Disk>,
    partition_ms: i64,
    state: RwLock<State>,
    /// On how many threads a selection is read at most.
    readers: usize,
    /// Set when the store is dropped: work that can wait for the next start ends.
    closing: AtomicBool,
}

impl Shared {
    fn blocks_dir(&self) -> PathBuf {
        self.config.path.join("blocks")
    }

    fn journal_dir(&self) -> PathBuf {
        self.config.path.join("journal")
    }

    fn segment_path(&self, generation: u64) -> PathBuf {
        self.journal_dir().join(format!("{generation}.log"))
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// First millisecond of the partition that `at` belongs to.
    fn partition_of(&self, at: i64) -> i64 {
        at.saturating_sub(at.rem_euclid(self.partition_ms))
    }
}

impl EmbeddedStore {
    /// Opens the store, making it if there is none, and takes up whatever a crash left. Blocks: call it off the async
    /// threads. Damage found on the way is logged and kept in [`EmbeddedStore::damage`]; it never stops the store.
    ///
    /// # Errors
    /// [`OpenError`] when the directory is in use, cannot be read or written, or is of another version.
    pub fn open(config: EmbeddedConfig) -> Result<Self, OpenError> {
        Self::open_on(config, Arc::new(RealDisk))
    }

    fn open_on(config: EmbeddedConfig, disk: Arc<dyn Disk>) -> Result<Self, OpenError> {
        let lock = lock(&config.path, &*disk)?;
        let found = recover::recover(&config, &*disk)?;
        let (partition_ms, next_generation) = (found.partition_ms, found.next_generation);
        let shared = Arc::new(Shared {
            config,
            disk,
            partition_ms,
            state: RwLock::new(found.state),
            readers: std::thread::available_parallelism().map_or(1, usize::from),
            closing: AtomicBool::new(false),
        });
        let (queue, commands) = sync_channel(shared.config.queue.max(1));
        let writer = Writer::new(shared.clone(), found.head_generations, next_generation);
        let thread = std::thread::Builder::new().name("store-writer".to_owned()).spawn(move || writer.run(&commands));
        let thread = thread.map_err(|source| OpenError::Io { path: shared.config.path.clone(), source })?;
        Ok(Self { shared, queue: Some(queue), writer: Mutex::new(Some(thread)), _lock: lock })
    }

    /// What was found damaged when the store was opened, one sentence each.
    #[must_use]
    pub fn damage(&self) -> Vec<String> {
        self.shared.read().damage.clone()
    }

    async fn ask<T>(
        &self,
        make: impl FnOnce(oneshot::Sender<Result<T, StoreError>>) -> Command,
    ) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        let queue = self.queue.as_ref().ok_or(StoreError::Closed)?;
        queue.try_send(make(reply)).map_err(|error| match error {
            TrySendError::Full(_) => StoreError::Busy,
            TrySendError::Disconnected(_) => StoreError::Closed,
        })?;
        answer.await.map_err(|_| StoreError::Closed)?
    }

    async fn off_thread<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Shared) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let shared = self.shared.clone();
        tokio::task::spawn_blocking(move || work(&shared)).await.map_err(|_| StoreError::Closed)?
    }
}

impl Drop for EmbeddedStore {
    /// Lets what is queued be written, then ends the store's threads.
    fn drop(&mut self) {
        self.queue = None;
        self.shared.closing.store(true, Relaxed);
        let thread = self.writer.get_mut().map(Option::take).unwrap_or_default();
        if let Some(thread) = thread {
            let _ = thread.join();
        }
    }
}

#[async_trait]
impl Store for EmbeddedStore {
    async fn append(&self, batch: Batch) -> Result<Appended, StoreError> {
        self.ask(|reply| Command::Append(batch, reply)).await
    }

    async fn select(
        &self,
        matchers: &[Matcher],
        range: TimeRange,
        limit: usize,
    ) -> Result<Vec<SeriesSamples>, StoreError> {
        let matchers = matchers.to_vec();
        self.off_thread(move |shared| shared.select(&matchers, range, None, limit)).await
    }

    async fn select_last(
        &self,
        matchers: &[Matcher],
        range: TimeRange,
        instants: Instants,
        limit: usize,
    ) -> Result<Vec<SeriesSamples>, StoreError> {
        let matchers = matchers.to_vec();
        self.off_thread(move |shared| shared.select(&matchers, range, Some(instants), limit)).await
    }

    async fn series(&self, matchers: &[Matcher], range: TimeRange) -> Result<Vec<Labels>, StoreError> {
        let matchers = matchers.to_vec();
        self.off_thread(move |shared| shared.series(&matchers, range)).await
    }

    async fn retain(&self, now: Timestamp) -> Result<(), StoreError> {
        self.ask(|reply| Command::Retain(now, reply)).await
    }

    async fn stats(&self) -> Result<StoreStats, StoreError> {
        self.off_thread(Shared::stats).await
    }

    async fn backup(&self, to: &Path) -> Result<Backup, StoreError> {
        let to = to.to_owned();
        let picture = self.ask(Command::Picture).await?;
        self.off_thread(move |shared| backup::write(&picture, &*shared.disk, &to).map_err(StoreError::from)).await
    }
}

fn lock(dir: &Path, disk: &dyn Disk) -> Result<Lock, OpenError> {
    let failed = |source| OpenError::Io { path: dir.to_owned(), source };
    disk.make_dir(dir).map_err(failed)?;
    disk.lock(dir).map_err(failed)?.ok_or_else(|| OpenError::Locked { path: dir.to_owned() })
}

#[cfg(test)]
mod tests;
