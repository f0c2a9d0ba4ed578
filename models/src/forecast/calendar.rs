//! The calendar of the people behind a load: clocks put forward and back, days off, events that are known beforehand.
//!
//! A model without a calendar sees a regular series in which every day is an ordinary one. So the history is brought into
//! that form before it is learnt from, and what the model says is brought back: values of a special day are divided by how
//! such a day usually compares with an ordinary one, and hours follow the clock on the wall.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::auto::{Combination, Foreseen, Live};
use super::{FitError, Fitted, Forecast, Forecaster, Given, Horizon, Quantile};
use crate::series::{Step, Timestamp, Window};

const DAY: i64 = 86_400;
/// Bounds of the factor between a special time and an ordinary one.
const FACTORS: std::ops::RangeInclusive<f64> = 0.05..=20.0;
/// Most steps of a skipped hour that are passed over while following live.
const MOST_SKIPPED: i64 = 10_000;
/// Part of the mean that is added to both sides of a ratio, so that the nights of an idle service do not make it wild.
const FLOOR: f64 = 0.02;

/// Days and hours as the people behind a series live them. Empty, it changes nothing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Calendar {
    /// Seconds that local time is ahead of UTC, each from an instant on, ascending; before the first the same as from it
    /// on. Empty for UTC.
    pub offsets: Vec<(Timestamp, i32)>,
    /// Which weekdays are off, Monday first.
    pub days_off: [bool; 7],
    /// Local days, counted from 1970-01-01, that are off whatever their weekday.
    pub holidays: BTreeSet<i64>,
    /// Local days that are worked whatever their weekday.
    pub working_days: BTreeSet<i64>,
    /// Known times out of the ordinary, past and to come.
    pub events: Vec<Event>,
}

/// A span of time that is known to be out of the ordinary. Spans of one name resemble each other.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// What it is called.
    pub name: String,
    /// Its beginning.
    pub from: Timestamp,
    /// Its end, itself no longer in it.
    pub to: Timestamp,
    /// How many times the ordinary load it brings; `None` learns it from earlier spans of the same name.
    pub factor: Option<f64>,
}

impl Calendar {
    /// Whether it changes nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.offsets.is_empty() && self.holidays.is_empty() && self.working_days.is_empty() && self.events.is_empty()
    }

    /// Seconds that local time is ahead of UTC at `at`.
    #[must_use]
    pub fn offset(&self, at: Timestamp) -> i32 {
        let after = self.offsets.partition_point(|(from, _)| *from <= at);
        self.offsets.get(after.saturating_sub(1)).map_or(0, |(_, seconds)| *seconds)
    }

    /// The local day at `at`, counted from 1970-01-01, and the seconds passed of it.
    fn local(&self, at: Timestamp) -> (i64, i64) {
        let seconds = at.as_millis().div_euclid(1000) + i64::from(self.offset(at));
        (seconds.div_euclid(DAY), seconds.rem_euclid(DAY))
    }

    /// Whether `day` is off, and whether its weekday says otherwise.
    fn kind_of(&self, day: i64) -> (bool, bool) {
        let usually = self.days_off[(day + 3).rem_euclid(7) as usize]; // 1970-01-01 was a Thursday
        let off = (usually || self.holidays.contains(&day)) && !self.working_days.contains(&day);
        (off, off != usually)
    }

    fn events_at(&self, at: Timestamp) -> impl Iterator<Item = &Event> {
        self.events.iter().filter(move |event| (event.from..event.to).contains(&at))
    }

    /// Whole steps by which the wall clock at `at` is ahead of where it would be had it always had `offset`.
    fn shift(&self, at: Timestamp, offset: i32, step: Step) -> i64 {
        let ahead = i64::from(self.offset(at) - offset) * 1000;
        (ahead as f64 / step.as_millis() as f64).round() as i64
    }

    /// The window on a grid on which clocks never changed and always had the offset of its end: a skipped hour is a gap, of
    /// an hour that came twice the second counts.
    #[must_use]
    pub fn by_the_clock(&self, window: &Window) -> Window {
        let offset = self.offset(window.end());
        let shifts: Vec<i64> = (0..window.len()).map(|i| self.shift(window.time_of(i), offset, window.step)).collect();
        let (Some(first), true) = (shifts.first().copied(), shifts.iter().any(|s| *s != 0)) else {
            return window.clone();
        };
        let len = usize::try_from(window.len() as i64 - first).unwrap_or(0);
        let mut values = vec![f64::NAN; len];
        for (i, shift) in shifts.iter().enumerate() {
            let place = usize::try_from(i as i64 + shift - first).ok().and_then(|place| values.get_mut(place));
            place.into_iter().for_each(|slot| *slot = window.values[i]);
        }
        Window { start: window.end() - window.step.times(len), step: window.step, values }
    }
}

/// How special times compare with ordinary ones, learnt from a history.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Usual {
    /// A day off beside a working day, by place in the day; empty where it cannot be told.
    off: Vec<f64>,
    events: BTreeMap<String, f64>,
}

impl Usual {
    fn learn(calendar: &Calendar, history: &Window) -> Self {
        let negative = history.values.iter().any(|v| *v < 0.0);
        let step = history.step.as_millis();
        if negative || (DAY * 1000) % step != 0 {
            return Self::default();
        }
        let places = (DAY * 1000 / step) as usize;
        let [worked, off] = [false, true].map(|off| course(calendar, history, places, off));
        let floor = FLOOR * mean(history.values.iter().copied());
        let mut usual = Self::default();
        if let (Some(worked), Some(off)) = (&worked, &off) {
            usual.off = worked.iter().zip(off).map(|(worked, off)| ratio(*off, *worked, floor)).collect();
        }
        let expected = |at: Timestamp| {
            let (day, second) = calendar.local(at);
            let course = if calendar.kind_of(day).0 { off.as_ref() } else { worked.as_ref() };
            course.or(worked.as_ref()).map(|course| course[place(second, places)])
        };
        for name in calendar.events.iter().map(|event| &event.name).collect::<BTreeSet<_>>() {
            let during =
                (0..history.len()).filter(|i| calendar.events_at(history.time_of(*i)).any(|e| e.name == *name));
            let ratios = during.filter(|i| history.values[*i].is_finite());
            let ratios = ratios.filter_map(|i| Some(ratio(history.values[i], expected(history.time_of(i))?, floor)));
            usual.events.extend(median(ratios.collect()).map(|factor| (name.clone(), factor)));
        }
        usual
    }

    /// How many times the ordinary load `at` brings; `None` where it is special in a way not known.
    fn factor(&self, calendar: &Calendar, at: Timestamp) -> Option<f64> {
        let (day, second) = calendar.local(at);
        let day = match calendar.kind_of(day) {
            (_, false) => 1.0,
            (off, true) => {
                let factor = *self.off.get(place(second, self.off.len()))?;
                if off { factor } else { 1.0 / factor }
            }
        };
        let known = |event: &Event| event.factor.or_else(|| self.events.get(&event.name).copied());
        calendar.events_at(at).try_fold(day, |all, event| Some(all * known(event)?))
    }
}

/// Which of `places` equal parts of a day holds the second.
fn place(second: i64, places: usize) -> usize {
    (second * places as i64 / DAY) as usize
}

/// The usual value at each place of days that are off, or of those that are worked: medians, averaged over neighbours
/// within half an hour. `None` where half a day's places were never seen.
fn course(calendar: &Calendar, history: &Window, places: usize, off: bool) -> Option<Vec<f64>> {
    let mut seen = vec![Vec::new(); places];
    for (i, value) in history.values.iter().enumerate().filter(|(_, value)| value.is_finite()) {
        let at = history.time_of(i);
        let (day, second) = calendar.local(at);
        if calendar.kind_of(day).0 == off && calendar.events_at(at).next().is_none() {
            seen[place(second, places)].push(*value);
        }
    }
    let medians: Vec<Option<f64>> = seen.into_iter().map(median).collect();
    let reach = places / 48;
    let around = |at: usize| (0..=2 * reach).filter_map(move |k| Some((at + places + k).checked_sub(reach)? % places));
    let smooth = |at: usize| Some(mean(around(at).filter_map(|i| medians[i]))).filter(|v| v.is_finite());
    let known: Vec<Option<f64>> = (0..places).map(smooth).collect();
    known.into_iter().collect()
}

fn ratio(special: f64, ordinary: f64, floor: f64) -> f64 {
    let ratio = (special + floor) / (ordinary + floor);
    if ratio.is_finite() { ratio.clamp(*FACTORS.start(), *FACTORS.end()) } else { 1.0 }
}

/// NaN where nothing is finite.
fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = values.filter(|v| v.is_finite()).fold((0.0, 0.0), |(sum, count), v| (sum + v, count + 1.0));
    sum / count
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    let middle = values.len() / 2;
    (!values.is_empty()).then(|| *values.select_nth_unstable_by(middle, f64::total_cmp).1)
}

/// A combination that knows the calendar of its series.
#[derive(Clone, Debug, PartialEq)]
pub struct InCalendar {
    /// What learns and forecasts ordinary days.
    pub method: Combination,
    /// Which days are not ordinary, and how clocks run.
    pub calendar: Calendar,
}

impl Forecaster for InCalendar {
    type Fitted = Dated;

    fn name(&self) -> &'static str {
        self.method.name()
    }

    fn fit(&self, history: &Window) -> Result<Dated, FitError> {
        let (next, calendar) = (history.end(), self.calendar.clone());
        if calendar.is_empty() {
            return Ok(Dated { live: self.method.fit(history)?, usual: Usual::default(), next, offset: 0, calendar });
        }
        let usual = Usual::learn(&calendar, history);
        let mut ordinary = history.clone();
        for (i, value) in ordinary.values.iter_mut().enumerate() {
            *value /= usual.factor(&calendar, history.time_of(i)).unwrap_or(f64::NAN);
        }
        let offset = calendar.offset(next);
        Ok(Dated { live: self.method.fit(&calendar.by_the_clock(&ordinary))?, usual, next, offset, calendar })
    }
}

/// A fitted combination that knows the calendar of its series.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Dated {
    live: Live,
    usual: Usual,
    calendar: Calendar,
    next: Timestamp,
    /// The offset of local time that the model's grid has.
    offset: i32,
}

impl Dated {
    /// The model of ordinary days.
    #[must_use]
    pub fn live(&self) -> &Live {
        &self.live
    }

    /// The calendar it goes by.
    #[must_use]
    pub fn calendar(&self) -> &Calendar {
        &self.calendar
    }

    /// As [`Live::give`].
    pub fn give(&mut self, given: &Given) {
        self.live.give(given);
    }

    /// The forecast with the names and scores of what made it.
    #[must_use]
    pub fn foresee(&self, horizon: Horizon, quantiles: &[Quantile]) -> Foreseen {
        let (model, scores) = self.live.judged();
        Foreseen { forecast: self.forecast(horizon, quantiles), model, scores }
    }

    /// How many steps after the model's next one `at` is, by the clock.
    fn ahead(&self, at: Timestamp) -> i64 {
        let steps = (at.as_millis() - self.live.next().as_millis()) / self.live.step().as_millis();
        steps + self.calendar.shift(at, self.offset, self.live.step())
    }

    /// For each of the coming steps: which step of the model it is, and its factor. An hour that comes again is as what
    /// follows it.
    fn places(&self, steps: usize) -> Vec<(usize, f64)> {
        let at = |k: usize| {
            let at = self.next + self.live.step().times(k);
            let factor = self.usual.factor(&self.calendar, at).unwrap_or(1.0);
            (usize::try_from(self.ahead(at)).unwrap_or(0), factor)
        };
        (0..steps).map(at).collect()
    }
}

impl Fitted for Dated {
    fn forecast(&self, horizon: Horizon, quantiles: &[Quantile]) -> Forecast {
        if self.calendar.is_empty() {
            return self.live.forecast(horizon, quantiles);
        }
        let places = self.places(horizon.steps());
        let last = places.iter().map(|(place, _)| *place).max().unwrap_or(0);
        let ordinary = self.live.forecast(Horizon::new(last + 1).unwrap_or(horizon), quantiles);
        let dated = |path: &Vec<f64>| places.iter().map(|(place, factor)| factor * path[*place]).collect::<Vec<f64>>();
        let quantiles: Vec<Vec<f64>> = ordinary.quantiles.iter().map(dated).collect();
        let peaks = ordinary.peaks.iter().zip(&ordinary.quantiles).zip(&quantiles);
        let peaks = peaks.map(|((peak, path), dated)| peaks_of(peak, path, dated, &places)).collect();
        let mean = dated(&ordinary.mean);
        Forecast { start: self.next, mean, quantiles, peaks, ..ordinary }
    }

    fn update(&mut self, value: f64) {
        let now = self.next;
        self.next = now + self.live.step().times(1);
        if self.calendar.is_empty() {
            return self.live.update(value);
        }
        let ahead = self.ahead(now);
        (0..ahead.min(MOST_SKIPPED)).for_each(|_| self.live.update(f64::NAN));
        if ahead >= 0 {
            self.live.update(value / self.usual.factor(&self.calendar, now).unwrap_or(f64::NAN));
        }
    }
}

/// Peaks of a `dated` path: above its own greatest value by as many times as those of the `ordinary` one are.
fn peaks_of(peaks: &[f64], ordinary: &[f64], dated: &[f64], places: &[(usize, f64)]) -> Vec<f64> {
    let highest: Vec<f64> = running_greatest(ordinary.iter().copied());
    let above = |place: usize| if highest[place] > 0.0 { peaks[place] / highest[place] } else { 1.0 };
    let raised = running_greatest(dated.iter().copied()).into_iter().zip(places);
    running_greatest(raised.map(|(highest, (place, _))| highest.max(highest * above(*place))))
}

fn running_greatest(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let rising = |highest: &mut f64, value: f64| {
        *highest = highest.max(value);
        Some(*highest)
    };
    values.scan(f64::NEG_INFINITY, rising).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::laws;

    const HOUR: i64 = 3600;
    /// Monday, 2026-03-09, midnight in Berlin.
    const MONDAY: i64 = 1_773_010_800;
    /// 2026-03-29, 01:00 UTC: 02:00 becomes 03:00 in Berlin.
    const FORWARD: i64 = 1_774_746_000;
    /// 2026-10-25, 01:00 UTC: 03:00 becomes 02:00.
    const BACK: i64 = 1_792_890_000;

    fn berlin() -> Calendar {
        let at = Timestamp::from_secs;
        let offsets = vec![(Timestamp::MIN, 3600), (at(FORWARD), 7200), (at(BACK), 3600)];
        let mut days_off = [false; 7];
        days_off[5..].fill(true);
        Calendar { offsets, days_off, ..Calendar::default() }
    }

    /// Hourly load of an office by its own clock: busy from 8 to 18 on working days.
    fn load(calendar: &Calendar, at: Timestamp, i: usize) -> f64 {
        let (day, second) = calendar.local(at);
        let busy = !calendar.kind_of(day).0 && (8 * HOUR..18 * HOUR).contains(&second);
        let event: f64 = calendar.events_at(at).map(|_| 3.0).product();
        event * (if busy { 100.0 } else { 20.0 }) + 4.0 * laws::noise(i)
    }

    fn window(calendar: &Calendar, from: i64, hours: usize) -> Window {
        let start = Timestamp::from_secs(from);
        let step = Step::from_secs(3600);
        let values = (0..hours).map(|i| load(calendar, start + step.times(i), i)).collect();
        Window { start, step, values }
    }

    /// Mean absolute error of the next `hours` after `known` hours, the calendar given and without one.
    fn errors(calendar: &Calendar, from: i64, known: usize, hours: usize) -> (f64, f64) {
        let whole = window(calendar, from, known + hours);
        let history = Window { values: whole.values[..known].to_vec(), ..whole.clone() };
        let horizon = Horizon::new(hours).expect("not zero");
        let method = Combination::new(horizon).with_seasons(&[24, 168]);
        let off = |calendar: Calendar| {
            let fitted = InCalendar { method: method.clone(), calendar }.fit(&history).expect("weeks of history");
            let said = fitted.forecast(horizon, &Quantile::STANDARD);
            said.mean.iter().zip(&whole.values[known..]).map(|(a, b)| (a - b).abs()).sum::<f64>() / hours as f64
        };
        (off(calendar.clone()), off(Calendar::default()))
    }

    #[test]
    fn an_empty_calendar_changes_nothing_and_a_full_one_keeps_the_laws() {
        let method = Combination::light(Horizon::new(9).expect("not zero"));
        let (plain, dated) = (method.clone(), InCalendar { method: method.clone(), calendar: Calendar::default() });
        let history = window(&berlin(), MONDAY, 400);
        let horizon = Horizon::new(5).expect("not zero");
        let said = |f: &dyn Fn() -> Forecast| f();
        let one = said(&|| plain.fit(&history).expect("long").forecast(horizon, &Quantile::STANDARD));
        assert_eq!(one, said(&|| dated.fit(&history).expect("long").forecast(horizon, &Quantile::STANDARD)));
        let mut calendar = berlin();
        calendar.holidays = (18_500..18_600).step_by(3).collect();
        laws::forecaster(&InCalendar { method, calendar });
    }

    #[test]
    fn the_monday_after_clocks_went_forward_is_busy_at_eight_by_the_clock() {
        let known = ((FORWARD - MONDAY) / HOUR) as usize + 22; // to Sunday midnight
        let (with, without) = errors(&berlin(), MONDAY, known, 24);
        assert!(with < 3.0, "{with}");
        assert!(without > 2.0 * with, "the test needs a change of clocks that matters: {without}");
    }

    #[test]
    fn a_change_of_clocks_that_is_still_to_come_moves_the_hours_after_it() {
        for (change, weekday_before) in [(FORWARD, MONDAY), (BACK, BACK - 20 * 24 * HOUR - HOUR)] {
            let known = ((change - weekday_before) / HOUR) as usize - 4;
            let (with, _) = errors(&berlin(), weekday_before, known, 48);
            assert!(with < 3.0, "{change}: {with}");
        }
    }

    #[test]
    fn a_model_that_follows_through_a_change_of_clocks_stays_in_step() {
        for change in [FORWARD, BACK] {
            let calendar = berlin();
            let from = change - 27 * DAY;
            let whole = window(&calendar, from, 30 * 24);
            let history = Window { values: whole.values[..26 * 24].to_vec(), ..whole.clone() };
            let horizon = Horizon::new(24).expect("not zero");
            let method = Combination::new(horizon).with_seasons(&[24, 168]);
            let mut fitted = InCalendar { method, calendar }.fit(&history).expect("weeks of history");
            for now in 26 * 24..29 * 24 {
                let said = fitted.forecast(horizon, &Quantile::STANDARD);
                assert_eq!(said.start, whole.time_of(now));
                let off = said.mean.iter().zip(&whole.values[now..]).map(|(a, b)| (a - b).abs()).sum::<f64>() / 24.0;
                assert!(off < 6.0, "{change}, {now}: {off}");
                fitted.update(whole.values[now]);
            }
        }
    }

    #[test]
    fn the_week_of_a_change_is_bridged_on_a_grid_that_never_changed() {
        let calendar = berlin();
        for change in [FORWARD, BACK] {
            let plain = window(&calendar, change - 48 * HOUR, 96);
            let settled = calendar.by_the_clock(&plain);
            assert_eq!(settled.end(), plain.end());
            let shift = i64::from(calendar.offset(plain.end()) - calendar.offset(plain.start)) / HOUR;
            assert_eq!(settled.len() as i64, 96 + shift);
            assert_eq!(settled.values.iter().filter(|v| v.is_nan()).count() as i64, shift.max(0));
        }
    }

    #[test]
    fn a_holiday_to_come_is_expected_to_be_like_a_day_off_and_one_gone_by_is_not_learnt_as_ordinary() {
        let mut calendar = berlin();
        let wednesday = calendar.local(Timestamp::from_secs(MONDAY)).0 + 2 + 21;
        calendar.holidays.insert(wednesday);
        let until = (21 + 2) * 24;
        let (with, without) = errors(&calendar, MONDAY - 7 * 24 * HOUR, until + 7 * 24, 24);
        assert!(with < 4.0 && without > 20.0, "the holiday itself: {with} {without}");
        let (with, without) = errors(&calendar, MONDAY - 7 * 24 * HOUR, until + 8 * 24, 24);
        assert!(with < 4.0 && without > with, "the day after: {with} {without}");
    }

    #[test]
    fn a_day_off_that_is_worked_is_expected_to_be_busy() {
        let mut calendar = berlin();
        let saturday = calendar.local(Timestamp::from_secs(MONDAY)).0 + 5 + 7;
        calendar.working_days.insert(saturday);
        let (with, without) = errors(&calendar, MONDAY - 7 * 24 * HOUR, (5 + 14) * 24, 24);
        assert!(with < 4.0 && without > 20.0, "{with} {without}");
    }

    #[test]
    fn what_an_event_brings_is_learnt_from_the_last_one_of_its_name_or_told() {
        let sale = |day: i64, factor| Event {
            name: "sale".to_owned(),
            from: Timestamp::from_secs(MONDAY + day * DAY + 10 * HOUR),
            to: Timestamp::from_secs(MONDAY + day * DAY + 16 * HOUR),
            factor,
        };
        let known = 28 * 24;
        for events in [vec![sale(8, None), sale(14, None)], vec![sale(14, Some(3.0))]] {
            let calendar = Calendar { events, ..berlin() };
            let (with, without) = errors(&calendar, MONDAY - 14 * DAY, known, 24);
            assert!(with < 6.0 && without > 40.0, "{with} {without}");
        }
    }

    #[test]
    fn an_event_of_which_nothing_is_known_is_not_learnt_from() {
        let event = |from: i64, hours: i64| Event {
            name: "migration".to_owned(),
            from: Timestamp::from_secs(from),
            to: Timestamp::from_secs(from + hours * HOUR),
            factor: None,
        };
        let calendar = Calendar { events: vec![event(MONDAY + 13 * DAY + 20 * HOUR, 3)], ..berlin() };
        let (with, _) = errors(&calendar, MONDAY - 14 * DAY, 28 * 24, 12);
        assert!(with < 4.0, "{with}");
    }

    #[test]
    fn live_points_of_a_special_day_are_compared_with_such_days() {
        let mut calendar = berlin();
        calendar.holidays.insert(calendar.local(Timestamp::from_secs(MONDAY)).0 + 14);
        let whole = window(&calendar, MONDAY - 14 * DAY, 30 * 24);
        let history = Window { values: whole.values[..28 * 24].to_vec(), ..whole.clone() };
        let horizon = Horizon::new(24).expect("not zero");
        let method = Combination::new(horizon).with_seasons(&[24, 168]);
        let mut fitted = InCalendar { method, calendar }.fit(&history).expect("four weeks");
        whole.values[28 * 24..29 * 24].iter().for_each(|v| fitted.update(*v));
        let said = fitted.forecast(horizon, &Quantile::STANDARD);
        assert_eq!(said.start, whole.time_of(29 * 24));
        let off = said.mean.iter().zip(&whole.values[29 * 24..]).map(|(a, b)| (a - b).abs()).sum::<f64>() / 24.0;
        assert!(off < 5.0, "the working day after a holiday: {off}");
    }
}
