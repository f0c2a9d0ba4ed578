//! The thread that seals: unsealed samples become blocks.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::time::Duration;

use metrics::counter;
use tracing::{debug, error};

use super::Shared;
use super::block::{Block, BlockError, BlockName, BlockWriter};
use super::chunk::Point;
use super::head::Head;
use super::labels::SeriesId;

/// How long to wait before a seal that failed is tried again; tests have no time for it.
const PAUSE: Duration = Duration::from_millis(if cfg!(test) { 1 } else { 500 });
/// Effort of pco, 0 to 12.
pub(super) const LEVEL: usize = 8;
/// Most samples in a chunk: what is decoded at once for a question about a moment, some ten microseconds' work.
pub(super) const POINTS_PER_CHUNK: usize = 1920;

/// Samples to be sealed, and the journal segments that become superfluous by it.
pub(super) struct SealJob {
    pub(super) head: Arc<Head>,
    pub(super) generations: Vec<u64>,
}

pub(super) struct Sealer {
    shared: Arc<Shared>,
    merge: SyncSender<()>,
}

impl Sealer {
    /// A sealer that tells `merge` whenever there are new blocks.
    pub(super) fn new(shared: Arc<Shared>, merge: SyncSender<()>) -> Self {
        Self { shared, merge }
    }

    /// Works until the writer is gone. A failing disk is tried again and again: the samples are safe in the journal.
    pub(super) fn run(&self, jobs: &Receiver<SealJob>) {
        while let Ok(job) = jobs.recv() {
            while let Err(source) = self.seal(&job) {
                counter!("bellwether_store_seal_failures_total").increment(1);
                error!(source = &source as &dyn std::error::Error, "could not seal samples; they stay in the journal");
                match jobs.recv_timeout(PAUSE) {
                    Err(RecvTimeoutError::Timeout) => {}
                    Ok(_) | Err(RecvTimeoutError::Disconnected) => return,
                }
            }
            // A merge that is under way looks at all blocks again before it ends.
            let _ = self.merge.try_send(());
        }
    }

    fn seal(&self, job: &SealJob) -> Result<(), BlockError> {
        let generations = (job.generations.first().copied().unwrap_or(0), job.generations.last().copied().unwrap_or(0));
        let mut blocks = Vec::new();
        for partition in self.partitions(&job.head) {
            blocks.extend(self.seal_partition(&job.head, BlockName { partition, generations })?);
        }
        self.install(blocks);
        for generation in &job.generations {
            let path = self.shared.segment_path(*generation);
            // A segment that stays is passed over at the next start: its samples are in blocks.
            if let Err(source) = self.shared.disk.remove(&path) {
                error!(%source, path = %path.display(), "could not remove a sealed journal segment");
            }
        }
        counter!("bellwether_store_sealed_samples_total").increment(job.head.samples());
        debug!(samples = job.head.samples(), series = job.head.active(), "sealed samples");
        Ok(())
    }

    fn partitions(&self, head: &Head) -> BTreeSet<i64> {
        let mut partitions = BTreeSet::new();
        for id in head.ids() {
            let Some((oldest, newest)) = head.span(id) else { continue };
            let ends = (self.shared.partition_of(oldest), self.shared.partition_of(newest));
            if ends.0 == ends.1 {
                partitions.insert(ends.0);
            } else {
                partitions.extend(head.points(id).into_iter().map(|(at, _)| self.shared.partition_of(at)));
            }
        }
        let low_water = self.shared.read().low_water.unwrap_or(i64::MIN);
        partitions.split_off(&low_water)
    }

    fn seal_partition(&self, head: &Head, mut name: BlockName) -> Result<Option<Arc<Block>>, BlockError> {
        // Segments that a crash left behind although this partition had been sealed from them were not taken up for it.
        name.generations.0 = name.generations.0.max(self.sealed_until(name.partition) + 1);
        let path = self.shared.blocks_dir().join(name.file());
        let failed = |source| BlockError::Io { path: path.clone(), source };
        let ids: Vec<SeriesId> = head.ids().filter(|id| !self.points(head, *id, name.partition).is_empty()).collect();
        if ids.is_empty() {
            return Ok(None);
        }
        let labels = ids.iter().map(|id| (*id, self.shared.read().index.labels(*id).unwrap_or_default()));
        let mut writer =
            BlockWriter::start(&*self.shared.disk, &self.shared.blocks_dir(), name, labels).map_err(failed)?;
        for id in ids {
            let points = self.points(head, id, name.partition);
            writer.series(id, &points, POINTS_PER_CHUNK, LEVEL).map_err(failed)?;
        }
        let path = writer.finish().map_err(failed)?;
        Block::open(&*self.shared.disk, &path, name).map(|block| Some(Arc::new(block)))
    }

    /// The last journal segment whose samples are in blocks of the partition; 0 when there is no block.
    fn sealed_until(&self, partition: i64) -> u64 {
        let state = self.shared.read();
        let blocks = state.blocks.iter().filter(|block| block.name.partition == partition);
        blocks.map(|block| block.name.generations.1).max().unwrap_or(0)
    }

    fn points(&self, head: &Head, id: SeriesId, partition: i64) -> Vec<Point> {
        let end = partition.saturating_add(self.shared.partition_ms);
        match head.span(id) {
            Some((oldest, newest)) if oldest < end && newest >= partition => {
                let mut points = head.points(id);
                points.retain(|(at, _)| (partition..end).contains(at));
                points
            }
            _ => Vec::new(),
        }
    }

    /// In one step the blocks stand in for the frozen samples.
    fn install(&self, blocks: Vec<Arc<Block>>) {
        let mut state = self.shared.write();
        state.blocks.extend(blocks);
        state.blocks.sort_by_key(|block| (block.name.partition, block.name.generations));
        state.frozen = None;
    }
}
