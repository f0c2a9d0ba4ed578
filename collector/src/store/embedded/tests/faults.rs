//! A disk that fills up, fails to sync, or turns read-only, and then gets well again.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use super::super::disk::{AppendFile, Disk, Lock, ReadFile, RealDisk};
use super::*;

/// What goes wrong.
#[derive(Debug, Default)]
struct Faults {
    /// Bytes that may still be written; then the disk is full.
    room: AtomicU64,
    sync_fails: AtomicBool,
    read_only: AtomicBool,
    truncate_fails: AtomicBool,
}

impl Faults {
    fn healthy() -> Arc<Self> {
        let faults = Self::default();
        faults.room.store(u64::MAX, Relaxed);
        Arc::new(faults)
    }

    fn heal(&self) {
        self.room.store(u64::MAX, Relaxed);
        [&self.sync_fails, &self.read_only, &self.truncate_fails].iter().for_each(|fault| fault.store(false, Relaxed));
    }

    fn writable(&self) -> io::Result<()> {
        if self.read_only.load(Relaxed) { Err(io::ErrorKind::ReadOnlyFilesystem.into()) } else { Ok(()) }
    }
}

#[derive(Debug)]
struct FaultyDisk(Arc<Faults>);

struct FaultyFile {
    file: Box<dyn AppendFile>,
    faults: Arc<Faults>,
}

impl Disk for FaultyDisk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn AppendFile>> {
        self.0.writable()?;
        Ok(Box::new(FaultyFile { file: RealDisk.create(path)?, faults: self.0.clone() }))
    }
    fn open(&self, path: &Path) -> io::Result<Box<dyn ReadFile>> {
        RealDisk.open(path)
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<(PathBuf, u64)>> {
        RealDisk.list(dir)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.0.writable().and_then(|()| RealDisk.rename(from, to))
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        self.0.writable().and_then(|()| RealDisk.remove(path))
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        RealDisk.sync_dir(dir)
    }
    fn make_dir(&self, dir: &Path) -> io::Result<()> {
        RealDisk.make_dir(dir)
    }
    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.0.writable().and_then(|()| RealDisk.link(from, to))
    }
    fn lock(&self, dir: &Path) -> io::Result<Option<Lock>> {
        RealDisk.lock(dir)
    }
}

impl AppendFile for FaultyFile {
    /// A full disk takes what still fits: the write is torn.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.faults.writable()?;
        let room = self.faults.room.load(Relaxed);
        let fits = bytes.len().min(usize::try_from(room).unwrap_or(usize::MAX));
        self.faults.room.store(room - fits as u64, Relaxed);
        self.file.append(&bytes[..fits])?;
        if fits == bytes.len() { Ok(()) } else { Err(io::ErrorKind::StorageFull.into()) }
    }
    fn sync(&mut self) -> io::Result<()> {
        if self.faults.sync_fails.load(Relaxed) {
            Err(io::Error::other("input/output error"))
        } else {
            self.file.sync()
        }
    }
    fn truncate(&mut self, len: u64) -> io::Result<()> {
        if self.faults.truncate_fails.load(Relaxed) {
            return Err(io::Error::other("input/output error"));
        }
        self.file.truncate(len)
    }
}

/// Writes rounds of a scrape, breaking the disk before some of them. What was acknowledged, and nothing else that
/// contradicts it, must be there at once, after healing, and after a restart.
async fn weather(break_it: impl Fn(&Faults), sealing: bool) {
    let dir = TempDir::new().unwrap();
    let settings = if sealing { eager(&dir) } else { config(&dir) };
    let faults = Faults::healthy();
    let store = EmbeddedStore::open_on(settings.clone(), Arc::new(FaultyDisk(faults.clone()))).unwrap();
    let oracle = MemoryStore::default();
    let mut failures = 0;
    for round in 0..120 {
        if round % 30 == 10 {
            break_it(&faults);
        }
        if round % 30 == 20 {
            faults.heal();
        }
        let batch = scrape(round, 30);
        match store.append(batch.clone()).await {
            Ok(appended) => assert_eq!(appended, oracle.append(batch).await.unwrap()),
            Err(StoreError::Unavailable { .. } | StoreError::Busy) => failures += 1,
            Err(error) => panic!("{error}"),
        }
        assert_eq!(contents(&store).await, contents(&oracle).await, "round {round}");
    }
    assert!(failures > 0, "nothing failed");
    faults.heal();
    let batch = scrape(200, 30);
    assert_eq!(append(&store, &batch).await, oracle.append(batch).await.unwrap(), "it does not resume by itself");
    // What failed is sent again with other values: what is told now must hold.
    for round in 10..20 {
        let batch: Batch = scrape(round, 30)
            .into_iter()
            .map(|mut series| {
                series.samples[0].value += 1.0;
                series
            })
            .collect();
        assert_eq!(sorted(append(&store, &batch).await), sorted(oracle.append(batch).await.unwrap()));
    }
    assert_eq!(contents(&store).await, contents(&oracle).await);
    drop(store);
    let store = open(&settings);
    assert_eq!(contents(&store).await, contents(&oracle).await, "after the restart");
}

#[tokio::test]
async fn a_full_disk_refuses_loses_nothing_and_resumes_when_there_is_room() {
    for sealing in [false, true] {
        weather(|faults| faults.room.store(700, Relaxed), sealing).await;
    }
}

#[tokio::test]
async fn a_failed_sync_is_not_acknowledged_and_what_it_left_does_not_come_back() {
    for sealing in [false, true] {
        weather(|faults| faults.sync_fails.store(true, Relaxed), sealing).await;
    }
}

#[tokio::test]
async fn a_disk_that_cannot_even_be_cut_back_does_not_contradict_what_is_acknowledged_later() {
    let both = |faults: &Faults| {
        faults.sync_fails.store(true, Relaxed);
        faults.truncate_fails.store(true, Relaxed);
    };
    let dir = TempDir::new().unwrap();
    let faults = Faults::healthy();
    let store = EmbeddedStore::open_on(config(&dir), Arc::new(FaultyDisk(faults.clone()))).unwrap();
    append(&store, &scrape(1, 3)).await;
    both(&faults);
    assert!(store.append(scrape(2, 3)).await.is_err());
    faults.heal();
    let mut other = scrape(2, 3);
    other.iter_mut().for_each(|series| series.samples[0].value += 7.0);
    assert_eq!(append(&store, &other).await.written, 3);
    let told = contents(&store).await;
    drop(store);
    assert_eq!(contents(&open(&config(&dir))).await, told);
}

#[tokio::test]
async fn a_file_system_that_turns_read_only_refuses_and_resumes() {
    for sealing in [false, true] {
        weather(|faults| faults.read_only.store(true, Relaxed), sealing).await;
    }
}

/// A disk where no file can have a second name.
#[derive(Debug)]
pub(super) struct Unlinkable;

impl Disk for Unlinkable {
    fn create(&self, path: &Path) -> io::Result<Box<dyn AppendFile>> {
        RealDisk.create(path)
    }
    fn open(&self, path: &Path) -> io::Result<Box<dyn ReadFile>> {
        RealDisk.open(path)
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<(PathBuf, u64)>> {
        RealDisk.list(dir)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealDisk.rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        RealDisk.remove(path)
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        RealDisk.sync_dir(dir)
    }
    fn make_dir(&self, dir: &Path) -> io::Result<()> {
        RealDisk.make_dir(dir)
    }
    fn link(&self, _: &Path, _: &Path) -> io::Result<()> {
        Err(io::ErrorKind::CrossesDevices.into())
    }
    fn lock(&self, dir: &Path) -> io::Result<Option<Lock>> {
        RealDisk.lock(dir)
    }
}
