//! The detector that watches one series.

use std::collections::HashSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::clusters::Clusters;
use super::departure::Departure;
use super::habits::Habits;
use super::pace::Pace;
use super::params::Params;
use super::recent::Recent;
use super::run::Runs;
use super::season::{Finder, Profile};
use super::tail::Tail;
use super::{Detector, Kind, Maturity, Score, Why};
use crate::series::Timestamp;

const EXPERTS: usize = 4;
/// Mean absolute deviation to standard deviation, for a Gaussian.
const TO_SIGMA: f64 = 1.2533;
/// Deviations count at most so many scales when levels and scales learn from them.
const CLIP: f64 = 3.5;
/// Share of the forecast's own error that the spread about the level is at least.
const LEAST_SPREAD: f64 = 0.5;
/// Evidence in scales beyond which nothing more is said.
const STRONGEST: f64 = 1e12;
/// Values beyond this are gaps: single precision holds their sums, and nothing measured is larger.
const LARGEST: f64 = 1e30;
/// Samples that the shortest mean of deviations spans; the longest spans a seventh of the memory.
const SHORTEST_SPAN: f64 = 8.0;
const SPANS_PER_MEMORY: f64 = 7.0;
/// Spread of means over a span, from that of means over a shorter one, before any was seen: this power of their ratio.
/// Independent deviations would have a half, a random walk less than nothing.
const SHRINKS: f64 = 0.25;
/// Decades by which the strongest kind of evidence pays for the choice.
const PAID: f64 = 0.7;
/// Decades by which means and spreads stand back behind the sample itself, and by which runs do.
const BEHIND: f64 = 1.0;
const RUNS_BEHIND: f64 = 1.5;
/// Share of the decades of a span that its mean is given: evidence over a hundred samples comes in a hundredth as many
/// alarms as evidence of single ones.
const RARITY: f64 = 0.75;
/// Share by which a sample must exceed what was told lately to be news, and the most decades this comes to.
const NEWS: f64 = 0.18;
const MOST_NEWS: f64 = 0.5;
/// Decades by which a departure must exceed those that come at the same time of every day to be news.
const NEWS_OF_A_HABIT: f64 = 0.7;
/// Surprise at which the continuation of what is known begins.
const KNOWN: f64 = 1.3;
/// Surprise from which a sample stands out, by so much more among the first samples; the highest place below that; and the
/// distance, in scales, whose place is halfway there from [`KNOWN`].
const BAR: f64 = 1.95;
const YOUNG_BAR: f64 = 2.4;
const YOUNG: u32 = 100;
const BELOW_BAR: f64 = 1.85;
const HALFWAY: f64 = 30.0;
/// Share of what is carried that fades with each sample: what follows a departure stands out a little.
const FADES: f64 = 0.1;
/// Raw surprise from which a kind of departure is named.
const TELLING: f64 = 3.0;
/// Spreads from the level that a sample must lie for means and spreads to be heard: they go on after a departure is over.
const LASTS: f64 = 1.5;
/// Surprise from which samples exceed, where it is counted how many of them come together.
const EXCEEDS: f64 = 1.0;
/// Samples before evidence is learnt: until then there is no scale to measure it by.
const UNSCALED: u32 = 20;
/// Kinds in the order in which they are weighed: runs, the sample, means over three spans, their size.
const KINDS: [Kind; 6] = [Kind::Stuck, Kind::Spike, Kind::LevelShift, Kind::LevelShift, Kind::Drift, Kind::Variance];
/// Place of the first of them that is a mean.
const MEANS: usize = 2;
/// History after which a series without a season is known fully: two days.
const TWO_DAYS: f64 = 2.0 * 86_400.0;
/// History after which a series is scored usefully.
const AN_HOUR: f64 = 3600.0;

/// Streaming detector of one series: fixed memory, one pass, no look-ahead.
///
/// A sample is compared with what its own past makes likely (level, last values and season, mixed by their recent
/// errors); its evidence is turned into a tail probability by its own history. Means of deviations over three spans and
/// of their size over one are judged against earlier such means; runs of repeated values and of gaps by the length of
/// earlier runs. The score is the strongest of these, paid for their number.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Univariate {
    params: Params,
    pace: Pace,
    seen: u32,
    age: f64,
    last: f64,
    last_plain: f64,
    fast: f64,
    level: f64,
    errors: [f32; EXPERTS],
    scale: f64,
    recent: Recent,
    tail: Tail,
    clusters: Clusters,
    means: [Departure; 3],
    noise: Departure,
    usual_noise: f32,
    stuck: Runs,
    gaps: Runs,
    finder: Finder,
    seasons: Vec<Profile>,
    abnormal_for: f32,
    /// What was told lately, and what is carried to the samples that follow.
    told: f32,
    carried: f32,
    habits: Habits,
    /// Surprise of each kind at the last sample, in the order of [`KINDS`].
    weighed: [f32; KINDS.len()],
    rates: Rates,
}

/// Shares by which memories move for one sample, kept while the distance between samples stays the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Rates {
    dt: f64,
    interval: f64,
    memory: f32,
    quick: f32,
    keep_history: f32,
    spans: [Spans; 3],
}

/// A span of means: its length in samples, the share of a sample, how means age, how their spread shrinks from the
/// shorter span's, and the decades its rarity is given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Spans {
    samples: f32,
    share: f32,
    keep: f32,
    shrinks: f32,
    rarity: f32,
}

/// What a sample says before it is learnt.
#[derive(Clone, Copy, Debug)]
struct Evidence {
    /// Unlike the level and unlike what was to come: the geometric mean of both, in scales.
    point: f64,
    /// Distance from what was to come, in scales.
    residual: f64,
    /// Distance from the level, in spreads, signed; no more than it is without the seasons not yet proven.
    deviation: f64,
}

/// What a sample and the spans behind it come to.
#[derive(Clone, Copy, Debug)]
struct Verdict {
    /// Surprise of the strongest kind, paid for the choice.
    surprise: f64,
    kind: Kind,
    /// The same with means that are not heard, as the sample itself lies at the level.
    unheard: f64,
}

impl Rates {
    fn new(dt: f64, interval: f64, params: &Params) -> Self {
        let share = |span: f64| 1.0 - (-dt / span).exp();
        let (memory, history) = (params.memory.seconds(interval), params.history.seconds(interval));
        let longest = memory / interval / SPANS_PER_MEMORY;
        let spans = [SHORTEST_SPAN, (SHORTEST_SPAN * longest).sqrt(), longest];
        let span = |k: usize| Spans {
            samples: spans[k] as f32,
            share: share(0.5 * spans[k] * interval) as f32,
            keep: (-spans[k] * dt / history).exp() as f32,
            shrinks: if k == 0 { spans[0].sqrt().recip() } else { (spans[k - 1] / spans[k]).powf(SHRINKS) } as f32,
            rarity: (RARITY * spans[k].log10()) as f32,
        };
        Self {
            dt,
            interval,
            memory: share(memory) as f32,
            quick: share(3.0 * interval) as f32,
            keep_history: (-dt / history).exp() as f32,
            spans: [0, 1, 2].map(span),
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
            age: 0.0,
            last: 0.0,
            last_plain: 0.0,
            fast: 0.0,
            level: 0.0,
            errors: [0.0; EXPERTS],
            scale: 0.0,
            recent: Recent::default(),
            tail: Tail::default(),
            clusters: Clusters::default(),
            means: Default::default(),
            noise: Departure::default(),
            usual_noise: 1.0,
            stuck: Runs::default(),
            gaps: Runs::default(),
            finder: Finder::default(),
            seasons: Vec::new(),
            abnormal_for: 0.0,
            told: 0.0,
            carried: 0.0,
            habits: Habits::default(),
            weighed: [0.0; KINDS.len()],
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
        self.age += dt;
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

    /// How much the scores may be relied on.
    #[must_use]
    pub fn maturity(&self) -> Maturity {
        let proven = self.seasons.iter().all(Profile::is_proven) && self.age >= TWO_DAYS;
        match self.age >= AN_HOUR && self.seen > self.params.warmup {
            true if proven => Maturity::Full,
            true => Maturity::Useful,
            false => Maturity::Learning,
        }
    }

    /// What the last sample was measured by, and how surprising each kind of departure was.
    #[must_use]
    pub fn why(&self) -> Why {
        let mut kinds: Vec<(Kind, f64)> =
            KINDS.into_iter().zip(self.weighed.iter().map(|told| f64::from(*told).max(0.0))).collect();
        kinds.sort_by(|a, b| b.1.total_cmp(&a.1));
        let mut named = HashSet::new();
        kinds.retain(|(kind, _)| named.insert(*kind)); // of both spans of level shifts the stronger
        Why {
            level: self.level,
            spread: self.recent.spread(),
            error: self.scale,
            seasons: self.seasons().collect(),
            maturity: self.maturity(),
            kinds,
        }
    }

    /// Periods of the seasons that are taken away now.
    pub fn seasons(&self) -> impl Iterator<Item = Duration> {
        self.seasons.iter().map(|season| Duration::from_secs_f64(season.period.clamp(0.0, 1e9)))
    }

    fn gap(&mut self) -> Score {
        let surprise = self.gaps.observe(true, self.rates.keep_history);
        if self.seen < self.params.warmup {
            return Score::NONE;
        }
        let kind = (surprise > TELLING).then_some(Kind::Missing);
        Score { surprise: self.place(surprise.max(0.0), 0.0), expected: self.level, kind }
    }

    fn value(&mut self, at: Timestamp, x: f64) -> Score {
        self.gaps.observe(false, self.rates.keep_history);
        self.seen = self.seen.saturating_add(1);
        if self.seen == 1 {
            self.start(x);
            return Score::NONE;
        }
        let (mut season, mut unproven) = (0.0, 0.0);
        for profile in &self.seasons {
            let part = profile.at(at);
            season += part;
            unproven += if profile.is_proven() { 0.0 } else { part };
        }
        let y = x - season;
        let experts = [self.last, self.fast, self.level, self.last_plain - season];
        let expected = self.mix(&experts);
        let usual = self.level;
        let evidence = self.evidence(x, season, unproven, expected);
        let Verdict { surprise: raw, kind, unheard } = self.judge(&evidence, x);
        let point = self.tail.surprise(evidence.point);
        let surprise = self.temper(raw);
        let surprise = if self.is_habit(at, raw) { known(raw) } else { surprise };
        self.learn_tail(evidence.point, point);
        self.learn(at, x, y, &experts, expected, self.trust(unheard));
        self.accept(unheard);
        if self.seen <= self.params.warmup {
            return Score { expected: f64::NAN, ..Score::NONE };
        }
        let carried = (f64::from(self.carried) * (1.0 - FADES)).max(raw);
        self.carried = carried as f32;
        let surprise = surprise.max(carried.min(KNOWN + 0.01 * carried));
        let kind = (raw >= TELLING).then_some(kind);
        let usual = if matches!(kind, Some(Kind::LevelShift | Kind::Drift)) { usual } else { expected };
        Score { surprise: self.place(surprise, evidence.distance()), expected: usual + season, kind }
    }

    /// Where a sample of this surprise stands that lies so many scales off. One that stands out keeps its surprise. What is
    /// strange to some degree but below the bar, nearly all of it known by now, stands in the order of distances, which
    /// learn nothing: the second departure of a kind above a lesser first one.
    fn place(&self, surprise: f64, distance: f64) -> f64 {
        let bar = if self.seen <= YOUNG { YOUNG_BAR } else { BAR };
        if !(KNOWN..bar).contains(&surprise) {
            return surprise;
        }
        KNOWN + (BELOW_BAR - KNOWN) * distance / (distance + HALFWAY)
    }

    fn start(&mut self, x: f64) {
        (self.last, self.last_plain, self.fast, self.level) = (x, x, x, x);
        self.recent.observe(x, 1.0, 1.0);
    }

    /// The experts' mean, weighted by the fourth power of their precision.
    fn mix(&self, experts: &[f64; EXPERTS]) -> f64 {
        let best = f64::from(self.errors.iter().copied().fold(f32::INFINITY, f32::min)) + f64::MIN_POSITIVE;
        let (mut sum, mut total) = (0.0, 0.0);
        for (value, error) in experts.iter().zip(&self.errors) {
            let precision = best / (f64::from(*error) + f64::MIN_POSITIVE);
            let weight = (precision * precision) * (precision * precision);
            sum += weight * value;
            total += weight;
        }
        sum / total
    }

    fn evidence(&self, x: f64, season: f64, unproven: f64, expected: f64) -> Evidence {
        let residual = ((x - season - expected).abs() / (self.scale + self.floor(x, season))).min(STRONGEST);
        let deviation = self.deviation(x, season);
        let point = (residual * deviation.abs().min(STRONGEST)).sqrt();
        let plain = if unproven == 0.0 { deviation } else { self.deviation(x, season - unproven) };
        Evidence { point, residual, deviation: excused(deviation, plain) }
    }

    /// Distance from the level and this season, in spreads, signed.
    fn deviation(&self, x: f64, season: f64) -> f64 {
        let spread = self.recent.spread().max(LEAST_SPREAD * self.scale);
        (x - season - self.level) / (spread + self.floor(x, season))
    }

    /// What is added to scales: the steadier a series has proved, the smaller the moves that count.
    fn floor(&self, x: f64, season: f64) -> f64 {
        let magnitude = (self.level + season).abs().min(x.abs().max(self.level.abs()));
        let steady = (1.0 + f64::from(self.seen) / f64::from(self.params.memory.samples.max(1))).sqrt().sqrt();
        self.params.floor / steady * magnitude + f64::MIN_POSITIVE
    }

    /// The strongest evidence, paid for the number of kinds.
    fn judge(&mut self, evidence: &Evidence, x: f64) -> Verdict {
        let stuck = self.stuck.observe(x == self.last_plain, self.rates.keep_history) - RUNS_BEHIND;
        let [short, middle, long] = self.weigh_means(evidence.deviation.clamp(-2.0 * CLIP, 2.0 * CLIP));
        let noise = self.weigh_noise(evidence.residual.min(2.0 * CLIP));
        let mut told =
            [stuck, self.tail.surprise(evidence.point), short, middle, long, noise].map(|surprise| surprise - PAID);
        let unheard = told.into_iter().fold(0.0, f64::max);
        if evidence.deviation.abs() < LASTS {
            told[MEANS..].iter_mut().for_each(|mean| *mean = mean.min(KNOWN));
        }
        self.weighed = told.map(|told| told as f32);
        let strongest = (0..told.len()).max_by(|a, b| told[*a].total_cmp(&told[*b])).unwrap_or(0);
        Verdict { surprise: told[strongest].max(0.0), kind: KINDS[strongest], unheard }
    }

    fn weigh_means(&mut self, deviation: f64) -> [f64; 3] {
        let mut least = 1.0;
        std::array::from_fn(|k| {
            let (mean, span) = (&mut self.means[k], &self.rates.spans[k]);
            least *= span.shrinks;
            mean.observe(deviation, f64::from(span.share), span.samples, span.keep, least);
            let told = mean.surprise(true, least);
            least = mean.spread(least);
            rare(told, span)
        })
    }

    fn weigh_noise(&mut self, size: f64) -> f64 {
        let (off, span) = (size - f64::from(self.usual_noise), &self.rates.spans[1]);
        self.usual_noise += self.rates.memory.max((self.seen as f32).recip()) * off.clamp(-2.0, 2.0) as f32;
        let least = 0.75 / span.samples.sqrt();
        self.noise.observe(off, f64::from(span.share), span.samples, span.keep, least);
        rare(self.noise.surprise(false, least), span)
    }

    /// How far a sample is learnt as normal, in `0.0..=1.0`.
    fn trust(&self, surprise: f64) -> f64 {
        if self.seen <= self.params.warmup {
            return 1.0;
        }
        let doubt = surprise / self.params.doubt;
        1.0 / (1.0 + doubt * doubt * doubt * doubt)
    }

    /// Holds the continuation of a known departure down, so that an onset stands above it.
    fn temper(&mut self, raw: f64) -> f64 {
        let before = f64::from(self.told);
        let news = raw > before + (NEWS * before).min(MOST_NEWS);
        let told = if news { raw } else { known(raw) };
        self.told = (before * (1.0 - 0.5 * f64::from(self.rates.memory))).max(told) as f32;
        told
    }

    /// Whether a departure as strong comes at this time of every day; it is remembered as one that did.
    fn is_habit(&mut self, at: Timestamp, raw: f64) -> bool {
        if raw <= KNOWN || self.seen <= self.params.warmup {
            return false;
        }
        let usual = self.habits.strength(at);
        self.habits.note(at, raw, self.rates.interval);
        raw <= usual + NEWS_OF_A_HABIT
    }

    /// What comes together is learnt as one observation, extremes and all: a tail without its extremes promises too much.
    fn learn_tail(&mut self, point: f64, surprise: f64) {
        if self.seen <= UNSCALED {
            return;
        }
        let keep = self.rates.keep_history;
        let weight = self.clusters.observe(surprise > EXCEEDS, keep);
        self.tail.learn(point, weight, keep);
    }

    fn learn(&mut self, at: Timestamp, x: f64, y: f64, experts: &[f64; EXPERTS], expected: f64, trust: f64) {
        let young = f64::from(self.seen).recip();
        let rate = trust * f64::from(self.rates.memory).max(young);
        for (error, expert) in self.errors.iter_mut().zip(experts) {
            *error += (rate * (clip_error(y - expert, self.scale, self.seen) - f64::from(*error))) as f32;
        }
        self.scale += rate * (TO_SIGMA * clip_error(y - expected, self.scale, self.seen) - self.scale);
        if trust > 0.5 {
            self.recent.observe(y, self.rates.dt, self.params.memory.seconds(self.rates.interval));
        }
        let limit = CLIP * self.recent.spread().max(self.scale);
        let warm = self.seen >= self.params.warmup;
        self.level += rate * if warm { (y - self.level).clamp(-limit, limit) } else { y - self.level };
        self.fast += f64::from(self.rates.quick).max(young) * (y - self.fast);
        (self.last, self.last_plain) = (y, x);
        self.learn_season(at, y, limit, trust);
    }

    fn learn_season(&mut self, at: Timestamp, y: f64, limit: f64, trust: f64) {
        let off = y - self.level;
        for profile in &mut self.seasons {
            profile.learn(at, off, limit, self.rates.dt, trust);
        }
        self.seasons.retain(|season| !season.has_faded());
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
    fn accept(&mut self, raw: f64) {
        if raw > self.params.doubt && self.seen > self.params.warmup {
            self.abnormal_for += self.rates.dt as f32;
        } else {
            self.abnormal_for *= 1.0 - self.rates.spans[0].share;
        }
        if f64::from(self.abnormal_for) > self.params.acceptance.seconds(self.rates.interval) {
            self.level = self.fast;
            self.recent = Recent::default();
            self.recent.observe(self.fast, 1.0, 1.0);
            self.means.iter_mut().for_each(Departure::settle);
            self.noise.settle();
            self.scale = self.scale.max(f64::from(self.errors[0]));
            self.abnormal_for = 0.0;
        }
    }
}

impl Evidence {
    /// Both distances as the legs of one.
    fn distance(&self) -> f64 {
        self.residual.hypot(self.deviation).min(STRONGEST)
    }
}

/// What is left of the surprise of a departure that is known.
fn known(raw: f64) -> f64 {
    raw.min(KNOWN + 0.05 * raw)
}

/// A deviation from a season that is not proven accuses a sample of no more than the `plain` one without that season.
fn excused(deviation: f64, plain: f64) -> f64 {
    match plain.abs() < deviation.abs() {
        true if plain * deviation < 0.0 => 0.0,
        true => plain,
        false => deviation,
    }
}

/// Means are rarer than samples, by their span; small surprises are not lifted by that.
fn rare(told: f64, span: &Spans) -> f64 {
    told - BEHIND + f64::from(span.rarity) * (told / 2.0).min(1.0)
}

fn clip_error(error: f64, scale: f64, seen: u32) -> f64 {
    if seen < 20 || scale <= 0.0 { error.abs() } else { error.abs().min(CLIP * scale) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::synthetic::Noise;

    /// A detector that has seen so many minutes of noise.
    fn after(minutes: i64) -> (Univariate, Noise) {
        let (mut detector, mut noise) = (Univariate::default(), Noise::new(5));
        for minute in 0..minutes {
            detector.observe(Timestamp::from_secs(60 * minute), noise.gaussian());
        }
        (detector, noise)
    }

    #[test]
    fn below_the_bar_samples_stand_by_distance_and_above_it_by_surprise() {
        let (detector, _) = after(200);
        assert!(detector.place(1.4, 40.0) > detector.place(1.85, 10.0));
        assert!(detector.place(1.85, STRONGEST) < BAR);
        assert_eq!([0.7, 1.2, 2.0, 6.0].map(|surprise| detector.place(surprise, 40.0)), [0.7, 1.2, 2.0, 6.0]);
        let (young, _) = after(60);
        assert!(young.place(2.2, 5.0) < BAR);
    }

    #[test]
    fn means_are_not_heard_once_the_sample_is_back_at_the_level() {
        let (mut detector, _) = after(3000);
        let mut strongest = |minute: i64, value: f64| {
            detector.observe(Timestamp::from_secs(60 * minute), value);
            detector.why().kinds[0].1
        };
        let shifted = (3000..3012).map(|minute| strongest(minute, 5.0)).fold(0.0, f64::max);
        let back = strongest(3012, 0.0);
        assert!(shifted > 4.0 && back < BAR, "{shifted} {back}");
    }

    #[test]
    fn a_season_not_yet_proven_excuses_and_does_not_accuse() {
        let cases = [(-5.0, 1.0), (-5.0, -2.0), (5.0, 3.0), (1.0, 4.0), (1.0, -4.0)];
        assert_eq!(cases.map(|(deviation, plain)| excused(deviation, plain)), [0.0, -2.0, 3.0, 1.0, 1.0]);
    }
}
