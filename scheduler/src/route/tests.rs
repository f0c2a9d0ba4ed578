use bellwether_models::forecast::Forecast;
use bellwether_models::outlook::{Observed, Running};
use bellwether_models::series::Step;
use proptest::prelude::*;

use super::*;

pub(super) fn at(secs: i64) -> Timestamp {
    Timestamp::from_secs(1_000_000 + secs)
}

pub(super) fn config(backends: usize) -> RerouteConfig {
    let backend = |i: usize| BackendConfig {
        name: format!("s{i}"),
        load: String::new(),
        capacity: 100.0.try_into().expect("positive"),
        envoy: None,
        orca: None,
        lead: None,
    };
    RerouteConfig { backends: (0..backends).map(backend).collect(), ..RerouteConfig::default() }
}

/// The load of each backend now and as foreseen; `None` for a backend nothing is known of.
pub(super) fn snapshot(now: Timestamp, loads: &[Option<(f64, f64)>]) -> Snapshot {
    let step = Step::from_secs(60);
    let outlook = |(i, (load, coming)): (usize, (f64, f64))| Outlook {
        workload: format!("s{i}"),
        made_at: now,
        demand: Some(Observed { at: now, value: load }),
        replicas: None,
        foresight: Foresight::Forecast {
            forecast: Forecast {
                start: now + step.times(1),
                step,
                mean: vec![coming; 5],
                levels: vec![Quantile::STANDARD[2]],
                quantiles: vec![vec![coming; 5]],
                peaks: vec![],
            },
            model: "theta".to_owned(),
            scores: Vec::new(),
        },
        model: bellwether_models::outlook::ModelRef::default(),
        anomalies: Vec::new(),
        running: Running::default(),
    };
    let backends = loads.iter().enumerate().filter_map(|(i, load)| Some((i, (*load)?))).map(outlook).collect();
    Snapshot { made_at: now, backends, ..Snapshot::default() }
}

fn weights(weights: &[Weight]) -> Vec<f64> {
    weights.iter().map(|w| (w.weight * 1000.0).round() / 1000.0).collect()
}

#[test]
fn a_backend_that_will_be_full_loses_weight_before_it_is() {
    let facts = snapshot(at(0), &[Some((60.0, 100.0)), Some((40.0, 40.0)), Some((40.0, 40.0))]);
    let (decided, _) = weigh(&facts, &Routing::default(), &Drains::default(), &config(3), at(0));
    assert_eq!(weights(&decided), [0.8, 1.0, 1.0]);
    assert_eq!(decided[0].grounds, Grounds::Saturating);
}

#[test]
fn a_forecast_that_knows_nothing_of_weights_does_not_cut_twice() {
    let config = config(3);
    let mut routing = Routing::default();
    for secs in (0..600).step_by(15) {
        let facts = snapshot(at(secs), &[Some((48.0, 160.0)), Some((40.0, 40.0)), Some((40.0, 40.0))]);
        routing = weigh(&facts, &routing, &Drains::default(), &config, at(secs)).1;
    }
    assert_eq!(routing.weight("s0"), 0.5);
}

#[test]
fn a_backend_that_stays_too_full_loses_more_down_to_the_least_weight() {
    let config = config(3);
    let mut routing = Routing::default();
    for secs in (0..600).step_by(15) {
        let facts = snapshot(at(secs), &[Some((120.0, 120.0)), Some((40.0, 40.0)), Some((40.0, 40.0))]);
        routing = weigh(&facts, &routing, &Drains::default(), &config, at(secs)).1;
    }
    assert!((routing.weight("s0") - 0.1).abs() < 1e-9);
}

#[test]
fn weight_comes_back_slowly_and_not_between_the_thresholds() {
    let config = config(3);
    let one = |secs, load, routing: &Routing| {
        let facts = snapshot(at(secs), &[Some((load, load)), Some((40.0, 40.0)), Some((40.0, 40.0))]);
        weigh(&facts, routing, &Drains::default(), &config, at(secs))
    };
    let (_, routing) = one(0, 160.0, &Routing::default());
    assert_eq!(routing.weight("s0"), 0.5);
    let (decided, routing) = one(15, 75.0, &routing);
    assert_eq!((decided[0].weight, decided[0].grounds), (0.5, Grounds::Waiting));
    let (_, routing) = one(30, 50.0, &routing);
    assert!((routing.weight("s0") - 0.6).abs() < 1e-9);
    let (_, routing) = one(40, 50.0, &routing);
    assert!((routing.weight("s0") - 0.6).abs() < 1e-9, "a step takes 15 s");
}

#[test]
fn an_overload_of_the_whole_leaves_every_weight_full() {
    let facts = snapshot(at(0), &[Some((150.0, 150.0)), Some((140.0, 140.0)), Some((40.0, 40.0))]);
    let (decided, _) = weigh(&facts, &Routing::default(), &Drains::default(), &config(3), at(0));
    assert_eq!(weights(&decided), [1.0; 3]);
    assert_eq!(decided[2].grounds, Grounds::Panic);
}

#[test]
fn the_only_backend_survives() {
    let (decided, _) =
        weigh(&snapshot(at(0), &[Some((150.0, 150.0))]), &Routing::default(), &Drains::default(), &config(1), at(0));
    assert_eq!((decided[0].weight, decided[0].grounds), (1.0, Grounds::Survivor));
}

#[test]
fn unknown_backends_keep_their_weight_and_get_it_back_after_long() {
    let config = config(3);
    let facts = snapshot(at(0), &[Some((160.0, 160.0)), Some((40.0, 40.0)), Some((40.0, 40.0))]);
    let (_, mut routing) = weigh(&facts, &Routing::default(), &Drains::default(), &config, at(0));
    for secs in (15..3000).step_by(15) {
        routing = weigh(&Snapshot::default(), &routing, &Drains::default(), &config, at(secs)).1;
    }
    assert_eq!(routing.weight("s0"), 0.5);
    for secs in (3000..3600).step_by(15) {
        routing = weigh(&Snapshot::default(), &routing, &Drains::default(), &config, at(secs)).1;
    }
    assert_eq!(routing.weight("s0"), 1.0);
}

#[test]
fn an_answer_is_a_share_of_the_configured_weight() {
    let weights = haproxy::Weights::from([("s1".to_owned(), 0.754), ("s2".to_owned(), 1e-9), ("s3".to_owned(), 0.0)]);
    assert_eq!(haproxy::answer(&weights, "s1\r").as_deref(), Some("75%\n"));
    assert_eq!(haproxy::answer(&weights, "s2").as_deref(), Some("1%\n"), "no server is ever drained by rounding");
    assert_eq!(haproxy::answer(&weights, "s3").as_deref(), Some("0%\n"), "but by a drain");
    assert_eq!(haproxy::answer(&weights, "other"), None);
}

proptest! {
    #[test]
    fn caps_hold_whatever_happens(
        story in prop::collection::vec(
            prop::collection::vec(prop::option::weighted(0.9, (0.0..300.0f64, 0.0..300.0f64)), 4), 1..60
        )
    ) {
        let config = config(4);
        let mut routing = Routing::default();
        for (i, loads) in story.iter().enumerate() {
            let now = at(15 * i as i64);
            let (decided, next) = weigh(&snapshot(now, loads), &routing, &Drains::default(), &config, now);
            let cut: f64 = decided.iter().map(|w| (routing.weight(&w.backend) - w.weight).max(0.0)).sum();
            prop_assert!(cut <= config.cut_at_once.value() * 4.0 + 1e-9, "cut {cut} at once");
            for weight in &decided {
                prop_assert!((config.least_weight.value()..=1.0).contains(&weight.weight));
                let raise = weight.weight - routing.weight(&weight.backend);
                let sudden = matches!(weight.grounds, Grounds::Panic | Grounds::Survivor);
                prop_assert!(sudden || raise <= config.restore_at_once.value() + 1e-9, "{weight:?}");
            }
            prop_assert!(decided.iter().any(|w| w.grounds != Grounds::Saturating), "someone survives");
            routing = next;
        }
    }
}

#[test]
fn what_is_kept_is_never_so_old_that_a_cut_is_forgotten_by_a_restart() {
    let config = config(3);
    let facts = |secs| snapshot(at(secs), &[Some((120.0, 120.0)), Some((40.0, 40.0)), Some((40.0, 40.0))]);
    let (mut routing, mut kept, mut writes) = (Routing::default(), Routing::default(), 0);
    for secs in (0..14_400).step_by(15) {
        routing = weigh(&facts(secs), &routing, &Drains::default(), &config, at(secs)).1;
        if routing.outgrew(&kept, &config) {
            (kept, writes) = (routing.clone(), writes + 1);
        }
    }
    assert!(writes < 14_400 / 150 + 20, "{writes} writes: not every round");
    let (decided, _) =
        weigh(&snapshot(at(14_400), &[None, None, None]), &kept, &Drains::default(), &config, at(14_400));
    assert_eq!(decided[0].weight, routing.weight("s0"), "after the restart, before anything is known");
}
