//! The predictor over a store in memory, driven by a simulated clock.

mod support;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bellwether_models::cause::Evidence;
use bellwether_models::detect::Anomaly;
use bellwether_models::detect::synthetic::Noise;
use bellwether_models::incident::Status;
use bellwether_models::outlook::{Foresight, Outlook, Snapshot};
use bellwether_models::series::{Labels, Timestamp};
use bellwether_predictor::registry::Registry;
use bellwether_predictor::registry::book::Order;
use bellwether_predictor::registry::manifest::{Kind, Manifest};
use bellwether_predictor::registry::seal::Trust;
use bellwether_predictor::registry::storage::Memory;
use bellwether_predictor::{CalledService, Config, ForecastConfig, Service, Workload};
use support::MemoryStore;

const MINUTE: Duration = Duration::from_secs(60);
const START: Timestamp = Timestamp::from_secs(1_700_000_040);

/// A shop of three services with noise of its own, and a clock.
struct Shop {
    store: Arc<MemoryStore>,
    noise: Noise,
    now: Timestamp,
    /// Minutes since the start.
    minute: u64,
    /// Whether the database is slow, and with it all that wait for it.
    slow: bool,
    /// Whether many more ask than usual.
    surge: bool,
}

impl Shop {
    fn new() -> Self {
        Self { store: Arc::default(), noise: Noise::new(11), now: START, minute: 0, slow: false, surge: false }
    }

    /// Lets a minute pass, and each series have a sample.
    fn pass_a_minute(&mut self) {
        self.minute += 1;
        self.now = self.now + MINUTE;
        let daily = (self.minute as f64 / 1440.0 * std::f64::consts::TAU).sin();
        let surge = if self.surge { 400.0 } else { 0.0 };
        let demand = 200.0 + 100.0 * daily + self.noise.gaussian() + surge;
        self.put("requests_per_second", "web", demand);
        self.put("replicas", "web", 4.0);
        for (service, usual, share) in [("web", 0.2, 1.0), ("cart", 0.1, 1.0), ("db", 0.02, 1.0), ("mail", 0.3, 0.0)] {
            let slowness = if self.slow { 0.4 * share } else { 0.0 };
            let latency = usual * (1.0 + 0.05 * self.noise.gaussian()) + slowness;
            self.put("latency_seconds", service, latency);
        }
        let waits = if self.slow { 90.0 } else { 3.0 };
        let waits = waits * (1.0 + 0.05 * self.noise.gaussian());
        self.put("lock_waits", "db", waits);
    }

    fn put(&self, name: &str, service: &str, value: f64) {
        self.store.put(&Labels::metric(name).with("service", service), self.now, value);
    }

    fn service(&self, config: Config, state: Option<PathBuf>) -> Service {
        let (engine, ingest) = self.store.doors();
        Service::new(config, engine, ingest, state)
    }

    /// Minutes of data and ticks; the last snapshot.
    async fn run(&mut self, predictor: &mut Service, minutes: u64) -> Arc<Snapshot> {
        let mut snapshot = Arc::default();
        for _ in 0..minutes {
            self.pass_a_minute();
            snapshot = predictor.tick(self.now).await;
        }
        snapshot
    }

    /// Minutes of data nobody looks at.
    fn pass(&mut self, minutes: u64) {
        (0..minutes).for_each(|_| self.pass_a_minute());
    }
}

fn shop_config() -> Config {
    let forecast = ForecastConfig {
        history: Duration::from_secs(2 * 86_400),
        horizon: Duration::from_secs(900),
        ..ForecastConfig::default()
    };
    Config {
        workloads: vec![Workload {
            name: "web".to_owned(),
            demand: r#"sum(requests_per_second{service="web"})"#.to_owned(),
            replicas: Some(r#"max(replicas{service="web"})"#.to_owned()),
            symptoms: vec![r#"latency_seconds{service="web"}"#.to_owned()],
            depends_on: vec!["cart".to_owned()],
            forecast,
            ..Workload::default()
        }],
        services: vec![CalledService { name: "cart".to_owned(), depends_on: vec!["db".to_owned()] }],
        ..Config::default()
    }
}

/// A registry that is forgotten with the process.
fn models() -> Arc<Registry> {
    Arc::new(Registry::new(Arc::new(Memory::default()), Trust::default()))
}

fn web(snapshot: &Snapshot) -> &Outlook {
    snapshot.workloads.iter().find(|o| o.workload == "web").expect("an outlook of web")
}

fn silence(outlook: &Outlook) -> &str {
    match &outlook.foresight {
        Foresight::Abstained { reason } => reason,
        Foresight::Forecast { .. } => "",
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn demand_is_foreseen_from_what_the_store_holds_and_written_back() {
    let mut shop = Shop::new();
    shop.pass(1600);
    let mut predictor = shop.service(shop_config(), None);
    let snapshot = shop.run(&mut predictor, 5).await;
    let outlook = web(&snapshot);
    let Foresight::Forecast { forecast, scores, .. } = &outlook.foresight else { panic!("{}", silence(outlook)) };
    assert_eq!(forecast.start, shop.now.floor_to(forecast.step) + MINUTE);
    assert_eq!((forecast.horizon(), outlook.made_at), (15, shop.now));
    assert!(!scores.is_empty());
    let truth = 200.0 + 100.0 * ((shop.minute + 15) as f64 / 1440.0 * std::f64::consts::TAU).sin();
    assert!((forecast.mean[14] - truth).abs() < 10.0, "{} is far from {truth}", forecast.mean[14]);
    assert_eq!(outlook.replicas.map(|r| r.value), Some(4.0));
    let written = Labels::metric("bellwether_forecast")
        .with("workload", "web")
        .with("quantile", "0.5")
        .with("horizon_seconds", "900");
    assert_eq!(shop.store.samples(&written).len(), 5);
    assert_eq!(shop.store.samples(&written).last().map(|s| s.value), Some(forecast.quantiles[1][14]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_fails_makes_an_outlook_that_says_so_until_it_is_back() {
    let mut shop = Shop::new();
    shop.pass(300);
    let mut predictor = shop.service(shop_config(), None);
    shop.run(&mut predictor, 1).await;
    shop.store.set_down(true);
    let dark = shop.run(&mut predictor, 1).await;
    assert!(silence(web(&dark)).contains("the disk is gone"), "{}", silence(web(&dark)));
    assert!(web(&dark).demand.is_some_and(|d| d.value > 100.0), "what was seen a minute ago is still known");
    shop.store.set_down(false);
    let back = shop.run(&mut predictor, 1).await;
    assert_eq!(silence(web(&back)), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_demand_that_was_never_seen_is_unknown_and_not_zero() {
    let shop = Shop::new();
    let mut predictor = shop.service(shop_config(), None);
    let snapshot = predictor.tick(START).await;
    let outlook = web(&snapshot);
    assert_eq!((outlook.demand, outlook.replicas), (None, None));
    assert!(silence(outlook).contains("no demand was observed"), "{}", silence(outlook));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_demand_of_several_series_is_refused_with_the_remedy() {
    let mut shop = Shop::new();
    shop.pass(30);
    let mut config = shop_config();
    config.workloads[0].demand = "latency_seconds".to_owned();
    let mut predictor = shop.service(config, None);
    let snapshot = predictor.tick(shop.now).await;
    assert!(silence(web(&snapshot)).contains("4 series"), "{}", silence(web(&snapshot)));
    assert!(silence(web(&snapshot)).contains("sum()"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_dependency_is_one_incident_with_its_cause_first() {
    let mut shop = Shop::new();
    shop.pass(1500);
    let mut predictor = shop.service(shop_config(), None);
    let calm = shop.run(&mut predictor, 30).await;
    assert_eq!(calm.incidents, []);
    let broke_at = shop.now;
    shop.store.put(&Labels::metric("bellwether_change").with("service", "db").with("kind", "deploy"), shop.now, 1.0);
    shop.slow = true;
    let broken = shop.run(&mut predictor, 12).await;
    assert_eq!(broken.incidents.len(), 1);
    let incident = &broken.incidents[0];
    assert_eq!((incident.workload.as_str(), incident.status), ("web", Status::Open));
    assert!(incident.onset.since(broke_at) <= 2 * MINUTE, "onset {:?}, broken at {broke_at:?}", incident.onset);
    assert_eq!(web(&broken).anomalies.len(), 1);
    let suspected: Vec<&str> = incident.ranking.causes.iter().map(|c| c.service.as_str()).collect();
    assert_eq!(suspected[0], "db", "{:#?}", incident.ranking.causes);
    assert!(!suspected.contains(&"mail"), "mail is not called by web");
    let deployed = |e: &Evidence| matches!(e, Evidence::Change { change, .. } if change == "deploy");
    assert!(incident.ranking.causes[0].evidence.iter().any(deployed), "the deploy is not told: {incident:#?}");
    shop.slow = false;
    let over = shop.run(&mut predictor, 60).await;
    assert_eq!(over.incidents.len(), 1);
    assert_eq!(over.incidents[0].status, Status::Resolved);
}

/// The last snapshot of a shop that was calm for two hours and then not.
async fn after_calm(disturb: impl Fn(&mut Shop)) -> Arc<Snapshot> {
    let mut shop = Shop::new();
    shop.pass(1500);
    let mut predictor = shop.service(shop_config(), None);
    shop.run(&mut predictor, 120).await;
    disturb(&mut shop);
    shop.run(&mut predictor, 5).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_demand_that_nobody_foresaw_joins_the_incident_of_a_symptom_and_opens_none_alone() {
    let alone = after_calm(|shop| shop.surge = true).await;
    assert_eq!(alone.incidents, []);
    let both = after_calm(|shop| (shop.surge, shop.slow) = (true, true)).await;
    assert_eq!(both.incidents.len(), 1);
    let named = |anomaly: &Anomaly| anomaly.series.get("symptom") == Some(bellwether_predictor::residual::NAME);
    assert!(both.incidents[0].anomalies.iter().any(named), "{:#?}", both.incidents[0].anomalies);
    assert!(!web(&both).anomalies.iter().any(named), "the scheduler is told of symptoms");
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_restart_the_same_incident_goes_on_and_nothing_warms_up_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let state = || Some(folder.path().to_owned());
    let mut config = shop_config();
    config.detection.warm_up = Duration::ZERO;
    let mut shop = Shop::new();
    let mut first = shop.service(config.clone(), state());
    shop.run(&mut first, 300).await;
    shop.slow = true;
    let before = shop.run(&mut first, 10).await;
    first.save().await;
    drop(first);
    let mut second = shop.service(config, state());
    let after = shop.run(&mut second, 3).await;
    assert_eq!(before.incidents.len(), 1);
    assert_eq!(after.incidents[0].id, before.incidents[0].id);
    assert_eq!(after.incidents[0].onset, before.incidents[0].onset);
    assert_eq!(after.incidents.len(), 1);
    assert_eq!(web(&after).anomalies.len(), 1, "a detector without memory would know no anomaly");
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_restart_models_serve_at_once_and_their_live_records_go_on() {
    let (folder, registry) = (tempfile::tempdir().expect("a folder"), models());
    let state = || Some(folder.path().to_owned());
    let mut config = shop_config();
    config.workloads[0].forecast.effort = bellwether_predictor::config::Effort::Light;
    let mut shop = Shop::new();
    shop.pass(300);
    for _ in 0..2 {
        let leaner = Manifest { author: "ann".to_owned(), ..Manifest::new(Kind::Automatic) };
        registry.register("web", leaner, None, shop.now).await.expect("it is sound");
    }
    registry.carry_out("web", Order::Promote(1), "ann", "", shop.now).await.expect("it can serve");
    let mut first = shop.service(config.clone(), state()).with_models(Arc::clone(&registry));
    shop.run(&mut first, 60).await;
    let outcomes = |version: u64| {
        let standing = registry.standing("web");
        let places = std::iter::once(standing.champion).chain(standing.challengers);
        places.filter(|place| place.version == version).find_map(|place| place.live).map_or(0, |live| live.origins)
    };
    let before = [outcomes(1), outcomes(2)];
    assert!(before.iter().all(|origins| *origins > 10), "{before:?}");
    first.save().await;
    drop(first);
    let mut second = shop.service(config, state()).with_models(Arc::clone(&registry));
    let after = shop.run(&mut second, 1).await;
    assert_eq!(web(&after).model.version, 1);
    assert!(matches!(web(&after).foresight, Foresight::Forecast { .. }), "{}", silence(web(&after)));
    assert!([outcomes(1), outcomes(2)].iter().zip(before).all(|(now, then)| *now >= then), "then {before:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_state_is_left_aside() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("predictor.state"), b"BWPRED01 not what was written").expect("written");
    let mut shop = Shop::new();
    let mut predictor = shop.service(shop_config(), Some(folder.path().to_owned()));
    let snapshot = shop.run(&mut predictor, 1).await;
    assert_eq!(snapshot.incidents, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn ticking_again_at_the_same_time_changes_nothing() {
    let mut shop = Shop::new();
    shop.pass(300);
    let mut predictor = shop.service(shop_config(), None);
    let once = predictor.tick(shop.now).await;
    let twice = predictor.tick(shop.now).await;
    assert_eq!(once, twice);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_configuration_keeps_what_is_known_of_unchanged_workloads() {
    let mut shop = Shop::new();
    shop.pass(300);
    let mut predictor = shop.service(shop_config(), None);
    shop.run(&mut predictor, 2).await;
    let mut config = shop_config();
    config.workloads.push(Workload {
        name: "db".to_owned(),
        demand: r#"lock_waits{service="db"}"#.to_owned(),
        ..Workload::default()
    });
    config.workloads[0].depends_on.clear();
    predictor.reconfigure(config);
    let kept = predictor.tick(shop.now).await;
    assert_eq!(kept.workloads.len(), 2);
    assert_eq!(silence(web(&kept)), "");
    predictor.reconfigure(Config::default());
    let none = predictor.tick(shop.now).await;
    assert_eq!(none.workloads, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn those_who_subscribe_get_the_snapshot_of_each_tick() {
    let mut shop = Shop::new();
    let mut predictor = shop.service(shop_config(), None);
    let mut news = predictor.subscribe();
    let snapshot = shop.run(&mut predictor, 1).await;
    assert!(news.has_changed().expect("the predictor lives"));
    assert_eq!(*news.borrow_and_update(), snapshot);
    assert_eq!(
        predictor.next_wakeup(),
        Some(shop.now.floor_to(bellwether_models::series::Step::from_secs(60)) + MINUTE)
    );
}
