//! Discovery of targets through the API of a Kubernetes cluster: the labels that others give, changes, outages.
//!
//! Debian's Prometheus is built without this discovery; vmagent, which reads the same configuration, is the second source.

#![cfg(feature = "kubernetes")]

#[path = "support/kubernetes_api.rs"]
mod kubernetes_api;
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bellwether_collector::ingest::{Ingest, IngestConfig};
use bellwether_collector::source::scrape::{ScrapeConfig, ScrapeManager};
use bellwether_collector::store::memory::MemoryStore;
use k8s_openapi::api::core::v1::{Endpoints, Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::Ingress;
use kubernetes_api::FakeKubernetesApi;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use support::{Peer, Program, http, require_peer};

fn object<K: DeserializeOwned>(value: Value) -> K {
    serde_json::from_value(value).expect("an object of the API")
}

fn pod(name: &str, ip: &str) -> Pod {
    object(json!({
        "metadata": {
            "name": name, "namespace": "shop", "uid": format!("uid-{name}"),
            "labels": { "app": "web", "app.kubernetes.io/name": "web" },
            "annotations": { "prometheus.io/scrape": "true" },
            "ownerReferences": [{ "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-7", "uid": "u", "controller": true }],
        },
        "spec": {
            "nodeName": "node-1",
            "containers": [
                { "name": "app", "image": "web:1", "ports": [
                    { "name": "http", "containerPort": 8080, "protocol": "TCP" },
                    { "name": "metrics", "containerPort": 9100, "protocol": "TCP" }] },
                { "name": "sidecar", "image": "side:2" },
            ],
            "initContainers": [{ "name": "init", "image": "init:3" }],
        },
        "status": {
            "phase": "Running", "podIP": ip, "hostIP": "10.0.0.1",
            "conditions": [{ "type": "Ready", "status": "True" }],
            "containerStatuses": [{ "name": "app", "containerID": "containerd://app", "image": "web:1", "imageID": "", "ready": true, "restartCount": 0 }],
            "initContainerStatuses": [{ "name": "init", "containerID": "containerd://init", "image": "init:3", "imageID": "", "ready": true, "restartCount": 0 }],
        },
    }))
}

/// A small shop: a node, two pods behind a service, an outside name, an ingress, a pod that has no address yet.
fn furnish(api: &FakeKubernetesApi) {
    api.apply::<Node>(&object(json!({
        "metadata": { "name": "node-1", "labels": { "topology.kubernetes.io/zone": "eu-1" }, "annotations": { "a/b": "c" } },
        "spec": { "providerID": "cloud://1" },
        "status": {
            "addresses": [
                { "type": "Hostname", "address": "node-1.local" },
                { "type": "InternalIP", "address": "10.0.0.1" },
                { "type": "InternalIP", "address": "fd00::1" }],
            "daemonEndpoints": { "kubeletEndpoint": { "Port": 10250 } },
        },
    })));
    api.apply(&pod("web-1", "10.1.0.1"));
    api.apply(&pod("web-2", "fd00::12"));
    let mut starting = pod("web-3", "");
    starting.status = Some(object(json!({ "phase": "Pending" })));
    api.apply(&starting);
    api.apply::<Service>(&object(json!({
        "metadata": { "name": "web", "namespace": "shop", "labels": { "team": "a" }, "annotations": { "note": "n" } },
        "spec": { "type": "LoadBalancer", "clusterIP": "10.2.0.1", "loadBalancerIP": "1.2.3.4",
                  "ports": [{ "name": "http", "port": 80, "protocol": "TCP" }] },
    })));
    api.apply::<Service>(&object(json!({
        "metadata": { "name": "outside", "namespace": "other" },
        "spec": { "type": "ExternalName", "externalName": "example.org", "ports": [{ "port": 443, "protocol": "TCP" }] },
    })));
    let to = |name: &str| json!({ "kind": "Pod", "name": name, "namespace": "shop" });
    api.apply::<Endpoints>(&object(json!({
        "metadata": { "name": "web", "namespace": "shop", "labels": { "team": "a" } },
        "subsets": [{
            "addresses": [{ "ip": "10.1.0.1", "nodeName": "node-1", "hostname": "h1", "targetRef": to("web-1") }, { "ip": "10.9.9.9" }],
            "notReadyAddresses": [{ "ip": "fd00::12", "nodeName": "node-1", "targetRef": to("web-2") }],
            "ports": [{ "name": "http", "port": 8080, "protocol": "TCP" }],
        }],
    })));
    api.apply::<EndpointSlice>(&object(json!({
        "metadata": { "name": "web-abc", "namespace": "shop", "labels": { "kubernetes.io/service-name": "web" } },
        "addressType": "IPv4",
        "endpoints": [
            { "addresses": ["10.1.0.1"], "conditions": { "ready": true, "serving": true, "terminating": false },
              "hostname": "h1", "targetRef": to("web-1"), "deprecatedTopology": { "kubernetes.io/hostname": "node-1" } },
            { "addresses": ["10.9.9.9"], "conditions": { "ready": false } }],
        "ports": [{ "name": "http", "port": 8080, "protocol": "TCP", "appProtocol": "http" }],
    })));
    let backend = json!({ "service": { "name": "web", "port": { "number": 80 } } });
    api.apply::<Ingress>(&object(json!({
        "metadata": { "name": "shop", "namespace": "shop", "labels": { "team": "a" }, "annotations": { "x": "y" } },
        "spec": {
            "ingressClassName": "nginx",
            "tls": [{ "hosts": ["*.shop.example", "secure.example"] }],
            "rules": [
                { "host": "www.shop.example", "http": { "paths": [
                    { "path": "/cart", "pathType": "Prefix", "backend": backend }, { "pathType": "Prefix", "backend": backend }] } },
                { "host": "plain.example" }],
        },
    })));
}

const ROLES: [&str; 6] = ["node", "pod", "service", "endpoints", "endpointslice", "ingress"];

fn jobs(api: &FakeKubernetesApi, more: &str) -> String {
    let job = |role: &str| {
        let node = matches!(role, "pod" | "endpoints" | "endpointslice");
        let attach = if node { "attach_metadata: { node: true }, " } else { "" };
        format!(
            "{{ job_name: {role}, scrape_interval: 10m, kubernetes_sd_configs: [{{ role: {role}, {attach}api_server: '{}'{more} }}] }}",
            api.url()
        )
    };
    format!("[{}]", ROLES.map(job).join(", "))
}

fn manager(configs: &str) -> ScrapeManager {
    let configs: Vec<ScrapeConfig> = serde_saphyr::from_str(configs).expect("scrape configurations");
    let ingest = Ingest::new(Arc::new(MemoryStore::default()), IngestConfig::default());
    ScrapeManager::start(&configs, ingest).expect("they can be scraped")
}

type Labels = BTreeMap<String, String>;

/// The labels before relabeling of all targets, by job and address.
fn ours(manager: &ScrapeManager) -> BTreeMap<(String, String), Labels> {
    let line = |target: &bellwether_collector::source::scrape::TargetStatus| {
        let pairs = target.discovered_labels.iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
        keyed(target.job.clone(), pairs.collect())
    };
    manager.targets().iter().map(line).collect()
}

async fn theirs(client: &reqwest::Client, vmagent: &Peer) -> BTreeMap<(String, String), Labels> {
    let answer = client.get(vmagent.url("/api/v1/targets?state=active")).send().await.expect("an answer");
    let answer: Value = answer.json().await.expect("JSON");
    let line = |target: &Value| {
        let labels: Labels = serde_json::from_value(target["discoveredLabels"].clone()).expect("labels");
        keyed(labels["job"].clone(), labels.into_iter().filter(|(_, value)| !value.is_empty()).collect())
    };
    answer["data"]["activeTargets"].as_array().into_iter().flatten().map(line).collect()
}

fn keyed(job: String, mut labels: Labels) -> ((String, String), Labels) {
    let address = labels.get("__address__").cloned().unwrap_or_default();
    labels.retain(|name, _| name.starts_with("__meta_kubernetes_") || name == "instance");
    ((job, address), labels)
}

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    for _ in 0..600 {
        if holds().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("waited in vain until {what}");
}

/// What Prometheus gives and this vmagent does not; of the ports that a service does not name also what is said of the service's
/// addresses.
const OURS_ONLY: &str =
    "__meta_kubernetes_(pod_container_(image|id)|service_(loadbalancer_ip|port_number)|endpoints_.*|endpointslice_.*)";

/// What vmagent gives beyond Prometheus.
const THEIRS_ONLY: &str = "__meta_kubernetes_(service_(cluster_ip|type)|node_.*)";

#[tokio::test(flavor = "multi_thread")]
async fn every_role_gives_the_targets_and_labels_that_vmagent_gives() {
    require_peer!(Program::Vmagent);
    let (client, api) = (http::client(), FakeKubernetesApi::start().await);
    furnish(&api);
    let jobs = jobs(&api, "");
    let vmagent = Peer::vmagent(&format!("scrape_configs: {jobs}\n"), "http://127.0.0.1:9/nowhere");
    let manager = manager(&jobs);

    // an address without a port in IPv6 is none to us until a rule puts it right
    let usable = |targets: BTreeMap<(String, String), Labels>| {
        targets.into_iter().filter(|((_, address), _)| address != "fd00::12").collect::<BTreeMap<_, _>>()
    };
    let (mut our_targets, mut their_targets) = (BTreeMap::new(), BTreeMap::new());
    for _ in 0..300 {
        (our_targets, their_targets) = (usable(ours(&manager)), usable(theirs(&client, &vmagent).await));
        let all = ROLES.iter().all(|role| their_targets.keys().any(|(job, _)| job == role));
        if all && our_targets.len() == their_targets.len() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(their_targets.len() >= 15, "{their_targets:#?}");
    assert_eq!(our_targets.keys().collect::<Vec<_>>(), their_targets.keys().collect::<Vec<_>>());
    let whole = |pattern: &str| regex::Regex::new(&format!("^(?:{pattern})$")).expect("a pattern");
    let (ours_only, theirs_only) = (whole(OURS_ONLY), whole(THEIRS_ONLY));
    for (key, labels) in &our_targets {
        let theirs = &their_targets[key];
        for (name, value) in labels {
            assert!(
                theirs.get(name).map_or(ours_only.is_match(name), |v| v == value),
                "{key:?} {name}: {value} and {:?}",
                theirs.get(name)
            );
        }
        let lacking: Vec<&String> =
            theirs.keys().filter(|name| !labels.contains_key(*name) && !theirs_only.is_match(name)).collect();
        assert!(lacking.is_empty(), "{key:?} lacks {lacking:?}");
    }
    manager.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_are_followed_and_an_api_that_is_away_or_forgetful_loses_no_target() {
    http::install_cryptography();
    let api = FakeKubernetesApi::start().await;
    furnish(&api);
    let of_pods = format!(
        "[{{ job_name: pods, kubernetes_sd_configs: [{{ role: pod, api_server: '{}', namespaces: {{ names: [shop] }}, selectors: [{{ role: pod, label: app=web }}] }}] }}]",
        api.url()
    );
    let manager = manager(&of_pods);
    let addresses = || {
        let of = |target: &bellwether_collector::source::scrape::TargetStatus| {
            target.discovered_labels.get("__address__").unwrap_or_default().to_owned()
        };
        manager.targets().iter().map(of).collect::<BTreeSet<String>>()
    };
    until("the pods are there", async || addresses().len() == 5).await;
    assert!(addresses().contains("10.1.0.1:9100") && addresses().contains("[fd00::12]:8080"), "{:?}", addresses());

    api.apply(&pod("web-4", "10.1.0.4"));
    until("a new pod is there", async || addresses().contains("10.1.0.4:8080")).await;
    api.delete::<Pod>("shop", "web-4");
    until("a pod that went is gone", async || !addresses().contains("10.1.0.4:8080")).await;

    api.set_down(true);
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert_eq!(addresses().len(), 5, "an outage loses no target");
    api.apply(&pod("web-5", "10.1.0.5"));
    api.compact();
    api.set_down(false);
    until("what changed meanwhile is there", async || addresses().contains("10.1.0.5:8080") && addresses().len() == 8)
        .await;
    let relisted =
        api.requests().iter().filter(|request| request.contains("/pods?") && !request.contains("watch=")).count();
    assert!(relisted > 2, "the version was gone, so it must have listed anew: {:#?}", api.requests());
    assert!(
        api.requests().iter().all(|request| request.starts_with("/api/v1/namespaces/shop/pods")),
        "{:#?}",
        api.requests()
    );
    manager.shutdown().await;
}
