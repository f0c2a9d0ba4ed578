//! Load leaves a backend before it is full: the real HAProxy and the real Envoy ask us for weights, Envoy and a client of
//! gRPC for reports of load, and their traffic is counted.

#[cfg(feature = "kubernetes")]
#[path = "support/gateway_api.rs"]
mod gateway_api;
mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use bellwether_models::outlook::Snapshot;
use bellwether_models::series::{Labels, Timestamp};
use bellwether_scheduler::actuate::{SeriesSink, SinkError};
use bellwether_scheduler::config::{
    BackendConfig, EnvoyConfig, EnvoyEndpoint, GrpcConfig, HaproxyConfig, OrcaBackend, OrcaConfig,
};
use bellwether_scheduler::route::drain::Order;
use bellwether_scheduler::{Config, RerouteConfig, Service};
use serde_json::{Value, json};
use support::peer::free_port;
use support::python::Talk;
use support::system::System;
use support::{Peer, Program, python, require_peer};

const REQUESTS: usize = 300;

struct Nowhere;

#[async_trait::async_trait]
impl SeriesSink for Nowhere {
    async fn write(&self, _: Timestamp, _: Vec<(Labels, f64)>) -> Result<(), SinkError> {
        Ok(())
    }
}

/// A backend that counts its requests.
struct Backend {
    address: String,
    served: Arc<AtomicUsize>,
}

impl Backend {
    async fn start() -> Self {
        let served = Arc::new(AtomicUsize::new(0));
        let counter = served.clone();
        let app = Router::new().fallback(move || async move {
            counter.fetch_add(1, Ordering::SeqCst);
            "served"
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { address, served }
    }
}

fn haproxy(backends: &[Backend; 2], agent: std::net::SocketAddr) -> Peer {
    haproxy_in("http", backends, agent)
}

fn haproxy_in(mode: &str, backends: &[Backend; 2], agent: std::net::SocketAddr) -> Peer {
    let servers: String = (1..)
        .zip(backends)
        .map(|(i, backend)| {
            let port = agent.port();
            let address = &backend.address;
            format!("  server s{i} {address} weight 100 check agent-check agent-addr 127.0.0.1 agent-port {port} agent-inter 100ms agent-send \"s{i}\\n\"\n")
        })
        .collect();
    Peer::haproxy(&format!(
        "global
  maxconn 500
defaults
  mode {mode}
  timeout connect 5s
  timeout client 30s
  timeout server 30s
frontend front
  bind 127.0.0.1:{{port}}
  default_backend pool
backend pool
  balance roundrobin
{servers}"
    ))
}

/// An address of this machine as Envoy writes it.
fn socket(port: u16) -> Value {
    json!({ "address": { "socket_address": { "address": "127.0.0.1", "port_value": port } } })
}

/// An Envoy with these clusters, of which `pool` takes all requests.
fn envoy(clusters: Value) -> Peer {
    let front = socket(0)["address"].to_string().replace(":0", ":{port}");
    Peer::envoy(&format!(
        r#"node: {{ id: edge, cluster: edges }}
static_resources:
  listeners:
  - address: {front}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: front
          route_config: {{ virtual_hosts: [{{ name: all, domains: ["*"], routes: [{{ match: {{ prefix: "/" }}, route: {{ cluster: pool }} }}] }}] }}
          http_filters: [{{ name: envoy.filters.http.router, typed_config: {{ "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router }} }}]
  clusters: {clusters}
"#
    ))
}

/// A pool that learns its endpoints from `discovery`.
fn discovered(discovery: std::net::SocketAddr) -> Value {
    let source = json!({
        "api_type": "REST", "transport_api_version": "V3", "cluster_names": ["bellwether"], "refresh_delay": "0.1s"
    });
    let us = json!({ "cluster_name": "bellwether", "endpoints": [{ "lb_endpoints": [{ "endpoint": socket(discovery.port()) }] }] });
    json!([
        {
            "name": "pool", "type": "EDS", "lb_policy": "ROUND_ROBIN",
            "eds_cluster_config": { "eds_config": { "resource_api_version": "V3", "api_config_source": source } }
        },
        { "name": "bellwether", "type": "STATIC", "load_assignment": us }
    ])
}

/// A pool of fixed endpoints whose load is reported on `reports`, where each is called by its host name.
fn reported(backends: &[Backend; 2], reports: std::net::SocketAddr) -> Value {
    let endpoint = |(name, backend): (&str, &Backend)| {
        let at: std::net::SocketAddr = backend.address.parse().expect("an address");
        let mut endpoint = socket(at.port());
        endpoint["hostname"] = json!(name);
        json!({ "endpoint": endpoint })
    };
    let names = ["s1.shop.internal", "s2"];
    let endpoints: Vec<Value> = names.into_iter().zip(backends).map(endpoint).collect();
    let policy =
        "envoy.extensions.load_balancing_policies.client_side_weighted_round_robin.v3.ClientSideWeightedRoundRobin";
    let policy = json!({
        "@type": format!("type.googleapis.com/{policy}"),
        "enable_oob_load_report": true, "oob_reporting_period": "0.2s",
        "oob_reporting_config": { "port_value": reports.port() },
        "blackout_period": "0s", "weight_update_period": "0.1s"
    });
    let name = "envoy.load_balancing_policies.client_side_weighted_round_robin";
    json!([{
        "name": "pool", "type": "STATIC",
        "load_balancing_policy": { "policies": [{ "typed_extension_config": { "name": name, "typed_config": policy } }] },
        "load_assignment": { "cluster_name": "pool", "endpoints": [{ "lb_endpoints": endpoints }] }
    }])
}

/// What stands beside each of two servers: it hands questions for their load to us, and everything else to them.
fn sidecars(servers: [u64; 2], reports: [std::net::SocketAddr; 2], second: u16) -> Peer {
    let sidecar = |(name, bind, server, reports): (&str, &str, u64, std::net::SocketAddr)| {
        format!(
            "frontend {name}
  bind 127.0.0.1:{bind} proto h2
  use_backend load_of_{name} if {{ path_beg /xds.service.orca.v3.OpenRcaService/ }}
  default_backend {name}
backend load_of_{name}
  server bellwether {reports} proto h2
backend {name}
  server own 127.0.0.1:{server} proto h2
"
        )
    };
    let both = sidecar(("s1", "{port}", servers[0], reports[0]))
        + &sidecar(("s2", &second.to_string(), servers[1], reports[1]));
    Peer::haproxy(&format!(
        "global
  maxconn 500
  log stdout format raw local0
defaults
  mode http
  log global
  option httplog
  timeout connect 5s
  timeout client 60s
  timeout server 60s
{both}"
    ))
}

async fn service(backends: &[Backend; 2]) -> Service {
    let here = || ([127, 0, 0, 1], 0).into();
    let backend = |name: &str, at: &Backend| BackendConfig {
        name: name.to_owned(),
        envoy: Some(EnvoyEndpoint { cluster: "pool".to_owned(), address: at.address.parse().expect("an address") }),
        orca: Some(OrcaBackend { listen: Some(here()), authorities: vec![format!("{name}.shop.internal")] }),
        load: String::new(),
        capacity: 100.0.try_into().expect("positive"),
        lead: None,
    };
    let reroute = RerouteConfig {
        haproxy: Some(HaproxyConfig { listen: here() }),
        envoy: Some(EnvoyConfig { listen: here() }),
        orca: OrcaConfig { least_interval: Duration::from_millis(100), most_streams: 8 },
        backends: vec![backend("s1", &backends[0]), backend("s2", &backends[1])],
        ..RerouteConfig::default()
    };
    let config = Config { reroute, grpc: Some(GrpcConfig { listen: here(), tls: None }), ..Config::default() };
    Service::new(config, Arc::new(Nowhere), None).await.expect("the scheduler starts")
}

/// Two backends with the service behind a HAProxy that asks it for their weights.
async fn before_haproxy() -> ([Backend; 2], Service, Peer) {
    let backends = [Backend::start().await, Backend::start().await];
    let service = service(&backends).await;
    let haproxy = haproxy(&backends, service.haproxy_address().expect("agent checks are answered"));
    (backends, service, haproxy)
}

/// The same behind an Envoy that learns its endpoints from it.
async fn before_envoy() -> ([Backend; 2], Service, Peer) {
    let backends = [Backend::start().await, Backend::start().await];
    let service = service(&backends).await;
    let envoy = envoy(discovered(service.envoy_address().expect("discovery is answered")));
    (backends, service, envoy)
}

fn at(secs: i64) -> Timestamp {
    Timestamp::from_secs(1_700_000_000 + secs)
}

/// Both backends carry 25 of 100 now; the first is foreseen to carry `coming` within two minutes.
fn facts(secs: i64, coming: f64) -> Snapshot {
    let outlook = |name: &str, coming: f64| {
        json!({
            "workload": name, "made_at": at(secs), "demand": { "at": at(secs), "value": 25.0 }, "replicas": null,
            "anomalies": [], "foresight": {
                "kind": "forecast", "model": "theta", "scores": [], "forecast": {
                    "start": at(secs + 60), "step": 60_000, "mean": [coming, coming], "levels": [0.9],
                    "quantiles": [[coming, coming]]
                }
            }
        })
    };
    let snapshot = json!({
        "made_at": at(secs), "workloads": [], "incidents": [],
        "backends": [outlook("s1", coming), outlook("s2", 25.0)]
    });
    serde_json::from_value(snapshot).expect("a snapshot")
}

/// Whose requests are counted.
enum Traffic<'a> {
    /// Ours, through a proxy.
    Proxy(&'a Peer, &'a [Backend; 2]),
    /// Those of a client that balances by itself.
    Balancer(Box<Talk>),
}

impl Traffic<'_> {
    /// Sends requests one after the other; the share that the first backend served.
    async fn share(&mut self) -> f64 {
        match self {
            Self::Proxy(front, backends) => {
                let client = reqwest::Client::builder().pool_max_idle_per_host(0).no_proxy().build().expect("a client");
                let before = backends[0].served.load(Ordering::SeqCst);
                for _ in 0..REQUESTS {
                    let answer = client.get(front.url("/")).send().await.expect("it answers");
                    assert!(answer.status().is_success(), "no request is lost: {}", answer.status());
                }
                (backends[0].served.load(Ordering::SeqCst) - before) as f64 / REQUESTS as f64
            }
            Self::Balancer(client) => {
                let served = client.ask(&json!(REQUESTS)).await;
                served[0].as_f64().expect("a number") / REQUESTS as f64
            }
        }
    }

    /// Polls until the share lies in `range`, since the one in front asks when it pleases.
    async fn settle(&mut self, range: std::ops::RangeInclusive<f64>) -> f64 {
        let mut share = f64::NAN;
        for _ in 0..20 {
            share = self.share().await;
            if range.contains(&share) {
                break;
            }
        }
        share
    }
}

/// Ticks, and waits until every server has had time to be asked for.
async fn decide(service: &mut Service, secs: i64, coming: f64) {
    service.tick(at(secs), &facts(secs, coming)).await;
    tokio::time::sleep(Duration::from_millis(600)).await;
}

/// Before, during and after a saturation that is foreseen of the first backend.
async fn follow(service: &mut Service, mut traffic: Traffic<'_>) {
    decide(service, 0, 50.0).await;
    let before = traffic.settle(0.45..=0.55).await;
    assert!((0.45..=0.55).contains(&before), "half of the traffic each, measured {before}");

    decide(service, 15, 160.0).await; // weight 50 of 100: a third of the traffic
    let during = traffic.settle(0.28..=0.38).await;
    assert!((0.28..=0.38).contains(&during), "a third is left, measured {during}");

    decide(service, 30, 50.0).await; // weight 60 of 100
    let soon = traffic.settle(0.34..=0.41).await;
    assert!((0.34..=0.41).contains(&soon), "it comes back step by step, measured {soon}");

    for secs in (45..=120).step_by(15) {
        service.tick(at(secs), &facts(secs, 50.0)).await;
    }
    let after = traffic.settle(0.45..=0.55).await;
    assert!((0.45..=0.55).contains(&after), "half of the traffic again, measured {after}");
    println!(
        "share of the first backend: {before:.2} before, {during:.2} during, {soon:.2} soon after, {after:.2} after"
    );
}

#[tokio::test]
async fn traffic_leaves_a_backend_before_it_is_full_and_comes_back_slowly() {
    require_peer!(Program::Haproxy);
    let (backends, mut service, haproxy) = before_haproxy().await;
    follow(&mut service, Traffic::Proxy(&haproxy, &backends)).await;
}

#[tokio::test]
async fn envoy_learns_its_endpoints_and_their_weights_from_us() {
    require_peer!(Program::Envoy);
    let (backends, mut service, envoy) = before_envoy().await;
    follow(&mut service, Traffic::Proxy(&envoy, &backends)).await;
}

#[tokio::test]
async fn envoy_weighs_endpoints_by_the_load_that_we_report_of_each() {
    require_peer!(Program::Envoy);
    let backends = [Backend::start().await, Backend::start().await];
    let mut service = service(&backends).await;
    let envoy = envoy(reported(&backends, service.grpc_address().expect("gRPC is answered")));
    follow(&mut service, Traffic::Proxy(&envoy, &backends)).await;
}

#[tokio::test]
async fn a_client_of_grpc_that_balances_by_itself_needs_no_control_plane() {
    require_peer!(Program::Haproxy);
    let Some(python) = python::python_with_clients() else { return };
    let mut service = service(&[Backend::start().await, Backend::start().await]).await;
    let reports = ["s1", "s2"].map(|name| service.load_reports_address(name).expect("its load is reported"));
    let mut client = Talk::start(&python, "orca.py", &["balance"]);
    let servers = client.hear().await;
    let second = free_port();
    let fronts = sidecars([0, 1].map(|i| servers[i].as_u64().expect("a port")), reports, second);
    client.say(&json!([fronts.address(), format!("127.0.0.1:{second}")])).await;
    follow(&mut service, Traffic::Balancer(Box::new(client))).await;
}

#[tokio::test]
async fn reports_tell_what_is_known_at_the_interval_asked_for_and_nothing_else() {
    let Some(python) = python::python_with_clients() else { return };
    let mut service = service(&[Backend::start().await, Backend::start().await]).await;
    let address = service.grpc_address().expect("gRPC is answered").to_string();
    let mut client = Talk::start(&python, "orca.py", &["reports", &address]);
    let asks = |authority: &str, count: u32| json!({ "authority": authority, "interval": 0.3, "count": count });

    let mut early = asks("s1", 1);
    early["timeout"] = json!(1);
    let early = client.ask(&early).await;
    assert_eq!(early["code"], "DEADLINE_EXCEEDED", "before the first round nothing is told: {early}");

    service.tick(at(0), &facts(0, 160.0)).await;
    let told = client.ask(&asks("s1.shop.internal:9497", 3)).await;
    let report = json!({ "rpsFractional": 80.0, "applicationUtilization": 1.6 });
    assert_eq!(told["reports"], json!([report, report, report]), "the load to come, and what is left to it: {told}");
    assert!(told["seconds"].as_f64().expect("a time") >= 0.6, "two intervals lie between three reports: {told}");
    let other = client.ask(&asks("s2", 1)).await;
    assert_eq!(other["reports"], json!([{ "rpsFractional": 25.0, "applicationUtilization": 0.25 }]), "{other}");
    let hasty = client.ask(&json!({ "authority": "s2", "interval": 0.0, "count": 3 })).await;
    assert!(hasty["seconds"].as_f64().expect("a time") >= 0.2, "no more often than is allowed: {hasty}");

    let stranger = client.ask(&asks("stranger", 1)).await;
    assert_eq!(stranger["code"], "NOT_FOUND", "{stranger}");
    for _ in 0..5 {
        assert!(client.ask(&asks("s1", 1)).await["reports"].is_array());
    }
    let crowd = client.ask(&asks("s1", 1)).await;
    assert_eq!(crowd["code"], "RESOURCE_EXHAUSTED", "eight streams are open: {crowd}");
}

/// Our own process before two backends, each of which carries a quarter of what it can; a round each second.
struct Drained {
    folder: tempfile::TempDir,
    config: String,
    client: reqwest::Client,
    system: Option<System>,
}

impl Drained {
    async fn start(backends: &[Backend; 2], haproxy: u16, envoy: u16) -> Self {
        let backend = |name: &str, at: &Backend| {
            format!(
                "    - {{ name: {name}, load: vector(25), capacity: 100, envoy: {{ cluster: pool, address: '{}' }} }}\n",
                at.address
            )
        };
        let config = format!(
            "cadence: 1s
reroute:
  haproxy: {{ listen: '127.0.0.1:{haproxy}' }}
  envoy: {{ listen: '127.0.0.1:{envoy}' }}
  step: 1s
  cut_at_once: 1
  restore_at_once: 0.5
  backends:
{}{}",
            backend("s1", &backends[0]),
            backend("s2", &backends[1])
        );
        let folder = tempfile::tempdir().expect("a folder");
        let mut drained = Self { folder, config, client: support::http::client(), system: None };
        drained.rise().await;
        drained
    }

    async fn rise(&mut self) {
        self.system = Some(System::start(self.folder.path(), &self.config, &self.client).await);
        self.system().until("the load of the backends is seen", async || self.weight_of("s1").await.is_some()).await;
    }

    /// SIGKILL.
    fn kill(&mut self) {
        self.system = None;
    }

    fn system(&self) -> &System {
        self.system.as_ref().expect("it runs")
    }

    async fn ask(&self, path: &str) -> Value {
        let answer = self.client.get(self.system().url(path)).send().await.expect("an answer");
        answer.json().await.expect("JSON")
    }

    /// The weight and the drain of a backend of which something is known.
    async fn weight_of(&self, name: &str) -> Option<(f64, Value)> {
        let backends = self.ask("/api/v1/backends").await;
        let line = backends.as_array()?.iter().find(|line| line["weight"]["backend"] == name)?.clone();
        line["weight"]["saturation"].as_f64()?;
        Some((line["weight"]["weight"].as_f64()?, line["drain"].clone()))
    }

    /// Our own command: its exit code and what it says.
    fn say(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_bellwether"));
        command.args(arguments).env("BELLWETHER_URL", self.system().url("")).env("USER", "kim");
        let output = command.output().expect("the command runs");
        let text = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8_lossy(&text).into_owned())
    }

    /// The first backend is drained, we are killed and started again, and it is called back.
    async fn through_a_kill(mut self, mut traffic: Traffic<'_>, meanwhile: impl AsyncFn()) {
        let before = traffic.settle(0.45..=0.55).await;
        assert!((0.45..=0.55).contains(&before), "half of the traffic each, measured {before}");
        let (code, told) = self.say(&["drain", "s1", "--for", "1h", "--by", "0s", "--reason", "new disk"]);
        assert_eq!(code, Some(0), "{told}");
        let during = traffic.settle(0.0..=0.0).await;
        meanwhile().await;
        assert_eq!(during, 0.0, "nothing new for the one that is drained");

        let (code, told) = self.say(&["drain", "s2", "--for", "1h"]);
        assert!(code == Some(2) && told.contains("0 are seen to serve, and 1 must"), "{told}");
        let (_, told) = self.say(&["backends"]);
        assert!(told.contains("is being drained") && told.contains("kim: new disk"), "{told}");
        self.kill();
        assert_eq!(traffic.share().await, 0.0, "the one in front goes on with what it was told");
        self.rise().await;
        tokio::time::sleep(Duration::from_millis(1500)).await; // a round, and its time to be asked for
        assert_eq!(traffic.share().await, 0.0, "what was acknowledged holds");

        let (code, told) = self.say(&["undrain", "s1"]);
        assert_eq!(code, Some(0), "{told}");
        let after = traffic.settle(0.45..=0.55).await;
        assert!((0.45..=0.55).contains(&after), "half of the traffic again, measured {after}");
        println!("share of the first backend: {before:.2} before, {during:.2} drained, {after:.2} after");
    }
}

fn plain(name: &str) -> BackendConfig {
    serde_json::from_value(json!({ "name": name, "load": "a", "capacity": 100.0 })).expect("a backend")
}

/// Kim orders the first backend to be drained for an hour from second 0 on.
fn drain_first(service: &Service, within: Duration) {
    let (until, within) = (at(3600), Some(within));
    let order = Order { backend: "s1".to_owned(), until, within, by: "kim".to_owned(), reason: String::new() };
    let reroute = RerouteConfig { backends: ["s1", "s2"].map(plain).into(), ..RerouteConfig::default() };
    service.handle().drain(order, &facts(0, 50.0), &reroute, at(0)).expect("it can be spared");
}

/// A drain in steps, until the other backend fails, and then until that one is back for long enough.
async fn follow_drain(service: &mut Service, mut traffic: Traffic<'_>) {
    decide(service, 0, 50.0).await;
    drain_first(service, Duration::from_secs(60));
    let mut shares = Vec::new();
    for (secs, weight) in [(15, 0.75), (30, 0.5), (45, 0.25), (60, 0.0)] {
        decide(service, secs, 50.0).await;
        let expected = weight / (weight + 1.0);
        let range = if weight > 0.0 { expected - 0.04..=expected + 0.04 } else { 0.0..=0.0 };
        let share = traffic.settle(range.clone()).await;
        assert!(range.contains(&share), "at {secs} s {range:?}, measured {share}");
        shares.push((share * 100.0).round() / 100.0);
    }
    let mut alone = facts(75, 50.0);
    alone.backends.retain(|outlook| outlook.workload == "s1");
    service.tick(at(75), &alone).await;
    let needed = traffic.settle(0.45..=0.55).await;
    assert!((0.45..=0.55).contains(&needed), "who is left comes back at once, measured {needed}");
    for secs in (90..=450).step_by(15) {
        service.tick(at(secs), &facts(secs, 50.0)).await;
    }
    let spared = traffic.settle(0.0..=0.0).await;
    assert_eq!(spared, 0.0, "it can be spared again");
    println!("share of the first backend: {shares:?} going down, {needed:.2} suspended, {spared:.2} resumed");
}

#[tokio::test]
async fn a_drain_at_haproxy_goes_down_in_steps_and_is_suspended_while_others_fail() {
    require_peer!(Program::Haproxy);
    let (backends, mut service, haproxy) = before_haproxy().await;
    follow_drain(&mut service, Traffic::Proxy(&haproxy, &backends)).await;
}

#[tokio::test]
async fn a_drain_at_envoy_goes_down_in_steps_and_is_suspended_while_others_fail() {
    require_peer!(Program::Envoy);
    let (backends, mut service, envoy) = before_envoy().await;
    follow_drain(&mut service, Traffic::Proxy(&envoy, &backends)).await;
}

/// A connection of its own that stays open, and whose requests one backend serves.
async fn session(front: &Peer, backend: &Backend) -> reqwest::Client {
    for _ in 0..20 {
        let client = reqwest::Client::builder().no_proxy().build().expect("a client");
        let before = backend.served.load(Ordering::SeqCst);
        client.get(front.url("/")).send().await.expect("an answer").bytes().await.expect("a body");
        if backend.served.load(Ordering::SeqCst) > before {
            return client;
        }
    }
    panic!("no session came to {}", backend.address);
}

#[tokio::test]
async fn a_drained_server_of_haproxy_keeps_its_sessions_and_gets_no_new_ones_even_when_we_are_killed() {
    require_peer!(Program::Haproxy);
    let backends = [Backend::start().await, Backend::start().await];
    let (agent, discovery) = (free_port(), free_port());
    let drained = Drained::start(&backends, agent, discovery).await;
    let haproxy = haproxy_in("tcp", &backends, ([127, 0, 0, 1], agent).into());
    let open = session(&haproxy, &backends[0]).await;
    let goes_on = async || {
        let before = backends[0].served.load(Ordering::SeqCst);
        for _ in 0..10 {
            open.get(haproxy.url("/")).send().await.expect("an answer").bytes().await.expect("a body");
        }
        let served = backends[0].served.load(Ordering::SeqCst) - before;
        assert_eq!(served, 10, "the session that was open goes on where it was");
    };
    drained.through_a_kill(Traffic::Proxy(&haproxy, &backends), goes_on).await;
}

#[tokio::test]
async fn a_drained_endpoint_of_envoy_gets_nothing_even_when_we_are_killed() {
    require_peer!(Program::Envoy);
    let backends = [Backend::start().await, Backend::start().await];
    let (agent, discovery) = (free_port(), free_port());
    let drained = Drained::start(&backends, agent, discovery).await;
    let envoy = envoy(discovered(([127, 0, 0, 1], discovery).into()));
    drained.through_a_kill(Traffic::Proxy(&envoy, &backends), async || {}).await;
}

#[tokio::test]
async fn a_drain_always_ends_and_one_whose_deadline_passed_while_we_were_down_does_not_come_back() {
    let backends = [Backend::start().await, Backend::start().await];
    let mut drained = Drained::start(&backends, free_port(), free_port()).await;
    for (arguments, why) in [
        (&["drain", "s1"][..], "--for <DURATION>|--until <TIME>"),
        (&["drain", "s1", "--until", "2001-01-01T00:00:00Z"], "has passed"),
        (&["drain", "s1", "--for", "30d"], "reroute.drain.longest"),
        (&["drain", "s1", "--for", "1m", "--by", "1h"], "the drain is over in 1m"),
        (&["drain", "a/b", "--for", "1m"], "there is no backend \"a/b\""),
        (&["undrain", "s1"], "is not being drained"),
    ] {
        let (exit, told) = drained.say(arguments);
        assert!(exit == Some(2) && told.contains(why), "{arguments:?}: {exit:?} {told}");
    }
    let endless = drained.client.post(drained.system().url("/api/v1/backends/s1/drain")).json(&json!({ "by": "kim" }));
    let endless = endless.send().await.expect("an answer");
    assert_eq!(endless.status(), 400);
    assert!(endless.text().await.expect("text").contains("a drain always ends"));

    assert_eq!(drained.say(&["drain", "s1", "--for", "1h", "--by", "0s"]).0, Some(0));
    drained.system().until("it is drained", async || drained.weight_of("s1").await.is_some_and(|w| w.0 == 0.0)).await;
    assert_eq!(drained.say(&["drain", "s1", "--for", "2s", "--by", "0s"]).0, Some(0), "the new deadline counts");
    drained.kill();
    tokio::time::sleep(Duration::from_secs(2)).await;
    drained.rise().await;
    drained.system().until("it is back", async || drained.weight_of("s1").await == Some((1.0, Value::Null))).await;
    let turns = drained.ask("/api/v1/drains").await;
    let said: Vec<&str> = turns.as_array().expect("a list").iter().filter_map(|t| t["what"]["kind"].as_str()).collect();
    assert_eq!(said, ["expired", "replaced", "started"]);
    let (_, told) = drained.say(&["explain", turns[0]["id"].as_str().expect("an id")]);
    assert!(told.contains("the drain of s1 is over: its deadline") && told.contains("by kim"), "{told}");
    let page = drained.client.get(drained.system().url("/")).send().await.expect("an answer");
    assert!(page.text().await.expect("text").contains("the drain of s1 is over"), "the page shows it");
    let metrics = drained.client.get(drained.system().url("/metrics")).send().await.expect("an answer");
    assert!(metrics.text().await.expect("text").contains("bellwether_route_draining{backend=\"s1\"} 0"));
}

/// Two thirds of the traffic of a route for `web-blue`, by its own weights.
fn rules() -> Value {
    json!([
        { "matches": [{ "path": { "type": "PathPrefix", "value": "/" } }], "timeouts": { "request": "5s" }, "backendRefs": [
            { "name": "web-blue", "port": 80, "weight": 100, "filters": [{ "type": "RequestHeaderModifier" }] },
            { "name": "web-green", "port": 80, "weight": 50 },
            { "name": "canary", "port": 80, "weight": 3 },
        ] },
        { "backendRefs": [{ "name": "web-blue", "port": 80, "weight": 0 }] },
    ])
}

/// A service that follows the route of `rules` in the cluster at `url`, as a user with `token`.
#[cfg(feature = "kubernetes")]
async fn in_cluster(url: &str, token: &str, mode: &str) -> (Service, tempfile::TempDir) {
    support::http::install_cryptography();
    let reroute: RerouteConfig = serde_json::from_value(json!({
        "backends": [
            { "name": "s1", "load": "a", "capacity": 100.0 }, { "name": "s2", "load": "b", "capacity": 100.0 }
        ],
        "http_routes": [{ "namespace": "shop", "name": "web", "mode": mode, "services": [
            { "service": "web-blue", "backend": "s1" }, { "service": "web-green", "backend": "s2", "weight": 50 }
        ] }]
    }))
    .expect("a configuration");
    let config = Config { reroute, ..Config::default() };
    let mut service = Service::new(config, Arc::new(Nowhere), None).await.expect("the scheduler starts");
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("token");
    std::fs::write(&file, token).expect("a file");
    let access = bellwether::cluster::ClusterConfig {
        api_server: Some(url.to_owned()),
        token_file: Some(file),
        ..bellwether::cluster::ClusterConfig::default()
    };
    let client = bellwether_collector::kubernetes::client(&access.access()).await.expect("a client");
    service.join(client, None).expect("it joins");
    (service, folder) // from which the token is read again as it changes
}

#[cfg(feature = "kubernetes")]
fn weights(gateway: &gateway_api::FakeGateway) -> Vec<Value> {
    let route = gateway.route();
    route["spec"]["rules"][0]["backendRefs"].as_array().expect("a list").iter().map(|r| r["weight"].clone()).collect()
}

#[cfg(feature = "kubernetes")]
#[tokio::test]
async fn a_route_of_the_gateway_api_follows_and_nothing_else_in_it_changes() {
    let (gateway, url) = gateway_api::FakeGateway::start(rules()).await;
    let (mut service, _folder) = in_cluster(&url, gateway_api::TOKEN, "act").await;
    let before = gateway.route();
    service.tick(at(0), &Snapshot::default()).await;
    assert_eq!((gateway.route(), gateway.counts()), (before.clone(), (0, 0)), "nothing is known yet");

    service.tick(at(15), &facts(15, 160.0)).await;
    assert_eq!(weights(&gateway), [50, 50, 3], "half of the first's whole share");
    let mut expected = before;
    expected["spec"]["rules"][0]["backendRefs"][0]["weight"] = json!(50);
    assert_eq!(gateway.route(), expected, "and nothing else");
    service.tick(at(16), &facts(16, 160.0)).await;
    assert_eq!(gateway.counts(), (1, 0), "what stands there already is not written");

    gateway.interfere(2);
    service.tick(at(30), &facts(30, 50.0)).await;
    assert_eq!(weights(&gateway), [60, 50, 3], "read anew until nobody was faster");
    gateway.interfere(u32::MAX);
    service.tick(at(45), &facts(45, 50.0)).await;
    assert_eq!(weights(&gateway), [60, 50, 3], "it gives up, until the next round");
    gateway.interfere(0);
    gateway.change(|route| route["metadata"]["annotations"] = json!({ "bellwether.dev/paused": "true" }));
    service.tick(at(60), &facts(60, 50.0)).await;
    assert_eq!(weights(&gateway), [60, 50, 3], "people said to leave it alone");
    gateway.change(|route| route["metadata"]["annotations"] = json!({}));
    service.tick(at(75), &facts(75, 50.0)).await;
    assert_eq!(weights(&gateway), [90, 50, 3], "and it goes on where it would be by now");
}

#[cfg(feature = "kubernetes")]
#[tokio::test]
async fn a_shadow_only_asks_whether_it_could_and_who_may_not_changes_nothing() {
    let (gateway, url) = gateway_api::FakeGateway::start(rules()).await;
    let (mut shadow, _folder) = in_cluster(&url, gateway_api::TOKEN, "shadow").await;
    let before = gateway.route();
    shadow.tick(at(0), &facts(0, 160.0)).await;
    assert_eq!((gateway.counts(), gateway.route()), ((0, 1), before.clone()));
    let (mut stranger, _folder) = in_cluster(&url, "another", "act").await;
    let view = stranger.tick(at(0), &facts(0, 160.0)).await;
    assert_eq!((gateway.counts(), gateway.route()), ((0, 1), before));
    assert_eq!(view.weights[0].weight, 0.5, "the decision stands all the same");
}

#[cfg(feature = "kubernetes")]
#[tokio::test]
async fn a_drained_service_of_a_route_gets_nothing_and_the_zeros_of_others_stay() {
    let (gateway, url) = gateway_api::FakeGateway::start(rules()).await;
    let (mut service, _folder) = in_cluster(&url, gateway_api::TOKEN, "act").await;
    service.tick(at(0), &facts(0, 50.0)).await;
    drain_first(&service, Duration::ZERO);
    service.tick(at(15), &facts(15, 50.0)).await;
    assert_eq!(weights(&gateway), [40, 50, 3], "as much as may be in a step");
    service.tick(at(30), &facts(30, 50.0)).await;
    assert_eq!(weights(&gateway), [0, 50, 3]);
    service.handle().undrain("s1", "kim", at(31)).expect("it was being drained");
    service.tick(at(45), &facts(45, 50.0)).await;
    assert_eq!(weights(&gateway), [10, 50, 3], "our own zero is taken back");
    assert_eq!(gateway.route()["spec"]["rules"][1], rules()[1], "somebody else's is not");
    assert_eq!(gateway.route()["metadata"]["annotations"]["bellwether.dev/drained"], Value::Null);

    let (gateway, url) = gateway_api::FakeGateway::start(rules()).await;
    let (mut shadow, _folder) = in_cluster(&url, gateway_api::TOKEN, "shadow").await;
    let before = gateway.route();
    shadow.tick(at(0), &facts(0, 50.0)).await;
    drain_first(&shadow, Duration::ZERO);
    shadow.tick(at(15), &facts(15, 50.0)).await;
    shadow.tick(at(30), &facts(30, 50.0)).await;
    assert_eq!((gateway.counts(), gateway.route()), ((0, 2), before), "a shadow only asks whether it could");
}

#[tokio::test]
async fn weights_outlive_a_restart() {
    let folder = tempfile::tempdir().expect("a folder");
    let backend =
        json!([{ "name": "s1", "load": "a", "capacity": 100.0 }, { "name": "s2", "load": "b", "capacity": 100.0 }]);
    let reroute: RerouteConfig = serde_json::from_value(json!({ "backends": backend })).expect("a configuration");
    let start = async || {
        let config = Config { reroute: reroute.clone(), ..Config::default() };
        Service::new(config, Arc::new(Nowhere), Some(folder.path().to_owned())).await.expect("the scheduler starts")
    };
    let cut = start().await.tick(at(0), &facts(0, 160.0)).await;
    assert_eq!(cut.weights[0].weight, 0.5);
    let after = start().await.tick(at(15), &facts(15, 50.0)).await;
    assert!(
        (after.weights[0].weight - 0.6).abs() < 1e-9,
        "it comes back step by step all the same: {:?}",
        after.weights
    );
}
