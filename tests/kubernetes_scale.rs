//! Scaling through a Kubernetes API: ahead of demand, and not where others scale, nobody may, or somebody else is chosen.
//!
//! The API is a fake; with `BELLWETHER_KUBERNETES_API` (an address that takes the tokens of the fake) the same tests ask a
//! real one: `make test-kubernetes`.

#![cfg(feature = "kubernetes")]

#[path = "support/kubernetes_objects.rs"]
mod kubernetes_objects;
mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bellwether::cluster::ClusterConfig;
use bellwether_models::outlook::{Foresight, Observed, Outlook, Running, Snapshot};
use bellwether_models::series::{Labels, Timestamp};
use bellwether_scheduler::actuate::kubernetes::{Election, Kubernetes, PAUSED};
use bellwether_scheduler::actuate::{ActError, Actuator, Applied, Effect, SeriesSink, SinkError};
use bellwether_scheduler::config::{ActuatorConfig, KubernetesConfig, LeaseConfig, Mode};
use bellwether_scheduler::plan::Decision;
use bellwether_scheduler::{Config, ScaleConfig, Service, Workload};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::autoscaling::v1::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::Event;
use kube::Client;
use kube::api::{Api, ListParams, Patch, PatchParams, PostParams};
use kubernetes_objects::{ADMIN, FakeObjects, PLAIN};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

struct Nowhere;

#[async_trait::async_trait]
impl SeriesSink for Nowhere {
    async fn write(&self, _: Timestamp, _: Vec<(Labels, f64)>) -> Result<(), SinkError> {
        Ok(())
    }
}

/// An API with a namespace of its own for this test.
struct World {
    url: String,
    namespace: String,
    fake: Option<FakeObjects>,
    folder: tempfile::TempDir,
}

static WORLDS: AtomicU32 = AtomicU32::new(0);

impl World {
    async fn begin() -> Self {
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

    async fn client(&self, token: &str) -> Client {
        let file = self.folder.path().join(token);
        std::fs::write(&file, format!("{token}\n")).expect("a file");
        let config = ClusterConfig {
            api_server: Some(self.url.clone()),
            token_file: Some(file),
            insecure_skip_verify: true,
            ..ClusterConfig::default()
        };
        bellwether_collector::kubernetes::client(&config.access()).await.expect("a client")
    }

    async fn deployments(&self) -> Api<Deployment> {
        Api::namespaced(self.client(ADMIN).await, &self.namespace)
    }

    async fn deploy(&self, name: &str, replicas: u32) {
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

    async fn replicas(&self, name: &str) -> i32 {
        let found = self.deployments().await.get(name).await.expect("the deployment");
        found.spec.expect("a spec").replicas.expect("a number")
    }

    fn target(&self, name: &str) -> KubernetesConfig {
        object(json!({ "namespace": self.namespace, "name": name }))
    }

    async fn actuator(&self, name: &str, token: &str) -> Kubernetes {
        Kubernetes::new(self.client(token).await, self.target(name))
    }

    /// A scheduler that scales `web` for the workload `shop`.
    async fn service(&self) -> Service {
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

fn object<K: DeserializeOwned>(value: Value) -> K {
    serde_json::from_value(value).expect("an object of the API")
}

fn at(secs: i64) -> Timestamp {
    Timestamp::from_secs(1_700_000_000 + secs)
}

/// The demand of the shop at `now`. How many replicas there are is not told.
fn facts(now: Timestamp, demand: f64) -> Snapshot {
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

fn decision(from: u32, to: u32) -> Decision {
    object(json!({
        "id": "shop-1", "workload": "shop", "at": at(0), "mode": "act", "from": from, "to": to, "observed": from,
        "reactive": from, "floor": from, "predicted": to, "advice": { "ours": to, "reactive": from, "floor": from },
        "reasons": [{ "kind": "reactive_floor", "replicas": from }],
    }))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_is_scaled_from_what_it_asks_for_and_people_read_why_beside_it() {
    let world = World::begin().await;
    world.deploy("web", 4).await;
    let mut service = world.service().await;
    let view = service.tick(at(0), &facts(at(0), 60.0)).await;
    assert_eq!(view.plan.decisions[0].from, Some(4), "the cluster told: {}", view.plan.decisions[0]);
    assert_eq!(world.replicas("web").await, 8);
    let events: Api<Event> = Api::namespaced(world.client(ADMIN).await, &world.namespace);
    let mut told = None;
    for _ in 0..100 {
        let found = events.list(&ListParams::default()).await.expect("a list");
        told = found.items.into_iter().find(|e| e.reason.as_deref() == Some("ScaledAheadOfDemand"));
        if told.is_some() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let message = told.expect("an event").message.expect("a message");
    assert!(message.starts_with("from 4 to 8 replicas: "), "{message}");
    let before = world.fake.as_ref().map(|fake| fake.writes().len());
    service.tick(at(15), &facts(at(15), 60.0)).await;
    assert_eq!(world.fake.as_ref().map(|fake| fake.writes().len()), before, "what stands so is not written again");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_actuator_observes_applies_once_and_tries_without_doing() {
    let world = World::begin().await;
    world.deploy("web", 4).await;
    let actuator = world.actuator("web", ADMIN).await;
    assert_eq!(actuator.observe("shop").await.expect("observed"), Some(4));
    let tried = actuator.apply(&decision(4, 8), Effect::DryRun, at(0)).await.expect("it could");
    assert_eq!((tried, world.replicas("web").await), (Applied::WouldApply, 4));
    for _ in 0..2 {
        assert_eq!(actuator.apply(&decision(4, 8), Effect::Real, at(0)).await.expect("applied"), Applied::Accepted);
        assert_eq!(actuator.observe("shop").await.expect("observed"), Some(8));
    }
    assert_eq!(actuator.apply(&decision(8, 0), Effect::Real, at(0)).await.expect("applied"), Applied::Accepted);
    assert_eq!(actuator.observe("shop").await.expect("observed"), Some(0), "nothing is a number too");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_missing_forbidden_paused_or_scaled_by_others_is_left_alone_and_said() {
    let world = World::begin().await;
    for name in ["web", "paused", "owned"] {
        world.deploy(name, 4).await;
    }
    let pause = json!({ "metadata": { "annotations": { PAUSED: "true" } } });
    let deployments = world.deployments().await;
    deployments.patch("paused", &PatchParams::default(), &Patch::Merge(pause)).await.expect("annotated");
    let autoscaler = object(json!({
        "metadata": { "name": "owner" },
        "spec": { "maxReplicas": 9, "scaleTargetRef": { "apiVersion": "apps/v1", "kind": "Deployment", "name": "owned" } },
    }));
    let autoscalers: Api<HorizontalPodAutoscaler> = Api::namespaced(world.client(ADMIN).await, &world.namespace);
    autoscalers.create(&PostParams::default(), &autoscaler).await.expect("an autoscaler");
    let refusal = async |name: &str, token: &str| {
        let actuator = world.actuator(name, token).await;
        actuator.apply(&decision(4, 8), Effect::Real, at(0)).await.expect_err("refused")
    };
    assert!(matches!(refusal("nowhere", ADMIN).await, ActError::Missing { .. }));
    assert!(matches!(refusal("web", PLAIN).await, ActError::NotPermitted { .. }));
    for (name, why) in [("paused", PAUSED), ("owned", "HorizontalPodAutoscaler owner")] {
        let error = refusal(name, ADMIN).await;
        assert!(matches!(error, ActError::LeftAlone { .. }) && error.to_string().contains(why), "{error}");
        assert_eq!(world.replicas(name).await, 4);
    }
    let blind = world.actuator("web", PLAIN).await;
    assert!(blind.observe("shop").await.is_err(), "an error is never a number");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_rests_on_an_old_reading_changes_nothing() {
    let world = World::begin().await;
    world.deploy("web", 4).await;
    let deployments = world.deployments().await;
    let read = deployments.get_scale("web").await.expect("a scale").metadata.resource_version;
    let patch = |version: &Option<String>, replicas: u32| {
        Patch::Merge(json!({ "metadata": { "resourceVersion": version }, "spec": { "replicas": replicas } }))
    };
    deployments.patch_scale("web", &PatchParams::default(), &patch(&read, 6)).await.expect("the first one");
    let second = deployments.patch_scale("web", &PatchParams::default(), &patch(&read, 9)).await;
    let Err(kube::Error::Api(status)) = second else { panic!("{second:?}") };
    assert!(status.is_conflict(), "{status:?}");
    assert_eq!(world.replicas("web").await, 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_that_cannot_be_reached_leaves_the_last_count() {
    let world = World::begin().await;
    world.deploy("web", 4).await;
    let mut service = world.service().await;
    service.tick(at(0), &facts(at(0), 60.0)).await;
    let nowhere = World {
        url: "http://127.0.0.1:1".to_owned(),
        namespace: world.namespace.clone(),
        fake: None,
        folder: tempfile::tempdir().expect("a folder"),
    };
    service.join(nowhere.client(ADMIN).await, None).expect("a cluster");
    let view = service.tick(at(1000), &facts(at(1000), 8.0)).await;
    let record = service.handle().decision(&view.plan.decisions[0].id).expect("on record");
    assert!(record.attempts.iter().all(|attempt| attempt.applied.is_none() && attempt.error.is_some()), "{record:?}");
    assert_eq!(world.replicas("web").await, 8);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_only_one_holds_the_lease_and_the_other_follows_when_it_is_gone() {
    let world = World::begin().await;
    let lease = LeaseConfig {
        namespace: world.namespace.clone(),
        name: "bellwether".to_owned(),
        duration: Duration::from_secs(2),
    };
    let first = Election::stand(world.client(ADMIN).await, &lease, "first".to_owned());
    until("the first leads", || first.fence().is_some()).await;
    let second = Election::stand(world.client(ADMIN).await, &lease, "second".to_owned());
    for _ in 0..30 {
        assert!(!(first.fence().is_some() && second.fence().is_some()), "one at a time");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(second.fence().is_none(), "the first renews it");
    let before = first.fence().expect("it leads");
    drop(first);
    until("the second leads", || second.fence().is_some()).await;
    assert!(second.fence() > Some(before), "what was begun before is void");
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    for _ in 0..600 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("waited in vain until {what}");
}
