//! Two processes, one lease: who was stopped or cut off does nothing when it is back, and holds the last count meanwhile.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use axum::http::Method;
use bellwether_scheduler::actuate::kubernetes::Election;
use bellwether_scheduler::actuate::{ActError, Actuator, Effect};

use crate::kubernetes_objects::{ADMIN, Trouble};
use crate::lease_of;
use crate::line::Line;
use crate::support::http;
use crate::support::system::System;
use crate::world::{World, at, decision, facts, until};

/// What each of the two wants for a demand of 60: it tells who acted.
const BY_FIRST: i32 = 15;
const BY_SECOND: i32 = 8;

/// `bellwether run` that scales `web` for a demand of 60, at so much a replica.
async fn run(world: &World, folder: &Path, url: &str, capacity: u32) -> System {
    let (namespace, token) = (&world.namespace, world.token_file(ADMIN));
    let config = format!(
        "cadence: 1s
host: {{ enabled: false }}
workloads:
  - name: shop
    demand: vector(60)
    scale:
      mode: act
      max: 50
      startup: 1s
      capacity_per_replica: {capacity}
      scale_up: {{ policies: [] }}
      scale_down: {{ stabilisation: 0s, policies: [] }}
      actuator: {{ kubernetes: {{ namespace: {namespace}, name: web }} }}
kubernetes:
  api_server: {url}
  token_file: {token:?}
  insecure_skip_verify: true
  lease: {{ namespace: {namespace}, duration: 5s }}
"
    );
    std::fs::create_dir_all(folder).expect("a folder");
    System::start(folder, &config, &http::client()).await
}

fn signal(system: &System, name: &str) {
    let sent = Command::new("kill").args([name, &system.pid().to_string()]).status().expect("kill runs");
    assert!(sent.success());
}

/// Waits until `web` has `count` replicas.
async fn awaits(world: &World, system: &System, count: i32) {
    system.until(&format!("there are {count}"), async || world.replicas("web").await == count).await;
}

/// For a while `web` stays as it is, whatever anybody wants.
async fn stays(world: &World, count: i32) {
    for _ in 0..30 {
        assert_eq!(world.replicas("web").await, count);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// How often what the deployment asks for was changed, its making included.
async fn changes(world: &World) -> i64 {
    world.deployments().await.get("web").await.expect("the deployment").metadata.generation.expect("a generation")
}

async fn leads(system: &System) -> bool {
    let text = http::client().get(system.url("/metrics")).send().await.expect("an answer").text().await.expect("text");
    text.lines().any(|line| line == "bellwether_scheduler_leader 1")
}

/// The first leads, and the second has looked on.
async fn two(world: &World, url_of_first: &str) -> (System, System) {
    world.deploy("web", 4).await;
    let first = run(world, &world.folder.path().join("first"), url_of_first, 5).await;
    awaits(world, &first, BY_FIRST).await;
    let second = run(world, &world.folder.path().join("second"), &world.url, 10).await;
    stays(world, BY_FIRST).await;
    (first, second)
}

/// `BELLWETHER_HANDOVERS` asks for more than there and back.
#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_was_stopped_does_nothing_when_it_wakes_until_it_leads_again() {
    let world = World::begin().await;
    let (first, second) = two(&world, &world.url).await;
    let handovers: i64 = std::env::var("BELLWETHER_HANDOVERS").ok().and_then(|n| n.parse().ok()).unwrap_or(2);
    for handover in 0..handovers {
        let there = handover % 2 == 0;
        let (leader, other, wanted) = if there { (&first, &second, BY_SECOND) } else { (&second, &first, BY_FIRST) };
        tokio::time::sleep(Duration::from_millis(handover as u64 * 137 % 1000)).await; // anywhere in a round
        signal(leader, "-STOP");
        awaits(&world, other, wanted).await;
        signal(leader, "-CONT");
        stays(&world, wanted).await;
        assert!(!leads(leader).await && leads(other).await, "handover {handover}");
        assert_eq!(changes(&world).await, 3 + handover, "one change for each handover, and none more");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_was_cut_off_does_nothing_when_it_is_back_until_the_other_is_gone() {
    let world = World::begin().await;
    let line = Line::to(&world.url).await;
    let (first, second) = two(&world, &line.url).await;
    line.cut();
    awaits(&world, &second, BY_SECOND).await;
    line.mend();
    stays(&world, BY_SECOND).await;
    assert!(!leads(&first).await && leads(&second).await);
    assert_eq!(changes(&world).await, 3, "one change by each of the two");
    drop(second);
    awaits(&world, &first, BY_FIRST).await;
    assert_eq!(changes(&world).await, 4, "it had wanted to all the time");
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_api_is_out_of_reach_the_last_count_stays_and_then_the_newest_decision_is_carried_out() {
    let world = World::begin().await;
    world.deploy("web", 4).await;
    let line = Line::to(&world.url).await;
    let mut service = world.service().await;
    service.join(world.client_at(&line.url, ADMIN).await, None).expect("a cluster");
    service.tick(at(0), &facts(at(0), 60.0)).await;
    assert_eq!(world.replicas("web").await, 8);
    line.cut();
    let view = service.tick(at(600), &facts(at(600), 120.0)).await;
    let decided = &view.plan.decisions[0];
    assert_eq!(world.replicas("web").await, 8, "nothing is known to have changed");
    assert!(decided.to >= Some(8), "what is not known lowers nothing: {decided:?}");
    let record = service.handle().decision(&decided.id).expect("on record");
    assert!(record.attempts.iter().all(|attempt| attempt.applied.is_none()), "{record:?}");
    line.mend();
    service.tick(at(615), &facts(at(615), 120.0)).await;
    assert_eq!(world.replicas("web").await, 15);
}

/// The reading arrives after the lease has run out: as when the process slept between reading and writing.
#[tokio::test(flavor = "multi_thread")]
async fn who_loses_the_lease_between_reading_and_writing_does_not_write() {
    let world = World::begin().await;
    let Some(fake) = &world.fake else { return }; // no real server dawdles on demand
    world.deploy("web", 4).await;
    let lease = lease_of(&world, 1);
    let election = Arc::new(Election::stand(world.client(ADMIN).await, &lease, "first".to_owned()));
    until("it leads", || election.fence().is_some()).await;
    let actuator = world.actuator("web", ADMIN).await.chosen_by(Some(election.clone()));
    fake.trouble(Method::GET, "/leases/bellwether", Trouble::Unavailable);
    fake.trouble(Method::GET, "/deployments/web/scale", Trouble::Late(Duration::from_secs(2)));
    let outcome = actuator.apply(&decision(4, 8), Effect::Real, at(0)).await;
    assert!(matches!(outcome, Err(ActError::NotChosen { .. })), "{outcome:?}");
    assert_eq!(world.replicas("web").await, 4);
}
