//! The one thread that writes: batches that wait together become one journal record and one sync.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::thread::JoinHandle;

use bellwether_models::series::Timestamp;
use metrics::{counter, gauge};
use roaring::RoaringBitmap;
use tokio::sync::oneshot;
use tracing::error;

use super::Shared;
use super::backup::Picture;
use super::chunk::Point;
use super::journal::{Entry, Segment};
use super::labels::SeriesId;
use super::merger::Merger;
use super::recover::FORMAT_FILE;
use super::sealer::{SealJob, Sealer};
use super::state::{Newest, State, unavailable};
use crate::store::{Appended, Batch, SampleRefusal, StoreError};

/// Batches are joined into one record up to this many samples.
const SAMPLES_PER_RECORD: usize = 1 << 16;
/// Below this many samples in memory sealing is not worth a block.
const FEWEST_SAMPLES_TO_SEAL: u64 = 20_000;
/// A journal segment this long is sealed whatever it holds.
const LONGEST_SEGMENT: u64 = 256 << 20;
/// Times beyond the year 9999, either way, are mistakes.
const FARTHEST_MS: i64 = 253_402_300_799_999;

type Reply<T> = oneshot::Sender<Result<T, StoreError>>;

/// What the writer is asked to do.
pub(super) enum Command {
    Append(Batch, Reply<Appended>),
    Retain(Timestamp, Reply<()>),
    Picture(Reply<Picture>),
}

/// One sample of a group of batches.
#[derive(Clone, Copy)]
struct Staged {
    entry: Entry,
    batch: u32,
    series: u32,
}

/// What became of a group of batches.
struct Judged {
    /// New samples, by series and time.
    accepted: Vec<Entry>,
    /// Newest samples that had to be looked up on the way.
    looked_up: Vec<(SeriesId, Newest)>,
}

pub(super) struct Writer {
    shared: Arc<Shared>,
    segment: Option<Segment>,
    next_generation: u64,
    /// Journal segments whose samples are in the head.
    head_generations: Vec<u64>,
    /// Journal segments whose samples are being sealed, or were the last to be.
    sealing_generations: Vec<u64>,
    seal: Option<SyncSender<SealJob>>,
    threads: [Option<JoinHandle<()>>; 2],
}

fn start(name: &str, work: impl FnOnce() + Send + 'static) -> Option<JoinHandle<()>> {
    let started = std::thread::Builder::new().name(name.to_owned()).spawn(work);
    started.inspect_err(|source| error!(%source, name, "could not start a thread of the store")).ok()
}

impl Writer {
    pub(super) fn new(shared: Arc<Shared>, head_generations: Vec<u64>, next_generation: u64) -> Self {
        let (seal, jobs) = sync_channel(1);
        let (merge, news) = sync_channel(1);
        let (merger, sealer) = (Merger::new(shared.clone()), Sealer::new(shared.clone(), merge));
        let threads =
            [start("store-merger", move || merger.run(&news)), start("store-sealer", move || sealer.run(&jobs))];
        Self {
            shared,
            segment: None,
            next_generation,
            head_generations,
            sealing_generations: Vec::new(),
            seal: Some(seal),
            threads,
        }
    }

    /// Works until the store is dropped.
    pub(super) fn run(mut self, commands: &Receiver<Command>) {
        let mut waiting = None;
        while let Some(command) = waiting.take().or_else(|| commands.recv().ok()) {
            match command {
                Command::Append(batch, reply) => waiting = self.append_group(commands, batch, reply),
                Command::Retain(now, reply) => drop(reply.send(self.retain(now))),
                Command::Picture(reply) => drop(reply.send(self.picture())),
            }
        }
        self.seal = None;
        for thread in self.threads.iter_mut().filter_map(Option::take).rev() {
            let _ = thread.join();
        }
    }

    /// Joins what is waiting to the batch, commits it and answers; gives back a command that is no batch.
    fn append_group(&mut self, commands: &Receiver<Command>, batch: Batch, reply: Reply<Appended>) -> Option<Command> {
        let count = |batch: &Batch| batch.iter().map(|series| series.samples.len()).sum::<usize>();
        let mut samples = count(&batch);
        let (mut batches, mut replies, mut other) = (vec![batch], vec![reply], None);
        while samples < SAMPLES_PER_RECORD && other.is_none() {
            match commands.try_recv() {
                Ok(Command::Append(batch, reply)) => {
                    samples += count(&batch);
                    batches.push(batch);
                    replies.push(reply);
                }
                Ok(command) => other = Some(command),
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => break,
            }
        }
        match self.commit(&batches) {
            Ok(outcomes) => {
                replies.into_iter().zip(outcomes).for_each(|(reply, outcome)| drop(reply.send(Ok(outcome))))
            }
            Err(failure) => replies.into_iter().for_each(|reply| drop(reply.send(Err(failure.again())))),
        }
        self.seal_when_due();
        other
    }

    fn commit(&mut self, batches: &[Batch]) -> Result<Vec<Appended>, Failure> {
        if self.overfull() {
            return Err(Failure::Busy);
        }
        let mut staged = self.stage(batches);
        staged.sort_by_key(|staged| (staged.entry.id, staged.entry.at));
        let mut outcomes = vec![Appended::default(); batches.len()];
        let judged = self.judge(batches, &staged, &mut outcomes)?;
        if !judged.accepted.is_empty() {
            self.journal(&judged.accepted)?;
        }
        self.apply(&judged);
        Ok(outcomes)
    }

    /// Gives every series its number.
    fn stage(&self, batches: &[Batch]) -> Vec<Staged> {
        let mut staged = Vec::new();
        let mut state = self.shared.write();
        for (batch, all) in (0u32..).zip(batches) {
            for (series, samples) in (0u32..).zip(all) {
                if samples.samples.is_empty() {
                    continue;
                }
                let id = state.index.find_or_add(&samples.labels);
                staged.extend(samples.samples.iter().map(|sample| {
                    let entry = Entry { id, at: sample.at.as_millis(), bits: sample.value.to_bits() };
                    Staged { entry, batch, series }
                }));
            }
        }
        staged
    }

    /// Decides for each sample, sorted by series and time, whether it is new, known or refused.
    fn judge(&self, batches: &[Batch], staged: &[Staged], outcomes: &mut [Appended]) -> Result<Judged, Failure> {
        let mut judged = Judged { accepted: Vec::with_capacity(staged.len()), looked_up: Vec::new() };
        let state = self.shared.read();
        let window = i64::try_from(self.shared.config.out_of_order_window.as_millis()).unwrap_or(i64::MAX);
        for of_series in staged.chunk_by(|a, b| a.entry.id == b.entry.id) {
            let history = History::of(&state, of_series, window)?;
            judged.looked_up.extend(history.looked_up.map(|newest| (of_series[0].entry.id, newest)));
            for staged in of_series {
                let outcome = &mut outcomes[staged.batch as usize];
                match history.verdict(staged.entry, judged.accepted.last()) {
                    Verdict::New => {
                        outcome.written += 1;
                        judged.accepted.push(staged.entry);
                    }
                    Verdict::Known => outcome.repeated += 1,
                    Verdict::Refused(why) => {
                        let labels = &batches[staged.batch as usize][staged.series as usize].labels;
                        outcome.refused.push((labels.clone(), Timestamp::from_millis(staged.entry.at), why));
                    }
                }
            }
        }
        Ok(judged)
    }

    fn journal(&mut self, accepted: &[Entry]) -> Result<(), Failure> {
        if self.segment.is_none() {
            let path = self.shared.segment_path(self.next_generation);
            let segment = Segment::create(&*self.shared.disk, &path).map_err(Failure::journal)?;
            self.segment = Some(segment);
            self.head_generations.push(self.next_generation);
            self.next_generation += 1;
        }
        let Some(segment) = self.segment.as_mut() else { return Ok(()) };
        let state = self.shared.read();
        let written = segment.append(accepted, |id| state.index.labels(id));
        if let Err(source) = &written {
            counter!("bellwether_store_journal_failures_total").increment(1);
            error!(%source, "could not write to the journal; nothing of these batches is acknowledged");
            drop(state);
            self.segment = None;
        }
        written.map_err(Failure::journal)
    }

    fn apply(&self, judged: &Judged) {
        let mut state = self.shared.write();
        for (id, newest) in &judged.looked_up {
            state.newest.set(*id, *newest);
        }
        for entry in &judged.accepted {
            let point: Point = (entry.at, entry.bits);
            state.head.push(entry.id, point);
            let newest = state.newest.get(entry.id).and_then(|newest| newest.point());
            if newest.is_none_or(|newest| newest.0 <= entry.at) {
                state.newest.set(entry.id, Newest::at(point));
            }
        }
    }

    fn overfull(&self) -> bool {
        let state = self.shared.read();
        let unsealed = state.head.bytes() + state.frozen.as_ref().map_or(0, |frozen| frozen.bytes());
        gauge!("bellwether_store_unsealed_bytes").set(unsealed as f64);
        unsealed > self.shared.config.memory_bytes
    }

    /// Hands the head to the sealer when it has grown enough and the sealer is free.
    fn seal_when_due(&mut self) {
        let mut state = self.shared.write();
        if state.frozen.is_some() || !self.due(&state) {
            return;
        }
        let head = Arc::new(std::mem::take(&mut state.head));
        state.frozen = Some(head.clone());
        drop(state);
        self.segment = None;
        self.sealing_generations = std::mem::take(&mut self.head_generations);
        let job = SealJob { head, generations: self.sealing_generations.clone() };
        if self.seal.as_ref().is_none_or(|seal| seal.send(job).is_err()) {
            error!("the sealing thread is gone; samples stay in the journal");
        }
    }

    fn due(&self, state: &State) -> bool {
        let per_series = u64::from(self.shared.config.samples_per_chunk).max(1);
        let enough = (state.head.active() * per_series).max(FEWEST_SAMPLES_TO_SEAL);
        state.head.samples() >= enough
            || state.head.bytes() >= self.shared.config.memory_bytes / 2
            || self.segment.as_ref().is_some_and(|segment| segment.len() >= LONGEST_SEGMENT)
    }

    /// All files that hold what was acknowledged so far. Later batches go to another segment, so that these stay as they
    /// are. Segments are opened before blocks are listed: one that is gone by then was sealed into these.
    fn picture(&mut self) -> Result<Picture, StoreError> {
        self.segment = None;
        let shared = &self.shared;
        let mut files = vec![shared.config.path.join(FORMAT_FILE)];
        files.extend(self.sealing_generations.iter().chain(&self.head_generations).map(|n| shared.segment_path(*n)));
        let mut picture = Picture::new(&shared.config.path);
        for path in files {
            picture.open(&*shared.disk, path)?;
        }
        let blocks = shared.read().blocks.clone();
        picture.blocks(blocks);
        Ok(picture)
    }

    fn retain(&mut self, now: Timestamp) -> Result<(), StoreError> {
        let config = &self.shared.config;
        let cutoff =
            (!config.retention.is_zero()).then(|| self.shared.partition_of((now - config.retention).as_millis()));
        let total = if config.max_bytes > 0 { self.shared.bytes_on_disk()? } else { 0 };
        let mut state = self.shared.write();
        let low_water = state.low_water.max(cutoff).max(bytes_cutoff(&state, total, config.max_bytes));
        state.low_water = low_water;
        let gone = |partition: i64| low_water.is_some_and(|low| partition < low);
        let unreadable: Vec<String> =
            state.unreadable.extract_if(.., |(partition, ..)| gone(*partition)).map(|(_, path, _)| path).collect();
        let dropped: Vec<_> = state.blocks.extract_if(.., |block| gone(block.name.partition)).collect();
        let mut orphans = RoaringBitmap::new();
        dropped.iter().for_each(|block| orphans |= &block.ids);
        orphans -= state.present();
        for id in orphans {
            state.index.remove(id);
            state.newest.set(id, Newest::UNKNOWN);
        }
        drop(state);
        let paths = dropped.iter().map(|block| block.path.clone()).chain(unreadable.into_iter().map(Into::into));
        for path in paths {
            self.shared
                .disk
                .remove(&path)
                .map_err(|source| unavailable(format!("remove {}", path.display()), source))?;
        }
        Ok(())
    }
}

/// The first partition to keep so that the store fits its bound; the newest always stays.
fn bytes_cutoff(state: &State, total: u64, bound: u64) -> Option<i64> {
    let mut excess = if bound == 0 { 0 } else { total.saturating_sub(bound) };
    let mut cutoff = None;
    let partitions: Vec<_> = state.blocks.chunk_by(|a, b| a.name.partition == b.name.partition).collect();
    for pair in partitions.windows(2) {
        if excess == 0 {
            break;
        }
        excess = excess.saturating_sub(pair[0].iter().map(|block| block.bytes).sum());
        cutoff = Some(pair[1][0].name.partition);
    }
    cutoff
}

/// What a series already has, as far as the samples at hand touch it.
struct History {
    newest: Option<Point>,
    looked_up: Option<Newest>,
    oldest_allowed: i64,
    stored: Vec<Point>,
    low_water: i64,
}

enum Verdict {
    New,
    Known,
    Refused(SampleRefusal),
}

impl History {
    fn of(state: &State, staged: &[Staged], window: i64) -> Result<Self, Failure> {
        let id = staged[0].entry.id;
        let known = state.newest.get(id).copied().unwrap_or_default();
        let looked_up =
            (known == Newest::UNKNOWN).then(|| state.look_up_newest(id)).transpose().map_err(Failure::Read)?;
        let newest = looked_up.unwrap_or(known).point();
        let late = staged.partition_point(|staged| newest.is_some_and(|newest| staged.entry.at < newest.0));
        let stored = match &staged[..late] {
            [first, ..] => state.stored(id, first.entry.at, staged[late - 1].entry.at).map_err(Failure::Read)?,
            [] => Vec::new(),
        };
        let oldest_allowed = newest.map_or(i64::MIN, |newest| newest.0.saturating_sub(window));
        Ok(Self { newest, looked_up, oldest_allowed, stored, low_water: state.low_water.unwrap_or(i64::MIN) })
    }

    fn verdict(&self, entry: Entry, accepted: Option<&Entry>) -> Verdict {
        let before = accepted.filter(|accepted| accepted.id == entry.id && accepted.at == entry.at);
        match before.map(|accepted| accepted.bits).or_else(|| self.value_at(entry.at)) {
            Some(bits) if bits == entry.bits => Verdict::Known,
            Some(_) => Verdict::Refused(SampleRefusal::DuplicateTimestamp),
            None if entry.at > FARTHEST_MS => Verdict::Refused(SampleRefusal::TooFarAhead),
            None if entry.at < self.oldest_allowed.max(self.low_water).max(-FARTHEST_MS) => {
                Verdict::Refused(SampleRefusal::TooOld)
            }
            None => Verdict::New,
        }
    }

    fn value_at(&self, at: i64) -> Option<u64> {
        if let Some(newest) = self.newest.filter(|newest| newest.0 == at) {
            return Some(newest.1);
        }
        self.stored.binary_search_by_key(&at, |point| point.0).ok().map(|found| self.stored[found].1)
    }
}

/// Why a group of batches was not written; told to each of them.
enum Failure {
    Busy,
    Read(StoreError),
    Journal(Arc<std::io::Error>),
}

impl Failure {
    fn journal(source: std::io::Error) -> Self {
        Self::Journal(Arc::new(source))
    }

    fn again(&self) -> StoreError {
        match self {
            Self::Busy => StoreError::Busy,
            Self::Read(StoreError::Damaged { place, detail }) => {
                StoreError::Damaged { place: place.clone(), detail: detail.clone() }
            }
            Self::Read(other) => unavailable("read what the series has already".to_owned(), Told(other.to_string())),
            Self::Journal(source) => unavailable("write to the journal".to_owned(), Told(source.to_string())),
        }
    }
}

/// The text of an error that several callers are told.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Told(String);
