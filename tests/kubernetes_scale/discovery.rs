//! Objects with annotations of ours become workloads of a running system, and cease to be.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Event;
use kube::api::{Api, ListParams, Patch, PatchParams};
use serde_json::{Value, json};

use crate::kubernetes_objects::ADMIN;
use crate::line::Line;
use crate::support::http;
use crate::support::system::System;
use crate::world::World;

/// `bellwether run` without a workload of its own.
async fn run(world: &World, url: &str) -> System {
    let (namespace, token) = (&world.namespace, world.token_file(ADMIN));
    let config = format!(
        "cadence: 1s
host: {{ enabled: false }}
kubernetes:
  api_server: {url}
  token_file: {token:?}
  insecure_skip_verify: true
  discover: {{ namespaces: [{namespace}], every: 1s }}
"
    );
    System::start(world.folder.path(), &config, &http::client()).await
}

async fn annotate(api: &Api<Deployment>, name: &str, annotations: Value) {
    let patch = Patch::Merge(json!({ "metadata": { "annotations": annotations } }));
    api.patch(name, &PatchParams::default(), &patch).await.expect("annotated");
}

/// What the system tells of a workload, if there is one of that name.
async fn told(system: &System, name: &str) -> Option<Value> {
    let answer = http::client().get(system.url("/api/v1/workloads")).send().await.expect("an answer");
    let all: Value = answer.json().await.expect("JSON");
    all.as_array().expect("a list").iter().find(|workload| workload["name"] == name).cloned()
}

async fn warnings(world: &World) -> Vec<Event> {
    let events: Api<Event> = Api::namespaced(world.client(ADMIN).await, &world.namespace);
    let listed = events.list(&ListParams::default()).await.expect("a list").items;
    listed.into_iter().filter(|event| event.reason.as_deref() == Some("WorkloadRefused")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn annotated_objects_become_workloads_that_change_nothing_and_faults_are_told_beside_them() {
    let world = World::begin().await;
    let deployments = world.deployments().await;
    for name in ["web", "odd", "plain"] {
        world.deploy(name, 4).await;
    }
    let sound = json!({ "bellwether.dev/demand": "vector(60)", "bellwether.dev/capacity-per-replica": "10" });
    annotate(&deployments, "web", sound).await;
    annotate(&deployments, "odd", json!({ "bellwether.dev/demand": "vector(60)", "bellwether.dev/max": "many" })).await;
    let line = Line::to(&world.url).await;
    let system = run(&world, &line.url).await;
    let (web, odd) = (format!("{}.web", world.namespace), format!("{}.odd", world.namespace));
    let decided = async |name: &str| told(&system, name).await.and_then(|w| w["desired_replicas"].as_u64());

    system.until("the sound one is decided", async || decided(&web).await == Some(8)).await;
    assert_eq!(world.replicas("web").await, 4, "a shadow changes nothing");
    assert_eq!(told(&system, &odd).await, None);
    system.until("the odd one has its event", async || !warnings(&world).await.is_empty()).await;
    let warned = warnings(&world).await;
    assert_eq!(warned[0].involved_object.name.as_deref(), Some("odd"));
    assert!(
        warned[0].message.as_deref().is_some_and(|text| text.contains("bellwether.dev/max \"many\"")),
        "{warned:?}"
    );

    annotate(&deployments, "odd", json!({ "bellwether.dev/max": "30" })).await;
    system.until("the other is mended", async || told(&system, &odd).await.is_some()).await;
    line.cut();
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    assert!(decided(&web).await.is_some(), "what cannot be looked at is not gone");
    line.mend();
    annotate(
        &deployments,
        "web",
        json!({ "bellwether.dev/demand": null, "bellwether.dev/capacity-per-replica": null }),
    )
    .await;
    system.until("it is no workload any more", async || told(&system, &web).await.is_none()).await;
    assert!(told(&system, &odd).await.is_some());
    assert_eq!(warnings(&world).await.len(), 1, "told once");
}
