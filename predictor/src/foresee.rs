//! What one series will do next: a history and what came since, into a forecast or a reason for silence.
//!
//! Pure: windows come in as values, and so does the time.

use std::sync::Arc;
use std::time::Duration;

use bellwether_models::forecast::auto::Foreseen;
use bellwether_models::forecast::calendar::{Calendar, Dated, InCalendar};
use bellwether_models::forecast::{FitError, Fitted, Forecaster, Quantile};
use bellwether_models::outlook::{Foresight, Observed};
use bellwether_models::series::{Timestamp, Window};
use serde::{Deserialize, Serialize};

use crate::config::{ForecastConfig, steps_in};
use crate::registry::manifest::Artefact;
use crate::registry::record::Record;

/// Why nothing is said of what is to come.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Abstention {
    /// Its turn to be fitted has not come yet.
    #[error("its first fit is still waiting for its turn")]
    NotFittedYet,
    /// Nothing was ever observed.
    #[error("no demand was observed in the last {}", bellwether_models::duration::format(*.within))]
    NoData {
        /// How far back was looked.
        within: Duration,
    },
    /// Nothing was observed lately.
    #[error("the newest observation is {} old", bellwether_models::duration::format(*.age))]
    Stale {
        /// Age of the newest observation.
        age: Duration,
    },
    /// The history does not allow a forecast.
    #[error(transparent)]
    Unfit(#[from] FitError),
    /// The query gives more than one series.
    #[error("the query gives {series} series where one is needed; aggregate it, for instance with sum()")]
    Ambiguous {
        /// How many.
        series: usize,
    },
    /// The store could not be asked.
    #[error("the store could not be asked: {reason}")]
    Unreadable {
        /// What went wrong.
        reason: String,
    },
    /// The model gave up in a way it should not.
    #[error("the model broke while it was computing; it is fitted anew")]
    Broken,
}

impl Abstention {
    /// The reason as a metric label.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::NotFittedYet => "not_fitted_yet",
            Self::NoData { .. } => "no_data",
            Self::Stale { .. } => "stale",
            Self::Unfit(FitError::TooShort { .. }) => "too_short",
            Self::Unfit(FitError::TooSparse { .. }) => "too_sparse",
            Self::Unfit(FitError::NotApplicable { .. }) => "not_applicable",
            Self::Ambiguous { .. } => "ambiguous",
            Self::Unreadable { .. } => "unreadable",
            Self::Broken => "broken",
        }
    }
}

/// The points of the grid that are wanted next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Time of the first point.
    pub start: Timestamp,
    /// How many points.
    pub len: usize,
    /// Whether they are a whole history to learn from, or only what came since.
    pub history: bool,
}

/// What is known of one series.
pub struct Foreseer {
    model: Arc<Artefact>,
    config: ForecastConfig,
    calendar: Calendar,
    knowledge: Result<Dated, Abstention>,
    through: Timestamp,
    newest: Option<Observed>,
}

/// A fitted model and how far it has followed its series.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Learnt {
    config: ForecastConfig,
    model: Dated,
    through: Timestamp,
    newest: Option<Observed>,
    /// How it does live, where that is recorded.
    #[serde(default)]
    pub(crate) record: Option<Record>,
}

impl Learnt {
    /// The settings it was made with.
    #[must_use]
    pub fn config(&self) -> &ForecastConfig {
        &self.config
    }

    /// The calendar it goes by.
    #[must_use]
    pub fn calendar(&self) -> &Calendar {
        self.model.calendar()
    }

    /// The newest point of the grid it has taken in.
    #[must_use]
    pub fn through(&self) -> Timestamp {
        self.through
    }
}

impl Foreseer {
    /// Knows nothing yet, and will learn by the combination that comes with the program.
    #[must_use]
    pub fn new(config: ForecastConfig, calendar: Calendar) -> Self {
        Self::with_model(config, calendar, Arc::new(Artefact::built_in("")))
    }

    /// Knows nothing yet, and will learn by `model`.
    #[must_use]
    pub fn with_model(config: ForecastConfig, calendar: Calendar, model: Arc<Artefact>) -> Self {
        Self {
            model,
            config,
            calendar,
            knowledge: Err(Abstention::NotFittedYet),
            through: Timestamp::MIN,
            newest: None,
        }
    }

    /// The settings it was made with.
    #[must_use]
    pub fn config(&self) -> &ForecastConfig {
        &self.config
    }

    /// The points to read at `now`: the whole history for a refit, or when a model missed more than that; otherwise what
    /// is new. Without a model only what tells the present matters.
    #[must_use]
    pub fn wants(&self, now: Timestamp, refit: bool) -> Wanted {
        let (step, most) = (self.config.grid(), self.config.history_steps());
        let last = now.floor_to(step);
        let missed = last.as_millis().saturating_sub(self.through.as_millis()) / step.as_millis();
        let ending_now = |len: usize, history| Wanted { start: last - step.times(len.saturating_sub(1)), len, history };
        match usize::try_from(missed) {
            Ok(len) if !refit && len <= most => ending_now(len, false),
            _ if refit || self.knowledge.is_ok() => ending_now(most, true),
            _ => ending_now(steps_in(self.config.stale_after(), step).max(1), false),
        }
    }

    /// Takes in what was [wanted](Self::wants), values in the spans `aside` as gaps; gives the span of the history when
    /// learning was tried.
    pub fn take_in(&mut self, wanted: Wanted, window: &Window, aside: &[(Timestamp, Timestamp)]) -> Option<Duration> {
        if window.is_empty() {
            return None;
        }
        self.remember_newest(window, wanted.history);
        self.through = window.end() - window.step.times(1);
        let window = &without(window, aside);
        if !wanted.history {
            self.follow(window);
            return None;
        }
        let known = since_first_observation(window);
        self.knowledge = match known.is_empty() {
            true => Err(Abstention::NoData { within: self.config.history }),
            false => self.method().fit(&known).map_err(Abstention::from),
        };
        Some(known.step.times(known.len()))
    }

    fn method(&self) -> InCalendar {
        InCalendar { method: self.model.method(&self.config), calendar: self.calendar.clone() }
    }

    /// What is to be remembered over a restart; `None` without a model.
    #[must_use]
    pub fn memory(&self) -> Option<Learnt> {
        let model = self.knowledge.as_ref().ok()?.clone();
        Some(Learnt { config: self.config, model, through: self.through, newest: self.newest, record: None })
    }

    /// Goes on from what was remembered of learning by `by`.
    #[must_use]
    pub fn recall(learnt: Learnt, by: Arc<Artefact>) -> Self {
        let Learnt { config, mut model, through, newest, .. } = learnt;
        model.give(&by.given());
        Self { model: by, config, calendar: model.calendar().clone(), knowledge: Ok(model), through, newest }
    }

    /// Forgets what was learnt after the model broke.
    pub fn give_up(&mut self) {
        (self.knowledge, self.through, self.newest) = (Err(Abstention::Broken), Timestamp::MIN, None);
    }

    /// What is to come, seen at `now`.
    ///
    /// # Errors
    /// The [`Abstention`] when nothing can be said.
    pub fn foresee(&self, now: Timestamp) -> Result<Foresight, Abstention> {
        let model = self.knowledge.as_ref().map_err(Clone::clone)?;
        self.refuse_stale(now)?;
        let Foreseen { forecast, model, scores } = model.foresee(self.config.horizon_steps(), &Quantile::STANDARD);
        Ok(Foresight::Forecast { forecast, model, scores })
    }

    /// The newest observation, unless it is stale at `now`.
    #[must_use]
    pub fn observed(&self, now: Timestamp) -> Option<Observed> {
        self.newest.filter(|newest| now.since(newest.at) <= self.config.stale_after())
    }

    fn refuse_stale(&self, now: Timestamp) -> Result<(), Abstention> {
        let Some(newest) = self.newest else { return Err(Abstention::NoData { within: self.config.history }) };
        let age = now.since(newest.at);
        if age > self.config.stale_after() { Err(Abstention::Stale { age }) } else { Ok(()) }
    }

    fn follow(&mut self, window: &Window) {
        if let Ok(model) = &mut self.knowledge {
            window.values.iter().for_each(|value| model.update(*value));
        }
    }

    fn remember_newest(&mut self, window: &Window, whole: bool) {
        let seen = window.values.iter().rposition(|v| v.is_finite());
        let newest = seen.map(|i| Observed { at: window.time_of(i), value: window.values[i] });
        if whole || newest.is_some() {
            self.newest = newest;
        }
    }
}

/// The window with gaps in place of what lies in `spans` (ends excluded).
fn without(window: &Window, spans: &[(Timestamp, Timestamp)]) -> Window {
    let mut window = window.clone();
    for index in 0..window.len() {
        let at = window.time_of(index);
        if spans.iter().any(|(from, to)| (*from..*to).contains(&at)) {
            window.values[index] = f64::NAN;
        }
    }
    window
}

/// The window from its first observation on.
fn since_first_observation(window: &Window) -> Window {
    let skip = window.values.iter().position(|v| v.is_finite()).unwrap_or(window.len());
    window.last(window.len() - skip)
}

#[cfg(test)]
mod tests {
    use bellwether_models::series::Step;

    use super::*;

    const STEP: Step = Step::from_secs(60);

    fn config() -> ForecastConfig {
        ForecastConfig {
            history: Duration::from_secs(1200),
            horizon: Duration::from_secs(120),
            stale_after: Duration::from_secs(180),
            ..ForecastConfig::default()
        }
    }

    fn read(wanted: Wanted, value: impl Fn(i64) -> f64) -> Window {
        let times = (0..wanted.len).map(|i| (wanted.start + STEP.times(i)).as_millis() / 1000);
        Window { start: wanted.start, step: STEP, values: times.map(value).collect() }
    }

    fn told(foreseer: &mut Foreseer, now: i64, refit: bool, value: impl Fn(i64) -> f64) -> Wanted {
        let wanted = foreseer.wants(Timestamp::from_secs(now), refit);
        foreseer.take_in(wanted, &read(wanted, value), &[]);
        wanted
    }

    #[test]
    fn the_history_is_read_once_and_then_only_what_is_new() {
        let mut foreseer = Foreseer::new(config(), Calendar::default());
        let first = told(&mut foreseer, 6030, true, |_| 7.0);
        assert_eq!(first, Wanted { start: Timestamp::from_secs(4860), len: 20, history: true });
        let second = told(&mut foreseer, 6130, false, |_| 7.0);
        assert_eq!(second, Wanted { start: Timestamp::from_secs(6060), len: 2, history: false });
        let Ok(Foresight::Forecast { forecast, .. }) = foreseer.foresee(Timestamp::from_secs(6130)) else {
            panic!("no forecast")
        };
        assert_eq!((forecast.start, forecast.horizon()), (Timestamp::from_secs(6180), 2));
        assert!(forecast.mean.iter().all(|value| (value - 7.0).abs() < 1e-9), "{:?}", forecast.mean);
    }

    #[test]
    fn after_a_restart_it_goes_on_where_it_was() {
        let mut foreseer = Foreseer::new(config(), Calendar::default());
        told(&mut foreseer, 6000, true, |t| (t % 600) as f64);
        let stored = serde_json::to_string(&foreseer.memory().unwrap()).unwrap();
        let mut again = Foreseer::recall(serde_json::from_str(&stored).unwrap(), Arc::new(Artefact::built_in("")));
        for foreseer in [&mut foreseer, &mut again] {
            let wanted = told(foreseer, 6120, false, |t| (t % 600) as f64);
            assert_eq!((wanted.len, wanted.history), (2, false));
        }
        let now = Timestamp::from_secs(6120);
        assert_eq!(foreseer.foresee(now), again.foresee(now));
        assert!(Foreseer::new(config(), Calendar::default()).memory().is_none());
    }

    #[test]
    fn what_was_missed_for_longer_than_the_history_is_learnt_anew() {
        let mut foreseer = Foreseer::new(config(), Calendar::default());
        told(&mut foreseer, 6000, true, |_| 1.0);
        assert!(foreseer.wants(Timestamp::from_secs(6000 + 21 * 60), false).history);
        assert!(foreseer.wants(Timestamp::from_secs(3000), false).history, "after a step back of the clock");
    }

    #[test]
    fn gaps_keep_the_forecast_on_the_grid_until_the_data_is_stale() {
        let mut foreseer = Foreseer::new(config(), Calendar::default());
        told(&mut foreseer, 6000, true, |_| 5.0);
        told(&mut foreseer, 6180, false, |_| f64::NAN);
        let now = Timestamp::from_secs(6180);
        assert!(matches!(foreseer.foresee(now), Ok(Foresight::Forecast { forecast, .. })
            if forecast.start == Timestamp::from_secs(6240)));
        assert_eq!(foreseer.observed(now), Some(Observed { at: Timestamp::from_secs(6000), value: 5.0 }));
        let later = Timestamp::from_secs(6181);
        assert_eq!(foreseer.foresee(later), Err(Abstention::Stale { age: Duration::from_secs(181) }));
        assert_eq!(foreseer.observed(later), None);
    }

    #[test]
    fn silence_before_the_first_observation_is_not_taken_for_gaps() {
        let mut foreseer = Foreseer::new(config(), Calendar::default());
        told(&mut foreseer, 6000, true, |t| if t < 5900 { f64::NAN } else { 1.0 });
        assert_eq!(
            foreseer.foresee(Timestamp::from_secs(6000)),
            Err(Abstention::Unfit(FitError::TooShort { have: 2, need: 8 }))
        );
    }

    #[test]
    fn what_is_set_aside_is_not_learnt_but_still_observed() {
        let outage = [(Timestamp::from_secs(5700), Timestamp::from_secs(6060))];
        let mut foreseer = Foreseer::new(config(), Calendar::default());
        let wanted = foreseer.wants(Timestamp::from_secs(6180), true);
        foreseer.take_in(wanted, &read(wanted, |t| if !(5700..6060).contains(&t) { 7.0 } else { 900.0 }), &outage);
        let Ok(Foresight::Forecast { forecast, .. }) = foreseer.foresee(Timestamp::from_secs(6180)) else {
            panic!("no forecast")
        };
        assert!(forecast.quantiles.iter().flatten().all(|value| (value - 7.0).abs() < 1e-9), "{forecast:?}");
        let wanted = foreseer.wants(Timestamp::from_secs(6240), false);
        foreseer.take_in(wanted, &read(wanted, |_| 900.0), &[(Timestamp::from_secs(6200), Timestamp::from_secs(6300))]);
        assert_eq!(foreseer.observed(Timestamp::from_secs(6240)).map(|o| o.value), Some(900.0));
    }

    #[test]
    fn without_a_model_the_present_is_still_seen() {
        let mut foreseer = Foreseer::new(config(), Calendar::default());
        let wanted = told(&mut foreseer, 6000, false, |t| t as f64);
        assert_eq!((wanted.len, wanted.history), (3, false));
        assert_eq!(foreseer.observed(Timestamp::from_secs(6000)).map(|o| o.value), Some(6000.0));
        assert_eq!(foreseer.foresee(Timestamp::from_secs(6000)), Err(Abstention::NotFittedYet));
        assert_eq!(told(&mut foreseer, 6060, false, |t| t as f64).len, 1);
    }

    #[test]
    fn without_any_observation_it_says_so_and_never_says_zero() {
        let mut foreseer = Foreseer::new(config(), Calendar::default());
        assert_eq!(foreseer.foresee(Timestamp::from_secs(1)), Err(Abstention::NotFittedYet));
        told(&mut foreseer, 6000, true, |_| f64::NAN);
        let said = foreseer.foresee(Timestamp::from_secs(6000)).unwrap_err();
        assert_eq!((said.name(), said.to_string().as_str()), ("no_data", "no demand was observed in the last 20m"));
        assert_eq!(foreseer.observed(Timestamp::from_secs(6000)), None);
    }

    #[test]
    fn a_holiday_of_the_calendar_is_expected_to_be_as_quiet_as_a_day_off() {
        const HOUR: i64 = 3600;
        let config = ForecastConfig {
            step: Duration::from_secs(3600),
            horizon: Duration::from_secs(86_400),
            history: Duration::from_secs(28 * 86_400),
            ..ForecastConfig::default()
        };
        let day = 20_527; // 2026-03-15, a Sunday
        let monday = Timestamp::from_secs((day + 1) * 86_400);
        let office =
            |t: i64| if (t / (24 * HOUR) + 3) % 7 < 5 && (8..18).contains(&(t / HOUR % 24)) { 90.0 } else { 10.0 };
        let said_of_noon = |calendar: Calendar| {
            let mut foreseer = Foreseer::new(config, calendar);
            let wanted = foreseer.wants(monday, true);
            let times = (0..wanted.len).map(|i| (wanted.start + config.grid().times(i)).as_millis() / 1000);
            let window = Window { start: wanted.start, step: config.grid(), values: times.map(office).collect() };
            foreseer.take_in(wanted, &window, &[]);
            match foreseer.foresee(monday) {
                Ok(Foresight::Forecast { forecast, .. }) => forecast.mean[11],
                other => panic!("{other:?}"),
            }
        };
        let days_off = [false, false, false, false, false, true, true];
        let holiday = Calendar { days_off, holidays: [day + 1].into(), ..Calendar::default() };
        let (ordinary, quiet) = (said_of_noon(Calendar::default()), said_of_noon(holiday));
        assert!(ordinary > 70.0 && quiet < 25.0, "{ordinary} {quiet}");
    }
}
