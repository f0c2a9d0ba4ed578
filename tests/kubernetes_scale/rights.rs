//! The manifests that we ship: a real API takes them, and with their rights alone everything of ours works.

use std::time::Duration;

use bellwether::discovery::PREFIX;
use bellwether_collector::kubernetes::annotated::Annotations;
use bellwether_scheduler::actuate::kubernetes::Election;
use bellwether_scheduler::actuate::{ActError, Actuator, Applied, Effect};
use k8s_openapi::api::core::v1::Event;
use kube::api::{Api, ListParams, PostParams};
use kube::core::DynamicObject;
use serde_json::{Value, json};

use crate::kubernetes_objects::{ADMIN, PLAIN};
use crate::lease_of;
use crate::world::{World, at, decision, object, until, until_it};

/// The objects of a manifest, all in our namespace and their subjects the user without rights.
fn manifest(world: &World, text: &str) -> Vec<Value> {
    let user = json!([{ "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "plain" }]);
    let mut objects: Vec<Value> = serde_saphyr::from_multiple(text).expect("YAML");
    for object in &mut objects {
        if object["metadata"].get("namespace").is_some() {
            object["metadata"]["namespace"] = json!(world.namespace);
        }
        if object.get("subjects").is_some() {
            object["subjects"] = user.clone();
        }
    }
    objects
}

/// Makes the objects, or only tries whether they would be taken.
async fn apply(world: &World, objects: Vec<Value>, effect: Effect) {
    let params = PostParams { dry_run: effect == Effect::DryRun, ..PostParams::default() };
    for value in objects {
        let (kind, api_version) =
            (value["kind"].as_str().expect("a kind"), value["apiVersion"].as_str().expect("an API"));
        let ours = value["metadata"].get("namespace").is_some();
        let plural = format!("{}s", kind.to_lowercase());
        let api = world.objects(api_version, kind, &plural, ours).await;
        let made: DynamicObject = object(value.clone());
        api.create(&params, &made).await.unwrap_or_else(|error| panic!("{value}: {error}"));
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a real API: make test-kubernetes"]
async fn the_rights_of_the_manifest_are_enough_to_scale_to_lead_and_to_discover() {
    let world = World::begin().await;
    assert!(world.fake.is_none(), "name a real API in BELLWETHER_KUBERNETES_API");
    world.deploy("web", 4).await;
    let actuator = world.actuator("web", PLAIN).await;
    let before = actuator.apply(&decision(4, 8), Effect::Real, at(0)).await;
    assert!(matches!(before, Err(ActError::NotPermitted { .. })), "{before:?}");

    apply(&world, manifest(&world, include_str!("../../deploy/kubernetes/rbac.yaml")), Effect::Real).await;
    until_it("may read", async || actuator.observe("shop").await.is_ok()).await;
    let applied = actuator.apply(&decision(4, 8), Effect::Real, at(0)).await.expect("it may");
    assert_eq!((applied, world.replicas("web").await), (Applied::Accepted, 8));
    let events: Api<Event> = Api::namespaced(world.client(ADMIN).await, &world.namespace);
    until_it("has its event", async || !events.list(&ListParams::default()).await.expect("a list").items.is_empty())
        .await;
    let election = Election::stand(world.client(PLAIN).await, &lease_of(&world, 2), "plain".to_owned());
    until("it leads", || election.fence().is_some()).await;
    let annotations = Annotations::new(world.client(PLAIN).await, vec![world.namespace.clone()], PREFIX);
    assert_eq!(annotations.found().await.expect("it may look"), []);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a real API: make test-kubernetes"]
async fn a_real_api_would_take_the_registration_of_external_metrics() {
    let world = World::begin().await;
    assert!(world.fake.is_none(), "name a real API in BELLWETHER_KUBERNETES_API");
    let objects = manifest(&world, include_str!("../../deploy/kubernetes/external-metrics.yaml"));
    assert_eq!(objects.len(), 4);
    tokio::time::timeout(Duration::from_secs(30), apply(&world, objects, Effect::DryRun)).await.expect("in time");
}
