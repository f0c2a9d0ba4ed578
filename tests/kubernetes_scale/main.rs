//! Scaling through a Kubernetes API: ahead of demand, and not where others scale, nobody may, or somebody else is chosen.
//!
//! The API is a fake; with `BELLWETHER_KUBERNETES_API` (an address that takes the tokens of the fake) the same tests ask a
//! real one: `make test-kubernetes`.

#![cfg(feature = "kubernetes")]

mod answers;
mod autoscaler;
mod discovery;
mod handover;
mod kubernetes_objects;
mod line;
mod rights;
#[path = "../support/mod.rs"]
mod support;
mod world;

use std::time::Duration;

use bellwether_scheduler::actuate::kubernetes::{Election, PAUSED};
use bellwether_scheduler::actuate::{ActError, Actuator, Applied, Effect};
use bellwether_scheduler::config::LeaseConfig;
use k8s_openapi::api::autoscaling::v1::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::Event;
use kube::api::{Api, ListParams, Patch, PatchParams, PostParams};
use kubernetes_objects::{ADMIN, PLAIN};
use serde_json::json;
use world::{World, at, decision, facts, object, until};

/// The lease of our namespace, for so many seconds.
fn lease_of(world: &World, secs: u64) -> LeaseConfig {
    let duration = Duration::from_secs(secs);
    LeaseConfig { namespace: world.namespace.clone(), name: "bellwether".to_owned(), duration }
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
    service.join(world.client_at("http://127.0.0.1:1", ADMIN).await, None).expect("a cluster");
    let view = service.tick(at(1000), &facts(at(1000), 8.0)).await;
    let record = service.handle().decision(&view.plan.decisions[0].id).expect("on record");
    assert!(record.attempts.iter().all(|attempt| attempt.applied.is_none() && attempt.error.is_some()), "{record:?}");
    assert_eq!(world.replicas("web").await, 8);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_only_one_holds_the_lease_and_the_other_follows_when_it_is_gone() {
    let world = World::begin().await;
    let lease = lease_of(&world, 2);
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
