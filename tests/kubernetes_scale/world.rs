//! An API with a namespace of its own for each test: the fake, or a real one.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bellwether::cluster::ClusterConfig;
use bellwether_models::outlook::{Foresight, Observed, Outlook, Running, Snapshot};
use bellwether_models::series::{Labels, Timestamp};
use bellwether_scheduler::actuate::kubernetes::Kubernetes;
use bellwether_scheduler::actuate::{SeriesSink, SinkError};
use bellwether_scheduler::config::{ActuatorConfig, KubernetesConfig, Mode};
use bellwether_scheduler::plan::Decision;
use bellwether_scheduler::{Config, ScaleConfig, Service, Workload};
use k8s_openapi::api::apps::v1::Deployment;
use kube::Client;
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind, PostParams};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::kubernetes_objects::{ADMIN, FakeObjects};
use crate::support;

/// Where no series are kept.
pub struct Nowhere;

#[async_trait::async_trait]
impl SeriesSink for Nowhere {
    async fn write(&self, _: Timestamp, _: Vec<(Labels, f64)>) -> Result<(), SinkError> {
        Ok(())
    }
}

/// An API with a namespace of its own for this test.
pub struct World {
    pub url: String,
    pub namespace: String,
    pub fake: Option<FakeObjects>,
    pub folder: tempfile::TempDir,
}

static WORLDS: AtomicU32 = AtomicU32::new(0);

impl World {
    pub async fn begin() -> Self {
        support::http::install_cryptography();
        let folder = tempfile::tempdir().expect("a folder");
        let (fake, url) = match std::env::var("BELLWETHER_KUBERNETES_API") {
            Ok(url) => (None, url),
            Err(_) => {
                let (fake, url) = FakeObjects::start().await;
                (Some(fake), url)
            }
        };
        let namespace = format!("shop-{}-{}", std::process::id(), WORLDS.fetch_add(1, Ordering::Relaxed));
        let world = Self { url, namespace, fake, folder };
        let spaces: Api<k8s_openapi::api::core::v1::Namespace> = Api::all(world.client(ADMIN).await);
        let space = object(json!({ "metadata": { "name": world.namespace } }));
        spaces.create(&PostParams::default(), &space).await.expect("a namespace");
        world
    }

    pub async fn client(&self, token: &str) -> Client {
        self.client_at(&self.url, token).await
    }

    /// The file that holds `token`.
    pub fn token_file(&self, token: &str) -> PathBuf {
        let file = self.folder.path().join(token);
        std::fs::write(&file, format!("{token}\n")).expect("a file");
        file
    }

    /// A client of the API at another address.
    pub async fn client_at(&self, url: &str, token: &str) -> Client {
        let config = ClusterConfig {
            api_server: Some(url.to_owned()),
            token_file: Some(self.token_file(token)),
            insecure_skip_verify: true,
            ..ClusterConfig::default()
        };
        bellwether_collector::kubernetes::client(&config.access()).await.expect("a client")
    }

    pub async fn deployments(&self) -> Api<Deployment> {
        Api::namespaced(self.client(ADMIN).await, &self.namespace)
    }

    pub async fn deploy(&self, name: &str, replicas: u32) {
        let deployment = object(json!({
            "metadata": { "name": name },
            "spec": {
                "replicas": replicas,
                "selector": { "matchLabels": { "app": name } },
                "template": { "metadata": { "labels": { "app": name } }, "spec": { "containers": [{ "name": "c", "image": "web:1" }] } },
            },
        }));
        self.deployments().await.create(&PostParams::default(), &deployment).await.expect("a deployment");
    }

    pub async fn replicas(&self, name: &str) -> i32 {
        let found = self.deployments().await.get(name).await.expect("the deployment");
        found.spec.expect("a spec").replicas.expect("a number")
    }

    /// Any kind of object, by its API version, kind and plural; of the whole cluster or of our namespace.
    pub async fn objects(&self, api_version: &str, kind: &str, plural: &str, ours: bool) -> Api<DynamicObject> {
        let (group, version) = api_version.rsplit_once('/').unwrap_or(("", api_version));
        let kind = ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), plural);
        let client = self.client(ADMIN).await;
        if ours { Api::namespaced_with(client, &self.namespace, &kind) } else { Api::all_with(client, &kind) }
    }

    pub fn target(&self, name: &str) -> KubernetesConfig {
        object(json!({ "namespace": self.namespace, "name": name }))
    }

    pub async fn actuator(&self, name: &str, token: &str) -> Kubernetes {
        Kubernetes::new(self.client(token).await, self.target(name))
    }

    /// A scheduler that scales `web` for the workload `shop`.
    pub async fn service(&self) -> Service {
        let scale = ScaleConfig {
            mode: Mode::Act,
            capacity_per_replica: 10.0.try_into().ok(),
            max: 50,
            actuator: Some(ActuatorConfig::Kubernetes(self.target("web"))),
            ..ScaleConfig::default()
        };
        let workloads = vec![Workload { name: "shop".to_owned(), depends_on: Vec::new(), scale }];
        let config = Config { workloads, ..Config::default() };
        let mut service = Service::new(config, Arc::new(Nowhere), None).await.expect("it starts");
        service.join(self.client(ADMIN).await, None).expect("a cluster");
        service
    }
}

pub fn object<K: DeserializeOwned>(value: Value) -> K {
    serde_json::from_value(value).expect("an object of the API")
}

pub fn at(secs: i64) -> Timestamp {
    Timestamp::from_secs(1_700_000_000 + secs)
}

/// The demand of the shop at `now`. How many replicas there are is not told.
pub fn facts(now: Timestamp, demand: f64) -> Snapshot {
    let outlook = Outlook {
        workload: "shop".to_owned(),
        made_at: now,
        demand: Some(Observed { at: now, value: demand }),
        replicas: None,
        foresight: Foresight::Abstained { reason: "too few observations".to_owned() },
        model: bellwether_models::outlook::ModelRef::default(),
        anomalies: Vec::new(),
        running: Running::default(),
    };
    Snapshot { made_at: now, workloads: vec![outlook], ..Snapshot::default() }
}

pub fn decision(from: u32, to: u32) -> Decision {
    object(json!({
        "id": "shop-1", "workload": "shop", "at": at(0), "mode": "act", "from": from, "to": to, "observed": from,
        "reactive": from, "floor": from, "predicted": to, "advice": { "ours": to, "reactive": from, "floor": from },
        "reasons": [{ "kind": "reactive_floor", "replicas": from }],
    }))
}

/// Looks again and again, for half a minute.
pub async fn until(what: &str, holds: impl Fn() -> bool) {
    for _ in 0..600 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("waited in vain until {what}");
}

/// Asks again and again, for a minute.
pub async fn until_it(what: &str, holds: impl AsyncFn() -> bool) {
    for _ in 0..300 {
        if holds().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    panic!("waited in vain until it {what}");
}
