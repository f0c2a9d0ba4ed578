//! Makes a model for one workload from its own history, and says how it does on a stretch it has not seen.
//!
//! Pure but for the time it takes: from the command line and on the server's schedule the same work is done.

use bellwether_models::accuracy::{Tally, mase, seasonal_scale};
use bellwether_models::forecast::auto::Combination;
use bellwether_models::forecast::neural::{Checkpoint, Course, Network, News, TrainError, learn};
use bellwether_models::forecast::{FitError, Fitted, Forecaster, Kind as Member, Quantile};
use bellwether_models::series::Window;

use super::manifest::{Artefact, Kind, Manifest, Parameters, Scores, Span};
use super::seal::sha256;
use crate::config::ForecastConfig;

/// Most origins at which a model is scored.
const MOST_ORIGINS: usize = 200;

/// What to train, and on what.
#[derive(Clone, Copy, Debug)]
pub struct Task<'a> {
    /// The workload.
    pub workload: &'a str,
    /// Its history; gaps are NaN.
    pub history: &'a Window,
    /// How it is forecast.
    pub forecast: &'a ForecastConfig,
    /// Share of the history at its end that is kept unseen for scoring, above 0 and at most 0.5.
    pub held_out: f64,
}

/// A model that was made, not registered yet and without an author.
#[derive(Clone, Debug, PartialEq)]
pub struct Trained {
    /// What it is and how it did.
    pub manifest: Manifest,
    /// Its weights.
    pub weights: Option<Vec<u8>>,
}

/// Why no model could be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrainingError {
    /// The network cannot learn from this history.
    #[error("the network could not be trained")]
    Network(#[from] TrainError),
    /// The model cannot describe this history.
    #[error("the model cannot be fitted to the history")]
    Fit(#[from] FitError),
    /// The network that was made is none, which cannot be.
    #[error("the trained weights cannot be read back")]
    Weights(#[from] bellwether_models::forecast::neural::NotANetwork),
    /// Nothing was observed in the stretch that is held out.
    #[error("the held-out end of the history holds too few observations to score a model; ask for a longer history")]
    Unscored,
}

impl Task<'_> {
    /// How many points are learnt from.
    fn cut(&self) -> usize {
        let len = self.history.len();
        len - ((len as f64 * self.held_out.clamp(0.01, 0.5)) as usize).min(len)
    }

    fn known(&self) -> Window {
        let values = self.history.values[..self.cut()].to_vec();
        Window { values, ..self.history.clone() }
    }

    /// How a model does on what is held out: fitted once to what comes before, then followed point by point, as live.
    ///
    /// # Errors
    /// When it cannot be fitted, or nothing was observed there.
    pub fn score(&self, model: &Artefact) -> Result<Scores, TrainingError> {
        self.score_from(&model.method(self.forecast), self.cut(), self.history.len())
    }

    fn score_from(&self, method: &Combination, from: usize, to: usize) -> Result<Scores, TrainingError> {
        let (values, horizon) = (&self.history.values[..to], self.forecast.horizon_steps());
        let known = Window { values: values[..from].to_vec(), ..self.history.clone() };
        let mut live = method.fit(&known)?;
        let stride = (to - from).div_ceil(MOST_ORIGINS).max(1);
        let (mut tally, mut origins) = (Tally::default(), 0);
        for (at, value) in values.iter().enumerate().skip(from) {
            if (at - from).is_multiple_of(stride) && at + horizon.steps() <= to {
                tally.add(&live.forecast(horizon, &Quantile::STANDARD), &values[at..]);
                origins += 1;
            }
            live.update(*value);
        }
        let period = live.periods().first().copied().unwrap_or(1);
        let scale = seasonal_scale(&known.values, period).unwrap_or(1.0);
        let mase = tally.mean_absolute_error().and_then(|error| mase(&[error], &[0.0], scale));
        let coverage = tally.coverage(Quantile::STANDARD[3]);
        let (Some(pinball), Some(coverage_p95)) = (tally.mean_pinball(), coverage) else {
            return Err(TrainingError::Unscored);
        };
        let horizon = horizon.steps() as u64;
        Ok(Scores { pinball, mase: mase.unwrap_or(0.0), coverage_p95, origins, horizon })
    }

    /// Fits a network to the workload, from the weights of `from` on or from fresh ones, and scores it.
    ///
    /// # Errors
    /// [`TrainingError`].
    pub fn lstm(
        &self,
        course: &Course,
        from: Option<Checkpoint>,
        report: impl FnMut(&News<'_>),
    ) -> Result<Trained, TrainingError> {
        let mut source = Some(vec![self.known()]);
        let learnt = learn(&mut || Ok(source.take()), course, from, report)?;
        let manifest = Manifest { seed: Some(course.training.seed), ..self.manifest(Kind::Lstm) };
        let network = Network::from_bytes(&learnt.weights)?;
        let model = Artefact { manifest, network: Some(std::sync::Arc::new(network)) };
        let scores = Some(self.score(&model)?);
        let sum = Some(sha256(&learnt.weights));
        let manifest = Manifest { scores, sha256: sum, ..model.manifest };
        Ok(Trained { manifest, weights: Some(learnt.weights) })
    }

    /// Searches the orders of an ARIMA, with and without seasonal terms, takes those that do best on the end of what is
    /// learnt from, and scores them.
    ///
    /// # Errors
    /// [`TrainingError`].
    pub fn arima(&self) -> Result<Trained, TrainingError> {
        let (cut, horizon) = (self.cut(), self.forecast.horizon_steps());
        let tail = cut - cut / 5;
        let known = Window { values: self.history.values[..tail].to_vec(), ..self.history.clone() };
        let mut best: Option<(f64, Parameters)> = None;
        for member in [Member::Arima, Member::Sarima] {
            let fitted = Combination::only(member, horizon).fit(&known)?;
            let parameters = Parameters { orders: fitted.arima_orders(), ..Parameters::default() };
            let manifest = Manifest { parameters, ..Manifest::new(Kind::Arima) };
            let model = Artefact { manifest, network: None };
            let loss = self.score_from(&model.method(self.forecast), tail, cut)?.pinball;
            if best.as_ref().is_none_or(|(least, _)| loss < *least) {
                best = Some((loss, model.manifest.parameters));
            }
        }
        let parameters = best.map(|(_, parameters)| parameters).unwrap_or_default();
        let model = Artefact { manifest: Manifest { parameters, ..self.manifest(Kind::Arima) }, network: None };
        let scores = Some(self.score(&model)?);
        Ok(Trained { manifest: Manifest { scores, ..model.manifest }, weights: None })
    }

    fn manifest(&self, kind: Kind) -> Manifest {
        let known = self.known();
        let to = known.time_of(known.len().saturating_sub(1));
        let trained = Some(Span { from: known.start, to, step: known.step.as_millis() });
        let data_sha256 = Some(digest(&known));
        Manifest { workload: self.workload.to_owned(), trained, data_sha256, ..Manifest::new(kind) }
    }
}

/// SHA-256 over start and step in milliseconds and the values, as 64-bit little-endian numbers; every gap counts as the
/// same NaN.
#[must_use]
pub fn digest(window: &Window) -> String {
    let head = [window.start.as_millis(), window.step.as_millis()].into_iter().flat_map(i64::to_le_bytes);
    let value = |value: &f64| if value.is_nan() { f64::NAN } else { *value }.to_le_bytes();
    sha256(&head.chain(window.values.iter().flat_map(value)).collect::<Vec<u8>>())
}

#[cfg(test)]
mod tests {
    use bellwether_models::forecast::neural::Training;
    use bellwether_models::series::{Step, Timestamp};

    use super::*;

    fn history() -> Window {
        let value = |i: usize| {
            let unrest = ((i * 7919) % 101) as f64 / 10.0;
            100.0 + 40.0 * (i as f64 / 24.0 * std::f64::consts::TAU).sin() + unrest
        };
        Window { start: Timestamp::from_secs(0), step: Step::from_secs(3600), values: (0..600).map(value).collect() }
    }

    fn forecast() -> ForecastConfig {
        let hour = std::time::Duration::from_secs(3600);
        ForecastConfig { step: hour, horizon: 12 * hour, ..ForecastConfig::default() }
    }

    #[test]
    fn both_kinds_are_made_and_scored_on_what_they_have_not_seen() {
        let (history, forecast) = (history(), forecast());
        let task = Task { workload: "web", history: &history, forecast: &forecast, held_out: 0.2 };
        let course = Course { training: Training { batches: 3, batch: 8, seed: 4 }, ..Course::default() };
        let start = Network::pretrained().as_ref().map(Checkpoint::begin);
        let lstm = task.lstm(&course, start, |_| {}).unwrap();
        let arima = task.arima().unwrap();
        assert!(arima.manifest.parameters.orders.is_some() && arima.weights.is_none());
        for made in [&lstm, &arima] {
            let scores = made.manifest.scores.unwrap();
            assert!(scores.origins > 50 && scores.horizon == 12 && scores.pinball > 0.0, "{scores:?}");
            assert!(scores.mase < 3.0 && scores.coverage_p95 > 0.5, "{scores:?}");
            let trained = made.manifest.trained.unwrap();
            assert_eq!((trained.from, trained.to), (history.start, history.time_of(479)));
            let manifest = Manifest { author: "ann".to_owned(), ..made.manifest.clone() };
            Artefact::read(manifest, made.weights.as_deref(), &Default::default()).unwrap();
        }
        let mut changed = history.clone();
        changed.values[480..].fill(7.0);
        let other = Task { history: &changed, ..task }.arima().unwrap();
        assert_eq!(other.manifest.parameters, arima.manifest.parameters, "what is held out is not learnt from");
        assert_eq!(other.manifest.data_sha256, arima.manifest.data_sha256);
        assert_ne!(other.manifest.scores, arima.manifest.scores);
    }

    #[test]
    fn a_history_too_short_or_empty_is_refused_with_the_reason() {
        let forecast = forecast();
        for values in [vec![], vec![1.0; 5], vec![f64::NAN; 400]] {
            let history = Window { values, ..history() };
            let task = Task { workload: "web", history: &history, forecast: &forecast, held_out: 0.2 };
            assert!(task.arima().is_err());
            assert!(task.lstm(&Course::default(), None, |_| {}).is_err());
        }
    }
}
