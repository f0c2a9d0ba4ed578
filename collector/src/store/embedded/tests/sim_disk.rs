//! A file system in memory that loses what was not synced when its power goes, as real ones may: unsynced bytes are kept
//! in part, torn or as zeros; names that were not synced come through in any selection; a failed sync drops what it had.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use super::super::disk::{AppendFile, Disk, Lock, ReadFile};

/// The next of a sequence that a seed fixes (splitmix64).
pub(super) fn next(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *seed;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Things that go wrong while the power is on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Weather {
    #[default]
    Fair,
    /// No more bytes than these fit.
    Full(u64),
    /// One sync in three fails.
    SyncsFail,
    ReadOnly,
}

#[derive(Debug, Default)]
struct World {
    seed: u64,
    /// Calls that change something until the power goes.
    left: u64,
    dark: bool,
    weather: Weather,
    inodes: HashMap<u64, Inode>,
    next_inode: u64,
    names: BTreeMap<PathBuf, u64>,
    durable_names: BTreeMap<PathBuf, u64>,
    /// Changes of names since their directory was synced.
    unsynced_names: Vec<Change>,
}

#[derive(Clone, Debug)]
enum Change {
    Put(PathBuf, u64),
    Remove(PathBuf),
    Rename(PathBuf, PathBuf, u64),
}

impl Change {
    fn dir(&self) -> Option<&Path> {
        let (Self::Put(path, _) | Self::Remove(path) | Self::Rename(path, ..)) = self;
        path.parent()
    }

    fn apply(&self, names: &mut BTreeMap<PathBuf, u64>) {
        match self {
            Self::Put(path, inode) => drop(names.insert(path.clone(), *inode)),
            Self::Remove(path) => drop(names.remove(path)),
            Self::Rename(from, to, inode) => {
                names.remove(from);
                names.insert(to.clone(), *inode);
            }
        }
    }
}

#[derive(Clone, Debug, Default)]
struct Inode {
    bytes: Vec<u8>,
    durable: Vec<u8>,
    /// Stretch that a failed sync dropped although it can still be read.
    dropped: Option<(usize, usize)>,
}

impl Inode {
    fn sync(&mut self) {
        self.durable.clone_from(&self.bytes);
        if let Some((from, to)) = self.dropped {
            let end = to.min(self.durable.len());
            self.durable[from.min(end)..end].fill(0);
        }
    }

    /// What a sync that fails leaves: some of it may have come through, the rest never will.
    fn fail_sync(&mut self, seed: &mut u64) {
        let (from, to) = (self.durable.len().min(self.bytes.len()), self.bytes.len());
        let kept = from + (next(seed) as usize) % (to - from + 1);
        self.durable.truncate(from);
        self.durable.extend_from_slice(&self.bytes[from..kept]);
        self.dropped = Some((kept, to));
    }

    fn truncate(&mut self, len: usize) {
        self.bytes.truncate(len);
        self.dropped = self.dropped.filter(|(from, _)| *from < len);
    }

    /// What is on the disk after the power went.
    fn survive(&mut self, seed: &mut u64) {
        if self.bytes.len() < self.durable.len() {
            let cut = next(seed).is_multiple_of(2);
            let kept = if cut { &self.bytes } else { &self.durable };
            self.durable = kept.clone();
        } else if self.dropped.is_none() {
            let (from, to) = (self.durable.len(), self.bytes.len());
            let kept = from + (next(seed) as usize) % (to - from + 1);
            self.durable.extend_from_slice(&self.bytes[from..kept]);
            // The length may have come through before the bytes did.
            if kept > from && next(seed).is_multiple_of(4) {
                let zeros = from + (next(seed) as usize) % (kept - from);
                self.durable[zeros..].fill(0);
            }
        }
        self.bytes.clone_from(&self.durable);
        self.dropped = None;
    }
}

impl World {
    /// Counts a change; an error when the power goes at it, or is gone.
    fn change(&mut self) -> io::Result<()> {
        if self.left == 0 {
            self.dark = true;
        }
        self.left = self.left.saturating_sub(1);
        match self.weather {
            _ if self.dark => Err(io::Error::other("the power is off")),
            Weather::ReadOnly => Err(io::ErrorKind::ReadOnlyFilesystem.into()),
            _ => Ok(()),
        }
    }

    fn inode(&mut self, inode: u64) -> &mut Inode {
        self.inodes.entry(inode).or_default()
    }

    fn used(&self) -> u64 {
        self.names.values().map(|inode| self.inodes[inode].bytes.len() as u64).sum()
    }

    fn rename_in(&mut self, change: Change) {
        change.apply(&mut self.names);
        self.unsynced_names.push(change);
    }

    fn sync_dir(&mut self, dir: &Path) {
        let (synced, left) = std::mem::take(&mut self.unsynced_names).into_iter().partition(|c| c.dir() == Some(dir));
        self.unsynced_names = left;
        let synced: Vec<Change> = synced;
        synced.iter().for_each(|change| change.apply(&mut self.durable_names));
    }
}

/// A handle to the file system.
#[derive(Clone, Debug)]
pub(super) struct SimDisk(Arc<Mutex<World>>);

impl SimDisk {
    pub(super) fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(World { seed, left: u64::MAX, next_inode: 1, ..World::default() })))
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// The power goes at the change after so many others.
    pub(super) fn cut_power_after(&self, changes: u64) {
        self.world().left = changes;
    }

    pub(super) fn is_dark(&self) -> bool {
        self.world().dark
    }

    pub(super) fn weather(&self, weather: Weather) {
        self.world().weather = weather;
    }

    /// Bytes of all files.
    pub(super) fn used(&self) -> u64 {
        self.world().used()
    }

    /// Whether there is a file whose name ends so.
    pub(super) fn has(&self, ending: &str) -> bool {
        self.world().names.keys().any(|path| path.to_string_lossy().ends_with(ending))
    }

    /// What is left when the power comes back: another file system, so that no thread of before can touch it.
    pub(super) fn after_power_cut(&self) -> Self {
        let mut world = self.world();
        world.dark = true;
        let (mut seed, mut names) = (world.seed, world.durable_names.clone());
        for change in &world.unsynced_names {
            if next(&mut seed).is_multiple_of(2) {
                change.apply(&mut names);
            }
        }
        let mut inodes: HashMap<u64, Inode> = HashMap::new();
        for inode in names.values() {
            let mut left = world.inodes.get(inode).cloned().unwrap_or_default();
            left.survive(&mut seed);
            inodes.insert(*inode, left);
        }
        Self(Arc::new(Mutex::new(World {
            seed,
            left: u64::MAX,
            inodes,
            next_inode: world.next_inode,
            durable_names: names.clone(),
            names,
            ..World::default()
        })))
    }
}

impl Disk for SimDisk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn AppendFile>> {
        let mut world = self.world();
        world.change()?;
        let inode = world.next_inode;
        world.next_inode += 1;
        world.inode(inode);
        world.rename_in(Change::Put(path.to_owned(), inode));
        Ok(Box::new(SimFile { disk: self.clone(), inode }))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn ReadFile>> {
        let world = self.world();
        let inode = *world.names.get(path).ok_or(io::ErrorKind::NotFound)?;
        Ok(Box::new(SimFile { disk: self.clone(), inode }))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<(PathBuf, u64)>> {
        let world = self.world();
        let here = world.names.iter().filter(|(path, _)| path.parent() == Some(dir));
        Ok(here.map(|(path, inode)| (path.clone(), world.inodes[inode].bytes.len() as u64)).collect())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut world = self.world();
        world.change()?;
        let inode = *world.names.get(from).ok_or(io::ErrorKind::NotFound)?;
        world.rename_in(Change::Rename(from.to_owned(), to.to_owned(), inode));
        drop(world);
        to.parent().map_or(Ok(()), |dir| self.sync_dir(dir))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut world = self.world();
        world.change()?;
        if !world.names.contains_key(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        world.rename_in(Change::Remove(path.to_owned()));
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut world = self.world();
        world.change()?;
        world.sync_dir(dir);
        Ok(())
    }

    fn make_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut world = self.world();
        world.change()?;
        let inode = *world.names.get(from).ok_or(io::ErrorKind::NotFound)?;
        world.rename_in(Change::Put(to.to_owned(), inode));
        Ok(())
    }

    fn lock(&self, _: &Path) -> io::Result<Option<Lock>> {
        Ok(Some(Box::new(())))
    }
}

#[derive(Debug)]
struct SimFile {
    disk: SimDisk,
    inode: u64,
}

impl AppendFile for SimFile {
    /// A write the power goes at, or that a full disk has not room for, is torn.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut world = self.disk.world();
        let changed = world.change();
        let room = match world.weather {
            Weather::Full(most) => most.saturating_sub(world.used()) as usize,
            _ => usize::MAX,
        };
        let torn = match &changed {
            Err(_) if world.dark && world.left == 0 => {
                let mut seed = world.seed;
                let part = next(&mut seed) as usize % (bytes.len() + 1);
                world.seed = seed;
                part
            }
            Err(_) => 0,
            Ok(()) => bytes.len().min(room),
        };
        world.inode(self.inode).bytes.extend_from_slice(&bytes[..torn]);
        changed?;
        if torn == bytes.len() { Ok(()) } else { Err(io::ErrorKind::StorageFull.into()) }
    }

    fn sync(&mut self) -> io::Result<()> {
        let mut world = self.disk.world();
        world.change()?;
        let mut seed = world.seed;
        let fails = world.weather == Weather::SyncsFail && next(&mut seed).is_multiple_of(3);
        let inode = world.inode(self.inode);
        if fails {
            inode.fail_sync(&mut seed);
        } else {
            inode.sync();
        }
        world.seed = seed;
        if fails { Err(io::Error::other("input/output error")) } else { Ok(()) }
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        let mut world = self.disk.world();
        world.change()?;
        world.inode(self.inode).truncate(len as usize);
        Ok(())
    }
}

impl ReadFile for SimFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.disk.world().inode(self.inode).bytes.len() as u64)
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.disk.world().inode(self.inode).bytes.read_at(buf, offset)
    }
}
