//! How a model does live: what it foresaw beside what came, in blocks of time so that two models are compared over the
//! same hours.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bellwether_models::accuracy::pinball;
use bellwether_models::forecast::{Forecast, Quantile};
use bellwether_models::series::{Timestamp, Window};
use serde::{Deserialize, Serialize};

use super::Live;

/// Blocks in the time over which models are compared.
pub const BLOCKS: u32 = 16;
/// Blocks that are kept.
const KEPT: usize = 4 * BLOCKS as usize;
/// Steps of a forecast whose outcome is looked at: these parts of the horizon.
const LEADS: [usize; 4] = [1, 2, 3, 4];
/// What a 0.95 quantile promises.
pub const PROMISE: f64 = 0.95;
/// Two blocks are compared where their counts differ by no more than this part.
const ALIKE: f64 = 0.9;

/// The live record of one model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    block_ms: i64,
    /// Quantiles foreseen for each time to come, each with the time at which they were.
    pending: BTreeMap<Timestamp, Vec<(Timestamp, [f64; 4])>>,
    blocks: VecDeque<Block>,
}

/// Some time of a record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Block {
    /// Its beginning, in milliseconds; a multiple of the block's length.
    start: i64,
    /// How often it was asked, and how often it had nothing to say.
    asked: u64,
    silent: u64,
    origins: u64,
    loss: f64,
    covered: f64,
}

/// Two models over the same hours.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Versus {
    /// Times each was asked.
    pub asked: u64,
    /// Outcomes of each.
    pub origins: u64,
    /// Time over which they were compared.
    pub span: Duration,
    /// Loss of the first divided by that of the second: below one, the first is better.
    pub ratio: f64,
    /// The same in the older and in the newer half of the time.
    pub halves: [f64; 2],
    /// By how much the coverage of each falls short of what a 0.95 quantile promises.
    pub shortfalls: [f64; 2],
    /// Share of the times each was asked and had nothing to say.
    pub silence: [f64; 2],
}

impl Record {
    /// Nothing known, for comparisons over `window`, on a grid no finer than `step`.
    #[must_use]
    pub fn new(window: Duration, step: Duration) -> Self {
        let block = (window / BLOCKS).max(step).max(Duration::from_millis(1));
        let block_ms = i64::try_from(block.as_millis()).unwrap_or(i64::MAX);
        Self { block_ms, pending: BTreeMap::new(), blocks: VecDeque::new() }
    }

    /// Whether both are for the same comparisons.
    #[must_use]
    pub fn is_like(&self, other: &Self) -> bool {
        self.block_ms == other.block_ms
    }

    /// Notes what was foreseen at `now`, or that nothing was.
    pub fn issue(&mut self, now: Timestamp, forecast: Option<&Forecast>) {
        let Some(block) = self.block(now) else { return };
        block.asked += 1;
        let Some(forecast) = forecast else {
            block.silent += 1;
            return;
        };
        let paths: Vec<Vec<f64>> = Quantile::STANDARD.iter().map(|q| forecast.quantile(*q)).collect();
        let mut leads = LEADS.map(|part| (part * forecast.horizon()).div_ceil(LEADS.len())).to_vec();
        leads.dedup();
        for index in leads.into_iter().filter_map(|lead| lead.checked_sub(1)) {
            let said = std::array::from_fn(|level| paths[level].get(index).copied().unwrap_or(f64::NAN));
            self.pending.entry(forecast.time_of(index)).or_default().push((now, said));
        }
    }

    /// Compares what was foreseen with what came; gaps tell nothing.
    pub fn observe(&mut self, window: &Window) {
        for (index, value) in window.values.iter().enumerate() {
            let at = window.time_of(index);
            let said = self.pending.remove(&at).filter(|_| value.is_finite());
            said.into_iter().flatten().for_each(|(issued, levels)| self.score(issued, &levels, *value));
        }
        let ended = window.end();
        self.pending.retain(|at, _| *at >= ended);
    }

    /// A forecast counts at the time at which it was made: what was said before a model served is not held against it.
    fn score(&mut self, issued: Timestamp, levels: &[f64; 4], value: f64) {
        let of = |(q, level): (&Quantile, &f64)| pinball(*q, value, *level);
        let loss = Quantile::STANDARD.iter().zip(levels).map(of).sum::<f64>() / 4.0;
        if let Some(block) = self.block(issued).filter(|_| loss.is_finite()) {
            block.origins += 1;
            block.loss += loss;
            block.covered += f64::from(u8::from(value <= levels[3]));
        }
    }

    /// The block of `at`; `None` where it is older than all that is kept.
    fn block(&mut self, at: Timestamp) -> Option<&mut Block> {
        let start = at.as_millis().div_euclid(self.block_ms) * self.block_ms;
        let place = self.blocks.partition_point(|block| block.start < start);
        if self.blocks.get(place).is_none_or(|block| block.start != start) {
            if place == 0 && self.blocks.len() >= KEPT {
                return None;
            }
            self.blocks.insert(place, Block { start, ..Block::default() });
        }
        let surplus = self.blocks.len().saturating_sub(KEPT);
        self.blocks.drain(..surplus);
        self.blocks.get_mut(place - surplus)
    }

    /// How the model did over all that is kept; `None` before the first outcome.
    #[must_use]
    pub fn live(&self) -> Option<Live> {
        let sum = total(self.blocks.iter());
        let n = sum.origins as f64;
        (sum.origins > 0).then(|| Live { origins: sum.origins, pinball: sum.loss / n, coverage_p95: sum.covered / n })
    }

    /// This model against another over the blocks that begin at `from` or later and in which both were asked alike;
    /// `None` where there is no such block.
    #[must_use]
    pub fn versus(&self, other: &Self, from: Timestamp) -> Option<Versus> {
        let twin = |mine: &Block| {
            let theirs = other.blocks.iter().find(|theirs| theirs.start == mine.start)?;
            let alike = (mine.asked.min(theirs.asked)) as f64 >= ALIKE * mine.asked.max(theirs.asked) as f64;
            (mine.start >= from.as_millis() && alike).then_some((*mine, *theirs))
        };
        let pairs: Vec<(Block, Block)> = self.blocks.iter().filter_map(twin).collect();
        let (mine, theirs) = (total(pairs.iter().map(|p| &p.0)), total(pairs.iter().map(|p| &p.1)));
        let half =
            |part: &[(Block, Block)]| ratio(&total(part.iter().map(|p| &p.0)), &total(part.iter().map(|p| &p.1)));
        let (older, newer) = pairs.split_at(pairs.len() / 2);
        let span = u64::try_from(self.block_ms).unwrap_or(0).saturating_mul(pairs.len() as u64);
        (!pairs.is_empty()).then(|| Versus {
            asked: mine.asked.min(theirs.asked),
            origins: mine.origins.min(theirs.origins),
            span: Duration::from_millis(span),
            ratio: ratio(&mine, &theirs),
            halves: [half(older), half(newer)],
            shortfalls: [shortfall(&mine), shortfall(&theirs)],
            silence: [silence(&mine), silence(&theirs)],
        })
    }
}

fn total<'a>(blocks: impl Iterator<Item = &'a Block>) -> Block {
    blocks.fold(Block::default(), |sum, block| Block {
        start: 0,
        asked: sum.asked + block.asked,
        silent: sum.silent + block.silent,
        origins: sum.origins + block.origins,
        loss: sum.loss + block.loss,
        covered: sum.covered + block.covered,
    })
}

/// One where neither lost anything, or one of them has no outcome.
fn ratio(mine: &Block, theirs: &Block) -> f64 {
    if mine.origins == 0 || theirs.origins == 0 || (mine.loss <= 0.0 && theirs.loss <= 0.0) {
        return 1.0;
    }
    let mean = |block: &Block| block.loss / block.origins as f64;
    (mean(mine) / mean(theirs).max(f64::MIN_POSITIVE)).min(1e6)
}

fn shortfall(block: &Block) -> f64 {
    if block.origins == 0 { 0.0 } else { (PROMISE - block.covered / block.origins as f64).max(0.0) }
}

fn silence(block: &Block) -> f64 {
    if block.asked == 0 { 0.0 } else { block.silent as f64 / block.asked as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bellwether_models::series::Step;

    const STEP: Step = Step::from_secs(60);

    fn forecast(now: i64, middle: f64) -> Forecast {
        let levels = Quantile::STANDARD.to_vec();
        let quantiles = [-1.0, 0.0, 1.0, 2.0].map(|off| vec![middle + off; 4]).to_vec();
        let start = Timestamp::from_secs(now + 60);
        Forecast { start, step: STEP, mean: vec![middle; 4], levels, quantiles, peaks: vec![] }
    }

    /// A record of who says `middle(t)` while the truth is 10, over so many minutes.
    fn record(minutes: i64, middle: impl Fn(i64) -> Option<f64>) -> Record {
        let mut record = Record::new(Duration::from_secs(16 * 300), Duration::from_secs(60));
        for now in (0..minutes).map(|minute| 60 * minute) {
            record.observe(&Window { start: Timestamp::from_secs(now), step: STEP, values: vec![10.0] });
            record.issue(Timestamp::from_secs(now), middle(now).map(|m| forecast(now, m)).as_ref());
        }
        record
    }

    #[test]
    fn loss_and_coverage_are_those_of_the_outcomes() {
        let live = record(60, |_| Some(10.0)).live().unwrap();
        // 0.1 quantile at 9: 0.1; median 0; 0.9 at 11: 0.1; 0.95 at 12: 0.1
        assert!((live.pinball - 0.3 / 4.0).abs() < 1e-9 && live.coverage_p95 == 1.0, "{live:?}");
        assert_eq!(live.origins, 59 + 58 + 57 + 56);
        assert_eq!(record(60, |_| Some(7.0)).live().unwrap().coverage_p95, 0.0);
        assert_eq!(record(1, |_| Some(7.0)).live(), None);
    }

    #[test]
    fn two_models_are_compared_over_the_hours_both_were_asked() {
        let (good, bad) = (record(100, |_| Some(10.0)), record(100, |t| Some(if t < 3000 { 10.0 } else { 5.0 })));
        let versus = bad.versus(&good, Timestamp::from_secs(0)).unwrap();
        assert!(versus.ratio > 2.0 && versus.halves[0] < 1.5 && versus.halves[1] > 3.0, "{versus:?}");
        assert!(versus.shortfalls[0] > 0.3 && versus.shortfalls[1] == 0.0);
        assert_eq!(versus.span, Duration::from_secs(6000));
        let late = bad.versus(&good, Timestamp::from_secs(4500)).unwrap();
        assert_eq!(late.span, Duration::from_secs(1500));
        assert_eq!(bad.versus(&good, Timestamp::from_secs(9000)), None);
        let quiet = record(100, |_| None);
        assert_eq!(quiet.versus(&good, Timestamp::from_secs(0)).unwrap().silence, [1.0, 0.0]);
        assert_eq!(record(20, |_| Some(10.0)).versus(&good, Timestamp::from_secs(1200)), None);
    }

    #[test]
    fn what_is_kept_is_bounded_and_gaps_and_steps_back_of_the_clock_do_no_harm() {
        let mut long = record(2000, |_| Some(10.0));
        assert!(long.blocks.len() <= KEPT && long.pending.len() <= 4, "{}", long.pending.len());
        let before = long.live();
        long.observe(&Window { start: Timestamp::from_secs(0), step: STEP, values: vec![f64::NAN; 10] });
        long.issue(Timestamp::from_secs(0), Some(&forecast(0, 1.0)));
        assert_eq!(long.live(), before);
    }
}
