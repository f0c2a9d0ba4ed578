use bellwether_models::forecast::Forecast;
use bellwether_models::outlook::{self, Snapshot};
use bellwether_models::series::Step;

use super::policy::{Hpa, Oracle, Ours};
use super::*;

fn setting(startup: u64) -> Setting {
    Setting {
        startup: Duration::from_secs(startup),
        capacity: 10.0,
        cadence: Duration::from_secs(15),
        metric_age: Duration::from_secs(15),
    }
}

fn window(values: Vec<f64>) -> Window {
    Window { start: Timestamp::from_secs(0), step: Step::from_secs(60), values }
}

/// A day has 240 minutes here; demand swings between 20 and 180, twice around its noon.
fn days(n: usize) -> Window {
    let day = |i: usize| 100.0 - 80.0 * (i as f64 / 240.0 * std::f64::consts::TAU).cos();
    let noise = |i: usize| 3.0 * ((i * 7919 % 101) as f64 / 50.0 - 1.0);
    window((0..240 * n).map(|i| day(i) + noise(i)).collect())
}

fn one(demand: &Window, setting: &Setting, policy: impl Policy + 'static) -> Outcome {
    let mut policies: Vec<Box<dyn Policy>> = vec![Box::new(policy)];
    run(demand, setting, &mut policies, |_| {}).remove(0)
}

/// Wants so many replicas at each tick.
struct Script(Vec<u32>);

impl Policy for Script {
    fn name(&self) -> &str {
        "script"
    }
    fn knob(&self) -> f64 {
        0.0
    }
    fn decide(&mut self, seen: &Seen<'_>) -> Option<u32> {
        let tick = seen.now.as_millis() / 15_000;
        self.0.get(usize::try_from(tick).ok()?).copied()
    }
}

#[test]
fn a_replica_costs_from_the_start_and_serves_after_its_start_up_time() {
    // 15 is wanted of 10 for the whole of 3 minutes; the second replica is asked for after one.
    let script = [vec![1; 4], vec![2; 8]].concat();
    let outcome = one(&window(vec![15.0; 4]), &setting(60), Script(script));
    assert_eq!(outcome.ready, [vec![1; 8], vec![2; 4]].concat());
    let tally = outcome.tally;
    assert_eq!(tally.violation_minutes(), 2.0);
    assert!((tally.unserved_fraction() - 2.0 * 5.0 / (3.0 * 15.0)).abs() < 1e-12);
    assert!((tally.replica_hours() - (4.0 + 16.0) * 15.0 / 3600.0).abs() < 1e-12);
    assert_eq!((tally.scale_events, tally.flips), (1, 0));
}

#[test]
fn starting_replicas_go_first_and_turns_are_counted() {
    let script = [vec![2; 2], vec![5; 2], vec![3; 2], vec![1; 2], vec![2; 4]].concat();
    let outcome = one(&window(vec![5.0; 4]), &setting(300), Script(script));
    assert_eq!(outcome.ready, [vec![2; 6], vec![1; 6]].concat());
    assert_eq!((outcome.tally.scale_events, outcome.tally.flips), (4, 2));
}

#[test]
fn unknown_demand_is_neither_served_nor_paid_for() {
    let mut values = vec![5.0; 20];
    values[5..15].fill(f64::NAN);
    let outcome = one(&window(values), &setting(60), Hpa::new(0.5, &setting(60)));
    assert_eq!(outcome.tally.violation_seconds, 0.0);
    assert_eq!(outcome.tally.demanded, 5.0 * 60.0 * (4.0 + 4.0));
}

#[test]
fn the_oracle_serves_everything_at_the_least_cost() {
    let (demand, setting) = (days(2), setting(300));
    let oracle = one(&demand, &setting, Oracle);
    assert_eq!(oracle.tally.violation_seconds, 0.0);
    let hpa = one(&demand, &setting, Hpa::new(0.7, &setting));
    assert!(oracle.tally.replica_seconds < hpa.tally.replica_seconds);
}

#[test]
fn nobody_but_the_oracle_sees_the_future() {
    let (full, setting) = (days(3), setting(300));
    let cut = full.len() * 3 / 4;
    let mut other = full.clone();
    other.values[cut..].iter_mut().for_each(|v| *v = 200.0 - *v);
    let ticks = (cut - 1) * 4;
    let until = |demand: &Window| {
        let mut policies = usual_policies(&setting, &ScaleConfig::default(), &[0.7], &[20.0]);
        policies.pop();
        let outcomes = run(demand, &setting, &mut policies, |_| {});
        outcomes.into_iter().map(|o| o.ready[..ticks].to_vec()).collect::<Vec<_>>()
    };
    assert_eq!(until(&full), until(&other));
}

#[test]
fn ours_needs_less_than_the_plain_autoscaler_for_fewer_violations_where_demand_is_periodic() {
    let (demand, setting) = (days(6), setting(600));
    let scale = ScaleConfig { floor_utilisation: 0.95.try_into().ok(), ..ScaleConfig::default() };
    let mut policies: Vec<Box<dyn Policy>> = vec![Box::new(Ours::new(20.0, &scale, &setting))];
    for target in [0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9] {
        policies.push(Box::new(Hpa::new(target, &setting)));
    }
    let report = Report::new("days", &demand, &setting, &run(&demand, &setting, &mut policies, |_| {}));
    let ours = &report.equal_cost[0];
    assert!(ours.violation_minutes < 0.5 * ours.best_hpa_violation_minutes, "{report:?}");
}

#[test]
fn the_front_of_plain_autoscalers_is_straight_between_its_targets() {
    let tally = |cost: f64, violations: f64| Tally {
        replica_seconds: cost * 3600.0,
        violation_seconds: violations * 60.0,
        ..Tally::default()
    };
    let outcome =
        |name: &str, tally| Outcome { name: name.to_owned(), knob: 0.5, tally, ready: Vec::new(), changes: Vec::new() };
    let outcomes = [
        outcome("hpa", tally(100.0, 40.0)),
        outcome("hpa", tally(200.0, 10.0)),
        outcome("hpa", tally(150.0, 50.0)), // worse than a cheaper one
        outcome("bellwether", tally(150.0, 10.0)),
        outcome("bellwether", tally(90.0, 5.0)),
    ];
    let report = Report::new("t", &window(vec![1.0]), &setting(60), &outcomes);
    let [first, second] = &report.equal_cost[..] else { panic!("{:?}", report.equal_cost) };
    assert_eq!((first.best_hpa_violation_minutes, first.best_hpa_replica_hours), (25.0, Some(200.0)));
    assert_eq!((second.best_hpa_violation_minutes, second.best_hpa_replica_hours), (40.0, None));
}

#[test]
fn a_trace_coarser_than_the_start_up_time_is_refused_unless_asked_for() {
    let hourly = Window { step: Step::from_secs(3600), ..days(1) };
    let error = setting(300).check("t", &hourly, false).expect_err("too coarse");
    assert!(error.to_string().contains("--coarse"));
    assert!(setting(300).check("t", &hourly, true).is_ok());
    assert!(usual_capacity("t", &window(vec![0.0; 9])).is_err());
}

#[test]
fn the_page_needs_nothing_else_and_escapes_what_it_shows() {
    let (demand, setting) = (days(1), setting(120));
    let mut policies = usual_policies(&setting, &ScaleConfig::default(), &[0.5, 0.7], &[20.0]);
    let outcomes = run(&demand, &setting, &mut policies, |_| {});
    let report = Report::new("<trace>", &demand, &setting, &outcomes);
    let page = html::page(&report, &demand, &setting, &outcomes);
    assert!(page.contains("&lt;trace&gt;") && !page.contains("<trace>"));
    assert!(!page.contains("http") && !page.contains("NaN"), "no link, no number that is none");
    assert!(page.contains("<b>periodic</b>") || page.contains("steady"), "its kind");
    assert!(page.contains("per replica"), "decisions with their reasons");
    assert_eq!(page.matches("<svg").count(), 3);
    assert_eq!(page.matches("<svg").count(), page.matches("</svg>").count());
}

/// Ours, with facts that somebody meddled with.
struct Meddled<F>(Ours, F);

impl<F: Fn(&mut Snapshot, Timestamp)> Policy for Meddled<F> {
    fn name(&self) -> &str {
        "meddled"
    }
    fn knob(&self) -> f64 {
        0.0
    }
    fn foresees(&self) -> bool {
        true
    }
    fn decide(&mut self, seen: &Seen<'_>) -> Option<u32> {
        let mut snapshot = seen.snapshot.clone();
        (self.1)(&mut snapshot, seen.now);
        self.0.decide(&Seen { snapshot: &snapshot, ..*seen })
    }
}

fn forecast_of(snapshot: &mut Snapshot) -> Option<&mut Forecast> {
    match &mut snapshot.workloads[0].foresight {
        outlook::Foresight::Forecast { forecast, .. } => Some(forecast),
        outlook::Foresight::Abstained { .. } => None,
    }
}

fn times(snapshot: &mut Snapshot, factor: f64) {
    let Some(forecast) = forecast_of(snapshot) else { return };
    forecast.quantiles.iter_mut().flatten().for_each(|value| *value *= factor);
}

fn shifted(snapshot: &mut Snapshot, by: Duration) {
    let Some(forecast) = forecast_of(snapshot) else { return };
    forecast.start = forecast.start + by;
}

/// As many replicas as are foreseen or more than a plain autoscaler's, whatever is wrong with the forecast, the clock or the
/// metric: never more violations than that autoscaler at the same target.
#[test]
fn whatever_is_wrong_with_the_facts_there_are_no_more_violations_than_under_a_plain_autoscaler() {
    let (demand, setting) = (days(4), setting(300));
    let minutes = |n: i64| Timestamp::from_secs(60 * n);
    let plain = one(&demand, &setting, Hpa::new(0.8, &setting)).tally;
    let run = |name: &str, meddle: fn(&mut Snapshot, Timestamp)| {
        let tally = one(&demand, &setting, Meddled(Ours::new(20.0, &ScaleConfig::default(), &setting), meddle)).tally;
        assert!(tally.violation_seconds <= plain.violation_seconds, "{name}: {tally:?} {plain:?}");
    };
    assert!(plain.violation_seconds > 0.0);
    run("half of what comes", |snapshot, _| times(snapshot, 0.5));
    run("twice what comes", |snapshot, _| times(snapshot, 2.0));
    run("a clock that is an hour fast", |snapshot, _| shifted(snapshot, Duration::from_secs(3600)));
    run("an hour is lost, as on the day of summer time", |snapshot, now| {
        if now > Timestamp::from_secs(60 * 500) {
            shifted(snapshot, Duration::from_secs(900));
        }
    });
    run("a deploy in the middle of a peak", |snapshot, now| {
        let deployed = Timestamp::from_secs(60 * 600);
        snapshot.workloads[0].running.changed_at = Some(deployed).filter(|at| *at <= now);
    });
    // A holiday: nobody comes on the third day, or all come half a day late.
    let day = 240;
    for (name, moved) in [("a quiet day", 0), ("a day that begins at noon", day / 2)] {
        let mut holiday = demand.clone();
        for i in 2 * day..3 * day {
            holiday.values[i] = if moved == 0 { 20.0 } else { demand.values[2 * day + (i + moved) % day] };
        }
        let plain = one(&holiday, &setting, Hpa::new(0.8, &setting)).tally;
        let ours = one(&holiday, &setting, Ours::new(20.0, &ScaleConfig::default(), &setting)).tally;
        assert!(ours.violation_seconds <= plain.violation_seconds, "{name}: {ours:?} {plain:?}");
    }
    // Six hours without metrics hold what was there, for both; compared are the same instants.
    let gap = minutes(400)..minutes(760);
    let mut blind = demand.clone();
    for (i, value) in blind.values.iter_mut().enumerate() {
        if gap.contains(&demand.time_of(i)) {
            *value = f64::NAN;
        }
    }
    let plain = one(&blind, &setting, Hpa::new(0.8, &setting)).tally;
    let ours = one(&blind, &setting, Ours::new(20.0, &ScaleConfig::default(), &setting)).tally;
    assert!(ours.violation_seconds <= plain.violation_seconds, "six hours of silence: {ours:?} {plain:?}");
}
