//! What is known in memory, and how questions are answered from it and from the blocks.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;

use bellwether_models::series::{Labels, Sample, Timestamp};
use roaring::RoaringBitmap;

use super::Shared;
use super::block::{Block, BlockError};
use super::chunk::Point;
use super::head::Head;
use super::joined::{Joined, Window};
use super::labels::{LabelIndex, SeriesId};
use super::paged::Paged;
use crate::store::{Instants, Matcher, SeriesSamples, StoreError, StoreStats, TimeRange};

/// How many series are copied out of memory before the lock is let go for a moment.
const SERIES_PER_LOCK: usize = 256;

/// Everything in memory. The writer and the sealer change it, readers look at it; all under one lock.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) index: LabelIndex,
    /// Newest sample of each series by number; only as far as it was needed since the start.
    pub(super) newest: Paged<Newest>,
    /// Samples that gather.
    pub(super) head: Head,
    /// Samples being sealed.
    pub(super) frozen: Option<Arc<Head>>,
    /// Sealed samples, in order of partition.
    pub(super) blocks: Vec<Arc<Block>>,
    /// Partitions whose blocks cannot be read, with what is wrong with them.
    pub(super) unreadable: Vec<(i64, String, String)>,
    /// Samples before this time are gone.
    pub(super) low_water: Option<i64>,
    /// What was found damaged at the start.
    pub(super) damage: Vec<String>,
}

/// What is known of a series' newest sample, in the room of a sample: no sample has the two times that mean something else.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Newest(Point);

impl Newest {
    /// Not looked up since the start.
    pub(super) const UNKNOWN: Self = Self((i64::MIN, 0));
    /// There is no sample.
    pub(super) const NONE: Self = Self((i64::MIN + 1, 0));

    /// This one.
    pub(super) fn at(point: Point) -> Self {
        Self(point)
    }

    /// The sample, where there is one and it is known.
    pub(super) fn point(self) -> Option<Point> {
        (self.0.0 > i64::MIN + 1).then_some(self.0)
    }
}

impl Default for Newest {
    fn default() -> Self {
        Self::UNKNOWN
    }
}

/// A consistent view of a few series: their unsealed points, and the blocks that hold the rest.
struct View {
    series: Vec<(SeriesId, Labels, Vec<Point>)>,
    blocks: Vec<Arc<Block>>,
}

/// What a selection wants of each series, and how much was found so far by all who look.
struct Wanted {
    window: Window,
    limit: usize,
    samples: AtomicUsize,
}

impl Wanted {
    fn count(&self, samples: usize) -> Result<(), StoreError> {
        let before = self.samples.fetch_add(samples, Relaxed);
        if before.saturating_add(samples) > self.limit {
            return Err(StoreError::TooLarge { limit: self.limit });
        }
        Ok(())
    }
}

impl State {
    /// Unsealed points of a series within a window, ascending.
    fn unsealed(&self, id: SeriesId, window: Window) -> Vec<Point> {
        let mut all = Joined::within(window);
        for head in self.frozen.as_deref().into_iter().chain([&self.head]) {
            if head.span(id).is_some_and(|span| window.touches(span)) {
                all.add(|points| points.append(&mut head.points(id)));
            }
        }
        all.finish()
    }

    /// Blocks with samples in a range.
    pub(super) fn blocks_in(&self, from: i64, to: i64) -> Vec<Arc<Block>> {
        let window = Window::between(from, to);
        self.blocks.iter().filter(|block| window.touches(block.span)).cloned().collect()
    }

    /// Series with samples anywhere.
    pub(super) fn present(&self) -> RoaringBitmap {
        let mut ids: RoaringBitmap = self.head.ids().collect();
        self.frozen.iter().for_each(|frozen| ids.extend(frozen.ids()));
        self.blocks.iter().for_each(|block| ids |= &block.ids);
        ids
    }

    /// The newest sample of a series as far as memory and blocks tell.
    pub(super) fn look_up_newest(&self, id: SeriesId) -> Result<Newest, StoreError> {
        let mut newest = [self.head.newest(id), self.frozen.as_ref().and_then(|frozen| frozen.newest(id))]
            .into_iter()
            .flatten()
            .max_by_key(|point| point.0);
        for block in self.blocks.iter().rev().filter(|block| block.ids.contains(id)) {
            if newest.is_none_or(|known| known.0 <= block.span.1) {
                newest = newest.into_iter().chain(block.newest(id)?).max_by_key(|point| point.0);
            }
        }
        Ok(newest.map_or(Newest::NONE, Newest::at))
    }

    /// All points of a series in a range, ascending.
    pub(super) fn stored(&self, id: SeriesId, from: i64, to: i64) -> Result<Vec<Point>, StoreError> {
        let window = Window::between(from, to);
        gather(id, window, &self.blocks_in(from, to), self.unsealed(id, window))
    }

    fn refuse_unreadable(&self, partition_ms: i64, from: i64, to: i64) -> Result<(), StoreError> {
        let hit = self.unreadable.iter().find(|(start, ..)| *start <= to && start.saturating_add(partition_ms) > from);
        match hit {
            Some((_, place, detail)) => Err(StoreError::Damaged { place: place.clone(), detail: detail.clone() }),
            None => Ok(()),
        }
    }
}

impl Shared {
    pub(super) fn select(
        &self,
        matchers: &[Matcher],
        range: TimeRange,
        instants: Option<Instants>,
        limit: usize,
    ) -> Result<Vec<SeriesSamples>, StoreError> {
        let (from, to, ids) = self.candidates(matchers, range)?;
        let ids: Vec<SeriesId> = ids.into_iter().collect();
        let wanted = Wanted { window: Window { from, to, instants }, limit, samples: AtomicUsize::new(0) };
        let mut found = self.read_all(&ids, &wanted)?;
        found.sort_by(|a, b| a.labels.cmp(&b.labels));
        Ok(found)
    }

    /// Reads series on as many threads as the machine has to offer and the work is worth.
    fn read_all(&self, ids: &[SeriesId], wanted: &Wanted) -> Result<Vec<SeriesSamples>, StoreError> {
        let workers = self.readers.min(ids.len().div_ceil(SERIES_PER_LOCK));
        if workers < 2 {
            return self.read_some(ids, wanted);
        }
        std::thread::scope(|scope| {
            let shares: Vec<_> = ids
                .chunks(ids.len().div_ceil(workers))
                .map(|share| scope.spawn(move || self.read_some(share, wanted)))
                .collect();
            let mut found = Vec::with_capacity(ids.len());
            for share in shares {
                found.extend(share.join().map_err(|_| StoreError::Closed)??);
            }
            Ok(found)
        })
    }

    fn read_some(&self, ids: &[SeriesId], wanted: &Wanted) -> Result<Vec<SeriesSamples>, StoreError> {
        let mut found = Vec::with_capacity(ids.len());
        for some in ids.chunks(SERIES_PER_LOCK) {
            let View { series, blocks } = self.view(some, wanted.window);
            for (id, labels, unsealed) in series {
                let points = gather(id, wanted.window, &blocks, unsealed)?;
                wanted.count(points.len())?;
                if !points.is_empty() {
                    found.push(SeriesSamples { labels, samples: points.into_iter().map(sample).collect() });
                }
            }
        }
        Ok(found)
    }

    pub(super) fn series(&self, matchers: &[Matcher], range: TimeRange) -> Result<Vec<Labels>, StoreError> {
        let (from, to, ids) = self.candidates(matchers, range)?;
        let state = self.read();
        let mut present = RoaringBitmap::new();
        state.blocks_in(from, to).iter().for_each(|block| present |= &block.ids);
        let unsealed = |id: &SeriesId| !state.unsealed(*id, Window::between(from, to)).is_empty();
        let mut labels: Vec<Labels> = ids
            .iter()
            .filter(|id| present.contains(*id) || unsealed(id))
            .filter_map(|id| state.index.labels(id))
            .collect();
        labels.sort();
        Ok(labels)
    }

    pub(super) fn stats(&self) -> Result<StoreStats, StoreError> {
        let bytes = self.bytes_on_disk()?;
        let state = self.read();
        let heads = || state.frozen.as_deref().into_iter().chain([&state.head]);
        let head_spans = heads().flat_map(|head| head.ids().filter_map(|id| head.span(id)));
        let spans = state.blocks.iter().map(|block| block.span).chain(head_spans);
        let span = spans.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)));
        Ok(StoreStats {
            series: state.present().len(),
            samples: state.blocks.iter().map(|b| b.samples).sum::<u64>() + heads().map(Head::samples).sum::<u64>(),
            bytes,
            span: span
                .map(|(from, to)| TimeRange { from: Timestamp::from_millis(from), to: Timestamp::from_millis(to) }),
        })
    }

    /// Bytes of blocks and journal.
    pub(super) fn bytes_on_disk(&self) -> Result<u64, StoreError> {
        let mut bytes = 0;
        for dir in [self.blocks_dir(), self.journal_dir()] {
            let files =
                self.disk.list(&dir).map_err(|source| unavailable(format!("list {}", dir.display()), source))?;
            bytes += files.iter().map(|(_, len)| len).sum::<u64>();
        }
        Ok(bytes)
    }

    fn candidates(&self, matchers: &[Matcher], range: TimeRange) -> Result<(i64, i64, RoaringBitmap), StoreError> {
        let state = self.read();
        let (from, to) = (range.from.as_millis().max(state.low_water.unwrap_or(i64::MIN)), range.to.as_millis());
        state.refuse_unreadable(self.partition_ms, from, to)?;
        Ok((from, to, state.index.select(matchers)))
    }

    fn view(&self, ids: &[SeriesId], window: Window) -> View {
        let state = self.read();
        let known = |id: &SeriesId| Some((*id, state.index.labels(*id)?, state.unsealed(*id, window)));
        View { series: ids.iter().filter_map(known).collect(), blocks: state.blocks_in(window.from, window.to) }
    }
}

fn gather(id: SeriesId, window: Window, blocks: &[Arc<Block>], unsealed: Vec<Point>) -> Result<Vec<Point>, StoreError> {
    let mut all = Joined::within(window);
    for block in blocks {
        block.points(id, &mut all)?;
    }
    all.add_all(&unsealed);
    Ok(all.finish())
}

fn sample((at, bits): Point) -> Sample {
    Sample { at: Timestamp::from_millis(at), value: f64::from_bits(bits) }
}

/// The error of a disk that failed.
pub(super) fn unavailable(action: String, source: impl std::error::Error + Send + Sync + 'static) -> StoreError {
    StoreError::Unavailable { action, source: Box::new(source) }
}

impl From<BlockError> for StoreError {
    fn from(error: BlockError) -> Self {
        match error {
            BlockError::Io { path, source } => unavailable(format!("read {}", path.display()), source),
            BlockError::Damaged { path, part, offset } => Self::Damaged {
                place: path.display().to_string(),
                detail: format!("{part} at byte {offset} does not match its checksum"),
            },
        }
    }
}
