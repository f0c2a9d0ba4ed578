//! When a workload gets a new challenger trained by itself, and the training.
//!
//! One training at a time, beside the forecasts and not on their threads: no tick waits for it. What comes of it is a
//! challenger like any other; whether it ever serves is for people or for its record.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bellwether_collector::query::Engine;
use bellwether_models::forecast::neural::{Checkpoint, Course, Network, Training};
use bellwether_models::series::{Timestamp, Window};
use metrics::{counter, histogram};
use tokio::task::JoinHandle;
use tracing::{info, warn};

use super::book::{Action, Book};
use super::config::{RetrainConfig, Trained as Kind};
use super::manifest::{Artefact, Manifest, Scores};
use super::training::{Task, Trained, TrainingError};
use super::{BY_RECORD, Live, Registry};
use crate::config::ForecastConfig;
use crate::foresee::Wanted;
use crate::read;

/// Batches that fit the network to a workload.
const BATCHES: usize = 120;
/// Share of the history kept unseen for scoring.
const HELD_OUT: f64 = 0.2;
/// Shortest time between two trainings for one workload.
const LEAST: Duration = Duration::from_secs(3600);

/// Why a workload is to be trained for at `now`; `None` when it is not. `tried` is when that was begun last. A challenger is
/// given the `window` in which it can win before a worse score calls for the next.
#[must_use]
pub fn due(
    book: &Book,
    scores: Option<Scores>,
    live: Option<Live>,
    tried: Option<Timestamp>,
    (config, min_origins, window): (&RetrainConfig, u64, Duration),
    now: Timestamp,
) -> Option<String> {
    let registered = book.entries().iter().rev().find(|entry| entry.action == Action::Register).map(|entry| entry.at);
    let last = registered.max(tried);
    let age = last.map(|at| now.since(at));
    let known = scores.zip(live).filter(|(_, live)| live.origins >= min_origins);
    let worse = known.map(|(scores, live)| live.pinball / scores.pinball.max(f64::MIN_POSITIVE) - 1.0);
    if let (Some(worse), Some(bound), true) =
        (worse, config.when_worse_by, age.is_none_or(|age| age >= LEAST.max(window)))
        && worse > bound
    {
        return Some(format!("live, the champion loses {:.0} % more than when it was trained", 100.0 * worse));
    }
    let old = !config.every.is_zero() && age.is_none_or(|age| age >= config.every);
    old.then(|| match age {
        Some(age) => format!("the newest model is {} old", bellwether_models::duration::format(age)),
        None => "no model was trained yet".to_owned(),
    })
}

/// A workload to be trained for.
#[derive(Clone, Debug)]
pub struct Job {
    /// The workload.
    pub workload: String,
    /// PromQL of its demand.
    pub query: String,
    /// How it is forecast.
    pub forecast: ForecastConfig,
    /// What to make.
    pub kind: Kind,
    /// Why.
    pub why: String,
    /// Who serves now.
    pub champion: Arc<Artefact>,
}

/// Trainings under way and begun.
#[derive(Default)]
pub struct Trainer {
    under_way: Option<JoinHandle<()>>,
    tried: BTreeMap<String, Timestamp>,
}

impl Trainer {
    /// Whether another training can begin.
    #[must_use]
    pub fn is_free(&self) -> bool {
        self.under_way.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// When a training for `workload` was begun last.
    #[must_use]
    pub fn tried(&self, workload: &str) -> Option<Timestamp> {
        self.tried.get(workload).copied()
    }

    /// Begins `job` in the background.
    pub fn begin(&mut self, job: Job, now: Timestamp, engine: Engine, registry: Arc<Registry>) {
        self.tried.insert(job.workload.clone(), now);
        info!(workload = job.workload, why = job.why, "training a challenger");
        self.under_way = Some(tokio::spawn(run(job, now, engine, registry)));
    }
}

async fn run(job: Job, now: Timestamp, engine: Engine, registry: Arc<Registry>) {
    let workload = job.workload.clone();
    let outcome = match challenger(job, now, &engine).await {
        Ok(Trained { manifest, weights }) => {
            registry.register(&workload, manifest, weights, now).await.map(drop).map_err(|error| read::chain(&error))
        }
        Err(error) => Err(error),
    };
    let name = if outcome.is_ok() { "registered" } else { "failed" };
    counter!("bellwether_predictor_model_trainings_total", "outcome" => name).increment(1);
    if let Err(error) = outcome {
        warn!(workload, error, "no challenger came of the training");
    }
}

async fn challenger(job: Job, now: Timestamp, engine: &Engine) -> Result<Trained, String> {
    let (step, len) = (job.forecast.grid(), job.forecast.history_steps());
    let start = now.floor_to(step) - step.times(len.saturating_sub(1));
    let wanted = Wanted { start, len, history: true };
    let history = read::one_window(engine, &job.query, wanted, step).await.map_err(|error| error.to_string())?;
    let seen = history.values.iter().position(|value| value.is_finite()).ok_or("nothing was observed")?;
    let history = history.last(history.len() - seen);
    let began = std::time::Instant::now(); // for the metric alone: no result depends on it
    let made = tokio::task::spawn_blocking(move || make(&job, &history)).await.map_err(|error| error.to_string())?;
    histogram!("bellwether_predictor_model_training_seconds").record(began.elapsed().as_secs_f64());
    made.map_err(|error| read::chain(&error))
}

fn make(job: &Job, history: &Window) -> Result<Trained, TrainingError> {
    let task = Task { workload: &job.workload, history, forecast: &job.forecast, held_out: HELD_OUT };
    let own = job.champion.network.as_deref();
    let trained = match job.kind {
        Kind::Arima => task.arima()?,
        Kind::Lstm => {
            let training = Training { batches: BATCHES, ..Training::default() };
            let start = own.cloned().or_else(Network::pretrained);
            task.lstm(&Course { training, ..Course::default() }, start.as_ref().map(Checkpoint::begin), |_| {})?
        }
    };
    let version = job.champion.manifest.version;
    let parent = (job.kind == Kind::Lstm && own.is_some()).then_some(version);
    let manifest = Manifest { author: BY_RECORD.to_owned(), note: job.why.clone(), parent, ..trained.manifest };
    Ok(Trained { manifest, ..trained })
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 86_400;

    fn registered(at: i64) -> Book {
        let mut book = Book::default();
        let entry = book.registration("sum".to_owned(), None, "x", "", Timestamp::from_secs(at));
        book.take(entry, "tip".to_owned()).unwrap();
        book
    }

    fn asked(book: &Book, loss: Option<f64>, tried: Option<i64>, config: &RetrainConfig, now: i64) -> Option<String> {
        let scores = Scores { pinball: 1.0, mase: 1.0, coverage_p95: 0.95, origins: 50, horizon: 6 };
        let live = loss.map(|pinball| Live { origins: 50, pinball, coverage_p95: 0.9 });
        let tried = tried.map(Timestamp::from_secs);
        due(book, Some(scores), live, tried, (config, 20, Duration::from_secs(43_200)), Timestamp::from_secs(now))
    }

    #[test]
    fn age_and_a_worse_score_call_for_training_and_nothing_does_where_it_is_off() {
        let off = RetrainConfig::default();
        assert_eq!(asked(&Book::default(), Some(9.0), None, &off, DAY), None);
        let weekly = RetrainConfig { every: Duration::from_secs(7 * 86_400), ..off };
        assert!(asked(&Book::default(), None, None, &weekly, DAY).is_some());
        assert_eq!(asked(&registered(0), None, None, &weekly, 6 * DAY), None);
        assert!(asked(&registered(0), None, None, &weekly, 7 * DAY).is_some());
        assert_eq!(asked(&registered(0), None, Some(2 * DAY), &weekly, 8 * DAY), None, "not again after a failure");
        let drift = RetrainConfig { when_worse_by: Some(0.2), ..off };
        assert_eq!(asked(&registered(0), Some(1.1), None, &drift, DAY), None);
        assert_eq!(asked(&registered(0), None, None, &drift, DAY), None);
        assert!(asked(&registered(0), Some(1.3), None, &drift, DAY).unwrap().contains("30 % more"));
        assert_eq!(asked(&registered(0), Some(1.3), Some(DAY - 600), &drift, DAY), None, "not twice an hour");
        let recent = asked(&registered(DAY / 2 + 60), Some(1.3), None, &drift, DAY);
        assert_eq!(recent, None, "the newest challenger has not had its time yet");
    }
}
