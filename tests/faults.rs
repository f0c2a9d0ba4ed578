//! Recorded faults through the whole running system: samples in, one alert at the real Alertmanager out, its true cause
//! among the first three. `tests/data/faults/README.md` says where the recordings come from.
//!
//! With `BELLWETHER_CASES=DIR` every case of a tree is replayed and a table is printed (see `make faults`).

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bellwether::config::Config;
use bellwether::table;
use bellwether_collector::store::SeriesSamples;
use bellwether_models::incident::Incident;
use bellwether_models::series::{Labels, Sample, Timestamp};
use serde_json::Value;
use support::http::client;
use support::world::{World, between};
use support::{Peer, Program, require_peer};

const ALERTMANAGER: &str = "
route: { receiver: none, group_wait: 1s }
receivers: [{ name: none }]
";
/// Rounds without a fault before it begins.
const QUIET_ROUNDS: usize = 10;
/// How eager the replayed system is: recordings hold hours of history where a real system has weeks.
const FALSE_ALARMS_PER_WEEK: usize = 7;

/// A recorded fault as it is kept on disk.
struct Recording {
    series: Vec<SeriesSamples>,
    times: Vec<Timestamp>,
    injected: Timestamp,
    symptom: Labels,
    calls: Vec<(String, String)>,
    truth: String,
}

/// `<service>_<metric>`; the service is everything before the last underscore.
fn labels(column: &str) -> Labels {
    let (service, metric) = column.rsplit_once('_').expect("a service and a metric");
    let legal = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    let name: String = std::iter::once('m').chain(['_']).chain(metric.chars().map(legal)).collect();
    Labels::metric(&name).with("service", service)
}

impl Recording {
    fn read(folder: &Path) -> Self {
        let text = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap_or_default();
        let packed = folder.join("metrics.csv.gz");
        let table = table::read(&if packed.exists() { packed } else { folder.join("metrics.csv") }).expect("metrics");
        let samples = |values: &[f64]| {
            let rows = table.times.iter().zip(values).filter(|(_, value)| value.is_finite());
            rows.map(|(at, value)| Sample { at: *at, value: *value }).collect()
        };
        let columns = table.names.iter().zip(&table.columns);
        let series = columns.map(|(column, values)| SeriesSamples { labels: labels(column), samples: samples(values) });
        let answer: Value = serde_json::from_str(&text("root_cause.json")).expect("an answer");
        let pair = |line: &str| line.split_once(',').map(|(a, b)| (a.trim().to_owned(), b.trim().to_owned()));
        Self {
            series: series.collect(),
            times: table.times.clone(),
            injected: table::parse_time(text("inject_time.txt").trim()).expect("a time"),
            symptom: labels(text("symptom.txt").trim()),
            calls: text("topology.csv").lines().skip(1).filter_map(pair).collect(),
            truth: answer["service"].as_str().expect("a service").to_owned(),
        }
    }

    fn step(&self) -> Duration {
        let steps = self.times.windows(2).map(|pair| pair[1].since(pair[0]));
        steps.min().expect("two rows")
    }

    /// The system as its user would set it up: one workload where users feel it, and who calls whom.
    fn config(&self, alertmanager: &str) -> Config {
        let workload = self.symptom.get("service").expect("a service").to_owned();
        let mut callees: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for (caller, callee) in &self.calls {
            callees.entry(caller).or_default().insert(callee);
        }
        let called: BTreeSet<&str> = callees.values().flatten().copied().collect();
        let entrances: BTreeSet<&str> = callees.keys().filter(|s| !called.contains(**s)).copied().collect();
        let depends_on = callees.remove(workload.as_str()).unwrap_or(entrances);
        let services: Vec<Value> =
            callees.iter().map(|(name, callees)| serde_json::json!({ "name": name, "depends_on": callees })).collect();
        let alertmanagers: Vec<&str> = Some(alertmanager).filter(|url| !url.is_empty()).into_iter().collect();
        let seconds = self.step().as_secs();
        let text = serde_json::json!({
            "workloads": [{
                "name": workload, "demand": self.symptom.to_string(), "symptoms": [self.symptom.to_string()],
                "depends_on": depends_on,
            }],
            "services": services,
            "detection": {
                "false_alarms_per_week": FALSE_ALARMS_PER_WEEK, "step": format!("{seconds}s"),
                "reference": format!("{}s", 60 * seconds),
            },
            "alerts": { "alertmanagers": alertmanagers },
        });
        Config::parse("replay.yaml".as_ref(), &text.to_string()).expect("a good configuration")
    }
}

/// What a replay showed.
struct Replayed {
    before: usize,
    incidents: Vec<Incident>,
    alerts: BTreeMap<String, Value>,
}

/// Replays the recording round by round, from shortly before the fault to its end.
async fn replay(recording: &Recording, alertmanager: Option<&Peer>) -> Replayed {
    let step = recording.step();
    let url = alertmanager.map_or_else(String::new, |peer| peer.url(""));
    let injected = recording.times.partition_point(|at| *at < recording.injected);
    let live = recording.times[injected.saturating_sub(QUIET_ROUNDS)];
    let mut world = World::begin(live, recording.config(&url)).await;
    world.observe(live, between(&recording.series, recording.times[0] - step, live)).await;
    let mut replayed = Replayed { before: 0, incidents: Vec::new(), alerts: BTreeMap::new() };
    let last = *recording.times.last().expect("rows");
    while world.now() <= last {
        let (snapshot, _) = world.tick().await;
        world.settle().await;
        if world.now() < recording.injected {
            replayed.before = snapshot.incidents.len();
        }
        replayed.incidents.clone_from(&snapshot.incidents);
        if let Some(peer) = alertmanager {
            let answer = client().get(peer.url("/api/v2/alerts")).send().await.expect("alertmanager answers");
            for alert in answer.json::<Vec<Value>>().await.expect("alerts") {
                replayed.alerts.insert(alert["labels"].to_string(), alert);
            }
        }
        let now = world.now() + step;
        world.observe(now, between(&recording.series, now - step, now)).await;
    }
    replayed
}

fn committed(name: &str) -> Recording {
    Recording::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/faults").join(name))
}

async fn is_one_alert_with_its_cause(name: &str) {
    let (recording, alertmanager) = (committed(name), Peer::alertmanager(ALERTMANAGER));
    let replayed = replay(&recording, Some(&alertmanager)).await;
    assert_eq!(replayed.before, 0, "{name}: nothing had happened yet");
    assert_eq!(replayed.alerts.len(), 1, "{name}: {:?}", replayed.alerts.keys());
    let notes = replayed.alerts.values().next().expect("one")["annotations"].clone();
    let named = (1..=3).any(|rank| {
        let cause = notes[format!("cause_{rank}")].as_str().unwrap_or_default();
        cause.starts_with(&format!("{} (", recording.truth))
    });
    assert!(named, "{name}: {} is not among the first three: {notes:#}", recording.truth);
}

#[tokio::test(flavor = "multi_thread")]
async fn three_recorded_faults_are_one_alert_each_with_their_true_cause_among_the_first_three() {
    require_peer!(Program::Alertmanager);
    for name in ["currency-cpu", "currency-network", "recommendation-cpu"] {
        is_one_alert_with_its_cause(name).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_fault_free_hour_of_each_recording_gives_no_incident() {
    for name in ["currency-cpu", "currency-network", "recommendation-cpu"] {
        let recording = committed(name);
        let (step, live) = (recording.step(), recording.times[20]);
        let mut world = World::begin(live, recording.config("")).await;
        world.observe(live, between(&recording.series, recording.times[0] - step, live)).await;
        while world.now() < recording.injected - step {
            let (snapshot, view) = world.tick().await;
            assert_eq!((snapshot.incidents.len(), view.alerts.len()), (0, 0), "{name}: {:#?}", snapshot.incidents);
            let now = world.now() + step;
            world.observe(now, between(&recording.series, now - step, now)).await;
        }
    }
}

fn folders(root: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(root).expect("a folder").flatten().filter(|entry| entry.path().is_dir()) {
        if entry.path().join("root_cause.json").exists() {
            found.push(entry.path());
        } else {
            folders(&entry.path(), found);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "replays a tree of cases: BELLWETHER_CASES=DIR"]
async fn a_tree_of_cases_is_replayed_and_told() {
    let root = std::env::var("BELLWETHER_CASES").expect("BELLWETHER_CASES names a folder of cases");
    let mut all = Vec::new();
    folders(root.as_ref(), &mut all);
    all.sort();
    let (mut opened, mut named, mut early) = (0, 0, 0);
    for folder in &all {
        let recording = Recording::read(folder);
        let replayed = replay(&recording, None).await;
        let place = |incident: &Incident| incident.ranking.causes.iter().position(|c| c.service == recording.truth);
        let place = replayed.incidents.first().and_then(place);
        opened += usize::from(!replayed.incidents.is_empty());
        early += replayed.before;
        named += usize::from(place.is_some_and(|place| place < 3));
        let name = folder.file_name().unwrap_or_default().to_string_lossy();
        println!(
            "{name}: {} incidents, true cause at {place:?}, {} too early",
            replayed.incidents.len(),
            replayed.before
        );
    }
    println!(
        "{} cases: {opened} with an incident, {named} with the cause among three, {early} false alarms",
        all.len()
    );
    assert!(!all.is_empty());
}
