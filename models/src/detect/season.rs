//! Seasons: periods found in the stream, and the profile of the series over each.

use serde::{Deserialize, Serialize};

use crate::series::Timestamp;

const BLOCKS: usize = 96;
/// Bins of a profile: quarters of an hour for a day, hours for a week.
const BINS: usize = 96;
const BINS_OF_LONG: usize = 168;
/// A season must explain at least this much of the autocorrelation.
const LEAST_CORRELATION: f32 = 0.3;
/// And so many standard deviations of the autocorrelation of noise: the search looks at many lags, many times.
const LEAST_DEVIATES: f32 = 3.5;
/// A season that leaves more than this share of the deviations it was to explain has faded.
const FADED: f32 = 0.98;
/// Shortest period, in blocks: below it a profile says no more than the last values do.
const SHORTEST: usize = 6;
/// History longer than this many seconds is no longer coarsened but slides: six weeks.
const LONGEST_SPAN: f64 = 6.0 * 7.0 * 86_400.0;
/// Share by which a profile moves to what it sees, per pass.
const PACE: f32 = 0.3;
const DAY: f64 = 86_400.0;

/// The series over one period, relative to its level.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Profile {
    /// Seconds.
    pub(super) period: f64,
    bins: Vec<f32>,
    /// Mean of the bins, which belongs to the level.
    mean: f32,
    /// Mean absolute deviation with and without it, and for how many seconds it has been watched.
    with: f32,
    without: f32,
    age: f64,
}

impl Profile {
    /// Value expected at `at`, relative to the level: linear between the centres of bins.
    pub(super) fn at(&self, at: Timestamp) -> f64 {
        let (k, next, part) = self.place(at);
        f64::from(self.bins[k] + (self.bins[next] - self.bins[k]) * part - self.mean)
    }

    /// Moves the profile at `at` towards `off` (what is left after the profile), which counts no more than `limit`, for a
    /// sample that stands for `seconds` and is believed with `weight`.
    pub(super) fn learn(&mut self, at: Timestamp, off: f64, limit: f64, seconds: f64, weight: f64) {
        let clipped = |off: f64| off.clamp(-limit, limit) as f32;
        let residual = clipped(off);
        self.judge(residual, clipped(off + self.at(at)), seconds, weight);
        let per_bin = self.period / self.bins.len() as f64;
        let rate = (weight * seconds / per_bin).min(1.0) as f32 * PACE;
        let (k, next, part) = self.place(at);
        self.bins[k] += rate * (1.0 - part) * residual;
        self.bins[next] += rate * part * residual;
        self.mean += rate * residual / self.bins.len() as f32;
    }

    /// Whether, over two periods, it has explained nothing any more.
    pub(super) fn has_faded(&self) -> bool {
        self.age > 2.0 * self.period && self.with > FADED * self.without
    }

    /// Whether it has been watched for two of its periods.
    pub(super) fn is_proven(&self) -> bool {
        self.age >= 2.0 * self.period
    }

    fn judge(&mut self, with: f32, without: f32, seconds: f64, weight: f64) {
        let rate = (weight * seconds / (2.0 * self.period).min(2.0 * self.age + seconds)).min(1.0) as f32;
        self.with += rate * (with.abs() - self.with);
        self.without += rate * (without.abs() - self.without);
        self.age += seconds;
    }

    pub(super) fn heap_bytes(&self) -> usize {
        size_of_val(self.bins.as_slice())
    }

    fn place(&self, at: Timestamp) -> (usize, usize, f32) {
        let n = self.bins.len();
        let phase = (at.as_secs_f64() / self.period).rem_euclid(1.0) * n as f64 - 0.5;
        let phase = if phase < 0.0 { phase + n as f64 } else { phase };
        let k = (phase as usize).min(n - 1);
        (k, if k + 1 == n { 0 } else { k + 1 }, (phase - k as f64) as f32)
    }
}

/// Looks for a season in block means of the whole history, blocks growing as the history does: every period from a few
/// samples to weeks passes through its window at some time, and the state stays fixed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Finder {
    start: Timestamp,
    /// Seconds per block; 0 before the first sample.
    block: f64,
    blocks: Vec<f32>,
    sum: f64,
    count: u32,
}

impl Default for Finder {
    fn default() -> Self {
        Self { start: Timestamp::default(), block: 0.0, blocks: Vec::new(), sum: 0.0, count: 0 }
    }
}

impl Finder {
    /// Takes a sample; `interval` seconds is the series' own. Returns a season when one is found.
    pub(super) fn observe(&mut self, at: Timestamp, value: f64, interval: f64) -> Option<Profile> {
        if self.block == 0.0 {
            self.start = at;
            self.block = interval;
        }
        let index = ((at.as_secs_f64() - self.start.as_secs_f64()) / self.block).floor();
        let mut found = None;
        if index < self.blocks.len() as f64 - 1.0 || index > (self.blocks.len() + BLOCKS) as f64 {
            *self = Self::default(); // the clock jumped: what was gathered has lost its place
            return None;
        }
        while (self.blocks.len() as f64) < index && self.count > 0 {
            found = self.close().or(found);
        }
        self.sum += value;
        self.count += 1;
        found
    }

    pub(super) fn heap_bytes(&self) -> usize {
        BLOCKS * size_of::<f32>()
    }

    /// Ends the present block; a block without a sample repeats its neighbour.
    fn close(&mut self) -> Option<Profile> {
        let mean = if self.count > 0 {
            (self.sum / f64::from(self.count)) as f32
        } else {
            self.blocks.last().copied().unwrap_or(0.0)
        };
        self.blocks.push(mean);
        (self.sum, self.count) = (0.0, 0);
        let n = self.blocks.len();
        let found = if n == BLOCKS || n == BLOCKS * 3 / 4 { self.search() } else { None };
        if n == BLOCKS {
            self.coarsen();
        }
        found
    }

    fn coarsen(&mut self) {
        if self.block * BLOCKS as f64 >= LONGEST_SPAN {
            self.start = Timestamp::from_secs_f64(self.start.as_secs_f64() + self.block * (BLOCKS / 2) as f64)
                .unwrap_or(self.start);
            self.blocks.drain(..BLOCKS / 2);
        } else {
            self.blocks = self.blocks.chunks(2).map(|pair| (pair[0] + pair[1]) / 2.0).collect();
            self.block *= 2.0;
        }
    }

    /// The strongest peak of the autocorrelation with at least two whole periods in the history.
    fn search(&self) -> Option<Profile> {
        let y = detrended(&self.blocks);
        let n = y.len();
        let correlation: Vec<f32> = (0..=n / 2).map(|lag| correlation(&y, lag)).collect();
        let peak = (SHORTEST..n / 2)
            .filter(|&k| correlation[k] > correlation[k - 1] && correlation[k] >= correlation[k + 1])
            .filter(|&k| dips_before(&correlation, k))
            .max_by(|&a, &b| (correlation[a] - 0.001 * a as f32).total_cmp(&(correlation[b] - 0.001 * b as f32)))?;
        if correlation[peak] < LEAST_CORRELATION || correlation[peak] * ((n - peak) as f32).sqrt() < LEAST_DEVIATES {
            return None;
        }
        let lag = peak as f64 + vertex(correlation[peak - 1], correlation[peak], correlation[peak + 1]);
        let period = calendar(lag * self.block, 0.6 / lag);
        Some(self.fold(&y, period))
    }

    /// Mean of the history by phase.
    fn fold(&self, y: &[f32], period: f64) -> Profile {
        let most = if period > 3.0 * DAY { BINS_OF_LONG } else { BINS };
        let bins = (period / self.block).round().clamp(SHORTEST as f64, most as f64) as usize;
        let mut profile = Profile { period, bins: vec![0.0; bins], mean: 0.0, with: 0.0, without: 0.0, age: 0.0 };
        let (mut sums, mut counts) = (vec![0.0; bins], vec![0.0_f32; bins]);
        for (i, value) in y.iter().enumerate() {
            let middle = self.start.as_secs_f64() + (i as f64 + 0.5) * self.block;
            let (k, next, part) = profile.place(Timestamp::from_secs_f64(middle).unwrap_or_default());
            for (bin, weight) in [(k, 1.0 - part), (next, part)] {
                sums[bin] += weight * value;
                counts[bin] += weight;
            }
        }
        for (bin, value) in profile.bins.iter_mut().enumerate() {
            *value = if counts[bin] > 0.0 { sums[bin] / counts[bin] } else { 0.0 };
        }
        profile.mean = profile.bins.iter().sum::<f32>() / bins as f32;
        profile
    }
}

/// The history without its straight line, outliers drawn in to five mean deviations.
fn detrended(blocks: &[f32]) -> Vec<f32> {
    let n = blocks.len() as f32;
    let (middle, mean) = ((n - 1.0) / 2.0, blocks.iter().sum::<f32>() / n);
    let (mut xy, mut xx) = (0.0, 0.0);
    for (i, v) in blocks.iter().enumerate() {
        xy += (i as f32 - middle) * (v - mean);
        xx += (i as f32 - middle) * (i as f32 - middle);
    }
    let slope = xy / xx;
    let mut y: Vec<f32> = blocks.iter().enumerate().map(|(i, v)| v - mean - slope * (i as f32 - middle)).collect();
    let limit = 5.0 * y.iter().map(|v| v.abs()).sum::<f32>() / n;
    y.iter_mut().for_each(|v| *v = v.clamp(-limit, limit));
    y
}

fn correlation(y: &[f32], lag: usize) -> f32 {
    let (a, b) = (&y[..y.len() - lag], &y[lag..]);
    let dot = |p: &[f32], q: &[f32]| p.iter().zip(q).map(|(x, y)| x * y).sum::<f32>();
    let norm = (dot(a, a) * dot(b, b)).sqrt();
    if norm > 0.0 { dot(a, b) / norm } else { 0.0 }
}

/// Whether the correlation falls well below the peak on the way to it: a slow decay has no season.
fn dips_before(correlation: &[f32], peak: usize) -> bool {
    let lowest = correlation[..peak].iter().copied().fold(1.0, f32::min);
    correlation[peak] - lowest > 0.3
}

/// Offset of the vertex of the parabola through three neighbours.
fn vertex(before: f32, at: f32, after: f32) -> f64 {
    let curve = before - 2.0 * at + after;
    if curve < 0.0 { f64::from(0.5 * (before - after) / curve).clamp(-0.5, 0.5) } else { 0.0 }
}

/// The hour, day or week when `period` is one within `tolerance` (a share), else `period`.
fn calendar(period: f64, tolerance: f64) -> f64 {
    [3600.0, DAY, 7.0 * DAY].into_iter().find(|known| (period / known - 1.0).abs() < tolerance).unwrap_or(period)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::reference;

    #[test]
    fn the_straight_line_and_the_correlations_are_those_of_scipy_and_scikit_learn() {
        let known = &reference::known()["season"];
        let blocks: Vec<f32> = reference::numbers(&known["blocks"]).into_iter().map(|v| v as f32).collect();
        let y = detrended(&blocks);
        let off = |told: f32, expected: f64| (f64::from(told) - expected).abs();
        assert!(y.iter().zip(reference::numbers(&known["detrended"])).all(|(y, expected)| off(*y, expected) < 1e-4));
        let lags = reference::numbers(&known["lags"]);
        for (lag, expected) in lags.into_iter().zip(reference::numbers(&known["correlation"])) {
            assert!(off(correlation(&y, lag as usize), expected) < 1e-4, "{lag}");
        }
    }

    #[test]
    fn a_season_of_peaks_that_do_not_come_fades_however_little_a_sample_may_count() {
        let mut profile = Profile { period: 24.0, bins: vec![0.0; 24], mean: 0.0, with: 0.0, without: 0.0, age: 0.0 };
        profile.bins[6..12].fill(40.0);
        profile.mean = 10.0;
        for hour in 0..60 {
            let at = Timestamp::from_secs(hour);
            profile.learn(at, -profile.at(at), 2.0, 1.0, 1.0); // the series stays at its level
        }
        assert!(profile.has_faded());
    }
}
