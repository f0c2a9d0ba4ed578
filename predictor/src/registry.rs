//! The models of every workload: who serves, who runs in its shadow, and how that came about.
//!
//! Pure parts: [`manifest`] says what a model is and refuses what is none, [`book`] folds an append-only log into who
//! stands where, [`record`] keeps how a model does live, [`rules`] says when one takes another's place. The shell here
//! reads and writes a [`storage`]. Objects are named by their content or by their number and written once:
//!
//! ```text
//! <workload>/log/00000001.json            one entry of the log, the only thing that makes anything count
//! <workload>/manifests/<sha256>.json      what an entry of the log registers
//! <workload>/weights/<sha256>.safetensors what a manifest speaks of
//! ```

pub mod book;
#[cfg(feature = "s3")]
pub mod bucket;
pub mod config;
pub mod manifest;
pub mod record;
pub mod retrain;
pub mod rules;
pub mod seal;
pub mod storage;
pub mod training;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bellwether_models::outlook::TakenBack;
use bellwether_models::series::Timestamp;
use metrics::counter;
use serde::Serialize;
use tracing::{error, info, warn};

use crate::read::chain;
use book::{Action, BUILT_IN, Book, Entry, Order, Refusal, written};
use manifest::{Artefact, MOST_WEIGHTS, Manifest, Unfit};
use seal::{Trust, sha256};
use storage::{Memory, Put, Storage, StorageError};

/// Greatest size of a manifest and of an entry of the log, in bytes.
const MOST_TEXT: usize = 64 << 10;
/// Longest name of a workload's folder in bytes.
const LONGEST_FOLDER: usize = 200;

/// Who the log names where a model was moved by its record.
pub const BY_RECORD: &str = "predictor";
/// How long a model that was taken back is told of.
const TOLD_FOR: Duration = Duration::from_secs(3600);

/// Why something could not be done with a model.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// There is no such workload or version.
    #[error("there is no version {version} of the model of {workload:?}")]
    Unknown {
        /// The workload.
        workload: String,
        /// The version.
        version: u64,
    },
    /// The version has no weights.
    #[error("version {version} of the model of {workload:?} has no weights")]
    NoWeights {
        /// The workload.
        workload: String,
        /// The version.
        version: u64,
    },
    /// The model is refused.
    #[error("the model for {workload:?} is refused; the champion stays")]
    Unfit {
        /// The workload.
        workload: String,
        /// What is wrong with it.
        source: Unfit,
    },
    /// It cannot be done as things stand.
    #[error("nothing was changed for {workload:?}")]
    Refused {
        /// The workload.
        workload: String,
        /// Why.
        source: Refusal,
    },
    /// What lies in the registry is not what was put there.
    #[error("the registry's {path} is damaged: {detail}; restore it from a copy")]
    Damaged {
        /// Which object.
        path: String,
        /// What was found.
        detail: String,
    },
    /// The registry's storage failed.
    #[error("the registry could not be read or written")]
    Storage(#[from] StorageError),
}

/// How a model did lately on live data.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Live {
    /// Forecasts whose outcome is known.
    pub origins: u64,
    /// Their mean pinball loss over the standard quantiles, in units of the demand.
    pub pinball: f64,
    /// Share of outcomes at or below the 0.95 quantile.
    pub coverage_p95: f64,
}

/// A model where it stands.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Place {
    /// Which version.
    pub version: u64,
    /// What it is.
    pub kind: &'static str,
    /// Since when it serves; of challengers, when they were registered.
    pub since: Option<Timestamp>,
    /// How it does live; `None` before the first outcome.
    pub live: Option<Live>,
}

/// The models of one workload as they stand.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Standing {
    /// The workload.
    pub workload: String,
    /// Who serves.
    pub champion: Place,
    /// Who runs in its shadow or may.
    pub challengers: Vec<Place>,
    /// Versions that were dropped.
    pub retired: Vec<u64>,
    /// Whether only people may move the champion.
    pub pinned: bool,
}

/// Who forecasts one workload.
#[derive(Clone, Debug, PartialEq)]
pub struct Lineup {
    /// Who serves. Where the champion's artefact cannot be read, the newest of its predecessors that can.
    pub champion: Arc<Artefact>,
    /// Who forecasts in its shadow.
    pub shadows: Vec<Arc<Artefact>>,
}

/// The registry.
pub struct Registry {
    storage: Arc<dyn Storage>,
    trust: Trust,
    known: Mutex<BTreeMap<String, Known>>,
    /// One writer at a time.
    writing: tokio::sync::Mutex<()>,
    /// Grows with every change of who stands where.
    changes: AtomicU64,
}

/// What is known of one workload.
#[derive(Clone, Default)]
struct Known {
    book: Book,
    /// What was read and found good, by version.
    manifests: BTreeMap<u64, Manifest>,
    artefacts: BTreeMap<u64, Arc<Artefact>>,
    live: BTreeMap<u64, Live>,
    /// Why the log cannot be gone on with.
    damaged: Option<String>,
}

impl Default for Registry {
    fn default() -> Self {
        Self::new(Arc::new(Memory::default()), Trust::default())
    }
}

impl Registry {
    /// A registry over `storage` that has read nothing yet.
    #[must_use]
    pub fn new(storage: Arc<dyn Storage>, trust: Trust) -> Self {
        Self {
            storage,
            trust,
            known: Mutex::default(),
            writing: tokio::sync::Mutex::default(),
            changes: AtomicU64::new(0),
        }
    }

    /// Reads what was written since the last time, by whomever. What is damaged is said in the log, and the models that can
    /// be read go on serving.
    ///
    /// # Errors
    /// When the storage cannot be asked.
    pub async fn refresh(&self) -> Result<(), RegistryError> {
        for folder in self.storage.list("").await? {
            if let Some(workload) = workload_of(&folder) {
                self.refresh_one(&workload).await?;
            }
        }
        Ok(())
    }

    async fn refresh_one(&self, workload: &str) -> Result<(), RegistryError> {
        let mut known = self.locked().get(workload).cloned().unwrap_or_default();
        let before = known.book.entries().len();
        let news = self.read_log(workload, &mut known).await?;
        if !news && before == known.book.entries().len() {
            return Ok(());
        }
        for version in known.in_use() {
            if version != BUILT_IN && !known.artefacts.contains_key(&version) {
                self.load(workload, version, &mut known).await;
            }
        }
        let in_use = known.in_use();
        known.artefacts.retain(|version, _| in_use.contains(version));
        let mut all = self.locked();
        known.live = all.remove(workload).map(|old| old.live).unwrap_or_default();
        all.insert(workload.to_owned(), known);
        self.changes.fetch_add(1, Ordering::Release);
        Ok(())
    }

    /// Goes on through the log; whether anything came of it.
    async fn read_log(&self, workload: &str, known: &mut Known) -> Result<bool, RegistryError> {
        let folder = encoded(workload);
        let written = self.storage.list(&format!("{folder}/log")).await?.len();
        let begun = known.book.entries().len();
        if written < begun && known.damaged.is_none() {
            known.damaged = Some(format!("{folder}/log has {written} entries where {begun} were read before"));
        }
        while known.damaged.is_none() && known.book.entries().len() < written {
            let path = entry_path(&folder, known.book.entries().len() + 1);
            let bytes = self.storage.get(&path, MOST_TEXT).await?;
            if let Err(detail) = go_on(known, bytes) {
                error!(workload, path, %detail, "the log of models is damaged; what stood before it holds");
                counter!("bellwether_predictor_model_damage_total").increment(1);
                known.damaged = Some(format!("{path}: {detail}"));
                return Ok(true);
            }
        }
        Ok(known.book.entries().len() > begun)
    }

    /// Takes up the artefact of a version; one that is damaged is left out.
    async fn load(&self, workload: &str, version: u64, known: &mut Known) {
        match self.artefact(workload, version, &known.book).await {
            Ok(artefact) => {
                known.manifests.insert(version, artefact.manifest.clone());
                known.artefacts.insert(version, Arc::new(artefact));
            }
            Err(error) => {
                counter!("bellwether_predictor_model_damage_total").increment(1);
                error!(workload, version, error = %chain(&error), "a model cannot be used; another one serves");
            }
        }
    }

    /// Reads and checks one version, whoever it serves.
    async fn artefact(&self, workload: &str, version: u64, book: &Book) -> Result<Artefact, RegistryError> {
        let manifest = self.read_manifest(workload, version, book).await?;
        let weights = match &manifest.sha256 {
            None => None,
            Some(sum) => {
                let path = weights_path(&encoded(workload), sum);
                let bytes = self.storage.get(&path, MOST_WEIGHTS).await?;
                let missing = || RegistryError::Damaged { path, detail: "it is missing".to_owned() };
                Some(bytes.ok_or_else(missing)?)
            }
        };
        Artefact::read(manifest, weights.as_deref(), &self.trust)
            .map_err(|source| RegistryError::Unfit { workload: workload.to_owned(), source })
    }

    async fn read_manifest(&self, workload: &str, version: u64, book: &Book) -> Result<Manifest, RegistryError> {
        let unknown = || RegistryError::Unknown { workload: workload.to_owned(), version };
        let sum = book.manifests().get(&version).ok_or_else(unknown)?;
        let path = manifest_path(&encoded(workload), sum);
        let damaged = |detail: &str| RegistryError::Damaged { path: path.clone(), detail: detail.to_owned() };
        let bytes = self.storage.get(&path, MOST_TEXT).await?.ok_or_else(|| damaged("it is missing"))?;
        if sha256(&bytes) != *sum {
            return Err(damaged("its checksum is not the one in the log"));
        }
        let manifest: Manifest = serde_json::from_slice(&bytes).map_err(|error| damaged(&error.to_string()))?;
        let fits = manifest.version == version && manifest.workload == workload;
        if fits { Ok(manifest) } else { Err(damaged("it is of another workload or version")) }
    }

    /// Adds a model as a challenger; durable once this returns. Its version, time and checksum are set here.
    ///
    /// # Errors
    /// [`RegistryError`]; then nothing has changed.
    pub async fn register(
        &self,
        workload: &str,
        mut manifest: Manifest,
        weights: Option<Vec<u8>>,
        now: Timestamp,
    ) -> Result<Manifest, RegistryError> {
        let _alone = self.writing.lock().await;
        let unfit = |source| RegistryError::Unfit { workload: workload.to_owned(), source };
        let book = self.book_to_write(workload).await?;
        if !manifest.workload.is_empty() && manifest.workload != workload {
            return Err(unfit(Unfit::Field { field: "workload", must: "the workload it is registered for" }));
        }
        workload.clone_into(&mut manifest.workload);
        let manifest = checked(manifest, weights.as_deref(), &self.trust).map_err(unfit)?;
        let manifest = Manifest { version: book.next_version(), created_at: now, ..manifest };
        let text = serde_json::to_vec_pretty(&manifest).unwrap_or_default();
        if text.len() > MOST_TEXT || encoded(workload).len() > LONGEST_FOLDER {
            return Err(unfit(Unfit::Field { field: "workload, note and parameters", must: "shorter" }));
        }
        let (sum, folder) = (sha256(&text), encoded(workload));
        let entry = book.registration(sum.clone(), manifest.parent, &manifest.author, &manifest.note, now);
        follows(workload, &book, &entry)?;
        if let (Some(bytes), Some(sum)) = (weights, &manifest.sha256) {
            self.storage.put(&weights_path(&folder, sum), bytes, Put::Over).await?;
        }
        self.storage.put(&manifest_path(&folder, &sum), text, Put::Over).await?;
        self.append(workload, &book, entry).await?;
        info!(
            workload,
            version = manifest.version,
            kind = manifest.kind.name(),
            author = manifest.author,
            "registered a model"
        );
        Ok(manifest)
    }

    /// Carries out `order`; durable once this returns. What stands so already changes nothing.
    ///
    /// # Errors
    /// [`RegistryError`]; then nothing has changed.
    pub async fn carry_out(
        &self,
        workload: &str,
        order: Order,
        who: &str,
        note: &str,
        now: Timestamp,
    ) -> Result<Standing, RegistryError> {
        self.carry(workload, order, None, (who, note), now).await
    }

    /// As [`carry_out`](Self::carry_out) in the name of the live record, which was judged while `champion` served: where
    /// another one serves by now, nothing is done.
    ///
    /// # Errors
    /// [`RegistryError`]; then nothing has changed.
    pub async fn follow_record(
        &self,
        workload: &str,
        champion: u64,
        order: Order,
        why: &str,
        now: Timestamp,
    ) -> Result<Standing, RegistryError> {
        self.carry(workload, order, Some(champion), (BY_RECORD, why), now).await
    }

    async fn carry(
        &self,
        workload: &str,
        order: Order,
        champion: Option<u64>,
        (who, note): (&str, &str),
        now: Timestamp,
    ) -> Result<Standing, RegistryError> {
        let _alone = self.writing.lock().await;
        let who_is_known = !who.trim().is_empty() && who.len() <= 120 && note.len() <= 4000;
        if !who_is_known {
            let source = Unfit::Field { field: "author", must: "a name of 1 to 120 bytes, the note at most 4000" };
            return Err(RegistryError::Unfit { workload: workload.to_owned(), source });
        }
        let book = self.book_to_write(workload).await?;
        if champion.is_some_and(|judged| judged != book.champion()) {
            return Ok(self.standing(workload));
        }
        let refused = |source| RegistryError::Refused { workload: workload.to_owned(), source };
        let Some(entry) = book.entry(order, who, note, now).map_err(refused)? else {
            return Ok(self.standing(workload));
        };
        if let (Order::Promote(version), true) = (order, entry.to != Some(BUILT_IN)) {
            self.artefact(workload, version, &book).await?; // what cannot be read cannot serve
        }
        self.append(workload, &book, entry).await?;
        info!(workload, ?order, who, note, "changed who forecasts");
        Ok(self.standing(workload))
    }

    /// The book as the storage has it now.
    async fn book_to_write(&self, workload: &str) -> Result<Book, RegistryError> {
        self.refresh_one(workload).await?;
        let known = self.locked().get(workload).cloned().unwrap_or_default();
        match known.damaged {
            None => Ok(known.book),
            Some(detail) => Err(RegistryError::Damaged { path: format!("{}/log", encoded(workload)), detail }),
        }
    }

    async fn append(&self, workload: &str, book: &Book, entry: Entry) -> Result<(), RegistryError> {
        let path = entry_path(&encoded(workload), book.entries().len() + 1);
        let action = entry.action;
        self.storage.put(&path, written(&entry).0, Put::New).await?;
        counter!("bellwether_predictor_model_changes_total", "action" => format!("{action:?}").to_lowercase())
            .increment(1);
        // It is durable: that it cannot be read back at once is no reason to say that nothing has changed.
        if let Err(error) = self.refresh_one(workload).await {
            warn!(workload, error = %chain(&error), "a change of models is kept, but could not be read back yet");
        }
        Ok(())
    }

    /// A number that grows with every change of who stands where.
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    /// Every workload that has a log.
    #[must_use]
    pub fn workloads(&self) -> Vec<String> {
        let known = self.locked();
        known.iter().filter(|(_, known)| !known.book.entries().is_empty()).map(|(name, _)| name.clone()).collect()
    }

    /// How the models of a workload stand; one without a log has the combination that comes with the program.
    #[must_use]
    pub fn standing(&self, workload: &str) -> Standing {
        let known = self.locked().get(workload).cloned().unwrap_or_default();
        let place = |version: u64| Place {
            version,
            kind: known.kind(version),
            since: known.manifests.get(&version).map(|m| m.created_at),
            live: known.live.get(&version).copied(),
        };
        let book = &known.book;
        Standing {
            workload: workload.to_owned(),
            champion: Place { since: book.since(), ..place(book.champion()) },
            challengers: book.challengers().iter().map(|version| place(*version)).collect(),
            retired: book.retired().iter().copied().collect(),
            pinned: book.is_pinned(),
        }
    }

    /// The log of a workload, oldest first.
    #[must_use]
    pub fn audit(&self, workload: &str) -> Vec<Entry> {
        self.locked().get(workload).map(|known| known.book.entries().to_vec()).unwrap_or_default()
    }

    /// The book of a workload.
    #[must_use]
    pub fn book(&self, workload: &str) -> Book {
        self.locked().get(workload).map(|known| known.book.clone()).unwrap_or_default()
    }

    /// Models that were rolled back by their record within the last hour.
    #[must_use]
    pub fn taken_back(&self, now: Timestamp) -> Vec<TakenBack> {
        let known = self.locked();
        let lately = |(workload, known): (&String, &Known)| {
            let last = known.book.entries().last()?;
            let told = last.action == Action::RollBack
                && last.who == BY_RECORD
                && last.at <= now
                && now.since(last.at) < TOLD_FOR;
            let (version, by) = (last.from?, last.to?);
            let why = last.note.clone();
            told.then(|| TakenBack { workload: workload.clone(), at: last.at, version, by, why })
        };
        known.iter().filter_map(lately).collect()
    }

    /// The manifest of one version.
    ///
    /// # Errors
    /// When there is none, or it cannot be read.
    pub async fn manifest(&self, workload: &str, version: u64) -> Result<Manifest, RegistryError> {
        if version == BUILT_IN {
            return Ok(Manifest::built_in(workload));
        }
        let book = self.book(workload);
        self.read_manifest(workload, version, &book).await
    }

    /// The weights of one version, checked.
    ///
    /// # Errors
    /// When there are none, or they are not what was registered.
    pub async fn weights(&self, workload: &str, version: u64) -> Result<Vec<u8>, RegistryError> {
        let manifest = self.manifest(workload, version).await?;
        let none = || RegistryError::NoWeights { workload: workload.to_owned(), version };
        let sum = manifest.sha256.clone().ok_or_else(none)?;
        let path = weights_path(&encoded(workload), &sum);
        let bytes = self.storage.get(&path, MOST_WEIGHTS).await?;
        let bytes = bytes.ok_or_else(|| RegistryError::Damaged { path, detail: "it is missing".to_owned() })?;
        Artefact::read(manifest, Some(&bytes), &self.trust)
            .map_err(|source| RegistryError::Unfit { workload: workload.to_owned(), source })?;
        Ok(bytes)
    }

    /// Reads everything of a workload anew and checks it; how many versions are good.
    ///
    /// # Errors
    /// The first thing that is not as it was registered.
    pub async fn verify(&self, workload: &str) -> Result<usize, RegistryError> {
        let mut known = Known::default();
        self.read_log(workload, &mut known).await?;
        if let Some(detail) = known.damaged {
            return Err(RegistryError::Damaged { path: format!("{}/log", encoded(workload)), detail });
        }
        for version in known.book.manifests().keys() {
            self.artefact(workload, *version, &known.book).await?;
        }
        Ok(known.book.manifests().len())
    }

    /// Who forecasts a workload, with at most so many of its challengers, the newest; on probation the champion's
    /// predecessor is among them whatever their number.
    #[must_use]
    pub fn lineup(&self, workload: &str, most: usize) -> Lineup {
        let known = self.locked().get(workload).cloned().unwrap_or_default();
        let built_in = || Arc::new(Artefact::built_in(workload));
        let of = |version: &u64| match *version {
            BUILT_IN => Some(built_in()),
            version => known.artefacts.get(&version).cloned(),
        };
        let book = &known.book;
        let champions = std::iter::once(book.champion()).chain(book.predecessors().iter().rev().copied());
        let champion = champions.filter_map(|version| of(&version)).next().unwrap_or_else(built_in);
        let serving = champion.manifest.version;
        let rival = book.on_probation_against().filter(|_| most > 0);
        let challengers = book.challengers().iter().rev().filter(|c| Some(**c) != rival && **c != BUILT_IN);
        let newest = challengers.take(most.saturating_sub(usize::from(rival.is_some()))).copied();
        let shadows = rival.into_iter().chain(newest).filter(|version| *version != serving);
        let shadows = shadows.filter_map(|version| of(&version)).collect();
        Lineup { champion, shadows }
    }

    /// Takes note of how the models of a workload do live.
    pub fn follow(&self, workload: &str, live: BTreeMap<u64, Live>) {
        self.locked().entry(workload.to_owned()).or_default().live = live;
    }

    /// Whoever panicked while holding the lock has changed nothing halfway.
    fn locked(&self) -> MutexGuard<'_, BTreeMap<String, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn kind(&self, version: u64) -> &'static str {
        self.manifests.get(&version).map_or("automatic", |manifest| manifest.kind.name())
    }

    /// Versions whose artefacts are held.
    fn in_use(&self) -> Vec<u64> {
        let (book, champion) = (&self.book, self.book.champion());
        std::iter::once(champion)
            .chain(book.predecessors().iter().copied())
            .chain(book.challengers().iter().copied())
            .collect()
    }
}

fn go_on(known: &mut Known, bytes: Option<Vec<u8>>) -> Result<(), String> {
    let bytes = bytes.ok_or("it is missing")?;
    let entry: Entry = serde_json::from_slice(&bytes).map_err(|error| error.to_string())?;
    known.book.take(entry, sha256(&bytes)).map_err(|refusal| refusal.to_string())
}

fn follows(workload: &str, book: &Book, entry: &Entry) -> Result<(), RegistryError> {
    let refused = |source| RegistryError::Refused { workload: workload.to_owned(), source };
    book.clone().take(entry.clone(), String::new()).map_err(refused)
}

/// The manifest with the checksum of its weights, once all of it is found good.
fn checked(manifest: Manifest, weights: Option<&[u8]>, trust: &Trust) -> Result<Manifest, Unfit> {
    let named = manifest.sha256.clone();
    let sum = named.or_else(|| weights.map(sha256));
    let manifest = Manifest { sha256: sum, ..manifest };
    Artefact::read(manifest, weights, trust).map(|artefact| artefact.manifest)
}

fn entry_path(folder: &str, number: usize) -> String {
    format!("{folder}/log/{number:08}.json")
}

fn manifest_path(folder: &str, sum: &str) -> String {
    format!("{folder}/manifests/{sum}.json")
}

fn weights_path(folder: &str, sum: &str) -> String {
    format!("{folder}/weights/{sum}.safetensors")
}

/// A workload's name as a part of a path: letters, digits, `-` and `_` as they are, other bytes as `%2F`.
#[must_use]
pub fn encoded(workload: &str) -> String {
    let part = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    workload.bytes().map(part).collect()
}

/// The name behind a folder; `None` for a folder that is none of ours.
fn workload_of(folder: &str) -> Option<String> {
    let (mut bytes, mut rest) = (Vec::new(), folder.as_bytes());
    while let Some((first, others)) = rest.split_first() {
        let (byte, left) = match first {
            b'%' => (u8::from_str_radix(std::str::from_utf8(others.get(..2)?).ok()?, 16).ok()?, &others[2..]),
            _ => (*first, others),
        };
        bytes.push(byte);
        rest = left;
    }
    let workload = String::from_utf8(bytes).ok()?;
    let ours = encoded(&workload) == folder;
    if !ours {
        warn!(folder, "a folder of the registry is none of ours");
    }
    ours.then_some(workload)
}

#[cfg(test)]
mod tests;
