//! What one series will do next: a history and what came since, into a forecast or a reason for silence.
//!
//! Pure: windows come in as values, and so does the time.

use std::time::Duration;

use bellwether_models::forecast::{FitError, Fitted, Quantile};
use bellwether_models::outlook::{Foresight, ModelScore, Observed};
use bellwether_models::series::{Timestamp, Window};

use crate::config::ForecastConfig;

/// A model that has learnt a history, with the contest it won.
pub struct Learnt {
    /// The model, fed up to the newest point.
    pub model: Box<dyn Fitted + Send>,
    /// Its name.
    pub name: String,
    /// The models compared, best first.
    pub scores: Vec<ModelScore>,
}

/// Learns from a history without leading gaps.
pub type Learn = fn(&Window, &ForecastConfig) -> Result<Learnt, FitError>;

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
    config: ForecastConfig,
    knowledge: Result<Learnt, Abstention>,
    through: Timestamp,
    newest: Option<Observed>,
}

impl Foreseer {
    /// Knows nothing yet.
    #[must_use]
    pub fn new(config: ForecastConfig) -> Self {
        Self { config, knowledge: Err(Abstention::NotFittedYet), through: Timestamp::MIN, newest: None }
    }

    /// The settings it was made with.
    #[must_use]
    pub fn config(&self) -> &ForecastConfig {
        &self.config
    }

    /// The points to read at `now`: the whole history for a refit or when too much was missed, otherwise what is new.
    #[must_use]
    pub fn wants(&self, now: Timestamp, refit: bool) -> Wanted {
        let (step, most) = (self.config.grid(), self.config.history_steps());
        let last = now.floor_to(step);
        let missed = last.as_millis().saturating_sub(self.through.as_millis()) / step.as_millis();
        match usize::try_from(missed) {
            Ok(len) if !refit && len <= most && self.knowledge.is_ok() => {
                Wanted { start: self.through + step.times(1), len, history: false }
            }
            _ => Wanted { start: last - step.times(most - 1), len: most, history: true },
        }
    }

    /// Takes in what was [wanted](Self::wants); gives the span of the history when it was learnt anew.
    pub fn take_in(&mut self, wanted: Wanted, window: &Window, learn: Learn) -> Option<Duration> {
        self.remember_newest(window, wanted.history);
        self.through = window.end() - window.step.times(1);
        if !wanted.history {
            self.follow(window);
            return None;
        }
        let known = since_first_observation(window);
        self.knowledge = match known.is_empty() {
            true => Err(Abstention::NoData { within: self.config.history }),
            false => learn(&known, &self.config).map_err(Abstention::from),
        };
        Some(known.step.times(known.len()))
    }

    /// What is to come, seen at `now`.
    ///
    /// # Errors
    /// The [`Abstention`] when nothing can be said.
    pub fn foresee(&self, now: Timestamp) -> Result<Foresight, Abstention> {
        let learnt = self.knowledge.as_ref().map_err(Clone::clone)?;
        self.refuse_stale(now)?;
        Ok(Foresight::Forecast {
            forecast: learnt.model.forecast(self.config.horizon_steps(), &Quantile::STANDARD),
            model: learnt.name.clone(),
            scores: learnt.scores.clone(),
        })
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
        if let Ok(learnt) = &mut self.knowledge {
            window.values.iter().for_each(|value| learnt.model.update(*value));
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

/// The window from its first observation on.
fn since_first_observation(window: &Window) -> Window {
    let skip = window.values.iter().position(|v| v.is_finite()).unwrap_or(window.len());
    window.last(window.len() - skip)
}

#[cfg(test)]
mod tests {
    use bellwether_models::forecast::{Forecast, Horizon};
    use bellwether_models::series::Step;

    use super::*;

    /// Repeats the last value it saw; counts what it was told.
    struct LastValue {
        next: Timestamp,
        step: Step,
        value: f64,
    }

    impl Fitted for LastValue {
        fn forecast(&self, horizon: Horizon, levels: &[Quantile]) -> Forecast {
            let path = vec![self.value; horizon.steps()];
            let quantiles = vec![path.clone(); levels.len()];
            Forecast { start: self.next, step: self.step, mean: path, levels: levels.to_vec(), quantiles }
        }
        fn update(&mut self, value: f64) {
            self.next = self.next + self.step.times(1);
            if value.is_finite() {
                self.value = value;
            }
        }
    }

    fn learn(history: &Window, _: &ForecastConfig) -> Result<Learnt, FitError> {
        if history.len() < 3 {
            return Err(FitError::TooShort { have: history.len(), need: 3 });
        }
        let value = *history.values.last().unwrap();
        let model = Box::new(LastValue { next: history.end(), step: history.step, value });
        Ok(Learnt { model, name: "last".to_owned(), scores: vec![] })
    }

    const STEP: Step = Step::from_secs(60);

    fn config() -> ForecastConfig {
        ForecastConfig {
            history: Duration::from_secs(600),
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
        foreseer.take_in(wanted, &read(wanted, value), learn);
        wanted
    }

    #[test]
    fn the_history_is_read_once_and_then_only_what_is_new() {
        let mut foreseer = Foreseer::new(config());
        let first = told(&mut foreseer, 6030, true, |t| t as f64);
        assert_eq!(first, Wanted { start: Timestamp::from_secs(5460), len: 10, history: true });
        let second = told(&mut foreseer, 6130, false, |t| t as f64);
        assert_eq!(second, Wanted { start: Timestamp::from_secs(6060), len: 2, history: false });
        let Ok(Foresight::Forecast { forecast, .. }) = foreseer.foresee(Timestamp::from_secs(6130)) else {
            panic!("no forecast")
        };
        assert_eq!((forecast.start, forecast.mean), (Timestamp::from_secs(6180), vec![6120.0; 2]));
    }

    #[test]
    fn what_was_missed_for_longer_than_the_history_is_learnt_anew() {
        let mut foreseer = Foreseer::new(config());
        told(&mut foreseer, 6000, true, |_| 1.0);
        assert!(foreseer.wants(Timestamp::from_secs(6000 + 11 * 60), false).history);
        assert!(foreseer.wants(Timestamp::from_secs(3000), false).history, "after a step back of the clock");
    }

    #[test]
    fn gaps_keep_the_forecast_on_the_grid_until_the_data_is_stale() {
        let mut foreseer = Foreseer::new(config());
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
        let mut foreseer = Foreseer::new(config());
        told(&mut foreseer, 6000, true, |t| if t < 5900 { f64::NAN } else { 1.0 });
        assert_eq!(
            foreseer.foresee(Timestamp::from_secs(6000)),
            Err(Abstention::Unfit(FitError::TooShort { have: 2, need: 3 }))
        );
    }

    #[test]
    fn without_any_observation_it_says_so_and_never_says_zero() {
        let mut foreseer = Foreseer::new(config());
        assert_eq!(foreseer.foresee(Timestamp::from_secs(1)), Err(Abstention::NotFittedYet));
        told(&mut foreseer, 6000, true, |_| f64::NAN);
        let said = foreseer.foresee(Timestamp::from_secs(6000)).unwrap_err();
        assert_eq!((said.name(), said.to_string().as_str()), ("no_data", "no demand was observed in the last 10m"));
        assert_eq!(foreseer.observed(Timestamp::from_secs(6000)), None);
    }
}
