//! The thread that merges: adjacent small blocks of a partition become one, whose chunks are longer and take fewer bytes a
//! sample. Neither writing nor sealing waits for it.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::Receiver;

use metrics::counter;
use roaring::RoaringBitmap;
use tracing::{debug, error};

use super::Shared;
use super::block::{Block, BlockError, BlockName, BlockWriter};
use super::sealer::{LEVEL, POINTS_PER_CHUNK};

/// Fewer adjacent blocks than this are not worth a merge.
const BLOCKS_TO_MERGE: usize = 4;

/// A partition that got nothing from so many journal segments is at rest: all its blocks become one.
const SEGMENTS_TO_REST: u64 = 8;

pub(super) struct Merger {
    shared: Arc<Shared>,
}

impl Merger {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Looks for blocks to merge whenever there are new ones, until the sealer is gone.
    pub(super) fn run(&self, news: &Receiver<()>) {
        while let Ok(()) = news.recv() {
            self.merge_all();
        }
    }

    /// Merges what is worth it. A partition that fails is passed over until there is news again.
    fn merge_all(&self) {
        let mut failed = BTreeSet::new();
        while let Some(parts) = self.due(&failed).filter(|_| !self.shared.closing.load(Relaxed)) {
            if let Err(source) = self.merge(&parts) {
                counter!("bellwether_store_merge_failures_total").increment(1);
                error!(source = &source as &dyn std::error::Error, "could not merge blocks; they stay as they are");
                failed.insert(parts[0].name.partition);
            }
        }
    }

    /// The first blocks worth merging, those of one partition side by side.
    fn due(&self, failed: &BTreeSet<i64>) -> Option<Vec<Arc<Block>>> {
        let state = self.shared.read();
        let newest = |blocks: &[Arc<Block>]| blocks.iter().map(|block| block.name.generations.1).max().unwrap_or(0);
        let present = newest(&state.blocks);
        let mut partitions = state.blocks.chunk_by(|a, b| a.name.partition == b.name.partition);
        partitions.find_map(|blocks| {
            if failed.contains(&blocks[0].name.partition) {
                return None;
            }
            if blocks.len() > 1 && present - newest(blocks) >= SEGMENTS_TO_REST {
                return Some(blocks.to_vec());
            }
            let samples: Vec<u64> = blocks.iter().map(|block| block.samples).collect();
            worth_merging(&samples).map(|range| blocks[range].to_vec())
        })
    }

    /// Merges adjacent blocks of one partition, series by series; stops where it is when the store is closing.
    fn merge(&self, parts: &[Arc<Block>]) -> Result<(), BlockError> {
        let names = || parts.iter().map(|part| part.name.generations);
        let generations = (names().map(|g| g.0).min().unwrap_or(0), names().map(|g| g.1).max().unwrap_or(0));
        let name = BlockName { partition: parts[0].name.partition, generations };
        let path = self.shared.blocks_dir().join(name.file());
        let failed = |source| BlockError::Io { path: path.clone(), source };
        let ids = parts.iter().fold(RoaringBitmap::new(), |all, part| all | &part.ids);
        let labels = ids.iter().map(|id| (id, self.shared.read().index.labels(id).unwrap_or_default()));
        let mut writer =
            BlockWriter::start(&*self.shared.disk, &self.shared.blocks_dir(), name, labels).map_err(failed)?;
        for id in &ids {
            if self.shared.closing.load(Relaxed) {
                return Ok(());
            }
            writer.joined(id, parts, POINTS_PER_CHUNK, LEVEL)?;
        }
        let path = writer.finish().map_err(failed)?;
        let merged = Arc::new(Block::open(&*self.shared.disk, &path, name)?);
        counter!("bellwether_store_merges_total").increment(1);
        debug!(blocks = parts.len(), samples = merged.samples, bytes = merged.bytes, "merged blocks");
        self.replace(parts, merged);
        Ok(())
    }

    /// Puts the merged block in the place of its parts, unless retention has dropped them meanwhile.
    fn replace(&self, parts: &[Arc<Block>], merged: Arc<Block>) {
        let is_part = |block: &Arc<Block>| parts.iter().any(|part| part.path == block.path);
        let mut state = self.shared.write();
        let superfluous: Vec<_> = if state.blocks.iter().filter(|block| is_part(block)).count() == parts.len() {
            state.blocks.retain(|block| !is_part(block));
            state.blocks.push(merged);
            state.blocks.sort_by_key(|block| (block.name.partition, block.name.generations));
            parts.iter().map(|part| part.path.clone()).collect()
        } else {
            vec![merged.path.clone()]
        };
        drop(state);
        for path in superfluous {
            if let Err(source) = self.shared.disk.remove(&path) {
                error!(%source, path = %path.display(), "could not remove a merged block");
            }
        }
    }
}

/// Which of the blocks of a partition, given by size and oldest first, are to become one: as many of the newest as there
/// are before one that outweighs all behind it, if they are enough. A sample is so rewritten a logarithmic number of times.
fn worth_merging(sizes: &[u64]) -> Option<Range<usize>> {
    let (mut first, mut sum) = (sizes.len(), 0u64);
    while let Some(size) = first.checked_sub(1).map(|before| sizes[before]) {
        if sizes.len() - first >= BLOCKS_TO_MERGE - 1 && size > sum {
            break;
        }
        (first, sum) = (first - 1, sum.saturating_add(size));
    }
    (sizes.len() - first >= BLOCKS_TO_MERGE).then_some(first..sizes.len())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn equal_blocks_are_merged_by_fours_and_a_heavy_one_is_left_alone() {
        assert_eq!(worth_merging(&[]), None);
        assert_eq!(worth_merging(&[5, 5, 5]), None);
        assert_eq!(worth_merging(&[5, 5, 5, 5]), Some(0..4));
        assert_eq!(worth_merging(&[100, 5, 5, 5]), None);
        assert_eq!(worth_merging(&[100, 5, 5, 5, 5]), Some(1..5));
        assert_eq!(worth_merging(&[20, 5, 5, 5, 5]), Some(0..5));
    }

    proptest! {
        #[test]
        fn however_blocks_come_there_stay_few_and_each_sample_is_rewritten_few_times(sizes in prop::collection::vec(1u64..50, 1..400)) {
            let (mut blocks, mut rewritten, mut written) = (Vec::new(), 0, 0);
            for size in sizes {
                blocks.push(size);
                written += size;
                while let Some(range) = worth_merging(&blocks) {
                    let merged = blocks.drain(range).sum();
                    rewritten += merged;
                    blocks.push(merged);
                }
            }
            let doublings = 64 - u64::leading_zeros(written) as usize;
            prop_assert!(blocks.len() <= 3 + doublings, "{blocks:?}");
            prop_assert!(rewritten <= written * doublings as u64, "{rewritten} of {written}");
        }
    }
}
