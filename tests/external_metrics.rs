//! The external metrics API is answered to the cluster's front proxy, and to nobody else.

mod support;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use bellwether::front_proxy::{ExternalMetricsConfig, FrontProxyDoor};
use bellwether_models::outlook::{Foresight, Observed, Outlook, Running, Snapshot};
use bellwether_models::series::{Labels, Timestamp};
use bellwether_scheduler::actuate::external_metrics;
use bellwether_scheduler::actuate::{SeriesSink, SinkError};
use bellwether_scheduler::config::{ActuatorConfig, AskedFrom, Mode};
use bellwether_scheduler::{Config, ScaleConfig, Service, Workload};
use serde_json::{Value, json};
use support::certificates::Authority;
use support::system::System;
use support::{Program, require_peer};

const METRIC: &str = "/apis/external.metrics.k8s.io/v1beta1/namespaces/shop/bellwether_desired_replicas?labelSelector=workload%3Dcheckout";

struct Nowhere;

#[async_trait::async_trait]
impl SeriesSink for Nowhere {
    async fn write(&self, _: Timestamp, _: Vec<(Labels, f64)>) -> Result<(), SinkError> {
        Ok(())
    }
}

/// A scheduler that has decided once: 6 replicas for a demand of 45, at 10 a replica and 80 %.
async fn decided() -> Service {
    let scale = ScaleConfig {
        mode: Mode::Act,
        max: 50,
        capacity_per_replica: 10.0.try_into().ok(),
        actuator: Some(ActuatorConfig::ExternalMetrics(AskedFrom::default())),
        ..ScaleConfig::default()
    };
    let workloads = vec![Workload { name: "checkout".to_owned(), depends_on: Vec::new(), scale }];
    let config = Config { workloads, ..Config::default() };
    let mut service = Service::new(config, Arc::new(Nowhere), None).await.expect("it starts");
    let now = Timestamp::from_secs(1_700_000_000);
    let seen = |value: f64| Some(Observed { at: now, value });
    let outlook = Outlook {
        workload: "checkout".to_owned(),
        made_at: now,
        demand: seen(45.0),
        replicas: seen(4.0),
        foresight: Foresight::Abstained { reason: "too few observations".to_owned() },
        model: bellwether_models::outlook::ModelRef::default(),
        anomalies: Vec::new(),
        running: Running::default(),
    };
    service.tick(now, &Snapshot { made_at: now, workloads: vec![outlook], ..Snapshot::default() }).await;
    service
}

fn config(proxies: &Authority<'_>, (cert_file, key_file): (PathBuf, PathBuf)) -> ExternalMetricsConfig {
    serde_json::from_value(json!({
        "listen": "127.0.0.1:0", "cert_file": cert_file, "key_file": key_file,
        "requestheader_client_ca_file": proxies.certificate(),
    }))
    .expect("a configuration")
}

/// A client that trusts `root` and shows this certificate, if any.
fn client(root: &Authority<'_>, shown: Option<(PathBuf, PathBuf)>, http1: bool) -> reqwest::Client {
    let read = |path: &Path| std::fs::read(path).expect("a file");
    let root = reqwest::Certificate::from_pem(&read(&root.certificate())).expect("a certificate");
    let mut builder = reqwest::Client::builder().no_proxy().tls_certs_only([root]);
    if let Some((cert, key)) = shown {
        let pem = [read(&cert), read(&key)].concat();
        builder = builder.identity(reqwest::Identity::from_pem(&pem).expect("an identity"));
    }
    if http1 { builder.http1_only() } else { builder }.build().expect("a client")
}

async fn ask(client: &reqwest::Client, door: &FrontProxyDoor) -> Result<(u16, Value), reqwest::Error> {
    let answer = client.get(format!("https://localhost:{}{METRIC}", door.address.port())).send().await?;
    Ok((answer.status().as_u16(), answer.json().await?))
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_front_proxy_is_answered_and_all_others_are_told_why_not() {
    require_peer!(Program::Openssl);
    support::http::install_cryptography();
    let folder = tempfile::tempdir().expect("a folder");
    let [ours, proxies, strangers] = ["ours", "proxies", "strangers"].map(|name| Authority::make(folder.path(), name));
    let service = decided().await;
    let routes = external_metrics::router(service.offers());
    let config = config(&proxies, ours.sign("us", "DNS:localhost"));
    let door = FrontProxyDoor::open(&config, routes, Duration::from_secs(60)).await.expect("it opens");

    let proxy = proxies.sign("front-proxy-client", "DNS:proxy");
    for http1 in [false, true] {
        let (code, list) = ask(&client(&ours, Some(proxy.clone()), http1), &door).await.expect("an answer");
        assert_eq!((code, &list["items"][0]["value"]), (200, &json!("6000m")), "{list}");
    }
    let (code, status) = ask(&client(&ours, None, false), &door).await.expect("an answer");
    assert_eq!((code, &status["kind"], &status["reason"]), (401, &json!("Status"), &json!("Unauthorized")));
    let other = proxies.sign("somebody", "DNS:somebody");
    let (code, status) = ask(&client(&ours, Some(other), false), &door).await.expect("an answer");
    assert_eq!((code, &status["reason"]), (403, &json!("Forbidden")));
    assert!(status["message"].as_str().is_some_and(|text| text.contains("\"somebody\"")), "{status}");
    let forged = strangers.sign("front-proxy-client", "DNS:proxy");
    let refused = ask(&client(&ours, Some(forged), true), &door).await;
    assert!(refused.is_err(), "a name alone opens nothing: {refused:?}");
    door.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn renewed_certificates_are_taken_on_and_broken_ones_are_not() {
    require_peer!(Program::Openssl);
    support::http::install_cryptography();
    let folder = tempfile::tempdir().expect("a folder");
    let [ours, proxies, renewed] = ["ours", "proxies", "renewed"].map(|name| Authority::make(folder.path(), name));
    let config = config(&proxies, ours.sign("us", "DNS:localhost"));
    let proxy = proxies.sign("front-proxy-client", "DNS:proxy");
    let routes = Router::new().fallback(async || axum::Json(json!({})));
    let door = FrontProxyDoor::open(&config, routes, Duration::from_millis(50)).await.expect("it opens");
    let old = client(&ours, Some(proxy.clone()), true);
    assert_eq!(ask(&old, &door).await.expect("an answer").0, 200);

    std::fs::write(&config.cert_file, "half a file").expect("written");
    tokio::time::sleep(Duration::from_millis(300)).await;
    let fresh = client(&ours, Some(proxy.clone()), true);
    assert_eq!(ask(&fresh, &door).await.expect("an answer by what was read before").0, 200);

    let (cert, key) = renewed.sign("us", "DNS:localhost");
    std::fs::copy(key, &config.key_file).expect("copied");
    std::fs::copy(cert, &config.cert_file).expect("copied");
    let mut answered = None;
    for _ in 0..100 {
        answered = ask(&client(&renewed, Some(proxy.clone()), true), &door).await.ok();
        if answered.is_some() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(answered.expect("an answer under the renewed certificate").0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_door_that_could_not_hold_is_not_opened_and_the_fault_is_named() {
    require_peer!(Program::Openssl);
    support::http::install_cryptography();
    let folder = tempfile::tempdir().expect("a folder");
    let [ours, proxies] = ["ours", "proxies"].map(|name| Authority::make(folder.path(), name));
    let good = config(&proxies, ours.sign("us", "DNS:localhost"));
    let empty = folder.path().join("empty");
    std::fs::write(&empty, "").expect("written");
    let other_key = ours.sign("them", "DNS:them").1;
    for (config, fault) in [
        (ExternalMetricsConfig { requestheader_client_ca_file: empty.clone(), ..good.clone() }, "holds no certificate"),
        (ExternalMetricsConfig { cert_file: "/nowhere".into(), ..good.clone() }, "/nowhere"),
        (ExternalMetricsConfig { key_file: empty, ..good.clone() }, "could not read a key"),
        (ExternalMetricsConfig { key_file: other_key, ..good }, "do not belong together"),
    ] {
        let opened = FrontProxyDoor::open(&config, Router::new(), Duration::from_secs(60)).await;
        let error = format!("{:#}", opened.expect_err("it cannot hold"));
        assert!(error.contains(fault), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_system_tells_what_it_decided() {
    require_peer!(Program::Openssl);
    support::http::install_cryptography();
    let folder = tempfile::tempdir().expect("a folder");
    let [ours, proxies] = ["ours", "proxies"].map(|name| Authority::make(folder.path(), name));
    let port = support::peer::free_port();
    let mut door = serde_json::to_value(config(&proxies, ours.sign("us", "DNS:localhost"))).expect("JSON");
    door["listen"] = json!(format!("127.0.0.1:{port}"));
    let config = format!(
        "cadence: 1s
host: {{ enabled: false }}
external_metrics: {door}
workloads:
  - name: checkout
    demand: vector(45)
    replicas: vector(4)
    scale: {{ mode: act, capacity_per_replica: 10, actuator: {{ external_metrics: {{ namespace: shop }} }} }}
"
    );
    let system = System::start(folder.path(), &config, &support::http::client()).await;
    let proxy = client(&ours, Some(proxies.sign("front-proxy-client", "DNS:proxy")), false);
    let told = async || proxy.get(format!("https://localhost:{port}{METRIC}")).send().await?.json::<Value>().await;
    let six = json!("6000m");
    system.until("it is told", async || told().await.is_ok_and(|list| list["items"][0]["value"] == six)).await;
    let text = support::http::client().get(system.url("/metrics")).send().await.expect("an answer").text().await;
    let text = text.expect("text");
    assert!(text.contains("bellwether_scheduler_external_metrics_answers_total{outcome=\"answered\"}"), "{text}");
    assert!(text.contains("bellwether_external_metrics_connections_total{outcome=\"admitted\"} 1"), "{text}");
}
