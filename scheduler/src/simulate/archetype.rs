//! What kind of demand a trace is, by a stated rule: policies that shine on one kind may fail on another.
//!
//! All is measured on means over [`BLOCK`] (or the trace's own step, if coarser), on the past and the future alike: this
//! names a trace in a report, nobody decides by it.

use std::time::Duration;

use bellwether_models::series::Window;
use serde::{Deserialize, Serialize};

const DAY: Duration = Duration::from_secs(86_400);
const BLOCK: Duration = Duration::from_secs(900);
/// Share of a variance above which something is said to explain it.
const EXPLAINS: f64 = 0.5;
/// Days below which nothing is said of days.
const FEWEST_DAYS: usize = 4;

/// A kind of demand; a trace may be of several.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Archetype {
    /// The mean of the other days explains at least half of the variance within days.
    Periodic,
    /// A straight line explains at least half of the variance of daily means, and more than one step does; over the trace it
    /// rises or falls by at least a quarter of the mean.
    Ramp,
    /// One step, a day or more from either end, explains at least half of the variance of daily means, and more than a line
    /// does; it is at least a quarter of the mean.
    LevelShift,
    /// The greatest point is at least three times the 99th percentile of the points.
    Spike,
    /// Without the mean of the other days and the day's own level, the standard deviation is still at least half of the mean.
    Bursty,
    /// Half an hour or more without data, or with less than a twentieth of the median where a quarter of it stood before.
    OutageGaps,
}

impl Archetype {
    /// Its name in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Periodic => "periodic",
            Self::Ramp => "ramp",
            Self::LevelShift => "level_shift",
            Self::Spike => "spike",
            Self::Bursty => "bursty",
            Self::OutageGaps => "outage_gaps",
        }
    }

    /// The rule that makes a trace of this kind.
    #[must_use]
    pub fn rule(self) -> &'static str {
        match self {
            Self::Periodic => "the mean of the other days explains at least half of the variance within days",
            Self::Ramp => {
                "a line explains most of the variance of daily means and moves by at least a quarter of the mean"
            }
            Self::LevelShift => {
                "a step explains most of the variance of daily means and is at least a quarter of the mean"
            }
            Self::Spike => "the greatest point is at least three times the 99th percentile",
            Self::Bursty => "what the day's level and shape leave over deviates by at least half of the mean",
            Self::OutageGaps => "half an hour or more without data or with next to no demand",
        }
    }

    /// The kinds of demand that `demand` is, in the order of their declaration; none for a steady one.
    #[must_use]
    pub fn of(demand: &Window) -> Vec<Self> {
        let days = Days::of(demand);
        let (line, step) = (days.line(), days.step());
        let kinds = [
            (Self::Periodic, days.explained_by_other_days() >= EXPLAINS),
            (Self::Ramp, line >= EXPLAINS && line > step && days.rise() >= 0.25),
            (Self::LevelShift, step >= EXPLAINS && step >= line && days.jump() >= 0.25),
            (Self::Spike, has_spike(&demand.values)),
            (Self::Bursty, days.unexplained() >= 0.5),
            (Self::OutageGaps, has_outage(demand)),
        ];
        kinds.into_iter().filter_map(|(kind, is)| is.then_some(kind)).collect()
    }
}

/// Whole days of block means; unknown blocks are NaN.
struct Days {
    rows: Vec<Vec<f64>>,
    means: Vec<f64>,
    mean: f64,
}

impl Days {
    fn of(demand: &Window) -> Self {
        let step = demand.step.times(1).as_millis().max(1);
        let size = (BLOCK.as_millis() / step).max(1) as usize;
        let blocks: Vec<f64> = demand.values.chunks(size).map(|c| mean(c.iter().copied())).collect();
        let per_day = (DAY.as_millis() / (step * size as u128)).max(1) as usize;
        let whole = |row: &[f64]| row.iter().filter(|v| v.is_finite()).count() * 2 >= per_day;
        let rows: Vec<Vec<f64>> = blocks.chunks_exact(per_day).filter(|row| whole(row)).map(<[f64]>::to_vec).collect();
        let means: Vec<f64> = rows.iter().map(|row| mean(row.iter().copied())).collect();
        let mean = mean(means.iter().copied());
        Self { rows, means, mean }
    }

    fn enough(&self) -> bool {
        self.rows.len() >= FEWEST_DAYS && self.mean > 0.0
    }

    /// Deviations from the level of the day, growth from day to day aside, and what is left of them without the mean of the
    /// other days.
    fn deviations(&self) -> Vec<(f64, f64)> {
        let places = self.rows.first().map_or(0, Vec::len);
        let growth = self.growth() / places.max(1) as f64;
        let grown = |place: usize| growth * (place as f64 - (places as f64 - 1.0) / 2.0);
        let within = |day: usize, place: usize| self.rows[day][place] - self.means[day] - grown(place);
        let mut pairs = Vec::with_capacity(places * self.rows.len());
        for place in 0..places {
            let known: Vec<f64> = (0..self.rows.len()).map(|d| within(d, place)).filter(|v| v.is_finite()).collect();
            let (sum, others) = (known.iter().sum::<f64>(), known.len().saturating_sub(1) as f64);
            pairs.extend(known.iter().filter(|_| others > 0.0).map(|v| (*v, v - (sum - v) / others)));
        }
        pairs
    }

    /// What most days bring more than the day before.
    fn growth(&self) -> f64 {
        let steps = sorted(&self.means.windows(2).map(|pair| pair[1] - pair[0]).collect::<Vec<_>>());
        steps.get(steps.len() / 2).copied().unwrap_or(0.0)
    }

    fn explained_by_other_days(&self) -> f64 {
        if !self.enough() {
            return 0.0;
        }
        let (all, left) = self.deviations().iter().fold((0.0, 0.0), |(a, l), (v, r)| (a + v * v, l + r * r));
        if all > 0.0 { 1.0 - left / all } else { 0.0 }
    }

    /// Standard deviation of what nothing explains, as a share of the mean.
    fn unexplained(&self) -> f64 {
        if !self.enough() {
            return 0.0;
        }
        mean(self.deviations().iter().map(|(_, rest)| rest * rest)).sqrt() / self.mean
    }

    /// Share of the variance of daily means that a straight line explains.
    fn line(&self) -> f64 {
        let Some(slope) = self.slope() else { return 0.0 };
        let middle = (self.means.len() - 1) as f64 / 2.0;
        let along = |i: usize| slope * (i as f64 - middle);
        let explained: f64 = (0..self.means.len()).map(|i| along(i).powi(2)).sum();
        explained / self.spread().max(f64::MIN_POSITIVE)
    }

    /// Slope of the straight line through the daily means, per day.
    fn slope(&self) -> Option<f64> {
        let middle = (self.means.len().checked_sub(1)?) as f64 / 2.0;
        let centred = || (0..self.means.len()).map(move |i| i as f64 - middle);
        let square: f64 = centred().map(|x| x * x).sum();
        let product: f64 = centred().zip(&self.means).map(|(x, y)| x * (y - self.mean)).sum();
        (self.enough() && square > 0.0).then(|| product / square)
    }

    /// How far the straight line goes from end to end, as a share of the mean.
    fn rise(&self) -> f64 {
        self.slope().map_or(0.0, |slope| (slope * (self.means.len() - 1) as f64).abs() / self.mean)
    }

    /// Share of the variance of daily means that the best single step explains.
    fn step(&self) -> f64 {
        self.best_step().map_or(0.0, |(explained, _)| explained / self.spread().max(f64::MIN_POSITIVE))
    }

    /// Its height, as a share of the mean.
    fn jump(&self) -> f64 {
        self.best_step().map_or(0.0, |(_, height)| height / self.mean)
    }

    fn best_step(&self) -> Option<(f64, f64)> {
        let n = self.means.len();
        let at = |split: usize| {
            let (before, after) = self.means.split_at(split);
            let height = (mean(after.iter().copied()) - mean(before.iter().copied())).abs();
            (height * height * (split * (n - split)) as f64 / n as f64, height)
        };
        self.enough().then(|| (1..n).map(at).max_by(|a, b| a.0.total_cmp(&b.0))).flatten()
    }

    fn spread(&self) -> f64 {
        self.means.iter().map(|m| (m - self.mean).powi(2)).sum()
    }
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = values.filter(|v| v.is_finite()).fold((0.0, 0.0), |(s, n), v| (s + v, n + 1.0));
    sum / count // NaN without any
}

fn has_spike(values: &[f64]) -> bool {
    let known = sorted(values);
    let most = known.last().copied().unwrap_or(0.0);
    most > 0.0 && most >= 3.0 * known[known.len() * 99 / 100]
}

fn has_outage(demand: &Window) -> bool {
    let known = sorted(&demand.values);
    let Some(median) = known.get(known.len() / 2).copied().filter(|m| *m > 0.0) else { return false };
    let long = (1_800_000 / demand.step.times(1).as_millis().max(1)).max(1) as usize;
    let (mut before, mut run) = (f64::INFINITY, 0);
    for value in &demand.values {
        if value.is_finite() && *value >= median / 20.0 {
            (before, run) = (*value, 0);
            continue;
        }
        run += 1;
        if run >= long && before >= median / 4.0 {
            return true;
        }
    }
    false
}

fn sorted(values: &[f64]) -> Vec<f64> {
    let mut known: Vec<f64> = values.iter().copied().filter(|v| v.is_finite()).collect();
    known.sort_by(f64::total_cmp);
    known
}

#[cfg(test)]
mod tests {
    use bellwether_models::series::{Step, Timestamp};

    use super::*;

    /// Ten days at five minutes.
    fn ten_days(value: impl Fn(usize, f64) -> f64) -> Window {
        let noise = |i: usize| (i * 7919 % 101) as f64 / 50.0 - 1.0;
        let values = (0..2880).map(|i| value(i, noise(i))).collect();
        Window { start: Timestamp::from_secs(0), step: Step::from_secs(300), values }
    }

    fn wave(i: usize) -> f64 {
        (i as f64 / 288.0 * std::f64::consts::TAU).sin()
    }

    #[test]
    fn each_kind_is_known_by_what_makes_it() {
        use Archetype::{Bursty, LevelShift, OutageGaps, Periodic, Ramp, Spike};
        let cases: [(&str, Window, &[Archetype]); 8] = [
            ("steady", ten_days(|_, noise| 100.0 + noise), &[]),
            ("daily", ten_days(|i, noise| 100.0 + 50.0 * wave(i) + noise), &[Periodic]),
            ("growing", ten_days(|i, noise| 50.0 + i as f64 / 28.8 + noise), &[Ramp]),
            ("moved", ten_days(|i, noise| if i < 1600 { 50.0 } else { 100.0 } + noise), &[LevelShift]),
            (
                "daily and moved",
                ten_days(|i, n| if i < 1600 { 60.0 } else { 120.0 } + 30.0 * wave(i) + n),
                &[Periodic, LevelShift],
            ),
            ("spiked", ten_days(|i, noise| if i == 1700 { 1000.0 } else { 100.0 } + noise), &[Spike]),
            ("in bursts", ten_days(|i, _| if i / 9 * 7919 % 10 < 4 { 100.0 } else { 10.0 }), &[Bursty]),
            (
                "out for an hour",
                ten_days(|i, noise| if (500..512).contains(&i) { 0.0 } else { 100.0 + noise }),
                &[OutageGaps],
            ),
        ];
        for (name, demand, kinds) in cases {
            assert_eq!(Archetype::of(&demand), kinds, "{name}");
        }
    }

    #[test]
    fn missing_data_is_an_outage_and_nothing_at_all_is_of_no_kind() {
        let gap = ten_days(|i, noise| if (500..512).contains(&i) { f64::NAN } else { 100.0 + noise });
        assert_eq!(Archetype::of(&gap), [Archetype::OutageGaps]);
        for nothing in [f64::NAN, 0.0] {
            assert_eq!(Archetype::of(&ten_days(|_, _| nothing)), []);
        }
        assert_eq!(Archetype::of(&Window { values: vec![], ..ten_days(|_, _| 0.0) }), []);
    }
}
