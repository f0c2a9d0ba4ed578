//! The cluster's own autoscaler follows our external metric through its aggregation layer, and we leave it its work.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bellwether::front_proxy::{ExternalMetricsConfig, FrontProxyDoor};
use bellwether_models::outlook::Observed;
use bellwether_scheduler::actuate::{ActError, Actuator, Effect, external_metrics};
use bellwether_scheduler::config::{ActuatorConfig, AskedFrom, Mode};
use bellwether_scheduler::{Config, ScaleConfig, Service, Workload};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, DeleteParams, DynamicObject, PostParams};
use serde_json::{Value, json};

use crate::kubernetes_objects::{ADMIN, PLAIN};
use crate::support::certificates::Authority;
use crate::world::{Nowhere, World, at, decision, facts, object, until_it};

const SERVICE: &str = "bellwether-metrics";
const REGISTRATION: &str = "v1beta1.external.metrics.k8s.io";

impl World {
    /// What the API server tells of front proxies, as a door's configuration.
    async fn door(&self) -> ExternalMetricsConfig {
        let maps: Api<ConfigMap> = Api::namespaced(self.client(ADMIN).await, "kube-system");
        let told = maps.get("extension-apiserver-authentication").await.expect("the map").data.expect("data");
        let proxies = self.folder.path().join("proxies.pem");
        std::fs::write(&proxies, &told["requestheader-client-ca-file"]).expect("written");
        let names: Value = serde_json::from_str(&told["requestheader-allowed-names"]).expect("names");
        let (cert_file, key_file): (PathBuf, PathBuf) =
            Authority::make(self.folder.path(), "ours").sign("us", &format!("DNS:{SERVICE}.{}.svc", self.namespace));
        object(json!({
            "listen": "127.0.0.1:0", "cert_file": cert_file, "key_file": key_file,
            "requestheader_client_ca_file": proxies, "requestheader_allowed_names": names,
        }))
    }

    /// Sends those who ask the cluster for external metrics to `door`.
    async fn register(&self, door: &FrontProxyDoor) {
        let port = door.address.port();
        let service = object(json!({
            "metadata": { "name": SERVICE },
            "spec": { "type": "ExternalName", "externalName": "localhost", "ports": [{ "port": port }] },
        }));
        let services = self.objects("v1", "Service", "services", true).await;
        services.create(&PostParams::default(), &service).await.expect("a service");
        let root = std::fs::read(self.folder.path().join("ours.pem")).expect("a root");
        let registration = object(json!({
            "metadata": { "name": REGISTRATION },
            "spec": {
                "group": "external.metrics.k8s.io", "version": "v1beta1", "groupPriorityMinimum": 100, "versionPriority": 100,
                "caBundle": STANDARD.encode(root),
                "service": { "namespace": self.namespace, "name": SERVICE, "port": port },
            },
        }));
        let registrations = self.registrations().await;
        let _ = registrations.delete(REGISTRATION, &DeleteParams::default()).await; // of a run before
        registrations.create(&PostParams::default(), &registration).await.expect("a registration");
    }

    async fn registrations(&self) -> Api<DynamicObject> {
        self.objects("apiregistration.k8s.io/v1", "APIService", "apiservices", false).await
    }

    /// What the API server answers about our metric.
    async fn metric(&self, name: &str, token: &str) -> (u16, Value) {
        let client =
            reqwest::Client::builder().no_proxy().tls_danger_accept_invalid_certs(true).build().expect("a client");
        let path = format!("apis/external.metrics.k8s.io/v1beta1/namespaces/{}/{name}", self.namespace);
        let url = format!("{}/{path}?labelSelector=workload%3Dshop", self.url);
        let answer = client.get(url).bearer_auth(token).send().await.expect("an answer");
        (answer.status().as_u16(), answer.json().await.unwrap_or_default())
    }
}

/// Decides for `shop`, whose replicas the autoscaler sets.
async fn service(world: &World) -> Service {
    let asked = AskedFrom { namespace: Some(world.namespace.clone()) };
    let scale = ScaleConfig {
        mode: Mode::Act,
        max: 50,
        capacity_per_replica: 10.0.try_into().ok(),
        actuator: Some(ActuatorConfig::ExternalMetrics(asked)),
        ..ScaleConfig::default()
    };
    let workloads = vec![Workload { name: "shop".to_owned(), depends_on: Vec::new(), scale }];
    Service::new(Config { workloads, ..Config::default() }, Arc::new(Nowhere), None).await.expect("it starts")
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a real API with controllers: make test-kubernetes"]
async fn the_autoscaler_follows_our_metric_holds_without_it_and_is_not_fought() {
    let world = World::begin().await;
    assert!(world.fake.is_none(), "name a real API in BELLWETHER_KUBERNETES_API");
    world.deploy("web", 2).await;
    let mut service = service(&world).await;
    let config = world.door().await;
    let routes = external_metrics::router(service.offers());
    let door = FrontProxyDoor::open(&config, routes, Duration::from_secs(60)).await.expect("it opens");
    world.register(&door).await;
    let autoscaler = object(json!({
        "metadata": { "name": "follower" },
        "spec": {
            "minReplicas": 1, "maxReplicas": 20,
            "scaleTargetRef": { "apiVersion": "apps/v1", "kind": "Deployment", "name": "web" },
            "metrics": [{ "type": "External", "external": {
                "metric": { "name": external_metrics::DESIRED_REPLICAS, "selector": { "matchLabels": { "workload": "shop" } } },
                "target": { "type": "AverageValue", "averageValue": "1" },
            } }],
        },
    }));
    let autoscalers =
        world.objects("autoscaling/v2beta2", "HorizontalPodAutoscaler", "horizontalpodautoscalers", true).await;
    autoscalers.create(&PostParams::default(), &autoscaler).await.expect("an autoscaler");

    let mut seen = facts(at(0), 45.0);
    seen.workloads[0].replicas = Some(Observed { at: at(0), value: 2.0 });
    service.tick(at(0), &seen).await;
    until_it("is registered", async || world.metric("bellwether_desired_replicas", ADMIN).await.0 == 200).await;
    let (_, list) = world.metric("bellwether_desired_replicas", ADMIN).await;
    assert_eq!(list["items"][0]["value"], "6000m", "{list}");
    assert_eq!(world.metric("bellwether_desired_replicas", PLAIN).await.0, 403, "the API server asks who may");
    let (code, status) = world.metric("bellwether_forecast", ADMIN).await;
    assert_eq!((code, &status["reason"]), (503, &json!("ServiceUnavailable")), "there is no forecast: {status}");
    until_it("has six replicas", async || world.replicas("web").await == 6).await;

    let mut more = facts(at(15), 60.0);
    more.workloads[0].replicas = Some(Observed { at: at(15), value: 6.0 });
    service.tick(at(15), &more).await;
    until_it("has eight replicas", async || world.replicas("web").await == 8).await;

    let refused = world.actuator("web", ADMIN).await.apply(&decision(8, 12), Effect::Real, at(20)).await;
    let error = refused.expect_err("it belongs to the autoscaler");
    assert!(matches!(error, ActError::LeftAlone { .. }) && error.to_string().contains("follower"), "{error}");

    door.shutdown().await;
    until_it("is missed", async || world.metric("bellwether_desired_replicas", ADMIN).await.0 == 503).await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(world.replicas("web").await, 8, "five looks of the autoscaler without our metric");
    world.registrations().await.delete(REGISTRATION, &DeleteParams::default()).await.expect("gone");
}
