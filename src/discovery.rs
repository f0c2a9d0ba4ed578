//! Workloads by annotation: an object of the cluster that says what is asked of it is watched without a line of ours.
//!
//! Such a workload is a shadow: it is forecast and decided, and nothing is carried out. Who may write an annotation gains no
//! more than that; acting is a matter of our own configuration, whose workloads come first.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use bellwether_collector::kubernetes::annotated::{Annotated, Annotations};
use bellwether_predictor::config::ForecastConfig;
use bellwether_scheduler::ScaleConfig;
use bellwether_scheduler::config::Positive;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tracing::{debug, info, warn};

use crate::cluster::{ClusterConfig, DiscoverConfig};
use crate::config::{Config, WorkloadConfig};

/// What the names of our annotations begin with.
pub const PREFIX: &str = "bellwether.dev/";
/// Said by an actuator, not to us: whether an object is left alone.
const PAUSED: &str = "paused";
/// Longest time a look at the cluster may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// Longest wait for the first look at the cluster: the start waits for it.
const FIRST_LOOK_WITHIN: Duration = Duration::from_secs(10);
/// Time between two looks while none has succeeded.
const FIRST_LOOK_EVERY: Duration = Duration::from_secs(3);
/// Under which an event tells of a refusal.
const REFUSED: &str = "WorkloadRefused";

/// An object whose annotations make no workload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Which.
    pub object: Annotated,
    /// What is wrong and what would be right.
    pub why: String,
}

/// `config` with the workloads that `found` describes after its own, and the objects that describe none.
#[must_use]
pub fn merged(config: &Config, found: &[Annotated]) -> (Config, Vec<Refusal>) {
    let most = config.kubernetes.discover.as_ref().map_or(0, |discover| discover.most);
    let mut names: BTreeSet<String> = config.workloads.iter().map(|w| w.name.clone()).collect();
    names.extend(config.services.iter().map(|s| s.name.clone()));
    let (mut merged, mut refusals) = (config.clone(), Vec::new());
    for object in found.iter().filter(|object| object.annotations.keys().any(|key| key != PAUSED)) {
        let admitted = workload(object).and_then(|workload| {
            let room = merged.workloads.len() - config.workloads.len() < most;
            let fresh = names.insert(workload.name.clone());
            match (room, fresh) {
                (false, _) => Err(format!("there are {most} by annotation already: see kubernetes.discover.most")),
                (_, false) => Err(format!("the name {:?} is taken; write another in {PREFIX}workload", workload.name)),
                _ => Ok(workload),
            }
        });
        match admitted {
            Ok(workload) => merged.workloads.push(workload),
            Err(why) => refusals.push(Refusal { object: object.clone(), why }),
        }
    }
    (merged, refusals)
}

/// The workload that the annotations of `object` describe.
fn workload(object: &Annotated) -> Result<WorkloadConfig, String> {
    const KNOWN: [&str; 7] = ["demand", "workload", "replicas", "min", "max", "capacity-per-replica", PAUSED];
    let said = &object.annotations;
    if let Some(odd) = said.keys().find(|key| !KNOWN.contains(&key.as_str())) {
        return Err(format!("there is no annotation {PREFIX}{odd}; there are {}", KNOWN.join(", ")));
    }
    let demand =
        said.get("demand").ok_or_else(|| format!("{PREFIX}demand is missing: PromQL of what is asked of it"))?;
    let usual = ScaleConfig::default();
    let scale = ScaleConfig {
        min: number(said, "min")?.unwrap_or(usual.min),
        max: number(said, "max")?.unwrap_or(usual.max),
        capacity_per_replica: number::<f64>(said, "capacity-per-replica")?.map(capacity).transpose()?,
        ..usual
    };
    let named = said.get("workload").cloned().unwrap_or_else(|| format!("{}.{}", object.namespace, object.name));
    let workload = WorkloadConfig {
        name: named,
        demand: demand.clone(),
        replicas: said.get("replicas").cloned(),
        ready: None,
        utilisation: None,
        symptoms: Vec::new(),
        ratios: Vec::new(),
        min_volume: 0.0,
        depends_on: Vec::new(),
        calendar: None,
        forecast: ForecastConfig::default(),
        scale: Some(scale),
    };
    let alone = Config { workloads: vec![workload], ..Config::default() };
    match alone.faults().into_iter().next() {
        Some(fault) => Err(fault.replace("workloads[0].", "")),
        None => alone.workloads.into_iter().next().ok_or_else(String::new),
    }
}

fn number<T: FromStr<Err: Display>>(said: &BTreeMap<String, String>, key: &str) -> Result<Option<T>, String> {
    let read =
        |text: &String| text.trim().parse().map_err(|why| format!("{PREFIX}{key} {text:?} is no such number: {why}"));
    said.get(key).map(read).transpose()
}

fn capacity(value: f64) -> Result<Positive, String> {
    Positive::try_from(value).map_err(|why| format!("{PREFIX}capacity-per-replica: {why}"))
}

/// Looks for annotated objects for as long as it lives.
pub struct Discovery {
    annotations: Annotations,
    /// `None` before the first look that succeeds.
    found: watch::Receiver<Option<Arc<[Annotated]>>>,
    refused: BTreeSet<(String, String)>,
    task: JoinHandle<()>,
}

impl Discovery {
    /// Looks in the cluster that `config` names, if it is to be looked in.
    ///
    /// # Errors
    /// When no client of the cluster can be made.
    pub async fn start(config: &ClusterConfig) -> anyhow::Result<Option<Self>> {
        let Some(discover) = config.discover.clone() else { return Ok(None) };
        let client = bellwether_collector::kubernetes::client(&config.access()).await;
        let client = client.context("no client of the cluster that `kubernetes` names can be made")?;
        let annotations = Annotations::new(client, discover.namespaces.clone(), PREFIX);
        let (told, found) = watch::channel(None);
        let task = tokio::spawn(look(annotations.clone(), discover, told));
        Ok(Some(Self { annotations, found, refused: BTreeSet::new(), task }))
    }

    /// `config` with what the first look finds. The cluster is waited for, for ten seconds at most: then `config` alone.
    pub async fn begin(&mut self, config: &Config) -> Config {
        if matches!(timeout(FIRST_LOOK_WITHIN, self.found.wait_for(Option::is_some)).await, Ok(Ok(_))) {
            return self.complete(config);
        }
        warn!("the cluster has not told in time which objects are annotated; such workloads will be learnt anew");
        config.clone()
    }

    /// Returns when other objects, or other annotations, have been found.
    pub async fn changed(&mut self) {
        if self.found.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// `config` with what was found; what is refused is told aloud, once.
    pub fn complete(&mut self, config: &Config) -> Config {
        let found = self.found.borrow_and_update().clone();
        let (merged, refusals) = merged(config, found.as_deref().unwrap_or_default());
        let discovered = merged.workloads.len() - config.workloads.len();
        metrics::gauge!("bellwether_discovery_workloads").set(discovered as f64);
        metrics::gauge!("bellwether_discovery_refused").set(refusals.len() as f64);
        info!(discovered, refused = refusals.len(), "workloads by annotation");
        let said = |refusal: &Refusal| (refusal.object.to_string(), refusal.why.clone());
        let before = std::mem::replace(&mut self.refused, refusals.iter().map(said).collect());
        for refusal in refusals.into_iter().filter(|refusal| !before.contains(&said(refusal))) {
            warn!(object = %refusal.object, why = refusal.why, "an annotated object is no workload");
            self.tell(refusal);
        }
        merged
    }

    fn tell(&self, refusal: Refusal) {
        let annotations = self.annotations.clone();
        tokio::spawn(async move {
            if let Err(error) = annotations.warn(&refusal.object, REFUSED, &refusal.why).await {
                debug!(%error, "no event of a refused workload could be written");
            }
        });
    }
}

impl Drop for Discovery {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// While the cluster cannot be asked, what was found last stays.
async fn look(annotations: Annotations, discover: DiscoverConfig, told: watch::Sender<Option<Arc<[Annotated]>>>) {
    let every = discover.every.max(Duration::from_secs(1));
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let (outcome, found) = match timeout(PATIENCE, annotations.found()).await {
            Ok(Ok(found)) => ("found", Some(found)),
            Ok(Err(error)) => {
                warn!(error = &error as &dyn std::error::Error, "could not look for annotated objects");
                ("failed", None)
            }
            Err(_) => {
                warn!("the cluster did not answer in time which objects are annotated");
                ("failed", None)
            }
        };
        metrics::counter!("bellwether_discovery_looks_total", "outcome" => outcome).increment(1);
        if found.is_none() && told.borrow().is_none() {
            ticks.reset_after(every.min(FIRST_LOOK_EVERY));
        }
        if let Some(found) = found {
            told.send_if_modified(|before| {
                let changed = before.as_deref() != Some(found.as_slice());
                *before = Some(found.into());
                changed
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(name: &str, said: &[(&str, &str)]) -> Annotated {
        let annotations = said.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        Annotated { kind: "Deployment".to_owned(), namespace: "shop".to_owned(), name: name.to_owned(), annotations }
    }

    fn config() -> Config {
        let text = "kubernetes: { discover: { most: 2 } }\nworkloads: [{ name: search, demand: x }]";
        Config::parse("test.yaml".as_ref(), text).expect("a configuration")
    }

    #[test]
    fn an_object_that_says_what_is_asked_of_it_becomes_a_workload_in_shadow_mode() {
        let said = [("demand", "rate(x[1m])"), ("max", "30"), ("capacity-per-replica", "12.5"), ("paused", "true")];
        let (merged, refusals) = merged(&config(), &[object("web", &said)]);
        assert_eq!(refusals, []);
        let [_, web] = merged.workloads.as_slice() else { panic!("{:?}", merged.workloads) };
        let scale = web.scale.as_ref().expect("a scale section");
        assert_eq!((web.name.as_str(), scale.min, scale.max), ("shop.web", 1, 30));
        assert_eq!(scale.mode, bellwether_scheduler::config::Mode::Shadow);
        assert_eq!(scale.capacity_per_replica.map(Positive::value), Some(12.5));
    }

    #[test]
    fn what_cannot_be_understood_is_refused_with_its_reason_and_costs_nothing_else() {
        let fine = object("web", &[("demand", "x")]);
        for (said, why) in [
            (vec![("min", "2")], "demand is missing"),
            (vec![("demand", "rate(x[")], "demand"),
            (vec![("demand", "x"), ("max", "many")], "max \"many\""),
            (vec![("demand", "x"), ("max", "-1")], "max \"-1\""),
            (vec![("demand", "x"), ("min", "20")], "min 20 lies above max 10"),
            (vec![("demand", "x"), ("capacity-per-replica", "0")], "capacity-per-replica"),
            (vec![("demand", "x"), ("capacity-per-replica", "NaN")], "capacity-per-replica"),
            (vec![("demand", "x"), ("mode", "act")], "no annotation bellwether.dev/mode"),
            (vec![("demand", "x"), ("workload", "search")], "\"search\" is taken"),
        ] {
            let (merged, refusals) = merged(&config(), &[object("bad", &said), fine.clone()]);
            assert_eq!(merged.workloads.len(), 2, "{said:?}");
            let [refusal] = refusals.as_slice() else { panic!("{said:?}: {refusals:?}") };
            assert!(refusal.why.contains(why), "{said:?}: {}", refusal.why);
        }
    }

    #[test]
    fn there_are_no_more_than_were_allowed_and_an_object_that_is_only_paused_is_none() {
        let found: Vec<_> = ["a", "b", "c"].map(|name| object(name, &[("demand", "x")])).into();
        let (merged, refusals) = merged(&config(), &found);
        assert_eq!((merged.workloads.len(), refusals.len()), (3, 1));
        assert!(refusals[0].why.contains("kubernetes.discover.most"), "{refusals:?}");
        let (merged, refusals) = super::merged(&config(), &[object("web", &[("paused", "true")])]);
        assert_eq!((merged.workloads.len(), refusals.len()), (1, 0));
    }
}
