//! The detector that watches one series.

use serde::{Deserialize, Serialize};

use super::pace::Pace;
use super::params::Params;
use super::run::Runs;
use super::season::{Finder, Profile};
use super::tail::Tail;
use super::{Detector, Kind, Score};
use crate::series::Timestamp;

const EXPERTS: usize = 4;
/// Mean absolute deviation to standard deviation, for a Gaussian.
const TO_SIGMA: f64 = 1.2533;
/// Deviations count at most so many scales when levels and scales learn from them.
const CLIP: f64 = 3.5;

/// Values beyond this are gaps: single precision holds their sums, and nothing measured is larger.
const LARGEST: f64 = 1e30;
/// Decades by which the strongest of five kinds of evidence pays for the choice.
const PAID: f64 = 0.7;
/// Decades by which evidence gathered over many samples (short and long means, spread, runs) stands back behind the
/// sample itself: its tail is known from fewer independent observations.
const HANDICAP: [f64; 5] = [0.0, 1.0, 1.0, 1.0, 0.5];
/// Decades by which a sample must exceed what has been seen lately to be news.
const NEWS: f64 = 0.3;
/// Surprise at which the continuation of what is known begins.
const KNOWN: f64 = 1.0;

/// Streaming detector of one series: fixed memory, one pass, no look-ahead.
///
/// A sample is compared with what its own past makes likely (level, last values and season, mixed by their recent
/// errors); four kinds of evidence are kept (the residual, a short and a long mean of deviations from the level, their
/// spread), each turned into a tail probability by its own history; runs of repeated values and of gaps are judged by
/// the length of earlier runs. The score is the strongest of these, paid for their number.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Univariate {
    params: Params,
    pace: Pace,
    seen: u32,
    last: f64,
    last_plain: f64,
    fast: f64,
    level: f64,
    errors: [f64; EXPERTS],
    scale: f64,
    spread: f64,
    now: f64,
    short: f64,
    long: f64,
    noise: f64,
    noise_scale: f64,
    tails: [Tail; 4],
    stuck: Runs,
    gaps: Runs,
    finder: Finder,
    seasons: Vec<Profile>,
    plain_level: f64,
    errors_plain: f64,
    errors_season: f64,
    abnormal_for: f64,
    heat: f64,
    rates: Rates,
}

/// Shares by which memories move for one sample, kept while the distance between samples stays the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Rates {
    dt: f64,
    interval: f64,
    memory: f64,
    quick: f64,
    short: f64,
    long: f64,
    keep_history: f32,
    long_weight: f32,
    short_weight: f32,
}

impl Rates {
    fn new(dt: f64, interval: f64, params: &Params) -> Self {
        let share = |span: f64| 1.0 - (-dt / span).exp();
        let memory = params.memory.seconds(interval);
        let long = memory / 10.0;
        Self {
            dt,
            interval,
            memory: share(memory),
            quick: share(3.0 * interval),
            short: share(8.0 * interval),
            long: share(long),
            keep_history: (-dt / params.history.seconds(interval)).exp() as f32,
            short_weight: (interval / (8.0 * interval)) as f32,
            long_weight: (interval / long) as f32,
        }
    }
}

impl Univariate {
    /// A detector that has seen nothing.
    #[must_use]
    pub fn new(params: Params) -> Self {
        Self {
            params,
            pace: Pace::default(),
            seen: 0,
            last: 0.0,
            last_plain: 0.0,
            fast: 0.0,
            level: 0.0,
            errors: [0.0; EXPERTS],
            scale: 0.0,
            spread: 0.0,
            now: 0.0,
            short: 0.0,
            long: 0.0,
            noise: 1.0,
            noise_scale: 0.3,
            tails: Default::default(),
            stuck: Runs::default(),
            gaps: Runs::default(),
            finder: Finder::default(),
            seasons: Vec::new(),
            plain_level: 0.0,
            errors_plain: 0.0,
            errors_season: 0.0,
            abnormal_for: 0.0,
            heat: 0.0,
            rates: Rates::default(),
        }
    }
}

impl Default for Univariate {
    fn default() -> Self {
        Self::new(Params::default())
    }
}

impl Detector for Univariate {
    fn observe(&mut self, at: Timestamp, value: f64) -> Score {
        let dt = self.pace.tick(at);
        if dt != self.rates.dt || self.pace.interval() != self.rates.interval {
            self.rates = Rates::new(dt, self.pace.interval(), &self.params);
        }
        if value.abs() < LARGEST { self.value(at, value) } else { self.gap() }
    }
}

impl Univariate {
    /// Memory of the state, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        size_of::<Self>()
            + self.finder.heap_bytes()
            + self.seasons.iter().map(|s| s.heap_bytes() + size_of::<Profile>()).sum::<usize>()
    }

    fn gap(&mut self) -> Score {
        let surprise = self.gaps.observe(true, self.rates.keep_history);
        if self.seen < self.params.warmup {
            return Score::NONE;
        }
        Score {
            surprise: surprise.max(0.0),
            expected: self.level,
            kind: (surprise > self.params.doubt).then_some(Kind::Missing),
        }
    }

    fn value(&mut self, at: Timestamp, x: f64) -> Score {
        self.gaps.observe(false, self.rates.keep_history);
        self.seen = self.seen.saturating_add(1);
        if self.seen == 1 {
            self.start(x);
            return Score::NONE;
        }
        let season: f64 = self.seasons.iter().map(|s| s.at(at)).sum();
        let y = x - season;
        let experts = [self.last, self.fast, self.level, self.last_plain - season];
        let expected = self.mix(&experts);
        let floor = self.floor(x);
        let residual = (y - expected).abs() / (self.scale.max(floor) + f64::MIN_POSITIVE);
        let deviation = (y - self.level) / (self.spread.max(floor) + f64::MIN_POSITIVE);
        let evidence = self.evidence(residual, deviation);
        let (raw, kind) = self.judge(&evidence, x);
        let trust = self.trust(raw);
        let surprise = self.temper(self.tails[0].surprise(evidence[0]) - PAID, raw);
        self.learn_tails(&evidence, raw);
        self.learn(at, x, y, &experts, expected, trust);
        self.accept(raw, y);
        if self.seen <= self.params.warmup {
            return Score { expected: f64::NAN, ..Score::NONE };
        }
        Score { surprise, expected: expected + season, kind: (raw >= self.params.doubt).then_some(kind) }
    }

    fn start(&mut self, x: f64) {
        (self.last, self.last_plain, self.fast, self.level, self.plain_level) = (x, x, x, x, x);
    }

    /// Smallest scale that means anything for a series of this magnitude.
    fn floor(&self, x: f64) -> f64 {
        self.params.floor * self.level.abs().max(self.plain_level.abs()).min(x.abs().max(self.level.abs()))
    }

    /// The experts' mean, weighted by the fourth power of their precision.
    fn mix(&self, experts: &[f64; EXPERTS]) -> f64 {
        let best = self.errors.iter().copied().fold(f64::INFINITY, f64::min) + f64::MIN_POSITIVE;
        let (mut sum, mut total) = (0.0, 0.0);
        for (value, error) in experts.iter().zip(&self.errors) {
            let precision = best / (error + f64::MIN_POSITIVE);
            let weight = (precision * precision) * (precision * precision);
            sum += weight * value;
            total += weight;
        }
        sum / total
    }

    /// Strength of the four kinds of evidence, in scales.
    fn evidence(&mut self, residual: f64, deviation: f64) -> [f64; 4] {
        let clipped = deviation.clamp(-2.0 * CLIP, 2.0 * CLIP);
        // a departure that is over is forgotten faster than it was believed
        self.now += self.rates.quick * (clipped - self.now);
        let over = |recent: f64, mean: f64| if recent.abs() < 0.5 * mean.abs() { 4.0 } else { 1.0 };
        self.short += (self.rates.short * over(self.now, self.short)).min(0.5) * (clipped - self.short);
        self.long += (self.rates.long * over(self.short, self.long)).min(0.5) * (self.short - self.long);
        let wide = residual.min(2.0 * CLIP);
        self.noise += self.rates.short * 0.5 * (wide - self.noise);
        let point = (residual * deviation.abs()).sqrt(); // unlike the level and unlike what was to come
        [point, 2.0 * self.short.abs(), 4.0 * self.long.abs(), 3.0 * (self.noise - 1.0).max(0.0)]
    }

    /// The strongest evidence and its surprise, paid for the number of kinds.
    fn judge(&mut self, evidence: &[f64; 4], x: f64) -> (f64, Kind) {
        const KINDS: [Kind; 4] = [Kind::Spike, Kind::LevelShift, Kind::Drift, Kind::Variance];
        let stuck = self.stuck.observe(x == self.last_plain, self.rates.keep_history);
        let mut best = (stuck - HANDICAP[4], Kind::Stuck);
        for (k, kind) in KINDS.into_iter().enumerate() {
            let surprise = self.tails[k].surprise(evidence[k]) - HANDICAP[k];
            if surprise > best.0 {
                best = (surprise, kind);
            }
        }
        ((best.0 - PAID).max(0.0), best.1)
    }

    /// How far a sample is learnt as normal, in `0.0..=1.0`.
    fn trust(&self, surprise: f64) -> f64 {
        if self.seen <= self.params.warmup {
            return 1.0;
        }
        let doubt = surprise / self.params.doubt;
        1.0 / (1.0 + doubt * doubt * doubt * doubt)
    }

    /// Holds the continuation of a known departure down, so that an onset stands above it: of what goes on, the sample
    /// itself counts in part, the echo in the means hardly.
    fn temper(&mut self, point: f64, raw: f64) -> f64 {
        let onset = raw > self.heat + NEWS;
        self.heat = (self.heat * (1.0 - 0.5 * self.rates.memory)).max(raw);
        if onset { raw } else { raw.min(KNOWN + 0.05 * raw).max(point.min(KNOWN + 0.3 * point)) }
    }

    fn learn_tails(&mut self, evidence: &[f64; 4], raw: f64) {
        let once =
            if raw > self.params.doubt { 1.0 / (1.0 + self.abnormal_for / self.rates.interval) } else { 1.0 } as f32;
        let weights =
            [once, once * self.rates.short_weight, once * self.rates.long_weight, once * self.rates.short_weight];
        for ((tail, strength), weight) in self.tails.iter_mut().zip(evidence).zip(weights) {
            tail.learn(*strength, weight, self.rates.keep_history);
        }
    }

    fn learn(&mut self, at: Timestamp, x: f64, y: f64, experts: &[f64; EXPERTS], expected: f64, trust: f64) {
        let young = 1.0 / f64::from(self.seen);
        let rate = trust * self.rates.memory.max(young);
        let limit = CLIP * self.spread.max(self.floor(x)) * if self.seen < self.params.warmup { 10.0 } else { 1.0 };
        let off = (y - self.level).clamp(-limit, limit);
        for (error, expert) in self.errors.iter_mut().zip(experts) {
            *error += rate * (clip_error(y - expert, self.scale, self.seen) - *error);
        }
        self.scale += rate * (TO_SIGMA * clip_error(y - expected, self.scale, self.seen) - self.scale);
        self.spread += rate * (TO_SIGMA * clip_error(y - self.level, self.spread, self.seen) - self.spread);
        self.level += rate * if self.seen < self.params.warmup { y - self.level } else { off };
        self.plain_level += rate * (x - self.plain_level);
        self.fast += self.rates.quick.max(young) * (y - self.fast);
        self.last = y;
        self.last_plain = x;
        self.learn_season(at, x, y, off, trust, rate);
    }

    fn learn_season(&mut self, at: Timestamp, x: f64, y: f64, off: f64, trust: f64, rate: f64) {
        self.errors_season += rate * ((y - self.level).abs() - self.errors_season);
        self.errors_plain += rate * ((x - self.plain_level).abs() - self.errors_plain);
        for profile in &mut self.seasons {
            profile.learn(at, off, self.rates.dt, trust);
        }
        if let Some(found) = self.finder.observe(at, y, self.pace.interval()) {
            self.adopt(found);
        }
    }

    /// Takes a season that was found in what the present ones leave.
    fn adopt(&mut self, found: Profile) {
        if self.seasons.iter().any(|s| (s.period / found.period - 1.0).abs() < 0.05) || self.seasons.len() >= 2 {
            return;
        }
        self.seasons.push(found);
    }

    /// A departure that lasts is the new normal.
    fn accept(&mut self, raw: f64, y: f64) {
        if raw > self.params.doubt && self.seen > self.params.warmup {
            self.abnormal_for += self.rates.dt;
        } else {
            self.abnormal_for *= 1.0 - self.rates.short;
        }
        if self.abnormal_for > self.params.acceptance.seconds(self.rates.interval) {
            self.level = 0.5 * (self.fast + y);
            (self.short, self.long, self.noise) = (0.0, 0.0, 1.0);
            self.scale = self.scale.max(self.errors[0]);
            self.abnormal_for = 0.0;
        }
    }
}

fn clip_error(error: f64, scale: f64, seen: u32) -> f64 {
    if seen < 20 || scale <= 0.0 { error.abs() } else { error.abs().min(CLIP * scale) }
}
