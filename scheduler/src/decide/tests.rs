use bellwether_models::forecast::Forecast;
use bellwether_models::outlook::{Foresight, Observed, Running};
use bellwether_models::series::Step;
use proptest::prelude::*;

use super::*;
use crate::config::{PaceConfig, PaceLimit, PacePolicy};
use crate::guard::{Control, guard};

mod settings;

const CADENCE: Duration = Duration::from_secs(15);
const MINUTE: u32 = 60;

fn at(secs: i64) -> Timestamp {
    Timestamp::from_secs(1_000_000 + secs)
}

fn workload(scale: ScaleConfig) -> Workload {
    Workload { name: "shop".to_owned(), depends_on: Vec::new(), scale }
}

/// One replica serves 10 at full load and shall run at 80 %, so a reactive autoscaler wants one for each 8.
fn scale() -> ScaleConfig {
    ScaleConfig { min: 1, max: 100, capacity_per_replica: 10.0.try_into().ok(), ..ScaleConfig::default() }
}

/// A forecast from one step ahead of `now`, whose every quantile is `path`.
fn foresee(now: Timestamp, path: &[f64]) -> Foresight {
    let step = Step::from_secs(MINUTE);
    let forecast = Forecast {
        start: now.floor_to(step) + step.times(1),
        step,
        mean: path.to_vec(),
        levels: bellwether_models::forecast::Quantile::STANDARD.to_vec(),
        quantiles: vec![path.to_vec(); 4],
        peaks: vec![],
    };
    Foresight::Forecast { forecast, model: "theta".to_owned(), scores: Vec::new() }
}

fn outlook(now: Timestamp, demand: f64, foresight: Foresight) -> Outlook {
    Outlook {
        workload: "shop".to_owned(),
        made_at: now,
        demand: Some(Observed { at: now, value: demand }),
        replicas: None,
        foresight,
        model: bellwether_models::outlook::ModelRef::default(),
        anomalies: Vec::new(),
        running: Running::default(),
    }
}

fn snapshot(outlook: Outlook) -> Snapshot {
    Snapshot { made_at: outlook.made_at, workloads: vec![outlook], ..Snapshot::default() }
}

/// Decides, settles and says what was decided.
fn round(fleet: &mut Fleet, workload: &Workload, outlook: Outlook, now: Timestamp) -> Decision {
    let all = std::slice::from_ref(workload);
    let plan = decide(&snapshot(outlook), fleet, all, CADENCE, now);
    fleet.settle(&plan, all);
    plan.decisions.into_iter().next().expect("one workload, one decision")
}

fn flat(now: Timestamp, demand: f64) -> Outlook {
    outlook(now, demand, foresee(now, &[demand; 60]))
}

/// A fleet that has stood at the replicas for `demand` for long.
fn settled_at(workload: &Workload, demand: f64) -> Fleet {
    let mut fleet = Fleet::default();
    for secs in (-1200..0).step_by(15) {
        round(&mut fleet, workload, flat(at(secs), demand), at(secs));
    }
    fleet
}

fn has(decision: &Decision, wanted: impl Fn(&Reason) -> bool) -> bool {
    decision.reasons.iter().any(wanted)
}

#[test]
fn a_peak_within_start_up_time_is_met_before_it_comes() {
    let shop = workload(scale());
    let mut fleet = settled_at(&shop, 40.0);
    let mut path = vec![40.0; 60];
    path[4..8].fill(90.0);
    let decision = round(&mut fleet, &shop, outlook(at(0), 40.0, foresee(at(0), &path)), at(0));
    assert_eq!((decision.from, decision.to), (Some(5), Some(9)), "{decision}");
    assert_eq!(decision.reactive, Some(5), "a reactive autoscaler sees nothing yet");
    let foreseen = decision.foreseen.as_ref().expect("the demand that decided");
    assert_eq!((foreseen.demand, foreseen.quantile), (90.0, scale().cost.quantile().value()));
    assert!(matches!(decision.reasons[0], Reason::Forecast { replicas: 9, .. }), "{decision}");
}

#[test]
fn a_peak_beyond_start_up_time_can_wait() {
    let shop = workload(scale());
    let mut fleet = settled_at(&shop, 40.0);
    let mut path = vec![40.0; 60];
    path[10] = 90.0;
    let decision = round(&mut fleet, &shop, outlook(at(0), 40.0, foresee(at(0), &path)), at(0));
    assert_eq!(decision.to, Some(5));
}

#[test]
fn a_peak_that_is_over_before_a_replica_could_serve_keeps_but_does_not_raise() {
    let shop = workload(scale());
    let mut path = vec![16.0; 60];
    path[1..3].fill(70.0);
    let mut low = settled_at(&shop, 40.0);
    let decision = round(&mut low, &shop, outlook(at(0), 40.0, foresee(at(0), &path)), at(0));
    assert_eq!(decision.to, Some(5), "{decision}");
    let mut high = settled_at(&shop, 80.0);
    for secs in (0..600).step_by(15) {
        let decision = round(&mut high, &shop, outlook(at(secs), 16.0, foresee(at(secs), &path)), at(secs));
        assert!(decision.to >= Some(7), "{decision}");
    }
}

#[test]
fn beside_a_fresh_forecast_replicas_may_run_hotter() {
    let hot =
        ScaleConfig { floor_utilisation: 1.0.try_into().ok(), tolerance: 0.0.try_into().expect("none"), ..scale() };
    let shop = workload(hot);
    let mut fleet = settled_at(&shop, 80.0);
    let decision = round(&mut fleet, &shop, flat(at(0), 80.0), at(0));
    assert_eq!((decision.to, decision.reactive, decision.floor), (Some(8), Some(10), Some(8)), "{decision}");
    let silent = outlook(at(15), 80.0, Foresight::Abstained { reason: "silence".to_owned() });
    assert_eq!(round(&mut fleet, &shop, silent, at(15)).to, Some(10), "without it they may not");
}

#[test]
fn a_rarer_quantile_than_the_forecast_holds_is_found_in_its_tail() {
    let step = Step::from_secs(MINUTE);
    let forecast = |now: Timestamp| Foresight::Forecast {
        forecast: Forecast {
            start: now + step.times(1),
            step,
            mean: vec![40.0; 10],
            levels: bellwether_models::forecast::Quantile::STANDARD.to_vec(),
            quantiles: [20.0, 40.0, 60.0, 70.0].map(|v| vec![v; 10]).to_vec(), // ten more for each halving of the tail
            peaks: vec![],
        },
        model: "theta".to_owned(),
        scores: Vec::new(),
    };
    let mut scale = scale();
    scale.cost.too_few = 79.0.try_into().expect("positive"); // one in eighty: two halvings beyond 0.95
    let shop = workload(scale);
    let mut fleet = settled_at(&shop, 40.0);
    let decision = round(&mut fleet, &shop, outlook(at(0), 40.0, forecast(at(0))), at(0));
    assert_eq!(decision.to, Some(9), "{decision}");
}

#[test]
fn what_may_come_at_any_time_until_then_keeps_replicas_that_no_single_moment_asks_for() {
    let shop = workload(ScaleConfig { floor_utilisation: 0.95.try_into().ok(), ..scale() });
    let then = |peak: f64, foreseen_at: Timestamp| {
        let mut fleet = settled_at(&shop, 80.0);
        let mut outlook = outlook(at(1800), 40.0, foresee(foreseen_at, &[40.0; 60]));
        if let Foresight::Forecast { forecast, .. } = &mut outlook.foresight {
            forecast.peaks = vec![vec![peak; 60]; 4];
        }
        round(&mut fleet, &shop, outlook, at(1800)).to.expect("a number")
    };
    assert!(then(70.0, at(1800)) >= 7, "seven may be needed before another seven could be had");
    assert_eq!(then(40.0, at(1800)), 5, "the floor");
    assert_eq!(then(70.0, at(1500)), 5, "what was foreseen long ago may be over");
}

#[test]
fn a_forecast_that_sees_nothing_does_not_keep_the_reactive_rule_from_acting() {
    let shop = workload(scale());
    let mut fleet = settled_at(&shop, 40.0);
    let decision = round(&mut fleet, &shop, outlook(at(0), 72.0, foresee(at(0), &[10.0; 60])), at(0));
    assert_eq!((decision.to, decision.reactive), (Some(9), Some(9)));
}

#[test]
fn the_cost_ratio_decides_how_much_of_the_doubt_is_covered() {
    let step = Step::from_secs(MINUTE);
    let forecast = |now: Timestamp| Foresight::Forecast {
        forecast: Forecast {
            start: now + step.times(1),
            step,
            mean: vec![40.0; 10],
            levels: bellwether_models::forecast::Quantile::STANDARD.to_vec(),
            quantiles: [20.0, 40.0, 80.0, 90.0].map(|v| vec![v; 10]).to_vec(),
            peaks: vec![],
        },
        model: "theta".to_owned(),
        scores: Vec::new(),
    };
    for (too_few, replicas) in [(1.0, 5), (9.0, 8), (19.0, 9)] {
        let mut scale = scale();
        scale.cost.too_few = too_few.try_into().expect("positive");
        let shop = workload(scale);
        let mut fleet = settled_at(&shop, 40.0);
        let decision = round(&mut fleet, &shop, outlook(at(0), 40.0, forecast(at(0))), at(0));
        assert_eq!(decision.to, Some(replicas), "too few cost {too_few}: {decision}");
    }
}

#[test]
fn scale_down_waits_until_the_window_agrees() {
    let shop = workload(scale());
    let mut fleet = settled_at(&shop, 80.0);
    for secs in (0..285).step_by(15) {
        let decision = round(&mut fleet, &shop, flat(at(secs), 16.0), at(secs));
        assert_eq!(decision.to, Some(10), "{secs} s: {decision}");
    }
    let decision = round(&mut fleet, &shop, flat(at(285), 16.0), at(285));
    assert_eq!(decision.to, Some(2), "{decision}");
}

#[test]
fn small_deviations_from_the_target_are_let_pass() {
    let shop = workload(scale());
    let mut fleet = settled_at(&shop, 40.0);
    let decision = round(&mut fleet, &shop, flat(at(0), 43.9), at(0));
    assert_eq!(decision.to, Some(5), "{decision}");
    assert!(has(&decision, |r| matches!(r, Reason::WithinTolerance { .. })));
}

#[test]
fn growth_keeps_to_the_pace() {
    let mut scale = scale();
    scale.scale_up = PaceConfig {
        policies: Some(vec![PacePolicy { limit: PaceLimit::Replicas(2), period: Duration::from_secs(60) }]),
        ..PaceConfig::default()
    };
    let shop = workload(scale);
    let mut fleet = settled_at(&shop, 40.0);
    let replicas: Vec<u32> = (0..=120)
        .step_by(30)
        .map(|secs| round(&mut fleet, &shop, flat(at(secs), 400.0), at(secs)).to.expect("decided"))
        .collect();
    assert_eq!(replicas, [7, 7, 9, 9, 11]);
}

#[test]
fn bounds_hold_and_are_named() {
    let shop = workload(ScaleConfig { min: 3, max: 6, ..scale() });
    let mut fleet = settled_at(&shop, 32.0);
    let decision = round(&mut fleet, &shop, flat(at(0), 4000.0), at(0));
    assert_eq!(decision.to, Some(6));
    assert!(has(&decision, |r| *r == Reason::AtMax { wanted: 500, max: 6 }), "{decision}");
    let mut fleet = settled_at(&shop, 0.0);
    let decision = round(&mut fleet, &shop, flat(at(0), 0.0), at(0));
    assert_eq!(decision.to, Some(3));
}

#[test]
fn unknown_demand_is_not_zero() {
    let shop = workload(scale());
    let mut fleet = settled_at(&shop, 40.0);
    for secs in (0..3600).step_by(15) {
        let gone = Outlook { demand: None, ..outlook(at(secs), 0.0, foresee(at(secs), &[1.0; 60])) };
        let decision = round(&mut fleet, &shop, gone, at(secs));
        assert_eq!(decision.to, Some(5), "{decision}");
        assert!(has(&decision, |r| *r == Reason::DemandUnknown));
    }
}

#[test]
fn without_the_demand_of_now_the_forecast_may_still_raise() {
    let shop = workload(scale());
    let mut fleet = settled_at(&shop, 40.0);
    let blind = Outlook { demand: None, ..outlook(at(0), 0.0, foresee(at(0), &[80.0; 60])) };
    assert_eq!(round(&mut fleet, &shop, blind, at(0)).to, Some(8));
}

#[test]
fn a_stale_forecast_only_holds_or_raises() {
    let shop = workload(scale());
    let mut fleet = settled_at(&shop, 80.0);
    for secs in (0..7200).step_by(15) {
        let old = Outlook { made_at: at(-1000), ..outlook(at(secs), 8.0, foresee(at(-1000), &[8.0; 600])) };
        let decision = round(&mut fleet, &shop, old, at(secs));
        assert_eq!(decision.to, Some(10), "{decision}");
    }
    let old = Outlook { made_at: at(-1000), ..outlook(at(7200), 160.0, foresee(at(-1000), &[8.0; 600])) };
    assert_eq!(round(&mut fleet, &shop, old, at(7200)).to, Some(20), "the reactive rule may still raise");
}

#[test]
fn a_forecast_that_ends_too_early_takes_nothing_away() {
    let shop = workload(scale());
    let mut fleet = settled_at(&shop, 80.0);
    for secs in (0..1200).step_by(15) {
        let short = outlook(at(secs), 8.0, foresee(at(secs), &[8.0; 2]));
        let decision = round(&mut fleet, &shop, short, at(secs));
        assert_eq!(decision.to, Some(10), "{decision}");
        assert!(has(&decision, |r| matches!(r, Reason::ForecastTooShort { .. })));
    }
}

#[test]
fn an_abstaining_forecaster_holds_for_a_while_then_the_reactive_rule_decides_alone() {
    let shop = workload(scale());
    let mut fleet = settled_at(&shop, 80.0);
    let silent = |secs| outlook(at(secs), 16.0, Foresight::Abstained { reason: "too few observations".to_owned() });
    // The last forecast was 15 s before; what is held counts as advice, so the stabilisation window comes on top.
    for secs in (0..3585 + 285).step_by(15) {
        assert_eq!(round(&mut fleet, &shop, silent(secs), at(secs)).to, Some(10), "{secs} s");
    }
    let decision = round(&mut fleet, &shop, silent(3870), at(3870));
    assert_eq!(decision.to, Some(2), "{decision}");
    assert!(has(&decision, |r| matches!(r, Reason::FellBack { .. })));
}

#[test]
fn without_a_capacity_nothing_is_decided_and_the_reason_says_so() {
    let shop = workload(ScaleConfig { capacity_per_replica: None, ..scale() });
    let decision = round(&mut Fleet::default(), &shop, flat(at(0), 40.0), at(0));
    assert_eq!((decision.to, decision.reasons), (None, vec![Reason::CapacityUnknown]));
}

#[test]
fn a_workload_without_outlook_is_decided_too() {
    let shop = workload(scale());
    let plan = decide(&Snapshot::default(), &Fleet::default(), &[shop], CADENCE, at(0));
    assert_eq!(plan.decisions[0].reasons, [Reason::DemandUnknown]);
}

#[test]
fn who_acts_starts_from_what_is_observed_once_a_change_has_had_time_to_show() {
    let shop = workload(ScaleConfig { mode: Mode::Act, ..scale() });
    let seen =
        |secs, replicas| Outlook { replicas: Some(Observed { at: at(secs), value: replicas }), ..flat(at(secs), 80.0) };
    let mut fleet = Fleet::default();
    let first = round(&mut fleet, &shop, seen(0, 5.0), at(0));
    assert_eq!((first.from, first.to), (Some(5), Some(10)));
    let soon = round(&mut fleet, &shop, seen(60, 5.0), at(60));
    assert_eq!((soon.from, soon.to), (Some(10), Some(10)), "it may not show yet");
    let late = round(&mut fleet, &shop, seen(315, 5.0), at(315));
    assert_eq!((late.from, late.to), (Some(5), Some(10)), "it was not carried out: once more");
}

#[test]
fn who_acts_does_nothing_while_the_replicas_are_unknown() {
    let shop = workload(ScaleConfig { mode: Mode::Act, ..scale() });
    let decision = round(&mut Fleet::default(), &shop, flat(at(0), 80.0), at(0));
    assert_eq!((decision.to, decision.reasons), (None, vec![Reason::ReplicasUnknown]));
}

#[test]
fn a_restart_goes_on_where_the_record_ends_and_takes_nothing_away_at_once() {
    let shop = workload(scale());
    let mut fleet = settled_at(&shop, 80.0);
    let last = round(&mut fleet, &shop, flat(at(0), 80.0), at(0));
    let mut resumed = Fleet::resume([&last]);
    for secs in (3600..3900).step_by(15) {
        assert_eq!(round(&mut resumed, &shop, flat(at(secs), 8.0), at(secs)).to, Some(10));
    }
    assert_eq!(round(&mut resumed, &shop, flat(at(3900), 8.0), at(3900)).to, Some(1));
}

/// What may happen between two decisions.
#[derive(Clone, Debug)]
struct Moment {
    demand: Option<f64>,
    age: u64,
    foresight: Sight,
}

#[derive(Clone, Debug)]
enum Sight {
    Clear(Vec<f64>),
    Stale(Vec<f64>),
    Silent,
}

fn any_moment() -> impl Strategy<Value = Moment> {
    let path = || prop::collection::vec(prop_oneof![0.0..900.0f64, Just(0.0), Just(1e12)], 1..40);
    let sight = prop_oneof![
        4 => path().prop_map(Sight::Clear),
        1 => path().prop_map(Sight::Stale),
        1 => Just(Sight::Silent)
    ];
    let demand = prop::option::weighted(0.9, prop_oneof![0.0..900.0f64, Just(0.0), Just(f64::NAN), Just(-5.0)]);
    (demand, prop_oneof![4 => 0u64..60, 1 => 0u64..4000], sight).prop_map(|(demand, age, foresight)| Moment {
        demand,
        age,
        foresight,
    })
}

fn any_scale() -> impl Strategy<Value = ScaleConfig> {
    let pace = (prop::option::of(0u64..600), prop::option::of((1u32..8, 1u32..200, 1u64..200))).prop_map(
        |(window, policies)| PaceConfig {
            stabilisation: window.map(Duration::from_secs),
            policies: policies.map(|(replicas, percent, period)| {
                let period = Duration::from_secs(period);
                vec![
                    PacePolicy { limit: PaceLimit::Replicas(replicas), period },
                    PacePolicy { limit: PaceLimit::Percent(percent), period },
                ]
            }),
            ..PaceConfig::default()
        },
    );
    (0u32..5, 5u32..80, 0.3..1.0f64, 0.0..0.3f64, pace.clone(), pace).prop_map(
        |(min, max, target, tolerance, scale_up, scale_down)| ScaleConfig {
            min,
            max,
            target_utilisation: target.try_into().expect("a share"),
            tolerance: tolerance.try_into().expect("a tolerance"),
            scale_up,
            scale_down,
            ..scale()
        },
    )
}

fn outlook_of(moment: &Moment, now: Timestamp) -> Outlook {
    let foresight = match &moment.foresight {
        Sight::Clear(path) | Sight::Stale(path) => foresee(now, path),
        Sight::Silent => Foresight::Abstained { reason: "silence".to_owned() },
    };
    let mut outlook = outlook(now, moment.demand.unwrap_or(0.0), foresight);
    outlook.demand = moment.demand.map(|value| Observed { at: now - Duration::from_secs(moment.age), value });
    if matches!(moment.foresight, Sight::Stale(_)) {
        outlook.made_at = now - Duration::from_secs(3600);
    }
    outlook
}

/// Runs through `moments`; `check` sees the fleet before each decision, and the decision.
fn run(
    scale: ScaleConfig,
    moments: &[Moment],
    mut check: impl FnMut(&Fleet, &Moment, &Workload, &Decision, Timestamp),
) {
    let shop = workload(scale);
    let mut fleet = Fleet::default();
    for (i, moment) in moments.iter().enumerate() {
        let now = at(15 * i as i64);
        let before = fleet.clone();
        let decision = round(&mut fleet, &shop, outlook_of(moment, now), now);
        check(&before, moment, &shop, &decision, now);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn never_below_what_a_reactive_autoscaler_would_run(
        scale in any_scale(), moments in prop::collection::vec(any_moment(), 1..60)
    ) {
        run(scale, &moments, |_, _, _, decision, _| {
            assert!(decision.to >= decision.floor, "{decision}");
            assert_eq!(decision.floor, decision.reactive, "unless it is told otherwise");
        });
    }

    #[test]
    fn failure_only_holds_or_raises(scale in any_scale(), moments in prop::collection::vec(any_moment(), 1..60)) {
        run(scale, &moments, |_, moment, shop, decision, _| {
            let usable = moment.demand.is_some_and(f64::is_finite) && moment.age <= 300;
            let foreseen = matches!(moment.foresight, Sight::Clear(_));
            let fell_back = has(decision, |r| matches!(r, Reason::FellBack { .. }));
            if !usable || !(foreseen || fell_back) {
                let above_max = decision.from.is_some_and(|from| from > shop.scale.max);
                assert!(decision.to >= decision.from || above_max, "{decision}");
            }
        });
    }

    #[test]
    fn a_step_is_bounded(scale in any_scale(), moments in prop::collection::vec(any_moment(), 1..60)) {
        run(scale, &moments, |before, _, shop, decision, now| {
            let (Some(from), Some(to)) = (decision.from, decision.to) else { return };
            let history = before.of("shop").cloned().unwrap_or_default();
            let track = if before.of("shop").is_some() { history.ours } else { Track::starting_at(decision.from) };
            assert!(to <= pace::limited(&track, u32::MAX, &shop.scale, now).max(from), "{decision}");
            assert!(to >= pace::limited(&track, 0, &shop.scale, now).min(from), "{decision}");
            assert!((shop.scale.min..=shop.scale.max).contains(&to), "{decision}");
        });
    }

    #[test]
    fn deciding_again_on_the_same_facts_changes_nothing(
        scale in any_scale(), moments in prop::collection::vec(any_moment(), 1..40)
    ) {
        let shop = workload(scale);
        let mut fleet = Fleet::default();
        for (i, moment) in moments.iter().enumerate() {
            let now = at(15 * i as i64);
            round(&mut fleet, &shop, outlook_of(moment, now), now);
            let again = decide(&snapshot(outlook_of(moment, now)), &fleet, std::slice::from_ref(&shop), CADENCE, now);
            prop_assert!(again.is_empty(), "{}", again.decisions[0]);
        }
    }

    #[test]
    fn the_same_inputs_give_the_same_plan(scale in any_scale(), moments in prop::collection::vec(any_moment(), 1..20)) {
        let shop = workload(scale);
        let mut fleet = Fleet::default();
        for (i, moment) in moments.iter().enumerate() {
            let now = at(15 * i as i64);
            let facts = snapshot(outlook_of(moment, now));
            let all = std::slice::from_ref(&shop);
            let plan = decide(&facts, &fleet, all, CADENCE, now);
            let copy: Fleet = serde_json::from_str(&serde_json::to_string(&fleet).expect("json")).expect("json");
            prop_assert_eq!(&plan, &decide(&facts, &copy, all, CADENCE, now));
            fleet.settle(&plan, all);
        }
    }

    #[test]
    fn the_guard_only_makes_a_plan_milder(scale in any_scale(), moments in prop::collection::vec(any_moment(), 1..40)) {
        run(scale, &moments, |before, moment, shop, decision, now| {
            let plan = Plan { made_at: now, decisions: vec![decision.clone()] };
            let facts = snapshot(outlook_of(moment, now));
            let kept = guard(plan, &facts, before, std::slice::from_ref(shop), &Control::default(), now);
            assert_eq!(&kept.decisions[0], decision, "with nothing in the way the plan stands");
        });
    }
}
