//! Samples that wait on disk until their server takes them: durable before they are acknowledged, bounded, sent in order.
//!
//! The files are journal segments of the embedded store, so that a torn write costs nothing that was acknowledged. A
//! segment goes when the server holds all of it; after a crash the oldest is sent again, which changes nothing there.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bellwether_models::series::{Labels, Sample, Timestamp};
use tracing::warn;

use crate::store::embedded::disk::{Disk, RealDisk};
use crate::store::embedded::journal::{Condition, Entry, Segment, replay};
use crate::store::{Matcher, SeriesSamples, TimeRange};

/// Bytes after which another segment is begun: what is read, and sent again after a crash, at once.
const SEGMENT_BYTES: u64 = 4 << 20;

/// Why samples could not be queued.
#[derive(Debug, thiserror::Error)]
pub(super) enum QueueError {
    #[error("the queue at {path} is full ({bytes} bytes)")]
    Full { path: PathBuf, bytes: u64 },
    #[error("could not write to the queue at {path}")]
    Io {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// The queue of one server. Every method reads or writes files: call them off the async threads.
#[derive(Debug)]
pub(super) struct Outbox {
    dir: PathBuf,
    max_bytes: u64,
    files: Mutex<Files>,
}

#[derive(Debug, Default)]
struct Files {
    /// Closed segments, oldest first.
    closed: VecDeque<Closed>,
    open: Option<Open>,
    next: u64,
}

#[derive(Clone, Copy, Debug)]
struct Closed {
    number: u64,
    bytes: u64,
    samples: u64,
}

struct Open {
    segment: Segment,
    number: u64,
    samples: u64,
    ids: HashMap<Labels, u32>,
    labels: Vec<Labels>,
}

impl std::fmt::Debug for Open {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Open").field("number", &self.number).field("samples", &self.samples).finish_non_exhaustive()
    }
}

/// What waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Waiting {
    pub samples: u64,
    pub bytes: u64,
}

/// The oldest segment of a queue.
#[derive(Debug)]
pub(super) struct Oldest {
    /// Which segment it is, for [`Outbox::remove`].
    pub number: u64,
    /// What it holds.
    pub batch: Vec<SeriesSamples>,
}

impl Outbox {
    /// Takes up what an earlier process left in `dir`, which is made if it is not there.
    pub fn open(dir: PathBuf, max_bytes: u64) -> io::Result<Self> {
        std::fs::create_dir_all(&dir)?;
        let mut closed = VecDeque::new();
        for (path, bytes) in RealDisk.list(&dir)? {
            let number = path.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| stem.parse().ok());
            if let Some(number) = number {
                let mut samples = 0;
                let found = replay(&*RealDisk.open(&path)?, |_, record| samples += record.entries.len() as u64)?;
                report_damage(&path, &found);
                closed.push_back(Closed { number, bytes, samples });
            }
        }
        closed.make_contiguous().sort_by_key(|segment| segment.number);
        let next = closed.back().map_or(0, |last| last.number + 1);
        Ok(Self { dir, max_bytes, files: Mutex::new(Files { closed, open: None, next }) })
    }

    /// Writes a batch behind what waits; durable on return.
    pub fn push(&self, batch: &[SeriesSamples]) -> Result<(), QueueError> {
        let mut files = self.files();
        let bytes = files.waiting().bytes;
        if bytes >= self.max_bytes {
            return Err(QueueError::Full { path: self.dir.clone(), bytes });
        }
        files.append(&self.dir, batch).map_err(|source| QueueError::Io { path: self.dir.clone(), source })
    }

    /// The oldest segment, closed first where it is still written to; `None` when nothing waits.
    pub fn oldest(&self) -> io::Result<Option<Oldest>> {
        let number = {
            let mut files = self.files();
            if files.closed.is_empty() {
                files.close();
            }
            let Some(first) = files.closed.front() else { return Ok(None) };
            first.number
        };
        let batch = gathered(&self.path(number), |_| true, |_| true)?;
        Ok(Some(Oldest { number, batch }))
    }

    /// Removes the segment that [`Outbox::oldest`] gave.
    pub fn remove(&self, number: u64) -> io::Result<()> {
        RealDisk.remove(&self.path(number))?;
        RealDisk.sync_dir(&self.dir)?;
        self.files().closed.retain(|segment| segment.number != number);
        Ok(())
    }

    /// What waits and matches, in no order.
    pub fn find(&self, matchers: &[Matcher], range: TimeRange) -> io::Result<Vec<SeriesSamples>> {
        let numbers: Vec<u64> = {
            let files = self.files();
            files.closed.iter().map(|segment| segment.number).chain(files.open.iter().map(|open| open.number)).collect()
        };
        let mut found = Vec::new();
        for number in numbers {
            let inside = |at: i64| range.from.as_millis() <= at && at <= range.to.as_millis();
            let matches = |labels: &Labels| matchers.iter().all(|m| m.matches(labels));
            match gathered(&self.path(number), matches, inside) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {} // sent in the meantime
                part => found.extend(part?),
            }
        }
        Ok(found)
    }

    /// How much waits.
    pub fn waiting(&self) -> Waiting {
        self.files().waiting()
    }

    fn path(&self, number: u64) -> PathBuf {
        self.dir.join(format!("{number}.log"))
    }

    fn files(&self) -> MutexGuard<'_, Files> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Files {
    fn waiting(&self) -> Waiting {
        let open = self.open.iter().map(|open| (open.samples, open.segment.len()));
        let closed = self.closed.iter().map(|segment| (segment.samples, segment.bytes));
        open.chain(closed).fold(Waiting::default(), |sum, (samples, bytes)| Waiting {
            samples: sum.samples + samples,
            bytes: sum.bytes + bytes,
        })
    }

    fn append(&mut self, dir: &Path, batch: &[SeriesSamples]) -> io::Result<()> {
        if self.open.as_ref().is_some_and(|open| open.segment.len() >= SEGMENT_BYTES) {
            self.close();
        }
        if self.open.is_none() {
            let number = self.next;
            let segment = Segment::create(&RealDisk, &dir.join(format!("{number}.log")))?;
            self.next += 1;
            self.open = Some(Open { segment, number, samples: 0, ids: HashMap::new(), labels: Vec::new() });
        }
        let Some(open) = &mut self.open else { return Ok(()) };
        let written = open.append(batch);
        if written.is_err() {
            // what failed halfway must not be written to again
            self.close();
        }
        written
    }

    fn close(&mut self) {
        if let Some(Open { segment, number, samples, .. }) = self.open.take() {
            self.closed.push_back(Closed { number, bytes: segment.len(), samples });
        }
    }
}

impl Open {
    fn append(&mut self, batch: &[SeriesSamples]) -> io::Result<()> {
        let mut entries = Vec::new();
        for series in batch {
            let id = self.id_of(&series.labels);
            let entry = |sample: &Sample| Entry { id, at: sample.at.as_millis(), bits: sample.value.to_bits() };
            entries.extend(series.samples.iter().map(entry));
        }
        let labels = &self.labels;
        self.segment.append(&entries, |id| labels.get(id as usize).cloned())?;
        self.samples += entries.len() as u64;
        Ok(())
    }

    fn id_of(&mut self, labels: &Labels) -> u32 {
        if let Some(id) = self.ids.get(labels) {
            return *id;
        }
        let id = self.labels.len() as u32;
        self.ids.insert(labels.clone(), id);
        self.labels.push(labels.clone());
        id
    }
}

/// The samples of a segment by series, each in the order of their writing.
fn gathered(
    path: &Path,
    of_series: impl Fn(&Labels) -> bool,
    at_time: impl Fn(i64) -> bool,
) -> io::Result<Vec<SeriesSamples>> {
    let mut by_id: HashMap<u32, SeriesSamples> = HashMap::new();
    replay(&*RealDisk.open(path)?, |_, record| {
        for (id, labels) in record.series.into_iter().filter(|(_, labels)| of_series(labels)) {
            by_id.entry(id).or_insert(SeriesSamples { labels, samples: Vec::new() });
        }
        for Entry { id, at, bits } in record.entries {
            if let Some(series) = by_id.get_mut(&id).filter(|_| at_time(at)) {
                series.samples.push(Sample { at: Timestamp::from_millis(at), value: f64::from_bits(bits) });
            }
        }
    })?;
    let mut found: Vec<SeriesSamples> = by_id.into_values().filter(|series| !series.samples.is_empty()).collect();
    found.sort_by(|a, b| a.labels.cmp(&b.labels));
    Ok(found)
}

fn report_damage(path: &Path, found: &Condition) {
    if !found.damaged.is_empty() {
        let stretches = found.damaged.len();
        warn!(path = %path.display(), stretches, "a segment of the queue is damaged; what is whole in it is sent");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(name: &str, times: &[i64]) -> Vec<SeriesSamples> {
        let sample = |at: &i64| Sample { at: Timestamp::from_millis(*at), value: *at as f64 };
        vec![SeriesSamples { labels: Labels::metric(name), samples: times.iter().map(sample).collect() }]
    }

    fn always() -> TimeRange {
        TimeRange { from: Timestamp::MIN, to: Timestamp::MAX }
    }

    #[test]
    fn what_is_queued_survives_the_process_and_leaves_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let queue = Outbox::open(dir.path().to_owned(), 1 << 20).unwrap();
        queue.push(&batch("a", &[1, 2])).unwrap();
        let first = queue.oldest().unwrap().unwrap();
        queue.push(&batch("b", &[3])).unwrap();
        drop(queue);

        let queue = Outbox::open(dir.path().to_owned(), 1 << 20).unwrap();
        assert_eq!(queue.waiting().samples, 3);
        let oldest = queue.oldest().unwrap().unwrap();
        assert_eq!((oldest.number, &oldest.batch), (first.number, &batch("a", &[1, 2])));
        queue.remove(oldest.number).unwrap();
        let oldest = queue.oldest().unwrap().unwrap();
        assert_eq!(oldest.batch, batch("b", &[3]));
        queue.remove(oldest.number).unwrap();
        assert!(queue.oldest().unwrap().is_none());
        assert_eq!(queue.waiting(), Waiting::default());
    }

    #[test]
    fn a_queue_cut_anywhere_gives_what_was_whole_and_goes_on() {
        let whole = tempfile::tempdir().unwrap();
        let queue = Outbox::open(whole.path().to_owned(), 1 << 20).unwrap();
        for at in 0..5 {
            queue.push(&batch("a", &[at])).unwrap();
        }
        let bytes = std::fs::read(whole.path().join("0.log")).unwrap();
        for len in 0..bytes.len() {
            let dir = tempfile::tempdir().unwrap();
            std::fs::write(dir.path().join("0.log"), &bytes[..len]).unwrap();
            let queue = Outbox::open(dir.path().to_owned(), 1 << 20).unwrap();
            queue.push(&batch("z", &[9])).unwrap();
            let found = queue.find(&[Matcher::equal("__name__", "a")], always()).unwrap();
            let held: Vec<i64> = found.iter().flat_map(|s| &s.samples).map(|sample| sample.at.as_millis()).collect();
            assert_eq!(held, (0..held.len() as i64).collect::<Vec<_>>(), "cut at {len}");
            assert_eq!(queue.find(&[Matcher::equal("__name__", "z")], always()).unwrap(), batch("z", &[9]));
        }
    }

    #[test]
    fn a_full_queue_refuses_and_keeps_what_it_has() {
        let dir = tempfile::tempdir().unwrap();
        let queue = Outbox::open(dir.path().to_owned(), 200).unwrap();
        let refused = (0..100).find_map(|at| queue.push(&batch("a", &[at])).err().map(|error| (at, error)));
        let (taken, error) = refused.expect("it fills up");
        assert!(matches!(error, QueueError::Full { .. }), "{error}");
        assert_eq!(queue.waiting().samples, taken as u64);
        assert_eq!(queue.find(&[], always()).unwrap()[0].samples.len(), taken as usize);
    }
}
