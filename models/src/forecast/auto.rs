//! The forecaster the running system uses: members weighed by their record on the series' own history.
//!
//! Fitting learns every member on the older part of the history, replays the newer part point by point as if it were
//! live, and only then fits the members anew on everything. The replay gives what no fit can: errors on unseen values.
//! From them come the weights of the members and the intervals of the combination. Live use goes on in the same way.

use serde::{Deserialize, Serialize};

use super::clean::{Fence, fill};
use super::combine::Losses;
use super::extent::{self, Extents};
use super::given::{ArimaOrders, Given};
use super::held::Held;
use super::interval::Errors;
use super::member::{Kind, Member, Role};
use super::point::Path;
use super::range::Range;
use super::reach::Reach;
use super::record::{Issued, Record};
use super::spread::Spread;
use super::upset::settled;
use super::{FitError, Fitted, Forecast, Forecaster, Horizon, Quantile, seasonality};
use crate::outlook::ModelScore;
use crate::series::{Step, Timestamp, Window};

/// Fewest observations a forecast is made of.
const FEWEST: usize = 8;
/// Greatest share of the history that may be missing.
const MOST_GAPS: f64 = 0.5;
/// Most points replayed when fitting.
const MOST_REPLAYED: usize = 576;
/// Errors kept of each step ahead, and which of more.
const ERRORS_KEPT: (usize, usize) = (300, 2);
/// What remains of an error's weight a step later: half is gone after 300.
const MEMORY: f64 = 0.9977;
/// Greatest magnitude that can be squared and summed safely, also in single precision where differences are kept.
const GREATEST: f64 = 1e30;

/// Several methods at once, or one of them calibrated by the same replay.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Combination {
    /// How far ahead the forecasts will look; further is possible, less precisely.
    pub horizon: Horizon,
    /// Periods of the seasons in steps; `None` finds them.
    pub seasons: Option<Vec<usize>>,
    /// The methods taken in.
    pub kinds: Vec<Kind>,
    /// What is done beside; all of it unless one wants to see what a step adds.
    pub steps: Steps,
    /// What members need not find or bring themselves.
    #[serde(default)]
    pub given: Given,
}

/// Steps of a combination that can be left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Steps {
    /// Past outages and levels long left are not learnt from as they were.
    pub settling: bool,
    /// Members are weighed by their record; otherwise all alike.
    pub weighing: bool,
    /// Errors are pooled in units of the width expected at their time; otherwise as they are.
    pub widths: bool,
}

impl Steps {
    /// All of them.
    pub const ALL: Self = Self { settling: true, weighing: true, widths: true };
}

impl Combination {
    /// The methods that gain from each other for `horizon` steps, the seasons found.
    #[must_use]
    pub fn new(horizon: Horizon) -> Self {
        let kinds = Kind::COMBINED.to_vec();
        Self { horizon, seasons: None, kinds, steps: Steps::ALL, given: Given::default() }
    }

    /// Every member there is, ARIMA among them: for the few series on which decisions rest, where a fit may take a
    /// fraction of a second.
    #[must_use]
    pub fn thorough(horizon: Horizon) -> Self {
        Self { kinds: Kind::THOROUGH.to_vec(), ..Self::new(horizon) }
    }

    /// Only the methods that are fitted in a few passes over the history, for where the processor is dear.
    #[must_use]
    pub fn light(horizon: Horizon) -> Self {
        Self { kinds: Kind::LIGHT.to_vec(), ..Self::new(horizon) }
    }

    /// Only one method, with intervals from its own errors.
    #[must_use]
    pub fn only(kind: Kind, horizon: Horizon) -> Self {
        Self { kinds: vec![kind], ..Self::new(horizon) }
    }

    /// With these periods (in steps) instead of those found.
    #[must_use]
    pub fn with_seasons(self, seasons: &[usize]) -> Self {
        Self { seasons: Some(seasons.to_vec()), ..self }
    }

    /// Periods that fit twice into `values`, ascending.
    fn periods(&self, values: &[f64]) -> Vec<usize> {
        let mut periods = self.seasons.clone().unwrap_or_else(|| seasonality::find(values));
        periods.retain(|p| *p >= 2 && *p <= values.len() / 2);
        periods.sort_unstable();
        periods.dedup();
        periods
    }
}

impl Forecaster for Combination {
    type Fitted = Live;

    fn name(&self) -> &'static str {
        match self.kinds.as_slice() {
            [kind] => kind.name(),
            _ => "combination",
        }
    }

    fn fit(&self, history: &Window) -> Result<Live, FitError> {
        check(history)?;
        let periods = self.periods(&history.values);
        let period = periods.first().copied();
        let usual = if self.steps.settling { settled(&history.values, period) } else { history.values.clone() };
        let mut values = fill(&usual, period).ok_or(FitError::TooShort { have: 0, need: FEWEST })?;
        let fence = Fence::around(&values);
        fence.clip(&mut values);
        let known = values.len() - replayed(values.len(), &periods);
        let mut live = Live::start(self, history, periods, values.split_at(known), fence)?;
        live.replay(&values[known..]);
        live.refit(&values);
        live.let_go();
        Ok(live)
    }
}

/// Refuses what no forecast should be made of.
fn check(history: &Window) -> Result<(), FitError> {
    let have = history.values.iter().filter(|v| v.is_finite()).count();
    if have < FEWEST {
        return Err(FitError::TooShort { have, need: FEWEST });
    }
    let first = history.values.iter().position(|v| v.is_finite()).unwrap_or(0);
    let gap_share = 1.0 - have as f64 / (history.len() - first) as f64;
    if gap_share > MOST_GAPS {
        return Err(FitError::TooSparse { gap_share });
    }
    if history.values.iter().any(|v| v.is_finite() && v.abs() > GREATEST) {
        return Err(FitError::NotApplicable { reason: format!("it holds values beyond {GREATEST:e}") });
    }
    let silent = history.values.iter().rev().take_while(|v| !v.is_finite()).count();
    if silent * 4 > history.len() {
        return Err(FitError::NotApplicable { reason: format!("nothing was observed in the last {silent} points") });
    }
    Ok(())
}

/// How many of `n` points are replayed: five of twelve, but two cycles of the longest period that fits are left to learn from.
fn replayed(n: usize, periods: &[usize]) -> usize {
    let part = (5 * n / 12).min(MOST_REPLAYED);
    let cycles = periods.iter().rev().map(|p| 2 * p).find(|two| n - n / 8 >= *two).unwrap_or(0);
    part.min(n - cycles)
}

/// A fitted combination that takes in new points cheaply.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Live {
    periods: Vec<usize>,
    horizon: usize,
    next: Timestamp,
    step: Step,
    /// Newest values, gaps filled; at least `keep`, at most a sixteenth more.
    past: Vec<f64>,
    keep: usize,
    fence: Fence,
    range: Range,
    roles: Vec<Role>,
    members: Vec<Member>,
    /// Steps at which the members' errors are compared.
    probes: Vec<usize>,
    /// First step beyond each band of steps that share their weights.
    bands: Vec<usize>,
    losses: Vec<Losses>,
    /// Shape `[bands][members]`.
    weights: Vec<Vec<f64>>,
    steps: Steps,
    spread: Spread,
    errors: Errors,
    extents: Extents,
    reach: Reach,
    issued: std::collections::VecDeque<Issued>,
    held: Held,
    scores: Vec<ModelScore>,
}

impl Live {
    /// Members fitted on the older values, with no record yet of the newer ones that are to come.
    fn start(
        method: &Combination,
        history: &Window,
        periods: Vec<usize>,
        (values, to_come): (&[f64], &[f64]),
        fence: Fence,
    ) -> Result<Self, FitError> {
        let horizon = method.horizon.steps();
        let fit = |role: Role| role.fit_as(&method.given, values, &periods, horizon).map(|member| (role, member));
        let (roles, members): (Vec<Role>, Vec<Member>) =
            Role::all(&method.kinds, &periods).into_iter().filter_map(fit).unzip();
        if members.is_empty() {
            let reason = "the history holds too few cycles of its seasons for this model".to_owned();
            return Err(FitError::NotApplicable { reason });
        }
        let (probes, held) = (probes(horizon), Held::replay(&members, to_come.len()));
        let mut live = Self {
            horizon,
            next: history.end(),
            step: history.step,
            past: values.to_vec(),
            keep: history.len(),
            fence,
            range: Range::of(values, history.len()),
            steps: method.steps,
            losses: vec![Losses::new(members.len()); bands(horizon).len()],
            weights: vec![vec![1.0 / members.len() as f64; members.len()]; bands(horizon).len()],
            bands: bands(horizon),
            spread: Spread::new(mean_size(values), periods.first().copied().unwrap_or(1)),
            errors: Errors::new(horizon, ERRORS_KEPT, held.every()),
            extents: Extents::new(&quarters(horizon), held.every()),
            reach: Reach::default(),
            issued: std::collections::VecDeque::new(),
            held,
            scores: Vec::new(),
            periods,
            roles,
            members,
            probes,
        };
        live.issue();
        Ok(live)
    }

    /// How the members and the combination did in the replay, best first.
    #[must_use]
    pub fn scores(&self) -> &[ModelScore] {
        &self.scores
    }

    /// Periods in use, in steps, ascending.
    #[must_use]
    pub fn periods(&self) -> &[usize] {
        &self.periods
    }

    /// The share of each member in the forecast, averaged over the horizon.
    #[must_use]
    pub fn shares(&self) -> Vec<(String, f64)> {
        let share = |i: usize| self.weights.iter().map(|w| w[i]).sum::<f64>() / self.weights.len() as f64;
        self.roles.iter().enumerate().map(|(i, role)| (role.label(&self.periods), share(i))).collect()
    }

    /// The orders of its ARIMA, found or given; `None` where it has none.
    #[must_use]
    pub fn arima_orders(&self) -> Option<ArimaOrders> {
        self.members.iter().find_map(Member::arima_orders)
    }

    /// Gives back what is not kept with the model; see [`Given`].
    pub fn give(&mut self, given: &Given) {
        self.members.iter_mut().for_each(|member| member.give(given));
    }

    /// Takes in unseen values one by one and scores every member on them.
    fn replay(&mut self, values: &[f64]) {
        let mut record = Record::new(self.members.len(), &self.probes);
        for value in values {
            self.learn(*value, Some(&mut record));
        }
        self.errors.sort();
        self.extents.sort();
        let names = self.roles.iter().map(|role| role.label(&self.periods)).collect();
        self.scores = record.scores(names, &self.past, self.periods.first().copied().unwrap_or(1));
    }

    /// Fits the members anew on all of `values`; those that now fail stay as they are.
    fn refit(&mut self, values: &[f64]) {
        for (role, member) in self.roles.iter().zip(&mut self.members) {
            if let Some(fresh) = role.refit(member, values, &self.periods, self.horizon) {
                *member = fresh;
            }
        }
        self.issued.pop_back();
        self.held.let_go();
        self.issue();
    }

    /// Compares what was said of `value` with it, then lets every member learn it.
    fn learn(&mut self, value: f64, mut record: Option<&mut Record>) {
        let seen = self.fence.admit(value);
        if record.is_none() {
            self.learn_reach(value);
        }
        for (age, issued) in self.issued.iter().rev().enumerate().filter(|(_, issued)| issued.fresh) {
            let error = (value - issued.combined(age)) / issued.width(age);
            match record {
                Some(_) => self.errors.push_unsorted(age, error),
                None => self.errors.push(age, error),
            }
            let since = &self.past[self.past.len().saturating_sub(age)..];
            self.extents.learn(issued, since.iter().copied().chain([value]), record.is_some());
            if let Some(probe) = self.probes.iter().position(|p| *p == age) {
                let errors: Vec<f64> =
                    issued.of_probe(probe, self.members.len()).map(|expected| seen - expected).collect();
                let band = band(&self.bands, age);
                self.losses[band].add(&errors, MEMORY, self.held.every());
                if let Some(record) = record.as_deref_mut() {
                    record.add(probe, &errors, seen - issued.combined(age));
                }
            }
        }
        let expected = self.issued.back().map(|issued| issued.combined(0));
        self.spread.observe(expected.map(|expected| seen - expected));
        self.advance(seen);
    }

    /// Looks which of the bounds that stood for this moment `value` lies beyond.
    fn learn_reach(&mut self, value: f64) {
        let bounds = self.issued.iter().rev().enumerate().filter_map(|(age, issued)| issued.bounds(age));
        let share = |beyond: fn(f64, (f64, f64)) -> bool| {
            extent::mean(bounds.clone().map(|bounds| f64::from(u8::from(beyond(value, bounds)))))
        };
        if bounds.clone().next().is_some() {
            self.reach.learn((share(|value, (low, _)| value < low), share(|value, (_, high)| value > high)));
        }
    }

    /// Moves one step on, with `seen` as the newest value.
    fn advance(&mut self, seen: f64) {
        self.range.take(seen);
        self.past.push(seen);
        if self.past.len() > self.keep + self.keep / 16 {
            self.past.drain(..self.past.len() - self.keep);
        }
        self.members.iter_mut().for_each(|member| member.observe(&self.past));
        if self.steps.weighing {
            self.weights = self.losses.iter().map(Losses::weights).collect();
        }
        self.issue();
    }

    /// Writes down what is expected now, to be compared with what comes.
    fn issue(&mut self) {
        let (paths, fresh) = self.held.paths(&self.members, &self.past, self.horizon);
        let combined = self.combined(&paths);
        let probes = if fresh { self.probes.as_slice() } else { &[] };
        let members = probes.iter().flat_map(|p| paths.iter().map(|path| path[*p]));
        let widths = self.widths(&combined);
        let newest = self.past.last().copied().unwrap_or(0.0);
        let mut issued = Issued::new(newest, &combined, &widths, members);
        if fresh && !self.errors.is_empty() {
            issued = issued.within(self.bounds(&combined, &widths));
        }
        issued.fresh = fresh;
        if self.issued.len() >= self.horizon {
            self.issued.pop_front();
        }
        self.issued.push_back(issued);
    }

    /// The bounds whose promise is watched.
    fn bounds(&self, centre: &[f64], widths: &[f64]) -> impl Iterator<Item = (f64, f64)> {
        const LEVELS: [Quantile; 2] = [Quantile::STANDARD[0], Quantile::STANDARD[3]];
        let at = |(k, (centre, width)): (usize, (&f64, &f64))| {
            let reached = self.reached(k, &LEVELS);
            (centre + width * reached[0], centre + width * reached[1])
        };
        centre.iter().zip(widths).enumerate().map(at)
    }

    /// Quantiles of the greatest value so far, for each of `levels` and each step; never below those of the step itself
    /// (`by_level`) or of a shorter span.
    fn peaks(&self, centre: &[f64], widths: &[f64], levels: &[Quantile], by_level: &[Vec<f64>]) -> Vec<Vec<f64>> {
        let mut peaks = vec![Vec::with_capacity(centre.len()); levels.len()];
        let (mut highest, mut width) = (f64::NEG_INFINITY, 0.0);
        for (k, (value, here)) in centre.iter().zip(widths).enumerate() {
            (highest, width) = (highest.max(*value), width + here);
            let offsets = self.extents.of_greatest(k + 1, levels);
            for ((peak, offset), path) in peaks.iter_mut().zip(offsets).zip(by_level) {
                let here = self.bounded(highest + self.reach.stretch(offset) * width / (k + 1) as f64);
                peak.push(here.max(path[k]).max(peak.last().copied().unwrap_or(f64::NEG_INFINITY)));
            }
        }
        peaks
    }

    /// Quantiles at `levels` (ascending) of the mean over the first `span` steps; times `span` they are those of the sum.
    #[must_use]
    pub fn mean_over(&self, span: Horizon, levels: &[Quantile]) -> Vec<f64> {
        let steps = span.steps();
        let paths: Vec<Vec<f64>> = self.members.iter().map(|m| m.path(&self.past, steps)).collect();
        let centre = self.combined(&paths);
        let width = extent::mean(self.widths(&centre).into_iter());
        let centre = extent::mean(centre.into_iter());
        let offsets = self.extents.of_mean(steps, levels).into_iter();
        offsets.map(|offset| self.bounded(centre + self.reach.stretch(offset) * width)).collect()
    }

    fn widths(&self, path: &[f64]) -> Vec<f64> {
        if self.steps.widths { self.spread.widths(path) } else { vec![1.0; path.len()] }
    }

    /// Distances of `levels` from the expected value of step `k`, in widths.
    fn reached(&self, k: usize, levels: &[Quantile]) -> Vec<f64> {
        let middle = self.errors.middle(k);
        let offsets = self.errors.offsets(k, levels);
        offsets.into_iter().map(|offset| middle + self.reach.stretch(offset - middle)).collect()
    }

    /// The weighted mean of the members' paths, within reach of what was seen.
    fn combined(&self, paths: &[Vec<f64>]) -> Vec<f64> {
        let steps = paths.first().map_or(0, Vec::len);
        let at = |k: usize| {
            let band = band(&self.bands, k);
            self.bounded(paths.iter().zip(&self.weights[band]).map(|(path, w)| w * path[k]).sum())
        };
        (0..steps).map(at).collect()
    }

    /// `value` brought within one range of the values seen, and not below zero where none was.
    fn bounded(&self, value: f64) -> f64 {
        let Range { least, greatest, .. } = self.range;
        let reach = greatest - least;
        let floor = if least >= 0.0 { 0.0 } else { least - reach };
        value.max(floor).min(greatest + reach)
    }

    /// Keeps no more of the past than what comes will ask for.
    fn let_go(&mut self) {
        self.held = Held::live(&self.members, self.horizon);
        let reach = self.members.iter().map(Path::reach).max().unwrap_or(0);
        self.keep = reach.max(self.horizon) + 1;
        let surplus = self.past.len().saturating_sub(self.keep);
        self.past = self.past.split_off(surplus);
        self.past.reserve_exact(self.keep / 16 + 2);
    }
}

/// Ends of up to four bands of steps, each twice as long as the one before.
fn bands(horizon: usize) -> Vec<usize> {
    let mut ends: Vec<usize> = [8, 4, 2, 1].iter().map(|part| (horizon / part).max(1)).collect();
    ends.dedup();
    ends
}

fn mean_size(values: &[f64]) -> f64 {
    values.iter().map(|v| v.abs()).sum::<f64>() / values.len().max(1) as f64
}

fn band(ends: &[usize], step: usize) -> usize {
    ends.iter().position(|end| step < *end).unwrap_or(ends.len() - 1)
}

/// The last steps of a quarter of the horizon, of the half, of three quarters and of the whole.
fn quarters(horizon: usize) -> Vec<usize> {
    let mut ends: Vec<usize> = (1..=4).map(|i| (i * horizon).div_ceil(4) - 1).collect();
    ends.dedup();
    ends
}

/// At most twelve steps, evenly spread over the horizon, the last among them.
fn probes(horizon: usize) -> Vec<usize> {
    let count = horizon.min(12);
    (1..=count).map(|i| i * horizon / count - 1).collect()
}

impl Fitted for Live {
    fn forecast(&self, horizon: Horizon, quantiles: &[Quantile]) -> Forecast {
        let steps = horizon.steps();
        let paths: Vec<Vec<f64>> = self.members.iter().map(|m| m.path(&self.past, steps)).collect();
        let expected = self.combined(&paths);
        let mut mean = Vec::with_capacity(steps);
        let mut by_level = vec![Vec::with_capacity(steps); quantiles.len()];
        let widths = self.widths(&expected);
        for (k, centre) in expected.iter().enumerate() {
            mean.push(self.bounded(centre + self.errors.middle(k) * widths[k]));
            let offsets = self.reached(k, quantiles);
            by_level
                .iter_mut()
                .zip(offsets)
                .for_each(|(path, offset)| path.push(self.bounded(centre + offset * widths[k])));
        }
        let peaks = self.peaks(&expected, &widths, quantiles, &by_level);
        let levels = quantiles.to_vec();
        Forecast { start: self.next, step: self.step, mean, levels, quantiles: by_level, peaks }
    }

    /// Infinities and values too great to reckon with count as gaps.
    fn update(&mut self, value: f64) {
        self.next = self.next + self.step.times(1);
        if value.abs() <= GREATEST {
            self.learn(value, None);
        } else {
            let expected = self.issued.back().map_or(0.0, |issued| issued.combined(0));
            self.spread.observe(None);
            self.advance(expected);
        }
    }
}

/// What the predictor is told of one workload.
#[derive(Clone, Debug, PartialEq)]
pub struct Foreseen {
    /// The distribution of what comes.
    pub forecast: Forecast,
    /// The method with the greatest share in it.
    pub model: String,
    /// The methods compared, best first.
    pub scores: Vec<ModelScore>,
}

/// Fits a combination of all methods and forecasts at once; keep a [`Live`] instead where points keep coming.
///
/// # Errors
/// [`FitError`] when the history is too short, too sparse or has fallen silent.
pub fn foresee(
    history: &Window,
    seasons: Option<&[usize]>,
    horizon: Horizon,
    quantiles: &[Quantile],
) -> Result<Foreseen, FitError> {
    let method = Combination { seasons: seasons.map(<[usize]>::to_vec), ..Combination::new(horizon) };
    Ok(method.fit(history)?.foresee(horizon, quantiles))
}

impl Live {
    /// The forecast with the names and scores of what made it.
    #[must_use]
    pub fn foresee(&self, horizon: Horizon, quantiles: &[Quantile]) -> Foreseen {
        let (model, scores) = self.judged();
        Foreseen { forecast: self.forecast(horizon, quantiles), model, scores }
    }

    /// The method with the greatest share in the forecast, and the scores of all, best first.
    #[must_use]
    pub fn judged(&self) -> (String, Vec<ModelScore>) {
        let heaviest = self.shares().into_iter().max_by(|a, b| a.1.total_cmp(&b.1));
        (heaviest.map(|(name, _)| name).unwrap_or_default(), self.scores.clone())
    }

    /// Time of the next point.
    #[must_use]
    pub fn next(&self) -> Timestamp {
        self.next
    }

    /// Distance between two points.
    #[must_use]
    pub fn step(&self) -> Step {
        self.step
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::laws;

    fn horizon(steps: usize) -> Horizon {
        Horizon::new(steps).expect("not zero")
    }

    fn hourly(values: Vec<f64>) -> Window {
        Window { start: Timestamp::from_secs(0), step: Step::from_secs(3600), values }
    }

    fn daily(n: usize) -> Vec<f64> {
        (0..n).map(|i| 100.0 + 40.0 * (i as f64 / 24.0 * std::f64::consts::TAU).sin() + 4.0 * laws::noise(i)).collect()
    }

    #[test]
    fn the_combination_keeps_the_laws_of_forecasters() {
        laws::forecaster(&Combination::new(horizon(6)));
    }

    #[test]
    fn every_single_model_keeps_the_laws_of_forecasters() {
        for kind in Kind::ALL {
            laws::forecaster(&Combination::only(kind, horizon(6)).with_seasons(&[12]));
        }
    }

    #[test]
    fn a_daily_course_is_foreseen_with_its_scores() {
        let y = daily(24 * 21 + 24);
        let known = hourly(y[..24 * 21].to_vec());
        let seen = foresee(&known, None, horizon(24), &Quantile::STANDARD).expect("a long clean history");
        let off = seen.forecast.mean.iter().zip(&y[24 * 21..]).map(|(f, y)| (f - y).abs()).sum::<f64>() / 24.0;
        assert!(off < 3.0, "{off}");
        assert_eq!(seen.forecast.start, known.end());
        assert!(seen.scores.len() > 3 && seen.scores[0].relative_pinball_loss < 1.0, "{:?}", seen.scores);
        assert!(seen.scores.is_sorted_by(|a, b| a.relative_pinball_loss <= b.relative_pinball_loss));
    }

    #[test]
    fn updating_moves_the_forecast_on() {
        let y = daily(24 * 14);
        let mut live = Combination::new(horizon(6)).fit(&hourly(y[..300].to_vec())).expect("a long clean history");
        y[300..].iter().for_each(|v| live.update(*v));
        live.update(f64::NAN);
        let forecast = live.forecast(horizon(6), &Quantile::STANDARD);
        assert_eq!(forecast.start, Timestamp::from_secs(3600 * (24 * 14 + 1)));
        let truth = daily(24 * 14 + 7);
        let off = forecast.mean.iter().zip(&truth[24 * 14 + 1..]).map(|(f, y)| (f - y).abs()).sum::<f64>() / 6.0;
        assert!(off < 5.0, "{off}");
    }

    #[test]
    fn a_broken_history_is_refused_with_its_reason() {
        let fit = |values: Vec<f64>| Combination::new(horizon(3)).fit(&hourly(values)).map(|_| ());
        assert_eq!(fit(vec![1.0; 5]), Err(FitError::TooShort { have: 5, need: FEWEST }));
        let mut sparse = vec![f64::NAN; 100];
        (0..100).step_by(4).for_each(|i| sparse[i] = 1.0);
        assert!(matches!(fit(sparse), Err(FitError::TooSparse { .. })));
        let mut silent = daily(200);
        silent[140..].fill(f64::NAN);
        assert!(matches!(fit(silent), Err(FitError::NotApplicable { .. })));
    }
}
