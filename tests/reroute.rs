//! Load leaves a backend before it is full: the real HAProxy and the real Envoy ask us for weights, and their traffic is
//! counted.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use bellwether_models::outlook::Snapshot;
use bellwether_models::series::{Labels, Timestamp};
use bellwether_scheduler::actuate::{SeriesSink, SinkError};
use bellwether_scheduler::config::{BackendConfig, EnvoyConfig, EnvoyEndpoint, HaproxyConfig};
use bellwether_scheduler::{Config, RerouteConfig, Service};
use serde_json::json;
use support::{Peer, Program, require_peer};

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
  mode http
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

/// An Envoy whose only pool learns its endpoints from `discovery`.
fn envoy(discovery: std::net::SocketAddr) -> Peer {
    let at = |port: &str| json!({ "socket_address": { "address": "127.0.0.1", "port_value": port } }).to_string();
    let port = discovery.port().to_string();
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
  clusters:
  - name: pool
    type: EDS
    lb_policy: ROUND_ROBIN
    eds_cluster_config:
      eds_config:
        resource_api_version: V3
        api_config_source: {{ api_type: REST, transport_api_version: V3, cluster_names: [bellwether], refresh_delay: 0.1s }}
  - name: bellwether
    type: STATIC
    load_assignment: {{ cluster_name: bellwether, endpoints: [{{ lb_endpoints: [{{ endpoint: {{ address: {us} }} }}] }}] }}
"#,
        front = at("{port}").replace("\"{port}\"", "{port}"),
        us = at(&port).replace(&format!("\"{port}\""), &port),
    ))
}

async fn service(backends: &[Backend; 2]) -> Service {
    let backend = |name: &str, at: &Backend| BackendConfig {
        name: name.to_owned(),
        envoy: Some(EnvoyEndpoint { cluster: "pool".to_owned(), address: at.address.parse().expect("an address") }),
        load: String::new(),
        capacity: 100.0.try_into().expect("positive"),
        lead: None,
    };
    let reroute = RerouteConfig {
        haproxy: Some(HaproxyConfig { listen: ([127, 0, 0, 1], 0).into() }),
        envoy: Some(EnvoyConfig { listen: ([127, 0, 0, 1], 0).into() }),
        backends: vec![backend("s1", &backends[0]), backend("s2", &backends[1])],
        ..RerouteConfig::default()
    };
    let config = Config { reroute, ..Config::default() };
    Service::new(config, Arc::new(Nowhere), None).await.expect("the scheduler starts")
}

fn at(secs: i64) -> Timestamp {
    Timestamp::from_secs(1_700_000_000 + secs)
}

/// Both backends carry 50 of 100 now; the first is foreseen to carry `coming` within two minutes.
fn facts(secs: i64, coming: f64) -> Snapshot {
    let outlook = |name: &str, coming: f64| {
        json!({
            "workload": name, "made_at": at(secs), "demand": { "at": at(secs), "value": 50.0 }, "replicas": null,
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
        "backends": [outlook("s1", coming), outlook("s2", 50.0)]
    });
    serde_json::from_value(snapshot).expect("a snapshot")
}

/// Sends requests one after the other; the share that the first backend served.
async fn measured_share(front: &Peer, backends: &[Backend; 2]) -> f64 {
    let client = reqwest::Client::builder().pool_max_idle_per_host(0).no_proxy().build().expect("a client");
    let before = backends[0].served.load(Ordering::SeqCst);
    for _ in 0..REQUESTS {
        let answer = client.get(front.url("/")).send().await.expect("it answers");
        assert!(answer.status().is_success(), "no request is lost: {}", answer.status());
    }
    (backends[0].served.load(Ordering::SeqCst) - before) as f64 / REQUESTS as f64
}

/// Ticks, and waits until every server has had time to be asked for.
async fn decide(service: &mut Service, secs: i64, coming: f64) {
    service.tick(at(secs), &facts(secs, coming)).await;
    tokio::time::sleep(Duration::from_millis(600)).await;
}

/// Polls until the share lies in `range`, since the one in front asks when it pleases.
async fn settle(front: &Peer, backends: &[Backend; 2], range: std::ops::RangeInclusive<f64>) -> f64 {
    let mut share = f64::NAN;
    for _ in 0..20 {
        share = measured_share(front, backends).await;
        if range.contains(&share) {
            break;
        }
    }
    share
}

/// Before, during and after a saturation that is foreseen of the first backend.
async fn follow(service: &mut Service, front: &Peer, backends: &[Backend; 2]) {
    decide(service, 0, 50.0).await;
    let before = settle(front, backends, 0.45..=0.55).await;
    assert!((0.45..=0.55).contains(&before), "half of the traffic each, measured {before}");

    decide(service, 15, 160.0).await; // weight 50 of 100: a third of the traffic
    let during = settle(front, backends, 0.28..=0.38).await;
    assert!((0.28..=0.38).contains(&during), "a third is left, measured {during}");

    decide(service, 30, 50.0).await; // weight 60 of 100
    let soon = settle(front, backends, 0.34..=0.41).await;
    assert!((0.34..=0.41).contains(&soon), "it comes back step by step, measured {soon}");

    for secs in (45..=120).step_by(15) {
        service.tick(at(secs), &facts(secs, 50.0)).await;
    }
    let after = settle(front, backends, 0.45..=0.55).await;
    assert!((0.45..=0.55).contains(&after), "half of the traffic again, measured {after}");
    println!(
        "share of the first backend: {before:.2} before, {during:.2} during, {soon:.2} soon after, {after:.2} after"
    );
}

#[tokio::test]
async fn traffic_leaves_a_backend_before_it_is_full_and_comes_back_slowly() {
    require_peer!(Program::Haproxy);
    let backends = [Backend::start().await, Backend::start().await];
    let mut service = service(&backends).await;
    let haproxy = haproxy(&backends, service.haproxy_address().expect("agent checks are answered"));
    follow(&mut service, &haproxy, &backends).await;
}

#[tokio::test]
async fn envoy_learns_its_endpoints_and_their_weights_from_us() {
    require_peer!(Program::Envoy);
    let backends = [Backend::start().await, Backend::start().await];
    let mut service = service(&backends).await;
    let envoy = envoy(service.envoy_address().expect("discovery is answered"));
    follow(&mut service, &envoy, &backends).await;
}
