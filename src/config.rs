//! One file into each part's configuration.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use bellwether_collector::ingest::IngestConfig;
use bellwether_collector::query::EngineConfig;
use bellwether_collector::source::host::HostConfig;
use bellwether_collector::source::push::PushConfig;
use bellwether_collector::source::scrape::ScrapeConfig;
use bellwether_models::duration::as_text;
use bellwether_predictor::config::{
    Backend, CalendarConfig, CalledService, DetectionConfig, ForecastConfig, KnownEvent, ModelsConfig, Quantity, Ratio,
    SetAside,
};
use bellwether_scheduler::config::{ActuatorConfig, AlertsConfig, GrpcConfig, Limit, RerouteConfig, ScaleConfig};
use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::cluster::ClusterConfig;
use crate::front_proxy::ExternalMetricsConfig;
use crate::server::Patience;

pub mod load;

pub use crate::store::StoreConfig;
pub use load::ConfigError;

/// Everything a user writes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The HTTP server.
    pub server: ServerConfig,
    /// Where samples are kept.
    pub store: StoreConfig,
    /// What the door lets in.
    pub ingest: IngestConfig,
    /// What is received from senders, and from whom.
    pub push: PushConfig,
    /// Metrics of the machine Bellwether runs on.
    pub host: HostConfig,
    /// How questions are answered, and how much one may cost.
    pub query: EngineConfig,
    /// What is scraped, in Prometheus' own syntax.
    pub scrape_configs: Vec<ScrapeConfig>,
    /// What serves demand with replicas.
    pub workloads: Vec<WorkloadConfig>,
    /// Services that are no workloads, for the call graph.
    pub services: Vec<CalledService>,
    /// Spans that forecasts do not learn from: outages, load tests, migrations. Default none.
    pub set_aside: Vec<SetAside>,
    /// Time zones and days off that workloads name. Default none.
    pub calendars: Vec<CalendarConfig>,
    /// Known times out of the ordinary, past and to come: sales, broadcasts, closings of the books. Default none.
    pub events: Vec<KnownEvent>,
    /// How anomalies are found.
    pub detection: DetectionConfig,
    /// Where models are kept, and when one takes another's place.
    pub models: ModelsConfig,
    /// Quantities that must not pass a limit, such as disks.
    pub limits: Vec<Limit>,
    /// Where incidents are sent.
    pub alerts: AlertsConfig,
    /// How load is moved away from backends before they are full.
    pub reroute: RerouteConfig,
    /// Where KEDA and others are answered over gRPC. Default: nowhere.
    pub grpc: Option<GrpcConfig>,
    /// Where Kubernetes' autoscalers are answered through the external metrics API. Default: nowhere.
    pub external_metrics: Option<ExternalMetricsConfig>,
    /// The Kubernetes API through which workloads with an actuator `kubernetes` are scaled.
    pub kubernetes: ClusterConfig,
    /// What holds for the scaling of all workloads.
    pub scaling: ScalingConfig,
    /// How often everything is looked at. Default 15s.
    pub cadence: Cadence,
}

/// What holds for the scaling of all workloads.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ScalingConfig {
    /// Networks that webhooks of decisions may lead into beside the public internet, such as `10.2.0.0/16`. Default none.
    #[schemars(with = "Vec<String>")]
    pub allowed_networks: Vec<IpNet>,
}

/// Time between two ticks: at least a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Cadence(
    #[serde(with = "as_text")]
    #[schemars(with = "String")]
    Duration,
);

impl Cadence {
    /// The time between two ticks.
    #[must_use]
    pub fn duration(self) -> Duration {
        self.0.max(Duration::from_secs(1))
    }
}

impl Default for Cadence {
    fn default() -> Self {
        Self(Duration::from_secs(15))
    }
}

/// The HTTP server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ServerConfig {
    /// Address to listen on. Default `127.0.0.1:9494`: nobody outside this machine.
    #[schemars(with = "String")]
    pub listen: SocketAddr,
    /// File that holds the bearer token every request but `/-/healthy` and `/-/ready` must show. Default: none is asked for.
    pub bearer_token_file: Option<PathBuf>,
    /// Largest body that is taken, in bytes. Default 64 MiB.
    pub max_body_bytes: usize,
    /// Longest time for the head of a request, and between two requests of a connection; then it is closed. Default 60s; at
    /// least 1s.
    #[serde(with = "as_text")]
    #[schemars(with = "String")]
    pub head_timeout: Duration,
    /// Most connections at once; others wait. Default 4096; 0 counts as 1.
    pub max_connections: usize,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 9494)),
            bearer_token_file: None,
            max_body_bytes: 64 << 20,
            head_timeout: Duration::from_secs(60),
            max_connections: 4096,
        }
    }
}

impl ServerConfig {
    /// What a client may ask of the server before it has asked anything.
    #[must_use]
    pub fn patience(&self) -> Patience {
        Patience { head: self.head_timeout.max(Duration::from_secs(1)), connections: self.max_connections }
    }

    /// The token that requests must show, read from its file.
    ///
    /// # Errors
    /// When the file cannot be read or is empty.
    pub fn bearer_token(&self) -> anyhow::Result<Option<String>> {
        let Some(path) = &self.bearer_token_file else { return Ok(None) };
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("could not read server.bearer_token_file {}", path.display()))?;
        let token = text.trim();
        anyhow::ensure!(!token.is_empty(), "server.bearer_token_file {} is empty", path.display());
        Ok(Some(token.to_owned()))
    }
}

/// Something that serves demand with replicas.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WorkloadConfig {
    /// Its name: the one by which decisions, incidents and alerts speak of it.
    pub name: String,
    /// PromQL of what users ask of it, such as requests per second; never a utilisation, which saturates.
    pub demand: String,
    /// PromQL of the replicas it runs. Left out: decisions follow their own record.
    #[serde(default)]
    pub replicas: Option<String>,
    /// PromQL of the replicas that are ready to serve. Left out: how long a replica takes to start is not learnt.
    #[serde(default)]
    pub ready: Option<String>,
    /// PromQL of how full the ready replicas are: 1 is all they can bear. Left out: what a replica can serve is not learnt.
    #[serde(default)]
    pub utilisation: Option<String>,
    /// PromQL of what users feel: latency, errors.
    #[serde(default)]
    pub symptoms: Vec<String>,
    /// Shares of what goes wrong, judged by how many there were.
    #[serde(default)]
    pub ratios: Vec<Ratio>,
    /// Demand below which its symptoms say nothing. Default 0: they always count.
    #[serde(default)]
    pub min_volume: f64,
    /// Names of the workloads and services it calls.
    #[serde(default)]
    pub depends_on: Vec<String>,
    /// The name of the calendar its users live by. Left out: days and hours are those of UTC, and no day is special.
    #[serde(default)]
    pub calendar: Option<String>,
    /// How it is forecast.
    #[serde(default)]
    pub forecast: ForecastConfig,
    /// How it is scaled. Left out: not at all.
    #[serde(default)]
    pub scale: Option<ScaleConfig>,
}

impl Config {
    /// Reads and checks a file. Nothing beyond it is read: no network, no store.
    ///
    /// # Errors
    /// Every fault that was found, the first of which may hide others only where the file does not parse.
    pub fn load(path: &Path) -> Result<Self, Vec<ConfigError>> {
        let config: Self = load::load(path).map_err(|error| vec![error])?;
        config.checked(path)
    }

    /// As [`Config::load`], from text at hand.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn parse(path: &Path, text: &str) -> Result<Self, Vec<ConfigError>> {
        let config: Self = load::parse(path, text, |name| std::env::var(name).ok()).map_err(|error| vec![error])?;
        config.checked(path)
    }

    fn checked(self, path: &Path) -> Result<Self, Vec<ConfigError>> {
        let faults = self.faults();
        if faults.is_empty() {
            return Ok(self);
        }
        let located = |message| ConfigError { path: path.to_owned(), place: None, message };
        Err(faults.into_iter().map(located).collect())
    }

    /// Everything that is wrong with it.
    pub(crate) fn faults(&self) -> Vec<String> {
        let mut faults: Vec<String> = self.predictor().faults().iter().map(ToString::to_string).collect();
        faults.extend(self.store.faults());
        if let Some(why) = self.store.refuses_others().filter(|_| !self.scrape_configs.is_empty()) {
            faults.push(format!("scrape_configs: nothing is scraped here: {why}"));
        }
        let mut jobs = BTreeSet::new();
        for scrape in &self.scrape_configs {
            if !jobs.insert(&scrape.job_name) {
                faults.push(format!(
                    "scrape_configs: job_name {:?} is there already; names must differ",
                    scrape.job_name
                ));
            }
        }
        faults.extend(self.reroute.check().err().map(|fault| format!("reroute: {fault}")));
        faults.extend(self.alerts.check().err().map(|fault| crate::words::chain(&fault)));
        for (index, limit) in self.limits.iter().enumerate() {
            faults.extend(limit.check().err().map(|fault| format!("limits[{index}].{fault}")));
        }
        let asked = |w: &&WorkloadConfig| {
            w.scale.as_ref().is_some_and(|s| matches!(s.actuator, Some(ActuatorConfig::ExternalMetrics(_))))
        };
        if let Some(workload) = self.workloads.iter().find(asked).filter(|_| self.external_metrics.is_none()) {
            faults.push(format!(
                "workload {:?}: scale.actuator external_metrics is answered nowhere; set external_metrics",
                workload.name
            ));
        }
        for workload in &self.workloads {
            if let Some(Err(fault)) = workload.scale.as_ref().map(ScaleConfig::check) {
                faults.push(format!("workload {:?}: scale: {fault}", workload.name));
            }
        }
        faults
    }

    /// The parts in which `other` differs and that are read only at start.
    #[must_use]
    pub fn needs_restart(&self, other: &Self) -> Vec<&'static str> {
        let parts = [
            ("server", self.server != other.server),
            ("store", self.store != other.store),
            ("query", self.query != other.query),
            ("push", self.push != other.push),
            ("host", self.host != other.host),
            ("reroute.haproxy", self.reroute.haproxy != other.reroute.haproxy),
            ("reroute.envoy", self.reroute.envoy != other.reroute.envoy),
            ("grpc", self.grpc != other.grpc),
            ("reroute.orca.most_streams", self.reroute.orca.most_streams != other.reroute.orca.most_streams),
            ("reroute.backends.orca.listen", !self.reroute.same_load_report_addresses(&other.reroute)),
            ("external_metrics", self.external_metrics != other.external_metrics),
            ("models.directory, s3, trusted_keys or require_signature", !self.models.is_same_place(&other.models)),
            ("kubernetes", self.kubernetes != other.kubernetes),
            (
                "workloads.scale.actuator or reroute.http_routes (the first one of Kubernetes)",
                self.needs_cluster() != other.needs_cluster(),
            ),
        ];
        parts.into_iter().filter(|(_, changed)| *changed).map(|(name, _)| name).collect()
    }

    /// Whether a Kubernetes API is needed: some workload is scaled or found there, weights of a route are set, or a Lease
    /// chooses who acts.
    #[must_use]
    pub fn needs_cluster(&self) -> bool {
        let there = |scale: &ScaleConfig| matches!(scale.actuator, Some(ActuatorConfig::Kubernetes(_)));
        let asked = self.kubernetes.lease.is_some() || self.kubernetes.discover.is_some();
        let steers = !self.reroute.http_routes.is_empty();
        asked || steers || self.workloads.iter().any(|w| w.scale.as_ref().is_some_and(there))
    }

    /// The predictor's part.
    #[must_use]
    pub fn predictor(&self) -> bellwether_predictor::Config {
        let workload = |w: &WorkloadConfig| bellwether_predictor::Workload {
            name: w.name.clone(),
            demand: w.demand.clone(),
            replicas: w.replicas.clone(),
            ready: w.ready.clone(),
            utilisation: w.utilisation.clone(),
            symptoms: w.symptoms.clone(),
            ratios: w.ratios.clone(),
            min_volume: w.min_volume,
            depends_on: w.depends_on.clone(),
            calendar: w.calendar.clone(),
            forecast: w.forecast,
        };
        let backend = |b: &bellwether_scheduler::config::BackendConfig| Backend {
            name: b.name.clone(),
            load: b.load.clone(),
            ..Backend::default()
        };
        let quantity = |limit: &Limit| {
            let usual = ForecastConfig::default();
            let forecast = ForecastConfig { step: limit.step, horizon: limit.within.max(limit.step), ..usual };
            Quantity { name: limit.name.clone(), query: limit.query.clone(), forecast }
        };
        bellwether_predictor::Config {
            workloads: self.workloads.iter().map(workload).collect(),
            services: self.services.clone(),
            quantities: self.limits.iter().map(quantity).collect(),
            backends: self.reroute.backends.iter().map(backend).collect(),
            set_aside: self.set_aside.clone(),
            calendars: self.calendars.clone(),
            events: self.events.clone(),
            detection: self.detection.clone(),
            models: self.models.clone(),
        }
    }

    /// The scheduler's part.
    #[must_use]
    pub fn scheduler(&self) -> bellwether_scheduler::Config {
        let scaled = |w: &WorkloadConfig| {
            Some(bellwether_scheduler::Workload {
                name: w.name.clone(),
                depends_on: w.depends_on.clone(),
                scale: w.scale.clone()?,
            })
        };
        bellwether_scheduler::Config {
            workloads: self.workloads.iter().filter_map(scaled).collect(),
            alerts: self.alerts.clone(),
            limits: self.limits.clone(),
            reroute: self.reroute.clone(),
            grpc: self.grpc.clone(),
            allowed_networks: self.scaling.allowed_networks.clone(),
            cadence: self.cadence.duration(),
        }
    }
}

/// Several faults as one error, one a line.
#[must_use]
pub fn all_faults(faults: Vec<ConfigError>) -> anyhow::Error {
    let lines: Vec<String> = faults.iter().map(ToString::to_string).collect();
    anyhow::anyhow!(lines.join("\n"))
}
