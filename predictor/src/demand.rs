//! Outlooks of workloads and backends: what is due is read, computed and remembered.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bellwether_collector::query::Engine;
use bellwether_collector::source::changes::{self, ChangeEvent};
use bellwether_collector::store::TimeRange;
use bellwether_models::forecast::calendar::Calendar;
use bellwether_models::outlook::{Foresight, Observed, Outlook, Running};
use bellwether_models::series::{Timestamp, Window};
use futures::StreamExt;
use metrics::{counter, histogram};
use tracing::{debug, error, warn};

use crate::calendar;
use crate::config::{Config, ForecastConfig, SetAside};
use crate::due::{Due, Rhythm, Work};
use crate::foresee::{Abstention, Foreseer, Learnt, Wanted};
use crate::pool::Pool;
use crate::read;
use crate::registry::config::ModelsConfig;
use crate::registry::manifest::Artefact;
use crate::registry::record::Record;
use crate::registry::{Lineup, Live};

/// What the fits of one tick may cost together, in light ones: a long history takes seconds, and decisions wait for the
/// tick. The rest wait their turn; what is observed of them is told all the same.
const FITTING_PER_TICK: usize = 200;
/// How far back new points are looked through for deploys, where little is missing.
const SEEN_LIVE: Duration = Duration::from_secs(3600);
/// Series read from the store at the same time.
const READS_AT_ONCE: usize = 16;

/// Whether a series is the demand of a workload, the load of a backend, or something that has a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Workload,
    Backend,
    Quantity,
}

/// One series to foresee.
#[derive(Clone, Debug, PartialEq)]
struct Target {
    kind: Kind,
    name: String,
    query: String,
    replicas: Option<String>,
    ready: Option<String>,
    utilisation: Option<String>,
    calendar: Calendar,
    forecast: ForecastConfig,
    model: Arc<Artefact>,
    /// 0 for who serves, from 1 on for those in its shadow, the next to serve first.
    rank: usize,
    /// Whether what it foresees is set beside what comes.
    is_scored: bool,
}

impl Target {
    fn all_of(config: &Config, lineups: &BTreeMap<String, Lineup>) -> Vec<Self> {
        let model = Arc::new(Artefact::built_in(""));
        let workloads = config.workloads.iter().map(|w| Self {
            model: Arc::clone(&model),
            rank: 0,
            is_scored: false,
            kind: Kind::Workload,
            name: w.name.clone(),
            query: w.demand.clone(),
            replicas: w.replicas.clone(),
            ready: w.ready.clone(),
            utilisation: w.utilisation.clone(),
            calendar: calendar::of_workload(w, config),
            forecast: w.forecast,
        });
        let workloads = workloads.flat_map(|target| target.with_shadows(lineups));
        let backends = config.backends.iter().map(|b| Self {
            model: Arc::clone(&model),
            rank: 0,
            is_scored: false,
            kind: Kind::Backend,
            name: b.name.clone(),
            query: b.load.clone(),
            replicas: None,
            ready: None,
            utilisation: None,
            calendar: Calendar::default(),
            forecast: b.forecast,
        });
        let quantities = config.quantities.iter().map(|q| Self {
            model: Arc::clone(&model),
            rank: 0,
            is_scored: false,
            kind: Kind::Quantity,
            name: q.name.clone(),
            query: q.query.clone(),
            replicas: None,
            ready: None,
            utilisation: None,
            calendar: Calendar::default(),
            forecast: q.forecast,
        });
        workloads.chain(backends).chain(quantities).collect()
    }

    /// Itself with the champion that stands, and those in its shadow.
    fn with_shadows(self, lineups: &BTreeMap<String, Lineup>) -> Vec<Self> {
        let Some(lineup) = lineups.get(&self.name) else { return vec![self] };
        let is_scored = !lineup.shadows.is_empty() || lineup.champion.manifest.version != 0;
        let models = std::iter::once(&lineup.champion).chain(&lineup.shadows);
        let target = |(rank, model): (usize, &Arc<Artefact>)| {
            let facts = |query: &Option<String>| query.clone().filter(|_| rank == 0);
            Self {
                model: Arc::clone(model),
                rank,
                is_scored,
                replicas: facts(&self.replicas),
                ready: facts(&self.ready),
                utilisation: facts(&self.utilisation),
                ..self.clone()
            }
        };
        models.enumerate().map(target).collect()
    }

    fn version(&self) -> u64 {
        self.model.manifest.version
    }

    /// The kind comes first and up to the first space, so that no name is taken for another.
    fn key(&self) -> String {
        match self.kind {
            Kind::Workload if self.version() > 0 => format!("workload@{} {}", self.version(), self.name),
            Kind::Workload => format!("workload {}", self.name),
            Kind::Backend => format!("backend {}", self.name),
            Kind::Quantity => format!("quantity {}", self.name),
        }
    }

    /// How far back a deploy may lie whose aftermath is among the points read.
    fn reach(&self, refit: bool) -> Duration {
        let settle = self.forecast.settle_after_deploy;
        match (self.kind, settle.is_zero()) {
            (Kind::Workload, false) if refit => settle + self.forecast.history,
            (Kind::Workload, false) => settle + self.forecast.stale_after().max(SEEN_LIVE),
            _ => Duration::ZERO,
        }
    }

    /// The time after each of its deploys; nothing where they come so often that too little would be left to learn from.
    fn unsettled(&self, deploys: &[ChangeEvent]) -> Vec<(Timestamp, Timestamp)> {
        let settle = self.forecast.settle_after_deploy;
        let own = deploys.iter().filter(|d| d.service == self.name && !self.reach(false).is_zero());
        let spans: Vec<_> = own.map(ChangeEvent::to_change).map(|d| (d.at, d.at + settle)).collect();
        if settle * u32::try_from(spans.len()).unwrap_or(u32::MAX) > self.forecast.history / 4 {
            Vec::new()
        } else {
            spans
        }
    }

    fn rhythm(&self) -> Rhythm {
        let ForecastConfig { refit_interval, effort, .. } = self.forecast;
        Rhythm { step: self.forecast.grid(), refit_interval, fit_cost: effort.cost() }
    }
}

struct Mind {
    target: Target,
    /// Shared with the computation, so that a tick dropped half-way loses nothing.
    seat: Arc<Mutex<Seat>>,
    outlook: Option<Outlook>,
}

/// What foresees a series, and how it has done.
struct Seat {
    foreseer: Foreseer,
    record: Option<Record>,
}

/// The outlook of every workload and backend, kept up to date.
#[derive(Default)]
pub struct Demand {
    due: Due,
    minds: BTreeMap<String, Mind>,
    /// What was remembered and waits for its series to be named, with its query.
    remembered: Memory,
    set_aside: Vec<SetAside>,
    lineups: BTreeMap<String, Lineup>,
    /// Whether it was told which models there are: until then what was remembered of them is kept.
    is_lined_up: bool,
}

/// The models by key of their series, each with the query it was learnt from.
pub type Memory = BTreeMap<String, (String, Learnt)>;

impl Demand {
    /// Takes over what `config` names; what stays the same keeps what it has learnt.
    pub fn reconfigure(&mut self, config: &Config) {
        self.set_aside.clone_from(&config.set_aside);
        let targets = Target::all_of(config, &self.lineups);
        let targets: BTreeMap<String, Target> = targets.into_iter().map(|t| (t.key(), t)).collect();
        self.minds.retain(|key, mind| targets.get(key).is_some_and(|t| keeps_its_mind(t, &mind.target)));
        let minds = &self.minds;
        self.due.retain(|key| minds.contains_key(key));
        for (key, target) in targets {
            self.due.add(&key, target.rhythm());
            match self.minds.get_mut(&key) {
                Some(mind) => {
                    if mind.target.rank > 0 && target.rank == 0 {
                        self.due.look_next(&key); // its outlook lacks what only those who serve ask for
                    }
                    mind.target = target;
                }
                None => self.begin(key, target, &config.models),
            }
        }
        if self.is_lined_up {
            for mind in self.minds.values() {
                locked(&mind.seat).keep_record(&mind.target, &config.models);
            }
            self.remembered.clear();
        }
    }

    /// Has these models forecast the workloads of `config`; a workload without a lineup is forecast by the combination that
    /// comes with the program.
    pub fn line_up(&mut self, lineups: BTreeMap<String, Lineup>, config: &Config) {
        let first = !std::mem::replace(&mut self.is_lined_up, true);
        if first || self.lineups != lineups {
            self.lineups = lineups;
            self.reconfigure(config);
        }
    }

    /// The live record of every version of the models of `workload`.
    #[must_use]
    pub fn records(&self, workload: &str) -> BTreeMap<u64, Record> {
        let minds = self.of_workload(workload);
        minds.filter_map(|mind| Some((mind.target.version(), locked(&mind.seat).record.clone()?))).collect()
    }

    /// How every version of the models of `workload` does live, where anything is known.
    #[must_use]
    pub fn live(&self, workload: &str) -> BTreeMap<u64, Live> {
        let minds = self.of_workload(workload);
        minds.filter_map(|mind| Some((mind.target.version(), locked(&mind.seat).record.as_ref()?.live()?))).collect()
    }

    fn of_workload(&self, name: &str) -> impl Iterator<Item = &Mind> {
        self.minds.values().filter(move |mind| mind.target.kind == Kind::Workload && mind.target.name == name)
    }

    /// Takes up what was remembered, for the series that are named next.
    #[must_use]
    pub fn recall(remembered: Memory) -> Self {
        Self { remembered, ..Self::default() }
    }

    /// What is to be remembered.
    #[must_use]
    pub fn memory(&self) -> Memory {
        let learnt = |(key, mind): (&String, &Mind)| {
            let seat = locked(&mind.seat);
            let mut learnt = seat.foreseer.memory()?;
            learnt.record.clone_from(&seat.record);
            Some((key.clone(), (mind.target.query.clone(), learnt)))
        };
        self.minds.iter().filter_map(learnt).collect()
    }

    fn begin(&mut self, key: String, target: Target, models: &ModelsConfig) {
        let known = self.remembered.remove(&key).filter(|(query, learnt)| {
            *query == target.query && *learnt.config() == target.forecast && *learnt.calendar() == target.calendar
        });
        let mut seat = match known {
            Some((_, mut learnt)) => {
                self.due.known_already(&key, learnt.through());
                let record = learnt.record.take();
                Seat { foreseer: Foreseer::recall(learnt, Arc::clone(&target.model)), record }
            }
            None => {
                let model = Arc::clone(&target.model);
                Seat { foreseer: Foreseer::with_model(target.forecast, target.calendar.clone(), model), record: None }
            }
        };
        if self.is_lined_up {
            seat.keep_record(&target, models);
        }
        self.minds.insert(key, Mind { seat: Arc::new(Mutex::new(seat)), target, outlook: None });
    }

    /// Brings every outlook that is due up to `now`; gives those that changed.
    pub async fn tick(&mut self, now: Timestamp, engine: &Engine, pool: &Pool) -> Vec<Outlook> {
        let work = self.due.poll(now, FITTING_PER_TICK);
        let names: Vec<String> = work.iter().map(|w| w.name.clone()).collect();
        let deploys = self.deploys(now, &work, engine).await;
        let jobs: Vec<Job> = work.into_iter().filter_map(|work| self.job(work, &deploys)).collect();
        let done: Vec<Done> = futures::stream::iter(jobs)
            .map(|job| job.run(now, engine, pool))
            .buffer_unordered(READS_AT_ONCE)
            .collect()
            .await;
        for done in done {
            self.finish(done, now);
        }
        let serving = names.iter().filter_map(|name| self.minds.get(name)).filter(|mind| mind.target.rank == 0);
        serving.filter_map(|mind| self.said(mind)).collect()
    }

    /// The newest outlooks of workloads, of backends and of quantities, each in order of name.
    #[must_use]
    pub fn outlooks(&self) -> (Vec<Outlook>, Vec<Outlook>, Vec<Outlook>) {
        let of = |kind: Kind| {
            let minds = self.minds.values().filter(move |mind| mind.target.kind == kind && mind.target.rank == 0);
            let mut outlooks: Vec<Outlook> = minds.filter_map(|mind| self.said(mind)).collect();
            outlooks.sort_by(|a, b| a.workload.cmp(&b.workload));
            outlooks
        };
        (of(Kind::Workload), of(Kind::Backend), of(Kind::Quantity))
    }

    /// What is known of a series; while its champion has nothing to say, what the next in its shadow says.
    fn said(&self, mind: &Mind) -> Option<Outlook> {
        let outlook = mind.outlook.clone()?;
        if mind.target.kind != Kind::Workload || matches!(outlook.foresight, Foresight::Forecast { .. }) {
            return Some(outlook);
        }
        let next = self.of_workload(&mind.target.name).filter(|next| next.target.rank > 0);
        let next = next.filter_map(|next| Some((next.target.rank, next.outlook.as_ref()?)));
        let speaks = |(_, next): &(usize, &Outlook)| {
            matches!(next.foresight, Foresight::Forecast { .. }) && next.made_at == outlook.made_at
        };
        match next.filter(speaks).min_by_key(|(rank, _)| *rank) {
            Some((_, next)) => {
                Some(Outlook { foresight: next.foresight.clone(), model: next.model.clone(), ..outlook })
            }
            None => Some(outlook),
        }
    }

    /// When the next series is due.
    #[must_use]
    pub fn next_wakeup(&self) -> Option<Timestamp> {
        self.due.next_wakeup()
    }

    /// The deploys whose aftermath may lie among the points that `work` reads. Without them the work is done all the same.
    async fn deploys(&self, now: Timestamp, work: &[Work], engine: &Engine) -> Vec<ChangeEvent> {
        let reach =
            |work: &Work| self.minds.get(&work.name).map_or(Duration::ZERO, |mind| mind.target.reach(work.refit));
        let Some(reach) = work.iter().map(reach).max().filter(|reach| !reach.is_zero()) else { return Vec::new() };
        let found = changes::between(engine.store().as_ref(), TimeRange { from: now - reach, to: now }).await;
        let mut found = found.unwrap_or_else(|error| {
            warn!(error = &error as &dyn std::error::Error, "could not read deploys; their aftermath is learnt from");
            Vec::new()
        });
        found.retain(|change| change.kind == "deploy");
        found
    }

    fn job(&self, work: Work, deploys: &[ChangeEvent]) -> Option<Job> {
        let mind = self.minds.get(&work.name)?;
        let spans = self.set_aside.iter().filter_map(|span| span.of(&mind.target.name));
        let aside = spans.chain(mind.target.unsettled(deploys)).collect();
        Some(Job { seat: Arc::clone(&mind.seat), target: mind.target.clone(), work, aside })
    }

    fn finish(&mut self, done: Done, now: Timestamp) {
        let Some(mind) = self.minds.get_mut(&done.work.name) else { return };
        match done.fitted {
            Some(span) => self.due.fitted(&done.work.name, now, span),
            None if done.work.refit => self.due.refit_next(&done.work.name),
            None => {}
        }
        mind.outlook = Some(done.outlook);
    }
}

fn keeps_its_mind(new: &Target, old: &Target) -> bool {
    new.query == old.query
        && new.forecast == old.forecast
        && new.calendar == old.calendar
        && new.model.manifest.sha256 == old.model.manifest.sha256
}

/// One series on its way through reading and computing.
struct Job {
    work: Work,
    target: Target,
    seat: Arc<Mutex<Seat>>,
    aside: Vec<(Timestamp, Timestamp)>,
}

/// What came of a job.
struct Done {
    work: Work,
    outlook: Outlook,
    /// Span of the history, when learning was tried.
    fitted: Option<Duration>,
}

impl Job {
    async fn run(mut self, now: Timestamp, engine: &Engine, pool: &Pool) -> Done {
        let Target { replicas, ready, utilisation, .. } = &self.target;
        let replicas = newest(engine, replicas.as_deref(), now).await;
        let ready = newest(engine, ready.as_deref(), now).await;
        let utilisation = newest(engine, utilisation.as_deref(), now).await;
        let (fitted, said) = match self.read(now, engine).await {
            Ok((wanted, window)) => self.compute(wanted, window, now, pool).await,
            Err(why) => (None, Err(why)),
        };
        let outlook = Outlook {
            workload: self.target.name.clone(),
            made_at: now,
            model: self.target.model.manifest.reference(),
            demand: locked(&self.seat).foreseer.observed(now),
            replicas,
            foresight: said.unwrap_or_else(|why| abstained(&self.target, &why)),
            anomalies: Vec::new(),
            running: Running { ready, utilisation, changed_at: None },
        };
        Done { work: self.work, outlook, fitted }
    }

    async fn read(&self, now: Timestamp, engine: &Engine) -> Result<(Wanted, Window), Abstention> {
        let wanted = locked(&self.seat).foreseer.wants(now, self.work.refit);
        let window = read::one_window(engine, &self.target.query, wanted, self.target.forecast.grid()).await?;
        Ok((wanted, window))
    }

    async fn compute(&mut self, wanted: Wanted, window: Window, now: Timestamp, pool: &Pool) -> Computed {
        let (seat, aside) = (Arc::clone(&self.seat), std::mem::take(&mut self.aside));
        if let Some(computed) = pool.run(move || compute(&mut locked(&seat), wanted, &window, &aside, now)).await {
            return computed;
        }
        counter!("bellwether_predictor_broken_computations_total").increment(1);
        error!(workload = %self.target.name, "forecasting broke; the model is fitted anew at the next step");
        let mut seat = locked(&self.seat);
        seat.foreseer.give_up();
        if let Some(record) = &mut seat.record {
            record.issue(now, None); // to break is to have nothing to say
        }
        drop(seat);
        self.work.refit = true;
        (None, Err(Abstention::Broken))
    }
}

async fn newest(engine: &Engine, query: Option<&str>, now: Timestamp) -> Option<Observed> {
    read::newest(engine, query?, now).await
}

impl Seat {
    /// A record for those that are scored, and for no others.
    fn keep_record(&mut self, target: &Target, models: &ModelsConfig) {
        let fresh = || Record::new(models.window, target.forecast.step);
        let kept = self.record.take().filter(|record| record.is_like(&fresh()));
        self.record = target.is_scored.then(|| kept.unwrap_or_else(fresh));
    }
}

type Computed = (Option<Duration>, Result<Foresight, Abstention>);

fn compute(
    Seat { foreseer, record }: &mut Seat,
    wanted: Wanted,
    window: &Window,
    aside: &[(Timestamp, Timestamp)],
    now: Timestamp,
) -> Computed {
    let began = Instant::now(); // for the metric alone: no result depends on it
    let fitted = foreseer.take_in(wanted, window, aside);
    if fitted.is_some() {
        histogram!("bellwether_predictor_fit_seconds").record(began.elapsed().as_secs_f64());
    }
    let said = foreseer.foresee(now);
    if let Some(record) = record {
        record.observe(window);
        record.issue(
            now,
            match &said {
                Ok(Foresight::Forecast { forecast, .. }) => Some(forecast),
                _ => None,
            },
        );
    }
    (fitted, said)
}

fn abstained(target: &Target, why: &Abstention) -> Foresight {
    debug!(workload = %target.name, reason = %why, "no forecast");
    counter!("bellwether_predictor_abstentions_total", "reason" => why.name()).increment(1);
    Foresight::Abstained { reason: why.to_string() }
}

/// Whoever panicked while holding the lock is replaced.
fn locked(seat: &Mutex<Seat>) -> MutexGuard<'_, Seat> {
    seat.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use bellwether_collector::source::moment::Moment;

    use super::*;

    fn deploy(service: &str, at: i64) -> ChangeEvent {
        let at = Some(Moment(Timestamp::from_secs(at)));
        ChangeEvent { service: service.to_owned(), kind: "deploy".to_owned(), at, labels: BTreeMap::new() }
    }

    #[test]
    fn the_minutes_after_its_own_deploys_are_set_aside_unless_there_are_too_many() {
        let workload = crate::config::Workload { name: "web".to_owned(), ..Default::default() };
        let config = Config { workloads: vec![workload], ..Config::default() };
        let mut target = Target::all_of(&config, &BTreeMap::new()).remove(0);
        let one = [deploy("web", 6000), deploy("cart", 7000)];
        let span = (Timestamp::from_secs(6000), Timestamp::from_secs(6300));
        assert_eq!(target.unsettled(&one), [span]);
        let many: Vec<ChangeEvent> = (0..2000).map(|i| deploy("web", 600 * i)).collect();
        assert_eq!(target.unsettled(&many), []);
        target.forecast.settle_after_deploy = Duration::ZERO;
        assert_eq!(target.unsettled(&one), []);
    }
}
