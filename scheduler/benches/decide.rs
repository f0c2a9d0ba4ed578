//! One round over ten thousand workloads on one core: learn, decide, guard, settle. `cargo bench -p bellwether-scheduler`.

use std::time::{Duration, Instant};

use bellwether_models::forecast::{Forecast, Quantile};
use bellwether_models::outlook::{Foresight, Observed, Outlook, Running, Snapshot};
use bellwether_models::series::{Step, Timestamp};
use bellwether_scheduler::Workload;
use bellwether_scheduler::config::{BudgetConfig, ScaleConfig};
use bellwether_scheduler::decide::{Fleet, decide};
use bellwether_scheduler::guard::{Control, guard};

const CADENCE: Duration = Duration::from_secs(15);

fn main() {
    // `cargo test --benches` calls with `--test`: a few workloads show that it runs.
    let quick = !std::env::args().any(|argument| argument == "--bench");
    let (count, rounds) = if quick { (50, 5) } else { (10_000, 40) };
    let workloads: Vec<Workload> = (0..count).map(workload).collect();
    let (mut fleet, mut times) = (Fleet::default(), Vec::new());
    for round in 0..rounds {
        let now = Timestamp::from_secs(1_000_000 + 15 * round);
        let snapshot = snapshot(count, now);
        let began = Instant::now();
        fleet.observe(&snapshot, &workloads, now);
        let plan = decide(&snapshot, &fleet, &workloads, CADENCE, now);
        let plan = guard(plan, &snapshot, &fleet, &workloads, &Control::default(), now);
        fleet.settle(&plan, &workloads);
        times.push(began.elapsed());
        assert!(plan.decisions.iter().all(|decision| decision.to.is_some()));
    }
    times.sort();
    let lessons = serde_json::to_vec(fleet.lessons()).map_or(0, |text| text.len());
    println!(
        "{count} workloads: a round takes {:?} in the median, {:?} at most; {} bytes of lessons each",
        times[times.len() / 2],
        times[times.len() - 1],
        lessons / count
    );
}

fn workload(index: usize) -> Workload {
    let scale = ScaleConfig {
        max: 100,
        capacity_per_replica: 10.0.try_into().ok(),
        budget: BudgetConfig { per_day: 2000.0.try_into().ok(), per_hour: None },
        ..ScaleConfig::default()
    };
    Workload { name: format!("workload-{index}"), depends_on: Vec::new(), scale }
}

/// Every workload with a forecast of an hour, minute by minute, and demand that rises and falls.
fn snapshot(count: usize, now: Timestamp) -> Snapshot {
    let step = Step::from_secs(60);
    let outlook = |index: usize| {
        let phase = index as f64 + now.as_millis() as f64 / 600_000.0;
        let path: Vec<f64> = (1..=60).map(|ahead| 200.0 + 100.0 * (phase + f64::from(ahead) / 10.0).sin()).collect();
        let scaled = |share: f64| path.iter().map(|v| v * share).collect();
        let forecast = Forecast {
            start: now + step.times(1),
            step,
            levels: Quantile::STANDARD.to_vec(),
            quantiles: vec![scaled(0.9), scaled(1.0), scaled(1.1), scaled(1.15)],
            peaks: vec![scaled(0.95), scaled(1.1), scaled(1.2), scaled(1.25)],
            mean: path,
        };
        let seen = |value: f64| Some(Observed { at: now, value });
        let demand = 200.0 + 100.0 * phase.sin();
        Outlook {
            workload: format!("workload-{index}"),
            made_at: now,
            demand: seen(demand),
            replicas: seen(30.0),
            foresight: Foresight::Forecast { forecast, model: "theta".to_owned(), scores: Vec::new() },
            model: bellwether_models::outlook::ModelRef::default(),
            anomalies: Vec::new(),
            running: Running { ready: seen(30.0), utilisation: seen(demand / 300.0), changed_at: None },
        }
    };
    Snapshot { made_at: now, workloads: (0..count).map(outlook).collect(), ..Snapshot::default() }
}
