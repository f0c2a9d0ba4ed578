//! The detector that watches the metrics of one node or workload together.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::autoregression::Autoregression;
use super::forest::Forest;
use super::neighbours::References;
use super::pace::Pace;
use super::synthetic::Noise;
use super::tail::Tail;
use super::{Params, RowMethod, Score, Span};
use crate::series::Timestamp;

/// Rows kept to learn from: a random sample of the past, renewed with time.
const MEMORY: usize = 4096;
/// Rows among them that serve as references.
const REFERENCES: usize = 1024;
/// Share of the memory, its newest part, on which tails are calibrated by a fit on the older part.
const HELD_OUT: f64 = 0.3;
/// First fit after so many rows; the next when twice as many were seen.
const FIRST_FIT: u64 = 64;
/// Spans, in intervals, of the exponential means that stand for the rows before the last.
const SPANS: [f64; 3] = [4.0, 16.0, 64.0];
/// At most so many inputs of the autoregression: wide rows get fewer means.
const MOST_INPUTS: usize = 320;
/// Span, in intervals, of the mean that contributions are measured from.
const LOCAL_SPAN: f64 = 400.0;
/// Standardised values beyond this say no more.
const CLIP: f32 = 20.0;
/// Smallest scale of a metric, as a share of the range it has been seen in.
const FLOOR: f32 = 0.02;
/// Rows before and after a surprising one that are not learnt either.
const QUARANTINE: u32 = 32;
/// Residuals beyond this many deviations say no more.
const RESIDUAL_CLIP: f32 = 30.0;
/// Deviations from which a metric adds to a distance by their logarithm only: what is far out in one metric is told by
/// its residual, the distance is to tell what lies in many.
const FAR_OUT: f32 = 4.0;
/// Weight of the distance beside the residual where a row stands alone: a distance tells that things are unlike before,
/// a residual that something has happened now.
const DISTANCE: f64 = 0.8;
/// Surprise up to which the mean evidence of the last rows may carry a single row.
const CARRY: f64 = 2.1;
/// Span, in intervals, of that mean.
const CARRIED_OVER: f64 = 16.0;
/// Decades by which a row must exceed what was told lately to be news, and by which it stands back when it is not.
const NEWS: f64 = 0.1;
const STANDS_BACK: f64 = 0.3;
/// Span, in intervals, over which what was told is forgotten.
const FORGOTTEN: f64 = 1000.0;
/// Surprise from which a row is not learnt.
const DOUBT: f64 = 2.0;
/// How long rows must stay abnormal before they are learnt as the new normal: a day.
const ACCEPTANCE: Span = Span::new(86_400, 300);
/// Rows that are learnt whatever they look like: until then it is the model that is doubtful.
const TRUSTED: u64 = MEMORY as u64;

/// Scores rows of several metrics by what single metrics do not show: distance to the nearest rows of a reference set,
/// and the residual of a vector autoregression, put on one scale by held-out history; their root mean square
/// is turned into a tail probability. What lasts is told by its mean, and surprises less than its onset.
///
/// A gap (NaN) in a row stands for the metric's mean: it neither raises nor hides the rest of the row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Multivariate {
    width: usize,
    params: Params,
    pace: Pace,
    seen: u64,
    next_fit: u64,
    range: Vec<[f32; 2]>,
    means: Vec<Vec<f32>>,
    local: Vec<f32>,
    last: Vec<f32>,
    memory: Vec<Kept>,
    chance: Noise,
    model: Option<Model>,
    carried: f64,
    /// What was told lately.
    told: f64,
    /// Rows that are learnt when what follows them stays calm.
    pending: VecDeque<Pending>,
    calm: u32,
    /// Rows since the last fit, and whether they were given as history.
    unfitted: u64,
    training: bool,
    abnormal_for: f64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Pending {
    kept: Kept,
    evidence: f64,
}

/// A row that is remembered, with what was known before it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Kept {
    /// Which row it was.
    order: u64,
    /// Last row and means, raw, in blocks of the width.
    before: Vec<f32>,
    row: Vec<f32>,
}

/// What was learnt from the memory at the last fit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Model {
    centre: Vec<f32>,
    scale: Vec<f32>,
    references: References,
    law: Option<Autoregression>,
    /// In place of both, where that was chosen.
    forest: Option<Forest>,
    /// Evidence of either kind that one held-out row in a hundred exceeds.
    limits: [f64; 2],
    tail: Tail,
}

/// The score of a row, and what each metric gave to it.
#[derive(Clone, Debug, PartialEq)]
pub struct RowScore {
    /// `-log10` of the tail probability of the row, as [`Score::surprise`].
    pub surprise: f64,
    /// One number a metric, in the order of the row: higher says "more of the departure is here". Never negative, never NaN.
    pub contributions: Vec<f64>,
}

impl RowScore {
    /// The score in `0.0..1.0`, as [`Score::as_unit`].
    #[must_use]
    pub fn as_unit(&self) -> f64 {
        Score { surprise: self.surprise, ..Score::NONE }.as_unit()
    }
}

impl Multivariate {
    /// A detector of rows of `width` metrics that has seen nothing.
    #[must_use]
    pub fn new(width: usize, params: Params) -> Self {
        let blocks = (MOST_INPUTS / width.max(1)).clamp(1, 1 + SPANS.len());
        Self {
            width,
            params,
            pace: Pace::default(),
            seen: 0,
            next_fit: FIRST_FIT,
            range: vec![[f32::INFINITY, f32::NEG_INFINITY]; width],
            means: vec![vec![f32::NAN; width]; blocks - 1],
            local: vec![f32::NAN; width],
            last: vec![f32::NAN; width],
            memory: Vec::new(),
            chance: Noise::new(0),
            model: None,
            carried: 0.0,
            told: 0.0,
            pending: VecDeque::new(),
            calm: QUARANTINE,
            unfitted: 0,
            training: false,
            abnormal_for: 0.0,
        }
    }

    /// Scores the row at `at`, then learns from it. A row that is too short has gaps at its end; what is beyond the
    /// width is not read.
    pub fn observe(&mut self, at: Timestamp, row: &[f64]) -> RowScore {
        if self.unfitted > FIRST_FIT && self.training {
            self.fit();
        }
        self.training = false;
        self.take(at, row, self.seen < TRUSTED)
    }

    /// Learns from a row that is known to be normal, or as normal as can be had: none is held back as abnormal.
    pub fn train(&mut self, at: Timestamp, row: &[f64]) {
        self.training = true;
        self.take(at, row, true);
    }

    fn take(&mut self, at: Timestamp, row: &[f64], normal: bool) -> RowScore {
        let dt = self.pace.tick(at);
        let row: Vec<f32> = (0..self.width).map(|k| row.get(k).map_or(f32::NAN, |v| finite(*v))).collect();
        self.seen += 1;
        for (range, value) in self.range.iter_mut().zip(&row) {
            *range = [range[0].min(*value), range[1].max(*value)];
        }
        let before = self.before();
        let (scored, evidence) = self.score(&before, &row, dt);
        self.learn(before, row, evidence, if normal { 0.0 } else { scored.surprise }, dt);
        scored
    }

    /// Last row and means, in blocks.
    fn before(&self) -> Vec<f32> {
        std::iter::once(&self.last).chain(&self.means).flatten().copied().collect()
    }

    fn score(&mut self, before: &[f32], row: &[f32], dt: f64) -> (RowScore, f64) {
        let Some(model) = &mut self.model else {
            return (RowScore { surprise: 0.0, contributions: vec![0.0; self.width] }, 0.0);
        };
        model.widen(&self.range);
        let (x, y) = (model.standardise(before), model.standardise(row));
        let mut residuals = Vec::new();
        let kinds = model.evidence(&x, &y, &mut residuals);
        let local = model.standardise(&self.local);
        let contributions = contributions(&y, &local, &residuals);
        let intervals = dt / self.pace.interval();
        self.carried += (1.0 - (-intervals / CARRIED_OVER).exp()) * (model.joined(&kinds, 1.0) - self.carried);
        let lasting = model.tail.surprise(self.carried).min(CARRY);
        let evidence = model.joined(&kinds, DISTANCE);
        let raw = model.tail.surprise(evidence);
        let surprise = self.temper(raw, intervals).max(lasting);
        (RowScore { surprise, contributions }, evidence)
    }

    /// Lets the continuation of what is known stand back, so that an onset stands above it.
    fn temper(&mut self, raw: f64, intervals: f64) -> f64 {
        let news = raw > self.told + NEWS;
        let told = if news { raw } else { raw.min((CARRY + 0.05 * raw).max(raw - STANDS_BACK)) };
        self.told = (self.told * (-intervals / FORGOTTEN).exp()).max(told);
        told
    }

    fn learn(&mut self, before: Vec<f32>, row: Vec<f32>, evidence: f64, surprise: f64, dt: f64) {
        let interval = self.pace.interval();
        let share = |span: f64| (1.0 - (-dt / (0.5 * (span + 1.0) * interval)).exp()) as f32;
        for (mean, span) in self.means.iter_mut().zip(SPANS) {
            follow(mean, &row, share(span));
        }
        follow(&mut self.local, &row, share(LOCAL_SPAN));
        follow(&mut self.last, &row, 1.0);
        self.quarantine(Pending { kept: Kept { order: self.seen, before, row }, evidence }, surprise, dt);
        if self.seen >= self.next_fit && self.memory.len() >= FIRST_FIT as usize / 2 {
            self.fit();
        }
        self.unfitted += 1;
    }

    /// Fits on the memory; the next fit is due when the history has doubled, or a quarter of what is remembered has passed.
    fn fit(&mut self) {
        let interval = self.pace.interval();
        let patience = (self.params.history.seconds(interval) / interval / 4.0) as u64;
        self.next_fit = self.seen + self.seen.min(patience.max(FIRST_FIT));
        self.unfitted = 0;
        self.model = Model::fit(&self.memory, &self.range, self.width, self.seen, self.params.rows);
    }

    /// Learns a row once the rows around it have proved calm, or when what is abnormal has lasted long enough.
    fn quarantine(&mut self, pending: Pending, surprise: f64, dt: f64) {
        let abnormal = surprise > DOUBT;
        self.calm = if abnormal { 0 } else { self.calm.saturating_add(1) };
        self.abnormal_for = if self.calm < QUARANTINE { self.abnormal_for + dt } else { 0.0 };
        let accepted = self.abnormal_for > ACCEPTANCE.seconds(self.pace.interval());
        if self.calm == 0 && !accepted {
            self.pending.clear();
        }
        if self.calm < QUARANTINE && !accepted {
            return;
        }
        self.pending.push_back(pending);
        if self.pending.len() > QUARANTINE as usize || self.model.is_none() {
            self.learn_proven();
        }
    }

    fn learn_proven(&mut self) {
        let Some(proven) = self.pending.pop_front() else { return };
        if let Some(model) = &mut self.model {
            let age = self.pace.interval() / self.params.history.seconds(self.pace.interval());
            model.tail.learn(proven.evidence, 1.0, (-age).exp() as f32);
        }
        self.remember(proven.kept);
    }

    /// Keeps a row in place of a random one, so that the memory is a sample of the last `history`.
    fn remember(&mut self, kept: Kept) {
        if self.memory.len() < MEMORY {
            self.memory.push(kept);
            return;
        }
        let past = (self.params.history.seconds(self.pace.interval()) / self.pace.interval()).min(self.seen as f64);
        if self.chance.uniform() * past < MEMORY as f64 {
            let place = (self.chance.uniform() * MEMORY as f64) as usize;
            self.memory[place.min(MEMORY - 1)] = kept;
        }
    }
}

impl Model {
    /// Learns from `memory`; tails come from its newest part under a model of the older part, the rest from all of it.
    fn fit(memory: &[Kept], range: &[[f32; 2]], width: usize, seen: u64, method: RowMethod) -> Option<Self> {
        let mut rows: Vec<&Kept> = memory.iter().collect();
        rows.sort_by_key(|kept| kept.order);
        let cut = ((1.0 - HELD_OUT) * rows.len() as f64) as usize;
        let mut older = Self::untested(&rows[..cut], range, width, method)?;
        let mut residuals = Vec::new();
        let held_out: Vec<[f64; 2]> = rows[cut..]
            .iter()
            .map(|kept| older.evidence(&older.standardise(&kept.before), &older.standardise(&kept.row), &mut residuals))
            .collect();
        older.limits = [0, 1].map(|kind| upper(held_out.iter().map(|e| e[kind]).collect()));
        let weight = (seen as f64 / held_out.len().max(1) as f64).clamp(1.0, 1000.0) as f32;
        for evidence in &held_out {
            older.tail.learn(older.joined(evidence, DISTANCE), weight, 1.0);
        }
        let Self { limits, tail, .. } = older;
        Some(Self { limits, tail, ..Self::untested(&rows, range, width, method)? })
    }

    fn untested(rows: &[&Kept], range: &[[f32; 2]], width: usize, method: RowMethod) -> Option<Self> {
        let (centre, scale) = moments(rows, width)?;
        let (references, tail) = (References::default(), Tail::default());
        let mut model = Self { centre, scale, references, law: None, forest: None, limits: [1.0; 2], tail };
        model.widen(range);
        let standard: Vec<(Vec<f32>, Vec<f32>)> =
            rows.iter().map(|kept| (model.standardise(&kept.before), model.standardise(&kept.row))).collect();
        let pairs: Vec<(&[f32], &[f32])> = standard.iter().map(|(x, y)| (x.as_slice(), y.as_slice())).collect();
        if method == RowMethod::Forest {
            let present: Vec<&[f32]> = pairs.iter().map(|(_, y)| *y).collect();
            model.forest = Some(Forest::grow(&present, &mut Noise::new(0)));
            return Some(model);
        }
        model.law = Autoregression::fit(&pairs);
        let every = rows.len().div_ceil(REFERENCES).max(1);
        let references: Vec<Vec<f32>> = pairs.iter().step_by(every).map(|(_, y)| squeezed(y)).collect();
        model.references = References::new(width, references.iter().map(Vec::as_slice));
        Some(model)
    }

    /// Raises the scales to what the range of each metric asks for.
    fn widen(&mut self, range: &[[f32; 2]]) {
        for (scale, [low, high]) in self.scale.iter_mut().zip(range) {
            *scale = scale.max(FLOOR * (high - low)).max(f32::MIN_POSITIVE);
        }
    }

    /// Blocks of the width in deviations from the centre; gaps become 0.
    fn standardise(&self, blocks: &[f32]) -> Vec<f32> {
        let scales = self.centre.iter().zip(&self.scale).cycle();
        let one = |(value, (centre, scale)): (&f32, (&f32, &f32))| ((value - centre) / scale).clamp(-CLIP, CLIP);
        blocks.iter().zip(scales).map(one).map(|z| if z.is_nan() { 0.0 } else { z }).collect()
    }

    /// Distance to the references and size of the residuals; of a forest its score, twice.
    fn evidence(&self, x: &[f32], y: &[f32], residuals: &mut Vec<f32>) -> [f64; 2] {
        residuals.clear();
        if let Some(forest) = &self.forest {
            return [forest.score(y); 2];
        }
        if let Some(law) = &self.law {
            law.residuals(x, y, residuals);
        }
        let squares: f64 = residuals.iter().map(|r| f64::from(r.clamp(-RESIDUAL_CLIP, RESIDUAL_CLIP)).powi(2)).sum();
        [self.references.distance(&squeezed(y)), (squares / y.len().max(1) as f64).sqrt()]
    }

    /// Root mean square of both kinds, in units of a quarter of their limits, the distance with a `weight`: what both find
    /// strange counts more than what one does.
    fn joined(&self, evidence: &[f64; 2], weight: f64) -> f64 {
        let [distance, residual] = [0, 1].map(|kind| 4.0 * evidence[kind] / self.limits[kind]);
        (0.5 * ((weight * distance).powi(2) + residual * residual)).sqrt()
    }
}

/// Deviations of a row, those far out drawn in.
fn squeezed(row: &[f32]) -> Vec<f32> {
    let one = |z: &f32| if z.abs() <= FAR_OUT { *z } else { (FAR_OUT * (1.0 + (z.abs() / FAR_OUT).ln())).copysign(*z) };
    row.iter().map(one).collect()
}

/// The value that one in a hundred exceeds.
fn upper(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let at = (values.len() as f64 * 0.99) as usize;
    values.get(at).or(values.last()).copied().unwrap_or(1.0).max(1e-6)
}

/// Fourth power of the deviation from the last hours, to which the unpredicted part adds a third: large deviations of few
/// rows outweigh small ones of many when contributions are averaged.
fn contributions(y: &[f32], local: &[f32], residuals: &[f32]) -> Vec<f64> {
    let residual = |k: usize| residuals.get(k).copied().unwrap_or(0.0);
    let part = |(k, (y, local)): (usize, (&f32, &f32))| f64::from((y - local).abs() + 0.3 * residual(k).abs()).powi(4);
    y.iter().zip(local).enumerate().map(part).collect()
}

/// Mean and standard deviation of each metric over the rows, gaps left out.
fn moments(rows: &[&Kept], width: usize) -> Option<(Vec<f32>, Vec<f32>)> {
    if rows.is_empty() || width == 0 {
        return None;
    }
    let each = |k: usize| {
        let values = || rows.iter().map(|kept| f64::from(kept.row[k])).filter(|v| !v.is_nan());
        let count = values().count().max(1) as f64;
        let mean = values().sum::<f64>() / count;
        let variance = values().map(|v| (v - mean) * (v - mean)).sum::<f64>() / count;
        (mean as f32, variance.sqrt() as f32)
    };
    Some((0..width).map(each).unzip())
}

/// Moves `mean` towards `row` by `share`; a gap moves nothing, the first value is taken whole.
fn follow(mean: &mut [f32], row: &[f32], share: f32) {
    for (m, value) in mean.iter_mut().zip(row) {
        if value.is_nan() {
            continue;
        }
        *m = if m.is_nan() { *value } else { *m + share * (value - *m) };
    }
}

/// A value whose square fits, or a gap.
fn finite(value: f64) -> f32 {
    if value.abs() < 1e18 { value as f32 } else { f32::NAN }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two metrics that follow each other, and one of its own; `apart` breaks the tie without leaving the usual range.
    fn row(noise: &mut Noise, apart: bool) -> [f64; 3] {
        let common = noise.gaussian();
        let second = if apart { -2.0 * common.signum() } else { common };
        [common.signum() * common.abs().max(1.0), second + 0.05 * noise.gaussian(), noise.gaussian()]
    }

    fn taught(rows: i64) -> (Multivariate, Noise) {
        let (mut detector, mut noise) = (Multivariate::new(3, Params::default()), Noise::new(5));
        for minute in 0..rows {
            let row = row(&mut noise, false);
            detector.train(Timestamp::from_secs(60 * minute), &row);
        }
        (detector, noise)
    }

    #[test]
    fn a_broken_tie_between_metrics_is_seen_though_each_is_in_its_usual_range() {
        let (mut detector, mut noise) = taught(2000);
        let mut at = |k: i64, apart: bool| {
            detector.observe(Timestamp::from_secs(60 * (2000 + k)), &row(&mut noise, apart)).surprise
        };
        let calm: Vec<f64> = (0..20).map(|k| at(k, false)).collect();
        let broken = at(20, true);
        let loudest = calm.iter().copied().fold(0.0, f64::max);
        assert!(broken > 2.1 && broken > loudest + 0.1, "{broken} after {calm:?}");
    }

    #[test]
    fn the_first_row_of_a_departure_stands_above_those_that_go_on_like_it() {
        let (mut detector, mut noise) = taught(2000);
        let scored: Vec<f64> = (0..40)
            .map(|k| {
                let row = if k < 20 { row(&mut noise, false) } else { [1.0, 1.0, 25.0] };
                detector.observe(Timestamp::from_secs(60 * (2000 + k)), &row).surprise
            })
            .collect();
        let (onset, after) = (scored[20], &scored[22..]);
        assert!(after.iter().all(|s| *s < onset - 0.25), "{onset} then {after:?}");
        assert!(after.iter().all(|s| *s >= 1.7), "what lasts is still told: {after:?}");
    }

    #[test]
    fn rows_of_gaps_infinities_and_wrong_lengths_are_taken() {
        let (mut detector, _) = taught(300);
        let rows: [&[f64]; 5] =
            [&[], &[f64::NAN; 3], &[f64::INFINITY, 1e300, -0.0], &[1.0; 9], &[f64::NEG_INFINITY; 2]];
        for (k, row) in rows.iter().cycle().take(600).enumerate() {
            let scored = detector.observe(Timestamp::from_millis(k as i64 % 7 * 1000), row);
            assert!(scored.surprise.is_finite() && scored.surprise >= 0.0);
            assert!(scored.contributions.len() == 3 && scored.contributions.iter().all(|c| c.is_finite() && *c >= 0.0));
        }
    }

    #[test]
    fn a_forest_sees_a_row_that_is_far_from_all() {
        let params = Params { rows: RowMethod::Forest, ..Params::default() };
        let (mut detector, mut noise) = (Multivariate::new(3, params), Noise::new(5));
        for minute in 0..1000 {
            detector.train(Timestamp::from_secs(60 * minute), &row(&mut noise, false));
        }
        let calm = detector.observe(Timestamp::from_secs(60_000), &row(&mut noise, false)).surprise;
        let far = detector.observe(Timestamp::from_secs(60_060), &[9.0, -9.0, 9.0]).surprise;
        assert!(far > 2.0 && far > calm + 1.0, "{far} after {calm}");
    }

    #[test]
    fn a_metric_that_leaves_alone_has_the_largest_contribution() {
        let (mut detector, mut noise) = taught(1000);
        let mut last = row(&mut noise, false);
        last[2] += 15.0;
        let scored = detector.observe(Timestamp::from_secs(60_000), &last);
        assert!(scored.contributions[2] > scored.contributions[0].max(scored.contributions[1]), "{scored:?}");
    }
}
