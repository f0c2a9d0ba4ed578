//! The shell: reads the snapshot, asks the pure parts what to do, carries it out and puts it on record.

mod cluster;
mod courier;
mod outbox;
mod state;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bellwether_models::cause::Trust;
use bellwether_models::incident::past::similar;
use bellwether_models::incident::{Incident, Maintenance, People, Said, Similar, Status, TrackRecord, Word, track};
use bellwether_models::outlook::Snapshot;
use bellwether_models::series::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tracing::{info, warn};

use crate::actuate::offer::Offers;
use crate::actuate::{self, SeriesSink, keda};
use crate::config::{BackendConfig, Config, NotUsable, RerouteConfig, RerouteFault, Workload};
use crate::decide::{Fleet, decide};
use crate::grpc::{GrpcConfig, GrpcError, GrpcServer};
use crate::guard::{self, Control, Downstream, Stop, guard};
use crate::history::{History, NotNoted, Plan as MaintenancePlan, Statement};
use crate::learn::Lesson;
use crate::notify::config::AlertsFault;
use crate::notify::warning::Warnings;
use crate::notify::{AlertStatus, Memory, Notice, Notifier};
use crate::plan::{Decision, Plan};
use crate::record::{DecisionLog, DecisionRecord, LogError};
use crate::route::drain::{self, Drain, Drains, Refusal, Turn, What};
use crate::route::envoy::{self, Clusters, Discovery};
use crate::route::orca::{LoadReport, LoadReports, NoReport, Reports};
use crate::route::{self, Routing, Weight, haproxy};
use cluster::Cluster;
use courier::Courier;
use outbox::Outbox;
use state::StateDir;
pub use state::StateError;

/// How long notices under way are waited for at the end.
const SETTLE_WITHIN: Duration = Duration::from_secs(10);
/// Time between two writes of what was learnt.
const KEEP_LESSONS_EVERY: Duration = Duration::from_secs(300);

/// Why the scheduler could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A workload's settings contradict each other.
    #[error("workload {workload} cannot be scaled as configured")]
    Unusable {
        /// Which workload.
        workload: String,
        /// Why.
        source: NotUsable,
    },
    /// Load cannot be moved as configured.
    #[error("load cannot be rerouted as configured")]
    Reroute(#[from] RerouteFault),
    /// Alerts cannot be sent as configured.
    #[error("alerts cannot be sent as configured")]
    Alerts(#[from] AlertsFault),
    /// The decision log.
    #[error("could not open the records of decisions and incidents")]
    Log(#[from] LogError),
    /// The kept state.
    #[error("could not read the scheduler's kept state")]
    State(#[from] StateError),
    /// The HAProxy responder.
    #[error("could not listen for agent checks on {address}; choose another reroute.haproxy.listen")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The discovery of endpoints.
    #[error("could not listen for endpoint discovery on {address}; choose another reroute.envoy.listen")]
    ListenForEnvoy {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The gRPC server.
    #[error("gRPC cannot be answered at grpc.listen")]
    Grpc(#[from] GrpcError),
    /// A backend's own address for load reports.
    #[error("the load of backend {backend:?} cannot be reported at its orca.listen")]
    LoadReports {
        /// Which backend.
        backend: String,
        /// Why.
        source: GrpcError,
    },
    /// A backend would be gone while it is drained, and stay out of service wherever it was taken out.
    #[error(
        "backend {backend:?} is being drained and is no longer among reroute.backends; undrain it first (one that goes for good: once no balancer has it any more)"
    )]
    Drained {
        /// Which backend.
        backend: String,
    },
    /// The HTTP client.
    #[error("could not set up the HTTP client")]
    Client(#[source] reqwest::Error),
}

/// Why a drain was not ordered or called off. Nothing has changed then.
#[derive(Debug, thiserror::Error)]
pub enum NotDrained {
    /// It must not be.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// It could not be made durable.
    #[error("could not keep the drain")]
    Kept(#[from] StateError),
}

/// What the scheduler shows of its last tick.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct View {
    /// The last plan, as it passed the guard.
    pub plan: Plan,
    /// How the alerts stand.
    pub alerts: Vec<AlertStatus>,
    /// The weights of the backends.
    pub weights: Vec<Weight>,
}

/// The scheduler. One tick at a time; its [`Handle`] serves everybody else.
pub struct Service {
    config: Config,
    lessons_kept: Option<Timestamp>,
    routing: Routing,
    kept_routing: Routing,
    outbox: Outbox,
    warnings: Warnings,
    courier: Courier,
    cluster: Cluster,
    sink: Arc<dyn SeriesSink>,
    shared: Arc<Shared>,
    responder: Option<haproxy::Responder>,
    discovery: Option<Discovery>,
    grpc: Option<GrpcServer>,
    load_reports: BTreeMap<String, GrpcServer>,
}

struct Shared {
    state: Arc<StateDir>,
    fleet: Mutex<Fleet>,
    history: Mutex<History>,
    log: Mutex<DecisionLog>,
    control: watch::Sender<Control>,
    drains: Mutex<Drains>,
    view: watch::Sender<Arc<View>>,
    weights: watch::Sender<haproxy::Weights>,
    clusters: watch::Sender<Clusters>,
    offers: watch::Sender<Offers>,
    reports: watch::Sender<Reports>,
}

/// Questions and orders for a running scheduler; cheap to clone.
#[derive(Clone)]
pub struct Handle(Arc<Shared>);

impl Service {
    /// A scheduler that writes its decisions to `sink` and, given a directory, keeps its records and state there.
    /// Answers HAProxy and Envoy where configured.
    ///
    /// # Errors
    /// [`StartError`], which names what stands in the way.
    pub async fn new(
        config: Config,
        sink: Arc<dyn SeriesSink>,
        state_dir: Option<PathBuf>,
    ) -> Result<Self, StartError> {
        check(&config)?;
        let log = DecisionLog::open(state_dir.as_deref())?;
        let history = History::open(state_dir.as_deref())?;
        let state = Arc::new(StateDir::new(state_dir));
        let notifier = Notifier::new(config.alerts.clone(), state.read::<Memory>(state::ALERTS)?);
        let client = http_client().map_err(StartError::Client)?;
        let routing = state.read::<Routing>(state::ROUTING)?;
        let weights = watch::Sender::new(kept_weights(&config.reroute.backends, &routing));
        let responder = respond(&config, &weights).await?;
        let clusters = watch::Sender::new(envoy::clusters(&config.reroute.backends, &routing));
        let discovery = discover(&config, &clusters).await?;
        let offers = watch::Sender::<Offers>::default();
        let reports = watch::Sender::new(Reports::of(&[], &config.reroute));
        let streams = LoadReports::new(reports.subscribe(), config.reroute.orca.most_streams);
        let load_reports = report_load(&config, &streams)?;
        let routes = keda::router(offers.subscribe()).merge(streams.router(None));
        let grpc = config.grpc.as_ref().map(|grpc| GrpcServer::start(grpc, routes)).transpose()?;
        let mut fleet = Fleet::resume(log.last_decisions());
        fleet.recall(state.read(state::LESSONS)?);
        Ok(Self {
            lessons_kept: None,
            kept_routing: routing.clone(),
            routing,
            warnings: state.read(state::WARNINGS)?,
            outbox: Outbox::new(notifier, &config.alerts, client, state.clone()).map_err(StartError::Client)?,
            courier: Courier::new(&config, &Cluster::default()).map_err(StartError::Client)?,
            cluster: Cluster::default(),
            shared: Arc::new(Shared {
                control: watch::Sender::new(state.read::<Control>(state::CONTROL)?),
                drains: Mutex::new(state.read(state::DRAINS)?),
                state,
                fleet: Mutex::new(fleet),
                history: Mutex::new(history),
                log: Mutex::new(log),
                view: watch::Sender::default(),
                weights,
                clusters,
                offers,
                reports,
            }),
            config,
            sink,
            responder,
            discovery,
            grpc,
            load_reports,
        })
    }

    /// The way for others to ask and to order.
    #[must_use]
    pub fn handle(&self) -> Handle {
        Handle(self.shared.clone())
    }

    /// Where HAProxy's agent checks are answered.
    #[must_use]
    pub fn haproxy_address(&self) -> Option<SocketAddr> {
        self.responder.as_ref().map(haproxy::Responder::address)
    }

    /// Where Envoy's endpoint discovery is answered.
    #[must_use]
    pub fn envoy_address(&self) -> Option<SocketAddr> {
        self.discovery.as_ref().map(Discovery::address)
    }

    /// Where gRPC is answered.
    #[must_use]
    pub fn grpc_address(&self) -> Option<SocketAddr> {
        self.grpc.as_ref().map(GrpcServer::address)
    }

    /// Where the load of `backend` alone is reported.
    #[must_use]
    pub fn load_reports_address(&self, backend: &str) -> Option<SocketAddr> {
        self.load_reports.get(backend).map(GrpcServer::address)
    }

    /// Scales in the cluster behind `client` from now on; with a lease, only while it is ours.
    ///
    /// # Errors
    /// [`StartError::Client`], and everything stays as it was.
    #[cfg(feature = "kubernetes")]
    pub fn join(&mut self, client: kube::Client, lease: Option<&crate::config::LeaseConfig>) -> Result<(), StartError> {
        let cluster = Cluster::join(client, lease);
        self.courier = Courier::new(&self.config, &cluster).map_err(StartError::Client)?;
        self.cluster = cluster;
        Ok(())
    }

    /// What those are answered who ask for replicas; a signal at each round.
    #[must_use]
    pub fn offers(&self) -> watch::Receiver<Offers> {
        self.shared.offers.subscribe()
    }

    /// Whether decisions are carried out by us rather than by another that holds the lease.
    #[must_use]
    pub fn may_act(&self) -> bool {
        self.cluster.may_act()
    }

    /// Takes on another configuration; courses, retries and alerts under way go on. A changed `grpc` or another address or
    /// bound of `reroute` needs a restart.
    ///
    /// # Errors
    /// [`StartError::Unusable`], [`StartError::Reroute`], [`StartError::Alerts`] or [`StartError::Drained`], and everything
    /// stays as it was.
    pub fn reconfigure(&mut self, config: Config) -> Result<(), StartError> {
        check(&config)?;
        self.keeps_the_drained(&config)?;
        self.outbox.follow(&config.alerts).map_err(StartError::Client)?;
        self.courier.follow(&self.config, &config, &self.cluster).map_err(StartError::Client)?;
        self.config = config;
        Ok(())
    }

    fn keeps_the_drained(&self, config: &Config) -> Result<(), StartError> {
        let drains = self.shared.drains();
        let stays = |name: &str| config.reroute.backends.iter().any(|backend| backend.name == name);
        let mut gone = self.config.reroute.backends.iter().map(|backend| &backend.name).filter(|name| !stays(name));
        let drained = gone.find(|name| drains.of(name).is_some());
        drained.map_or(Ok(()), |backend| Err(StartError::Drained { backend: backend.clone() }))
    }

    /// One round on the facts of `snapshot`: decide, guard, record, act, route, alert. Whatever goes wrong on the way
    /// out is logged and tried again in a later round; the plan stands.
    pub async fn tick(&mut self, now: Timestamp, snapshot: &Snapshot) -> Arc<View> {
        self.forget_old_stops(now);
        let observed = self.courier.observe(snapshot, now).await;
        let snapshot = observed.as_ref();
        let plan = self.plan(now, snapshot);
        self.shared.offers.send_replace(Offers::of(&plan, &self.config.workloads));
        self.keep_lessons(now).await;
        let weights = self.route(now, snapshot);
        self.archive(snapshot);
        let people = self.shared.history().people();
        let mut notices = self.notices(snapshot);
        notices.extend(self.warn(now, snapshot, &people));
        let of_model = |gone| Notice::of_model(gone, &people, &self.config.alerts);
        notices.extend(snapshot.taken_back.iter().map(of_model));
        self.courier.may_act(self.cluster.may_act());
        let (alerts, (), (), ()) = tokio::join!(
            self.outbox.round(now, &notices, &people),
            write_series(self.sink.as_ref(), now, &plan),
            self.courier.deliver(now, &plan, &self.shared.log),
            self.cluster.steer(&self.config.reroute.http_routes, &self.routing),
        );
        let view = Arc::new(View { plan, alerts, weights });
        self.shared.view.send_replace(view.clone());
        view
    }

    /// Waits until notices under way have been answered, for ten seconds at most; to be called at the end.
    pub async fn settle(&mut self) {
        self.outbox.settle(SETTLE_WITHIN).await;
        self.write_lessons().await;
    }

    async fn keep_lessons(&mut self, now: Timestamp) {
        let due = self.lessons_kept.is_none_or(|at| now < at || now.since(at) >= KEEP_LESSONS_EVERY);
        // What is learnt in the first moments is worth nothing.
        if due && self.lessons_kept.replace(now).is_some() {
            self.write_lessons().await;
        }
    }

    async fn write_lessons(&self) {
        let (shared, lessons) = (self.shared.clone(), self.shared.fleet().lessons().clone());
        // Cut off by the end of the process, the old file stays.
        let _ = tokio::task::spawn_blocking(move || shared.keep(state::LESSONS, &lessons)).await;
    }

    fn forget_old_stops(&self, now: Timestamp) {
        let over = |stop: &Stop| !stop.holds(now);
        let control = self.shared.control.borrow().clone();
        if control.all.iter().chain(control.workloads.values()).any(over) {
            self.handle().order(|control| control.forget_what_is_over(now));
        }
    }

    fn archive(&self, snapshot: &Snapshot) {
        let mut history = self.shared.history();
        for incident in snapshot.incidents.iter().filter(|incident| incident.status == Status::Resolved) {
            if let Err(error) = history.archive(incident) {
                warn!(error = &error as &dyn std::error::Error, incident = %incident.id, "past incident not durable");
            }
        }
    }

    /// What people are told of shortages that are foreseen.
    fn warn(&mut self, now: Timestamp, snapshot: &Snapshot, people: &People) -> Vec<Notice> {
        let Config { workloads, limits, alerts, .. } = &self.config;
        if !alerts.foresight.enabled {
            return Vec::new();
        }
        let (notices, changed) = self.warnings.on_snapshot(now, snapshot, workloads, limits, alerts, people);
        if changed {
            self.shared.keep(state::WARNINGS, &self.warnings);
        }
        notices
    }

    /// What people are told of every incident.
    fn notices(&self, snapshot: &Snapshot) -> Vec<Notice> {
        let history = self.shared.history();
        let (people, past) = (history.people(), history.past());
        let notice = |incident: &Incident| {
            let similar = similar(incident, past.iter().map(AsRef::as_ref), &people);
            Notice::of(incident, &people.standing(&incident.id), &similar, &self.config.alerts)
        };
        snapshot.incidents.iter().map(notice).collect()
    }

    /// The plan of this round, guarded, settled and on record.
    fn plan(&mut self, now: Timestamp, snapshot: &Snapshot) -> Plan {
        let workloads = &self.config.workloads;
        let mut fleet = self.shared.fleet();
        fleet.observe(snapshot, workloads, now);
        let plan = decide(snapshot, &fleet, workloads, self.config.cadence, now);
        let plan = guard(plan, snapshot, &fleet, workloads, &self.shared.control.borrow(), now);
        fleet.settle(&plan, workloads);
        drop(fleet);
        if let Err(error) = self.shared.log().record(&plan) {
            warn!(error = &error as &dyn std::error::Error, "decisions not durable");
        }
        tell(&plan);
        plan
    }

    fn route(&mut self, now: Timestamp, snapshot: &Snapshot) -> Vec<Weight> {
        let drains = self.drains(now, snapshot);
        let (weights, routing) = route::weigh(snapshot, &self.routing, &drains, &self.config.reroute, now);
        if routing.outgrew(&self.kept_routing, &self.config.reroute) {
            self.shared.keep(state::ROUTING, &routing);
            self.kept_routing = routing.clone();
        }
        self.routing = routing;
        self.shared.weights.send_replace(haproxy::by_name(&weights));
        self.shared.clusters.send_replace(envoy::clusters(&self.config.reroute.backends, &self.routing));
        self.shared.reports.send_replace(Reports::of(&weights, &self.config.reroute));
        for weight in &weights {
            metrics::gauge!("bellwether_scheduler_backend_weight_ratio", "backend" => weight.backend.clone())
                .set(weight.weight);
            let draining = drains.ceiling(&weight.backend, now).is_some();
            metrics::gauge!("bellwether_route_draining", "backend" => weight.backend.clone())
                .set(f64::from(u8::from(draining)));
        }
        weights
    }

    /// The drains that hold at `now`. What became of them is on record before a weight follows.
    fn drains(&self, now: Timestamp, snapshot: &Snapshot) -> Drains {
        let mut drains = self.shared.drains();
        let turned = drains.advance(snapshot, self.routing.weights(), &self.config.reroute, now);
        if turned > 0 {
            self.shared.keep(state::DRAINS, &*drains);
            drains.turns().take(turned).for_each(tell_turn);
        }
        drains.clone()
    }
}

impl Handle {
    /// The last tick.
    #[must_use]
    pub fn view(&self) -> Arc<View> {
        self.0.view.borrow().clone()
    }

    /// The newest `limit` recorded decisions, newest first, of one workload or of all.
    #[must_use]
    pub fn decisions(&self, limit: usize, workload: Option<&str>) -> Vec<DecisionRecord> {
        self.0.log().recent(limit, workload)
    }

    /// The decision `id`, from the record or from the last plan. May read a file.
    #[must_use]
    pub fn decision(&self, id: &str) -> Option<DecisionRecord> {
        let recorded = self.0.log().find(id);
        recorded.or_else(|| {
            let view = self.view();
            let decision = view.plan.decisions.iter().find(|d| d.id == id)?.clone();
            Some(DecisionRecord { decision, attempts: Vec::new() })
        })
    }

    /// What would be decided at `now` on the facts of `snapshot` for the first of `workloads`, the others being those
    /// beside it. Nothing is done, recorded or remembered.
    #[must_use]
    pub fn what_if(
        &self,
        snapshot: &Snapshot,
        workloads: &[Workload],
        cadence: Duration,
        now: Timestamp,
    ) -> Option<Decision> {
        let fleet = self.0.fleet();
        let plan = decide(snapshot, &fleet, workloads.get(..1)?, cadence, now);
        let plan = guard(plan, snapshot, &fleet, workloads, &self.control(), now);
        plan.decisions.into_iter().next()
    }

    /// The room that is left in the dependencies of `workload`, which is one of `workloads`.
    #[must_use]
    pub fn downstream(
        &self,
        snapshot: &Snapshot,
        workload: &Workload,
        workloads: &[Workload],
        now: Timestamp,
    ) -> Vec<Downstream> {
        guard::downstream(workload, snapshot, &self.0.fleet(), workloads, now)
    }

    /// What the past of `workload` teaches.
    #[must_use]
    pub fn lesson(&self, workload: &str) -> Option<Lesson> {
        self.0.fleet().lesson(workload).cloned()
    }

    /// How full `backend` is and will be.
    ///
    /// # Errors
    /// [`NoReport`].
    pub fn load_report(&self, backend: &str) -> Result<LoadReport, NoReport> {
        self.0.reports.borrow().report(backend, std::time::Instant::now())
    }

    /// What people have stopped.
    #[must_use]
    pub fn control(&self) -> Control {
        self.0.control.borrow().clone()
    }

    /// Stops changes of one workload, or of all: the freeze. Holds over restarts, until resumed.
    pub fn stop(&self, workload: Option<&str>, stop: Stop) {
        self.order(|control| match workload {
            Some(workload) => drop(control.workloads.insert(workload.to_owned(), stop)),
            None => control.all = Some(stop),
        });
    }

    /// Ends a stop of one workload, or the general one.
    pub fn resume(&self, workload: Option<&str>) {
        self.order(|control| match workload {
            Some(workload) => drop(control.workloads.remove(workload)),
            None => control.all = None,
        });
    }

    /// The drains that hold, and the turns of all.
    #[must_use]
    pub fn drains(&self) -> Drains {
        self.0.drains().clone()
    }

    /// Orders a drain among the backends of `config`, on the facts of `snapshot`. Durable when it returns; weights follow from
    /// the next round on.
    ///
    /// # Errors
    /// [`NotDrained`], which says why.
    pub fn drain(
        &self,
        order: drain::Order,
        snapshot: &Snapshot,
        config: &RerouteConfig,
        now: Timestamp,
    ) -> Result<Drain, NotDrained> {
        self.change_drains(|drains| drains.order(order, snapshot, &self.0.weights.borrow(), config, now))
    }

    /// Calls the drain of `backend` off. Durable when it returns; its weight comes back from the next round on.
    ///
    /// # Errors
    /// [`NotDrained`], which says why.
    pub fn undrain(&self, backend: &str, by: &str, now: Timestamp) -> Result<Drain, NotDrained> {
        self.change_drains(|drains| drains.call_off(backend, by, &self.0.weights.borrow(), now))
    }

    fn change_drains(&self, change: impl FnOnce(&mut Drains) -> Result<Drain, Refusal>) -> Result<Drain, NotDrained> {
        let mut drains = self.0.drains();
        let mut changed = drains.clone();
        let drain = change(&mut changed)?;
        self.0.state.write(state::DRAINS, &changed)?;
        *drains = changed;
        drains.turns().take(1).for_each(tell_turn);
        Ok(drain)
    }

    /// Everything people said.
    #[must_use]
    pub fn people(&self) -> Arc<People> {
        self.0.history().people()
    }

    /// Incidents that are over, the last one first.
    #[must_use]
    pub fn past(&self) -> Vec<Arc<Incident>> {
        self.0.history().past().iter().rev().cloned().collect()
    }

    /// Past incidents most like `incident`.
    #[must_use]
    pub fn similar(&self, incident: &Incident) -> Vec<Similar> {
        let history = self.0.history();
        similar(incident, history.past().iter().map(AsRef::as_ref), &history.people())
    }

    /// What people's verdicts teach about confidences.
    #[must_use]
    pub fn trust(&self) -> Trust {
        let history = self.0.history();
        Trust::learn(&track::verdicts(history.past().iter().map(AsRef::as_ref), &history.people()))
    }

    /// What people's verdicts say of the incidents and causes that were told.
    #[must_use]
    pub fn track_record(&self) -> TrackRecord {
        let history = self.0.history();
        TrackRecord::of(history.past().iter().map(AsRef::as_ref), &history.people())
    }

    /// Notes a word on an incident, which the caller knows to exist. Durable when it returns.
    ///
    /// # Errors
    /// [`NotNoted`], which says why.
    pub fn say(&self, incident: &str, said: Said, statement: Statement) -> Result<Word, NotNoted> {
        self.0.history().say(incident, said, statement)
    }

    /// Takes back the word `id`.
    ///
    /// # Errors
    /// [`NotNoted`], which says why.
    pub fn take_back(&self, id: &str, statement: Statement) -> Result<Word, NotNoted> {
        self.0.history().take_back(id, statement)
    }

    /// Announces a maintenance.
    ///
    /// # Errors
    /// [`NotNoted`], which says why.
    pub fn announce(&self, plan: MaintenancePlan, statement: Statement) -> Result<Maintenance, NotNoted> {
        self.0.history().announce(plan, statement)
    }

    /// Ends a maintenance early.
    ///
    /// # Errors
    /// [`NotNoted`], which says why.
    pub fn end_maintenance(&self, id: &str, statement: Statement) -> Result<Maintenance, NotNoted> {
        self.0.history().end_maintenance(id, statement)
    }

    fn order(&self, change: impl FnOnce(&mut Control)) {
        self.0.control.send_modify(change);
        self.0.keep(state::CONTROL, &self.control());
    }
}

impl Shared {
    fn fleet(&self) -> MutexGuard<'_, Fleet> {
        self.fleet.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn log(&self) -> MutexGuard<'_, DecisionLog> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn drains(&self) -> MutexGuard<'_, Drains> {
        self.drains.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keep(&self, name: &str, value: &impl Serialize) {
        if let Err(error) = self.state.write(name, value) {
            warn!(error = &error as &dyn std::error::Error, "scheduler state not kept");
        }
    }
}

fn check(config: &Config) -> Result<(), StartError> {
    for workload in &config.workloads {
        let unusable = |source| StartError::Unusable { workload: workload.name.clone(), source };
        workload.scale.check().map_err(unusable)?;
    }
    config.reroute.check()?;
    config.alerts.check()?;
    Ok(())
}

fn http_client() -> reqwest::Result<reqwest::Client> {
    // Without a cryptography provider for the process the client cannot be built; one that is there already stays.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().no_proxy().build()
}

/// What was decided last of `backends`, until the first round.
fn kept_weights(backends: &[BackendConfig], routing: &Routing) -> haproxy::Weights {
    let kept = |backend: &BackendConfig| Some((backend.name.clone(), *routing.weights().get(&backend.name)?));
    backends.iter().filter_map(kept).collect()
}

async fn respond(
    config: &Config,
    weights: &watch::Sender<haproxy::Weights>,
) -> Result<Option<haproxy::Responder>, StartError> {
    let Some(haproxy) = &config.reroute.haproxy else { return Ok(None) };
    let address = haproxy.listen;
    let responder = haproxy::Responder::start(address, weights.subscribe()).await;
    responder.map(Some).map_err(|source| StartError::Listen { address, source })
}

async fn discover(config: &Config, clusters: &watch::Sender<Clusters>) -> Result<Option<Discovery>, StartError> {
    let Some(envoy) = &config.reroute.envoy else { return Ok(None) };
    let address = envoy.listen;
    let discovery = Discovery::start(address, clusters.subscribe()).await;
    discovery.map(Some).map_err(|source| StartError::ListenForEnvoy { address, source })
}

/// The listeners of the backends that have one of their own.
fn report_load(config: &Config, streams: &LoadReports) -> Result<BTreeMap<String, GrpcServer>, StartError> {
    let own = |backend: &BackendConfig| Some((backend.name.clone(), backend.orca.as_ref()?.listen?));
    let tls = config.grpc.as_ref().and_then(|grpc| grpc.tls.clone());
    let start = |(backend, listen): (String, SocketAddr)| {
        let routes = streams.router(Some(backend.clone()));
        match GrpcServer::start(&GrpcConfig { listen, tls: tls.clone() }, routes) {
            Ok(server) => Ok((backend, server)),
            Err(source) => Err(StartError::LoadReports { backend, source }),
        }
    };
    config.reroute.backends.iter().filter_map(own).map(start).collect()
}

async fn write_series(sink: &dyn SeriesSink, now: Timestamp, plan: &Plan) {
    let series = actuate::as_series(&plan.decisions);
    if series.is_empty() {
        return;
    }
    if let Err(error) = sink.write(now, series).await {
        warn!(error = &error as &dyn std::error::Error, "decisions not written as series");
    }
}

fn tell(plan: &Plan) {
    for decision in &plan.decisions {
        let outcome = if decision.changes() { "change" } else { "hold" };
        metrics::counter!("bellwether_scheduler_decisions_total", "outcome" => outcome).increment(1);
        if decision.changes() {
            let reason = decision.reasons.first().map(ToString::to_string).unwrap_or_default();
            info!(
                workload = %decision.workload,
                decision = %decision.id,
                replicas_from = decision.from,
                replicas_to = decision.to,
                reactive = decision.reactive,
                mode = ?decision.mode,
                reason,
                "replicas decided"
            );
        }
    }
}

fn tell_turn(turn: &Turn) {
    metrics::counter!("bellwether_route_drain_turns_total", "turn" => turn.word()).increment(1);
    let (backend, drain) = (&turn.drain.backend, &turn.id);
    info!(%backend, %drain, turn = turn.word(), weight = turn.weight, why = %turn, "drain");
    if turn.what == What::Gone {
        metrics::gauge!("bellwether_route_draining", "backend" => backend.clone()).set(0.0);
        warn!(%backend, %drain, weight = turn.weight, "a drained backend is no longer configured; nobody gives it its weight back");
    }
}

#[cfg(test)]
mod tests;
