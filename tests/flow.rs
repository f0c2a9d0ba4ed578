//! From samples to decisions and incidents, on recorded data and a simulated clock.

mod support;

use std::path::Path;
use std::time::Duration;

use bellwether::config::Config;
use bellwether_models::duration;
use bellwether_models::outlook::Foresight;
use bellwether_models::series::{Labels, Timestamp};
use bellwether_scheduler::plan::Reason;
use support::world::{World, between, recorded};

const CADENCE: Duration = Duration::from_secs(300);
const STARTUP: Duration = Duration::from_secs(900);
const PER_REPLICA: f64 = 50.0;

fn span(text: &str) -> Duration {
    duration::parse(text).expect("a duration")
}

fn shop() -> Config {
    let text = format!(
        "cadence: 5m\n\
         workloads:\n\
         - name: shop\n  \
           demand: sum(requests_per_second{{service=\"shop\"}})\n  \
           forecast: {{ step: 5m }}\n  \
           scale: {{ max: 40, capacity_per_replica: {PER_REPLICA}, startup: 15m }}\n"
    );
    Config::parse(Path::new("shop.yaml"), &text).expect("a configuration")
}

/// Replicas ordered over time, and what they would have served.
#[derive(Default)]
struct Fleet {
    orders: Vec<(Timestamp, u32)>,
}

impl Fleet {
    /// Replicas that serve at `now`: the fewest ordered at any time since a start-up time ago.
    fn ready(&self, now: Timestamp) -> u32 {
        let before = self.orders.iter().rev().find(|(at, _)| *at + STARTUP <= now);
        let since = self.orders.iter().filter(|(at, _)| *at + STARTUP > now);
        since.chain(before).map(|(_, replicas)| *replicas).min().unwrap_or(u32::MAX)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_surge_is_met_before_it_arrives() {
    let demand = recorded("demand.csv.gz", |_| Labels::metric("requests_per_second").with("service", "shop"));
    let ends = demand[0].samples.last().expect("samples").at;
    let (begins, live) = (ends - span("16d"), ends - span("33h"));
    let mut world = World::begin(live, shop()).await;
    world.observe(live, between(&demand, begins, live)).await;
    let (mut ours, mut reactive) = (Fleet::default(), Fleet::default());
    let (mut short_ours, mut short_reactive, mut foresaw) = (0, 0, 0);
    while world.now() < live + span("11h") {
        let now = world.now() + CADENCE;
        world.observe(now, between(&demand, now - CADENCE, now)).await;
        let (snapshot, view) = world.tick().await;
        let outlook = &snapshot.workloads[0];
        assert!(matches!(outlook.foresight, Foresight::Forecast { .. }), "{:?}", outlook.foresight);
        let observed = outlook.demand.expect("demand is known").value;
        let decision = view.plan.of("shop").expect("a decision");
        let (to, floor) = (decision.to.expect("a number"), decision.reactive.expect("a number"));
        assert!(to >= floor, "{to} replicas where a reactive autoscaler runs {floor}");
        let ahead = |reason: &Reason| matches!(reason, Reason::Forecast { replicas, .. } if *replicas > floor);
        foresaw += usize::from(to > floor && decision.reasons.iter().any(ahead));
        ours.orders.push((now, to));
        reactive.orders.push((now, floor));
        short_ours += usize::from(observed > f64::from(ours.ready(now)) * PER_REPLICA);
        short_reactive += usize::from(observed > f64::from(reactive.ready(now)) * PER_REPLICA);
    }
    println!(
        "rounds short of capacity: {short_ours} ahead of demand, {short_reactive} reactive; {foresaw} orders ahead"
    );
    assert!(short_reactive > 0, "the recording holds a surge that a reactive autoscaler misses");
    assert!(short_ours < short_reactive, "{short_ours} rounds short, {short_reactive} for the reactive rule");
    assert!(foresaw > 0);
    assert_eq!(world.ask(r#"bellwether_desired_replicas{workload="shop"}"#).await.len(), 1);
    let foreseen = world.ask(r#"bellwether_forecast{workload="shop",horizon_seconds="3600"}"#).await;
    assert_eq!(foreseen.len(), 4, "one series a quantile");
    assert!(foreseen.is_sorted(), "quantiles do not cross: {foreseen:?}");
}

/// The shop of the recording with everything it calls, as the demo is configured.
fn boutique() -> Config {
    let text = include_str!("../demo/bellwether.yaml");
    let config = Config::parse(Path::new("demo/bellwether.yaml"), text);
    let mut config = config.expect("the demo's configuration");
    config.workloads.retain(|workload| workload.name == "boutique");
    config
}

/// `cartservice_cpu-m` is `cpu_m{service="cartservice"}`; where users come in is the workload itself.
fn component(column: &str) -> Labels {
    let (service, metric) = column.rsplit_once('_').expect("a service and a metric");
    let service = if service == "entry" { "boutique" } else { service };
    Labels::metric(&metric.replace('-', "_")).with("service", service)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recorded_fault_is_one_incident_with_its_cause_among_the_first_three() {
    let series = recorded("fault/metrics.csv.gz", component);
    let every = series.iter().flat_map(|s| s.samples.iter().map(|sample| sample.at));
    let (first, last) = every.fold((Timestamp::MAX, Timestamp::MIN), |(a, b), at| (a.min(at), b.max(at)));
    let injected = include_str!("../demo/data/fault/inject_time.txt").trim().parse().map(Timestamp::from_secs);
    let injected = injected.expect("a time");
    let (live, minute) = (injected - span("10m"), span("1m"));
    let mut world = World::begin(live, boutique()).await;
    world.observe(live, between(&series, first - minute, live)).await;
    let mut snapshot = world.tick().await.0;
    while world.now() <= last {
        let now = world.now() + minute;
        if now > injected && now <= injected + minute {
            assert_eq!(snapshot.incidents, [], "nothing had happened yet");
        }
        world.observe(now, between(&series, now - minute, now)).await;
        snapshot = world.tick().await.0;
    }
    assert_eq!(snapshot.incidents.len(), 1, "{:#?}", snapshot.workloads[0].anomalies);
    let incident = &snapshot.incidents[0];
    assert_eq!(incident.workload, "boutique");
    assert!(incident.onset.since(injected) <= span("3m"), "{:?}", incident.onset);
    let suspected: Vec<&str> = incident.ranking.causes.iter().take(3).map(|c| c.service.as_str()).collect();
    assert!(suspected.contains(&"currencyservice"), "{suspected:?}");
}
