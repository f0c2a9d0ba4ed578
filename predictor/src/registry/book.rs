//! The models of one workload and how they came to stand where they stand: a fold over an append-only log.

use std::collections::{BTreeMap, BTreeSet};

use bellwether_models::series::Timestamp;
use serde::{Deserialize, Serialize};

use super::seal::sha256;

/// The combination that comes with the program, which is always there.
pub const BUILT_IN: u64 = 0;
/// What the first entry of a log names as the one before it.
pub const BEGINNING: &str = "";

/// One line of the log. Entries are numbered from 1.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// When.
    pub at: Timestamp,
    /// Who.
    pub who: String,
    /// What was done.
    pub action: Action,
    /// The version it was done to, or the champion before.
    pub from: Option<u64>,
    /// The version that came of it, or the champion after.
    pub to: Option<u64>,
    /// Why.
    pub note: String,
    /// SHA-256 of the manifest that was registered.
    #[serde(default)]
    pub manifest: Option<String>,
    /// SHA-256 of the entry before, so that none can be changed or taken out unseen.
    #[serde(default)]
    pub previous: String,
}

/// What can be done to a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// A new version became a challenger.
    Register,
    /// A challenger became champion.
    Promote,
    /// The champion gave way to its predecessor.
    RollBack,
    /// The champion stays until it is unpinned.
    Pin,
    /// The champion may be moved again.
    Unpin,
    /// A version is no challenger any more.
    Retire,
}

/// Why something cannot be done to a model as things stand.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// There is no such version.
    #[error("there is no version {version}")]
    Unknown {
        /// Which.
        version: u64,
    },
    /// It was retired.
    #[error("version {version} is retired; register it again to use it")]
    Retired {
        /// Which.
        version: u64,
    },
    /// The champion is pinned.
    #[error("version {champion} is pinned; unpin it first")]
    Pinned {
        /// The champion.
        champion: u64,
    },
    /// Only the champion can be pinned.
    #[error("version {version} is not the champion; promote it first")]
    NotChampion {
        /// Which.
        version: u64,
    },
    /// The champion, and what comes with the program, cannot be retired.
    #[error("version {version} cannot be retired: it {why}")]
    InUse {
        /// Which.
        version: u64,
        /// Why not.
        why: &'static str,
    },
    /// There is nothing to go back to.
    #[error("version {champion} has no predecessor to go back to")]
    NoPredecessor {
        /// The champion.
        champion: u64,
    },
    /// The entry does not continue the log.
    #[error("entry {number} does not continue the log before it: it was changed, or one is missing")]
    Broken {
        /// Which, from 1.
        number: usize,
    },
}

/// Something to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Make this version champion.
    Promote(u64),
    /// Make the champion's predecessor champion.
    RollBack,
    /// Keep this version, the champion.
    Pin(u64),
    /// Let this version, the champion, be moved again.
    Unpin(u64),
    /// Drop this version.
    Retire(u64),
}

/// The models of one workload.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Book {
    entries: Vec<Entry>,
    tip: String,
    manifests: BTreeMap<u64, String>,
    champion: u64,
    since: Option<Timestamp>,
    predecessors: Vec<u64>,
    on_probation: bool,
    /// In the order in which they joined.
    challengers: Vec<u64>,
    retired: BTreeSet<u64>,
    once_champion: BTreeSet<u64>,
    pinned: bool,
}

impl Book {
    /// Its log, oldest first.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// SHA-256 of its newest entry.
    #[must_use]
    pub fn tip(&self) -> &str {
        &self.tip
    }

    /// The version that serves.
    #[must_use]
    pub fn champion(&self) -> u64 {
        self.champion
    }

    /// Since when it serves; `None` from the beginning.
    #[must_use]
    pub fn since(&self) -> Option<Timestamp> {
        self.since
    }

    /// The champion before this one, while this one has not been rolled back to.
    #[must_use]
    pub fn on_probation_against(&self) -> Option<u64> {
        self.predecessors.last().copied().filter(|_| self.on_probation)
    }

    /// Champions before this one, the newest last.
    #[must_use]
    pub fn predecessors(&self) -> &[u64] {
        &self.predecessors
    }

    /// Versions in the champion's shadow, in the order in which they joined.
    #[must_use]
    pub fn challengers(&self) -> &[u64] {
        &self.challengers
    }

    /// Versions that were dropped.
    #[must_use]
    pub fn retired(&self) -> &BTreeSet<u64> {
        &self.retired
    }

    /// Whether nothing but people may move the champion.
    #[must_use]
    pub fn is_pinned(&self) -> bool {
        self.pinned
    }

    /// Whether a version has served before.
    #[must_use]
    pub fn has_served(&self, version: u64) -> bool {
        version == BUILT_IN || self.once_champion.contains(&version)
    }

    /// SHA-256 of the manifest of each version.
    #[must_use]
    pub fn manifests(&self) -> &BTreeMap<u64, String> {
        &self.manifests
    }

    /// The number that the next version gets.
    #[must_use]
    pub fn next_version(&self) -> u64 {
        self.manifests.keys().next_back().map_or(1, |newest| newest + 1)
    }

    /// The entry that carries out `order`; `None` where it stands so already.
    ///
    /// # Errors
    /// [`Refusal`] when it cannot be done.
    pub fn entry(&self, order: Order, who: &str, note: &str, at: Timestamp) -> Result<Option<Entry>, Refusal> {
        let champion = self.champion;
        let (action, from, to) = match order {
            Order::Promote(version) if version == champion => return Ok(None),
            Order::Pin(version) if version == champion && self.pinned => return Ok(None),
            Order::Unpin(version) if version == champion && !self.pinned => return Ok(None),
            Order::Retire(version) if self.retired.contains(&version) => return Ok(None),
            Order::Promote(version) => (Action::Promote, Some(champion), Some(version)),
            Order::RollBack => (Action::RollBack, Some(champion), self.predecessors.last().copied()),
            Order::Pin(version) => (Action::Pin, Some(version), Some(version)),
            Order::Unpin(version) => (Action::Unpin, Some(version), Some(version)),
            Order::Retire(version) => (Action::Retire, Some(version), None),
        };
        let (who, note, previous) = (who.to_owned(), note.to_owned(), self.tip.clone());
        let entry = Entry { at, who, action, from, to, note, manifest: None, previous };
        self.refuse(&entry)?;
        Ok(Some(entry))
    }

    /// The entry that registers the next version with the manifest of this checksum.
    #[must_use]
    pub fn registration(&self, manifest: String, parent: Option<u64>, who: &str, note: &str, at: Timestamp) -> Entry {
        let (who, note, previous) = (who.to_owned(), note.to_owned(), self.tip.clone());
        let to = Some(self.next_version());
        Entry { at, who, action: Action::Register, from: parent, to, note, manifest: Some(manifest), previous }
    }

    /// Goes on by one entry, given with its checksum.
    ///
    /// # Errors
    /// [`Refusal`] when it does not follow from what stands; then nothing has changed.
    pub fn take(&mut self, entry: Entry, checksum: String) -> Result<(), Refusal> {
        if entry.previous != self.tip {
            return Err(Refusal::Broken { number: self.entries.len() + 1 });
        }
        self.refuse(&entry)?;
        match entry.action {
            Action::Register => self.register(&entry),
            Action::Promote => self.promote(&entry),
            Action::RollBack => self.roll_back(&entry),
            Action::Pin => self.pinned = true,
            Action::Unpin => self.pinned = false,
            Action::Retire => self.retire(&entry),
        }
        self.tip = checksum;
        self.entries.push(entry);
        Ok(())
    }

    fn refuse(&self, entry: &Entry) -> Result<(), Refusal> {
        let champion = self.champion;
        let version = match entry.action {
            Action::Register => return self.refuse_registration(entry),
            Action::RollBack => return self.refuse_roll_back(),
            Action::Promote => entry.to,
            Action::Pin | Action::Unpin | Action::Retire => entry.from,
        };
        let version = version.ok_or(Refusal::Broken { number: self.entries.len() + 1 })?;
        if version != BUILT_IN && !self.manifests.contains_key(&version) {
            return Err(Refusal::Unknown { version });
        }
        match entry.action {
            Action::Promote if self.retired.contains(&version) => Err(Refusal::Retired { version }),
            Action::Promote if self.pinned => Err(Refusal::Pinned { champion }),
            Action::Pin | Action::Unpin if version != champion => Err(Refusal::NotChampion { version }),
            Action::Retire if version == champion => Err(Refusal::InUse { version, why: "is the champion" }),
            Action::Retire if version == BUILT_IN => Err(Refusal::InUse { version, why: "comes with the program" }),
            _ => Ok(()),
        }
    }

    fn refuse_registration(&self, entry: &Entry) -> Result<(), Refusal> {
        let follows = entry.to == Some(self.next_version()) && entry.manifest.is_some();
        follows.then_some(()).ok_or(Refusal::Broken { number: self.entries.len() + 1 })?;
        let parent = entry.from.filter(|parent| *parent != BUILT_IN && !self.manifests.contains_key(parent));
        parent.map_or(Ok(()), |version| Err(Refusal::Unknown { version }))
    }

    fn refuse_roll_back(&self) -> Result<(), Refusal> {
        let champion = self.champion;
        if self.pinned {
            return Err(Refusal::Pinned { champion });
        }
        self.predecessors.last().map(|_| ()).ok_or(Refusal::NoPredecessor { champion })
    }

    fn register(&mut self, entry: &Entry) {
        if let (Some(version), Some(manifest)) = (entry.to, &entry.manifest) {
            self.manifests.insert(version, manifest.clone());
            self.challengers.push(version);
        }
    }

    fn promote(&mut self, entry: &Entry) {
        let Some(version) = entry.to else { return };
        self.predecessors.retain(|p| *p != version);
        self.predecessors.push(self.champion);
        self.crown(version, entry.at);
        self.on_probation = true;
    }

    fn roll_back(&mut self, entry: &Entry) {
        let Some(version) = self.predecessors.pop() else { return };
        self.crown(version, entry.at);
        self.on_probation = false;
    }

    /// The old champion goes on in the shadow of the new one.
    fn crown(&mut self, version: u64, at: Timestamp) {
        self.once_champion.insert(version);
        self.challengers.retain(|c| *c != version);
        self.challengers.push(self.champion);
        (self.champion, self.since) = (version, Some(at));
    }

    fn retire(&mut self, entry: &Entry) {
        let Some(version) = entry.from else { return };
        self.challengers.retain(|c| *c != version);
        self.predecessors.retain(|p| *p != version);
        self.retired.insert(version);
    }
}

/// An entry as it is written, and its checksum.
#[must_use]
pub fn written(entry: &Entry) -> (Vec<u8>, String) {
    let bytes = serde_json::to_vec(entry).unwrap_or_default();
    let checksum = sha256(&bytes);
    (bytes, checksum)
}
