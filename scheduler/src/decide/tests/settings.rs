//! Bounds of the hour, budgets, breaches, and what was learnt in the place of what was left open.

use bellwether_models::outlook::Running;

use super::*;
use crate::config::{BudgetConfig, MaxBreach, TrustConfig, WindowConfig};
use crate::plan::Planned;

/// As [`round`], with what is learnt on the way.
fn learning_round(fleet: &mut Fleet, workload: &Workload, outlook: Outlook, now: Timestamp) -> Decision {
    fleet.observe(&snapshot(outlook.clone()), std::slice::from_ref(workload), now);
    round(fleet, workload, outlook, now)
}

/// 1,000,000 s after 1970 it is 13:46:40 on a Monday.
fn window(text: &str) -> ScaleConfig {
    let window: WindowConfig = serde_json::from_str(text).expect("a window");
    ScaleConfig { windows: vec![window], ..scale() }
}

#[test]
fn the_least_of_a_window_is_there_when_it_begins_and_its_most_only_while_it_lasts() {
    let shop = workload(window(r#"{"days":["mon"],"from":"14:00","to":"14:10","min":6,"max":9}"#));
    let mut fleet = settled_at(&shop, 16.0);
    let begins = 800;
    let mut decide_at = |secs: i64, demand: f64| round(&mut fleet, &shop, flat(at(secs), demand), at(secs));
    assert_eq!(decide_at(begins - 315, 16.0).to, Some(2));
    let asked = decide_at(begins - 300, 16.0);
    assert_eq!(asked.to, Some(6), "{asked}");
    assert!(has(&asked, |r| matches!(r, Reason::Window { min: 6, .. })), "{asked}");
    assert_eq!(decide_at(begins - 15, 160.0).to, Some(12), "its maximum does not hold yet, and the pace allows 12");
    assert_eq!(decide_at(begins, 160.0).to, Some(9));
    assert_eq!(decide_at(begins + 600, 160.0).to, Some(18), "it is over");
}

#[test]
fn the_maximum_may_be_passed_for_a_while_and_then_holds_until_demand_is_down() {
    let breach = MaxBreach { raise_to: 15, lasts: Duration::from_secs(600) };
    let shop = workload(ScaleConfig { max: 10, max_breach: Some(breach), ..scale() });
    let mut fleet = settled_at(&shop, 64.0);
    let mut to = |secs: i64, demand: f64| {
        let decision = round(&mut fleet, &shop, flat(at(secs), demand), at(secs));
        decision.to.expect("decided")
    };
    let course: Vec<u32> = (0..1200).step_by(15).map(|secs| to(secs, 112.0)).collect();
    assert_eq!((course[0], course[39], course[41], course[79]), (14, 14, 10, 10));
    for secs in (1200..1815).step_by(15) {
        to(secs, 40.0);
    }
    assert_eq!((to(1830, 112.0), to(1845, 112.0)), (10, 14), "a new breach after as long a time without one");
}

#[test]
fn a_budget_goes_before_need_and_tells_what_it_costs() {
    let hours = |h: f64| h.try_into().ok();
    let budget = BudgetConfig { per_hour: hours(6.0), per_day: None };
    let shop = workload(ScaleConfig { min: 2, budget, ..scale() });
    let mut fleet = settled_at(&shop, 32.0);
    let decision = learning_round(&mut fleet, &shop, flat(at(0), 120.0), at(0));
    assert_eq!(decision.to, Some(6), "{decision}");
    assert!(decision.floor <= Some(6));
    let capped = |r: &Reason| matches!(r, Reason::CostCapped { wanted: 15, allowed: 6, short_minutes, .. } if *short_minutes == 60.0);
    assert!(has(&decision, capped), "{decision}");
    let spent = BudgetConfig { per_hour: None, per_day: hours(1.0) };
    let poor = workload(ScaleConfig { min: 2, budget: spent, ..scale() });
    let mut fleet = settled_at(&poor, 32.0);
    for secs in (0..7200).step_by(15) {
        let decision = learning_round(&mut fleet, &poor, flat(at(secs), 120.0), at(secs));
        assert_eq!(decision.to, Some(2), "never below min: {decision}");
    }
}

#[test]
fn a_forecast_that_has_not_come_true_is_not_followed() {
    let shop = workload(ScaleConfig { floor_utilisation: 1.0.try_into().ok(), ..scale() });
    let (mut fleet, mut last) = (Fleet::default(), None);
    for secs in (0..6 * 3600).step_by(15) {
        let demand = 200.0 + 100.0 * (secs as f64 / 3600.0 * std::f64::consts::TAU).sin();
        let lying = outlook(at(secs), demand, foresee(at(secs), &[20.0; 60]));
        last = Some(learning_round(&mut fleet, &shop, lying, at(secs)));
    }
    let last = last.expect("decided");
    assert!(has(&last, |r| matches!(r, Reason::ForecastDistrusted { .. })), "{last}");
    assert_eq!((last.to, last.floor), (last.reactive, last.reactive), "{last}");
    assert_eq!(last.predicted, None);
}

/// Demand is a quarter higher every other hour; the forecast says nothing of that, but much of the middle of each hour, where
/// nothing comes.
fn demand_and_fancy(secs: i64) -> (f64, f64) {
    let (hour, minute) = (secs / 3600, secs / 60 % 60);
    (if hour % 2 == 0 { 200.0 } else { 250.0 }, if (20..40).contains(&minute) { 500.0 } else { 100.0 })
}

#[test]
fn where_a_plain_autoscaler_of_equal_cost_does_better_its_target_is_followed() {
    let scale = ScaleConfig {
        floor_utilisation: 1.0.try_into().ok(),
        trust: TrustConfig { cost_ratio: 1e6, shortfall: 1.0, ..TrustConfig::default() },
        startup: Duration::from_secs(60),
        ..scale()
    };
    let shop = workload(scale.clone());
    let (mut fleet, mut last) = (Fleet::default(), None);
    for secs in (0..24 * 3600).step_by(15) {
        let (demand, fancy) = demand_and_fancy(secs);
        let facts = outlook(at(secs), demand, foresee(at(secs), &[fancy; 60]));
        last = Some(learning_round(&mut fleet, &shop, facts, at(secs)));
    }
    let last = last.expect("decided");
    let tally = fleet.lesson("shop").and_then(|l| l.contest.tally()).expect("counted");
    assert!(tally.forecast_minutes > tally.plain_minutes + 5.0, "{tally:?}");
    assert!(has(&last, |r| matches!(r, Reason::PlainDoesBetter { .. })), "{last}");
    assert_eq!(last.predicted, None);
    let mut plain = Reactive::new(ScaleConfig { target_utilisation: tally.target, ..scale.clone() }, None);
    let alone = plain.step(Some(250.0), at(24 * 3600 - 15));
    let spread = f64::from(last.to.expect("known")) / f64::from(alone.expect("known"));
    assert!((spread - 1.0).abs() <= scale.tolerance.value(), "{last} beside {alone:?} at {tally:?}");
    let trusting = workload(ScaleConfig { trust: TrustConfig { enabled: false, ..scale.trust }, ..scale });
    let facts = outlook(at(24 * 3600), 200.0, foresee(at(24 * 3600), &[230.0; 60]));
    let told_to = learning_round(&mut fleet, &trusting, facts, at(24 * 3600));
    assert!(told_to.predicted.is_some(), "who is told to believes always: {told_to}");
}

#[test]
fn what_was_left_open_is_learnt_and_said() {
    let shop = workload(ScaleConfig { capacity_per_replica: None, ..scale() });
    let mut fleet = Fleet::default();
    let mut asked = 5;
    for secs in (0..4 * 3600).step_by(15) {
        // Every twenty minutes another replica is asked for, and is ready two minutes later.
        asked = 5 + u32::try_from(secs / 1200).expect("small");
        let ready = 5 + u32::try_from((secs - 120).max(0) / 1200).expect("small");
        let load = 4.0 + 3.0 * (secs as f64 / 900.0).sin();
        let seen = |value: f64| Some(Observed { at: at(secs), value });
        let running = Running { ready: seen(f64::from(ready)), utilisation: seen(0.1 + 0.09 * load), changed_at: None };
        let demand = load * f64::from(ready);
        let outlook = Outlook { replicas: seen(f64::from(asked)), running, ..flat(at(secs), demand) };
        learning_round(&mut fleet, &shop, outlook, at(secs));
    }
    assert!(asked > 10);
    let decision = learning_round(&mut fleet, &shop, flat(at(14_400), 60.0), at(14_400));
    let startup = |r: &Reason| matches!(r, Reason::StartupLearnt { seconds, .. } if *seconds == 120.0);
    let capacity = |r: &Reason| matches!(r, Reason::CapacityLearnt { likely, .. } if (*likely - 10.0).abs() < 1e-6);
    assert!(has(&decision, startup) && has(&decision, capacity), "{decision}");
    let text = serde_json::to_string(&fleet).expect("json");
    let written: Fleet = serde_json::from_str(&text).expect("json");
    assert_eq!(serde_json::to_string(&written).expect("json"), text, "and outlives a restart");
    let told = |fleet: &Fleet| fleet.lesson("shop").and_then(|lesson| lesson.contest.tally());
    assert!(told(&fleet).is_some_and(|tally| told(&written) == Some(tally)), "the contest too");
}

#[test]
fn steps_are_told_before_they_are_due() {
    let shop = workload(scale());
    let mut fleet = settled_at(&shop, 40.0);
    let mut path = vec![40.0; 60];
    path[20..30].fill(90.0);
    let decision = round(&mut fleet, &shop, outlook(at(0), 40.0, foresee(at(0), &path)), at(0));
    let serve_at = at(0).floor_to(Step::from_secs(MINUTE)) + Duration::from_secs(21 * 60);
    let step = Planned { ask_at: serve_at - shop.scale.startup, serve_at, replicas: 9 };
    assert!(decision.planned.contains(&step), "{:?}", decision.planned);
    assert_eq!(decision.planned.iter().map(|s| s.replicas).collect::<Vec<_>>(), [4, 9, 4]);
}

#[test]
fn growth_that_is_foreseen_is_asked_for_in_one_step_where_that_is_wished() {
    let ramp: Vec<f64> = (0..60).map(|minute| 40.0 + 10.0 * f64::from(minute)).collect();
    let steps = |batch: u64| {
        let shop = workload(ScaleConfig { batch: Duration::from_secs(batch), ..scale() });
        let mut fleet = settled_at(&shop, 40.0);
        let mut changes = 0;
        for secs in (0..600).step_by(15) {
            let minute = usize::try_from(secs / 60).expect("small");
            let now = outlook(at(secs), ramp[minute], foresee(at(secs), &ramp[minute..]));
            changes += usize::from(round(&mut fleet, &shop, now, at(secs)).changes());
        }
        changes
    };
    assert!(steps(300) <= steps(0), "{} {}", steps(300), steps(0));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn whatever_is_learnt_or_limited_the_invariants_stand(
        plain in any_scale(),
        moments in prop::collection::vec(any_moment(), 1..60),
        budget in prop::option::of(1.0..2000.0f64),
        breach in prop::option::of((1u32..50, 15u64..900)),
        counts in prop::collection::vec((0.0..100.0f64, 0.0..2.0f64), 60),
    ) {
        let breach = breach.map(|(more, secs)| MaxBreach { raise_to: plain.max + more, lasts: Duration::from_secs(secs) });
        let most = breach.map_or(plain.max, |b| b.raise_to);
        let per_day = budget.and_then(|hours| hours.try_into().ok());
        let scale = ScaleConfig { max_breach: breach, budget: BudgetConfig { per_day, per_hour: None }, ..plain };
        let (shop, mut fleet) = (workload(scale), Fleet::default());
        let all = std::slice::from_ref(&shop);
        for (i, moment) in moments.iter().enumerate() {
            let now = at(15 * i as i64);
            let (ready, full) = counts[i];
            let seen = |value: f64| Some(Observed { at: now, value });
            let running = Running { ready: seen(ready), utilisation: seen(full), changed_at: None };
            let facts = Outlook { running, ..outlook_of(moment, now) };
            let decision = learning_round(&mut fleet, &shop, facts.clone(), now);
            prop_assert!(decision.to >= decision.floor, "{decision}");
            if let Some(to) = decision.to {
                prop_assert!((shop.scale.min..=most).contains(&to) || decision.to == decision.from, "{decision}");
            }
            fleet.observe(&snapshot(facts.clone()), all, now);
            let again = decide(&snapshot(facts), &fleet, all, CADENCE, now);
            prop_assert!(again.is_empty(), "{} again {}", decision, again.decisions[0]);
        }
    }
}
