//! Symptoms, incidents and causes of every workload, kept up to date.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use bellwether_collector::query::Engine;
use bellwether_collector::store::Batch;
use bellwether_models::cause::{Ranking, rank};
use bellwether_models::detect::{Alarms, Anomaly, Ledger, Maturity, Score, Vigilance};
use bellwether_models::incident::{Findings, Incident, Sighting, Topology};
use bellwether_models::series::{Labels, Timestamp, Window};
use futures::StreamExt;
use metrics::{counter, gauge, histogram};
use serde::{Deserialize, Serialize};
use tracing::{error, warn};

use crate::config::{Asked, Config, DetectionConfig};
use crate::discover::Discovered;
use crate::evidence::CallMap;
use crate::foresee::Wanted;
use crate::incidents::Incidents;
use crate::inquiry::inquire;
use crate::pool::Pool;
use crate::stream::Bars;
use crate::symptom::Symptom;
use crate::{publish, read, residual};

/// Symptoms read from the store at the same time.
const READS_AT_ONCE: usize = 16;

/// What is known of the symptoms of every workload, and what became of their anomalies.
#[derive(Default)]
pub struct Health {
    /// Shared with the computation, so that a tick dropped half-way loses nothing.
    symptoms: Arc<Mutex<Vec<Symptom>>>,
    incidents: Incidents,
    configured: CallMap,
    discovered: Discovered,
    /// The calls that were configured and those that were discovered.
    calls: CallMap,
    topology: Topology,
    ledger: Ledger,
    /// Decades by which the bar of a series is raised, since people said that its alarms were false.
    lenient: BTreeMap<Labels, f64>,
    vigilance: Vigilance,
}

/// What is remembered of [`Health`] over a restart.
#[derive(Default, Serialize, Deserialize)]
pub struct Memory {
    symptoms: Vec<Symptom>,
    incidents: Incidents,
    ledger: Ledger,
}

impl Health {
    /// Takes up what was remembered.
    #[must_use]
    pub fn recall(memory: Memory) -> Self {
        let Memory { symptoms, incidents, ledger } = memory;
        Self { symptoms: Arc::new(Mutex::new(symptoms)), incidents, ledger, ..Self::default() }
    }

    /// What is to be remembered.
    #[must_use]
    pub fn memory(&self) -> Memory {
        let symptoms = locked(&self.symptoms).clone();
        Memory { symptoms, incidents: self.incidents.clone(), ledger: self.ledger.clone() }
    }

    /// Takes over what `config` names; a symptom that stays keeps what it has learnt.
    pub fn reconfigure(&mut self, config: &Config) {
        self.configured = CallMap::of(config);
        self.join_calls();
        let key = |s: &Symptom| (s.workload().to_owned(), s.asked());
        let mut symptoms = locked(&self.symptoms);
        let mut known: BTreeMap<(String, Asked), Symptom> = symptoms.drain(..).map(|s| (key(&s), s)).collect();
        let step = config.detection.grid();
        let wanted = config.workloads.iter().flat_map(|w| {
            let mut asked = w.asked(step);
            asked.extend((config.detection.watch_forecasts && !asked.is_empty()).then(|| residual::asked(w)));
            asked.into_iter().map(|a| (w.name.clone(), a))
        });
        symptoms.extend(wanted.map(|key| known.remove(&key).unwrap_or_else(|| Symptom::new(&key.0, &key.1))));
    }

    fn join_calls(&mut self) {
        self.calls = self.configured.with(self.discovered.calls());
        self.topology = Topology::new(self.calls.all());
    }

    /// When the next point of a symptom is due.
    #[must_use]
    pub fn next_wakeup(&self, config: &DetectionConfig) -> Option<Timestamp> {
        locked(&self.symptoms).iter().map(|symptom| symptom.next_wakeup(config)).min()
    }

    /// Scores what is new at `now`, opens, updates and resolves incidents, and ranks their causes. Gives the newest
    /// scores as series.
    pub async fn tick(&mut self, now: Timestamp, config: &DetectionConfig, engine: &Engine, pool: &Pool) -> Batch {
        let found = self.read(now, config, engine).await;
        let (symptoms, detection, lenient) = (Arc::clone(&self.symptoms), config.clone(), self.lenient.clone());
        self.ledger.settle(now);
        let correction = self.ledger.correction(config.false_alarms_per_week, now);
        let work = move || score(&mut locked(&symptoms), found, &detection, correction, &lenient, now);
        let scored = pool.run(work).await.unwrap_or_else(|| {
            counter!("bellwether_predictor_broken_computations_total").increment(1);
            error!("scoring symptoms broke; the samples of this tick are not scored");
            Scored::default()
        });
        let series = symptom_series(&locked(&self.symptoms));
        let seen = with_company(scored.seen);
        scored.alarms.iter().for_each(|(at, alarms)| self.ledger.note(*at, *alarms));
        self.watch_over(now, config, correction, scored.evicted);
        if config.discover_calls && self.discovered.refresh(now, &config.service_label, engine).await {
            self.join_calls();
        }
        let heard = locked(&self.symptoms).iter().flat_map(Symptom::heard).collect();
        self.incidents.hear(&heard);
        for incident in self.incidents.observe(now, &seen, &self.topology, config, series) {
            let findings = self.find_out(&incident, now, config, engine, pool).await;
            self.incidents.attach(&incident, findings, now, config);
        }
        gauge!("bellwether_predictor_incidents_open").set(self.incidents.open().count() as f64);
        scored.series
    }

    /// Raises the bar of series by decades; those not named have the usual one.
    pub fn heed(&mut self, lenient: BTreeMap<Labels, f64>) {
        self.lenient = lenient;
    }

    /// What detection says of itself.
    #[must_use]
    pub fn vigilance(&self) -> &Vigilance {
        &self.vigilance
    }

    /// Sums up how watchful detection is, for the page and as metrics.
    fn watch_over(&mut self, now: Timestamp, config: &DetectionConfig, correction: f64, evicted: usize) {
        let mut series = [0; 3];
        for maturity in locked(&self.symptoms).iter().filter(|s| !s.is_witness()).flat_map(Symptom::maturities) {
            series[maturity as usize] += 1;
        }
        self.vigilance = Vigilance {
            budget_per_week: config.false_alarms_per_week,
            alarms_last_week: self.ledger.last_week(now),
            opens: Bars::new(config, series.iter().sum(), correction).corrected.opens,
            correction,
            series,
            lenient: self.lenient.len(),
            evicted: self.vigilance.evicted + evicted as u64,
        };
        tell(&self.vigilance);
        counter!("bellwether_detection_series_evicted_total").increment(evicted as u64);
    }

    /// Anomalies that last, by workload.
    #[must_use]
    pub fn anomalies(&self) -> BTreeMap<String, Vec<Anomaly>> {
        let mut anomalies: BTreeMap<String, Vec<Anomaly>> = BTreeMap::new();
        for symptom in locked(&self.symptoms).iter().filter(|symptom| !symptom.is_witness()) {
            for anomaly in symptom.anomalies() {
                anomalies.entry(symptom.workload().to_owned()).or_default().push(anomaly);
            }
        }
        anomalies
    }

    /// Open incidents and those resolved lately, newest onset first.
    #[must_use]
    pub fn incidents(&self) -> Vec<Incident> {
        self.incidents.all()
    }

    async fn read(&self, now: Timestamp, config: &DetectionConfig, engine: &Engine) -> Vec<Found> {
        let wanted: Vec<(usize, Wanted, String)> = locked(&self.symptoms)
            .iter()
            .enumerate()
            .filter_map(|(index, symptom)| Some((index, symptom.wants(now, config)?, symptom.query().to_owned())))
            .collect();
        let reads = wanted.into_iter().map(async |(symptom, wanted, query)| {
            let windows = read::windows(engine, &query, wanted.start, config.grid(), wanted.len).await;
            let windows = windows.inspect_err(|error| unread(&query, &read::chain(error))).ok()?;
            Some(Found { symptom, wanted, windows })
        });
        futures::stream::iter(reads).buffered(READS_AT_ONCE).filter_map(std::future::ready).collect().await
    }

    /// The causes of `incident`, by the series of its services and of all they call; the changes nearby; whom it may
    /// reach.
    async fn find_out(
        &self,
        incident: &Incident,
        now: Timestamp,
        config: &DetectionConfig,
        engine: &Engine,
        pool: &Pool,
    ) -> Findings {
        let began = Instant::now(); // for the metric alone: no result depends on it
        let symptoms: Vec<Asked> = {
            let known = locked(&self.symptoms);
            let own = known.iter().filter(|s| s.workload() == incident.workload && !s.is_witness());
            own.map(Symptom::asked).collect()
        };
        let mut changes = Vec::new();
        let ranking = match inquire(incident, now, &symptoms, &self.calls, config, engine).await {
            Ok(question) => {
                changes.clone_from(&question.changes);
                pool.run(move || rank(&question)).await.unwrap_or_else(|| silent("the ranker broke"))
            }
            Err(error) => silent(&format!("the store could not be asked: {}", read::chain(&error))),
        };
        histogram!("bellwether_predictor_rank_seconds").record(began.elapsed().as_secs_f64());
        Findings { ranking, changes, blast_radius: self.calls.callers(&incident.services) }
    }
}

/// The answer to one symptom's query.
struct Found {
    symptom: usize,
    wanted: Wanted,
    windows: Vec<(Labels, Window)>,
}

/// What scoring gave.
#[derive(Default)]
struct Scored {
    series: Batch,
    seen: Vec<Sighting>,
    alarms: Vec<(Timestamp, Alarms)>,
    evicted: usize,
}

fn score(
    symptoms: &mut [Symptom],
    found: Vec<Found>,
    config: &DetectionConfig,
    correction: f64,
    lenient: &BTreeMap<Labels, f64>,
    now: Timestamp,
) -> Scored {
    let bars = Bars::new(config, symptom_series(symptoms), correction);
    let mut scored = Scored::default();
    for Found { symptom, wanted, windows } in found {
        let Some(symptom) = symptoms.get_mut(symptom) else { continue };
        let looked = symptom.take_in(wanted, windows, config, &bars, lenient);
        scored.evicted += looked.evicted;
        if !symptom.is_witness() {
            scored.alarms.extend(looked.alarms);
        }
        counter!("bellwether_predictor_symptom_series_left_out_total").increment(looked.left_out as u64);
        let (service, name) = (symptom.workload(), symptom.name());
        let felt = !symptom.is_witness();
        let sighting = |anomaly| Sighting { service: service.to_owned(), symptom: felt, anomaly };
        let telling = looked.anomalies.into_iter().filter(|anomaly| anomaly.effect() >= config.min_effect);
        scored.seen.extend(telling.map(sighting));
        let sample = |(labels, score): &(_, Score)| publish::score_series(service, name, labels, now, score.as_unit());
        scored.series.extend(looked.scores.iter().map(sample));
    }
    scored
}

/// Witnesses are heard where a symptom of their workload is out of line too.
fn with_company(seen: Vec<Sighting>) -> Vec<Sighting> {
    let ill: BTreeSet<String> = seen.iter().filter(|s| s.symptom).map(|s| s.service.clone()).collect();
    seen.into_iter().filter(|s| s.symptom || ill.contains(&s.service)).collect()
}

/// Series of symptoms, which share the budget.
fn symptom_series(symptoms: &[Symptom]) -> usize {
    symptoms.iter().filter(|symptom| !symptom.is_witness()).map(Symptom::series).sum()
}

fn tell(vigilance: &Vigilance) {
    gauge!("bellwether_detection_false_alarm_budget_per_week").set(vigilance.budget_per_week);
    gauge!("bellwether_detection_threshold_surprise").set(vigilance.opens);
    for (budget, alarms) in ["half", "configured", "double"].into_iter().zip(vigilance.alarms_last_week) {
        gauge!("bellwether_detection_alarms_last_week", "budget" => budget).set(f64::from(alarms));
    }
    for (maturity, series) in [Maturity::Learning, Maturity::Useful, Maturity::Full].iter().zip(vigilance.series) {
        gauge!("bellwether_detection_series", "maturity" => maturity.name()).set(series as f64);
    }
    gauge!("bellwether_detection_series_lenient").set(vigilance.lenient as f64);
}

fn silent(why: &str) -> Ranking {
    warn!(reason = why, "no causes were ranked");
    Ranking { abstained: Some(why.to_owned()), ..Ranking::default() }
}

fn unread(query: &str, error: &str) {
    counter!("bellwether_predictor_symptom_read_failures_total").increment(1);
    warn!(query, error, "could not read a symptom; it is read again at the next tick");
}

/// Whoever panicked while holding the lock left whole values behind.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
