//! The series around an incident, turned into the question a ranker answers. Pure.

use std::collections::{BTreeMap, BTreeSet};

use bellwether_models::cause::{IncidentWindow, Metric};
use bellwether_models::series::{Labels, METRIC_NAME, Step, Timestamp, Window};

use crate::config::Config;

/// Who calls whom, as far as the configuration tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CallMap {
    callees: BTreeMap<String, BTreeSet<String>>,
}

impl CallMap {
    /// The calls named by the workloads and services of `config`.
    #[must_use]
    pub fn of(config: &Config) -> Self {
        let workloads = config.workloads.iter().map(|w| (&w.name, &w.depends_on));
        let services = config.services.iter().map(|s| (&s.name, &s.depends_on));
        let mut callees: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (name, depends_on) in workloads.chain(services) {
            callees.entry(name.clone()).or_default().extend(depends_on.iter().cloned());
        }
        Self { callees }
    }

    /// The same calls and `others`, given as `(caller, callee)`.
    #[must_use]
    pub fn with<'a>(&self, others: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let mut callees = self.callees.clone();
        for (caller, callee) in others {
            callees.entry(caller.to_owned()).or_default().insert(callee.to_owned());
        }
        Self { callees }
    }

    /// Every call, as `(caller, callee)`.
    pub fn all(&self) -> impl Iterator<Item = (&str, &str)> {
        self.callees
            .iter()
            .flat_map(|(caller, callees)| callees.iter().map(move |callee| (caller.as_str(), callee.as_str())))
    }

    /// `services` and all they call, directly or through others, nearest first.
    #[must_use]
    pub fn reach<'a>(&self, services: impl IntoIterator<Item = &'a str>) -> Vec<String> {
        let mut seen = BTreeSet::new();
        let mut reached: Vec<String> =
            services.into_iter().filter(|service| seen.insert((*service).to_owned())).map(str::to_owned).collect();
        let mut next = 0;
        while let Some(caller) = reached.get(next).cloned() {
            let callees = self.callees.get(&caller).into_iter().flatten();
            reached.extend(callees.filter(|callee| seen.insert((*callee).clone())).cloned());
            next += 1;
        }
        reached
    }

    /// Who calls `services`, directly or through others, without those themselves; in order of name.
    #[must_use]
    pub fn callers(&self, services: &[String]) -> Vec<String> {
        let mut reached: BTreeSet<&str> = services.iter().map(String::as_str).collect();
        loop {
            let further = self.all().filter(|(caller, callee)| reached.contains(callee) && !reached.contains(caller));
            let further: Vec<&str> = further.map(|(caller, _)| caller).collect();
            if further.is_empty() {
                break;
            }
            reached.extend(further);
        }
        reached.into_iter().filter(|s| !services.iter().any(|own| own == s)).map(str::to_owned).collect()
    }

    /// The calls among `services`, as `(caller, callee)`.
    #[must_use]
    pub fn among(&self, services: &[String]) -> Vec<(String, String)> {
        let among: BTreeSet<&str> = services.iter().map(String::as_str).collect();
        let calls = self.all().filter(|(caller, callee)| among.contains(caller) && among.contains(callee));
        calls.map(|(caller, callee)| (caller.to_owned(), callee.to_owned())).collect()
    }
}

/// A series of a service over the time of an incident.
#[derive(Clone, Debug, PartialEq)]
pub struct Suspect {
    /// The service it belongs to.
    pub service: String,
    /// The series.
    pub labels: Labels,
    /// Its values; every suspect of one incident lies on the same grid.
    pub window: Window,
}

/// The points of time at which an incident is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grid {
    /// The first.
    pub start: Timestamp,
    /// Distance between them.
    pub step: Step,
    /// How many.
    pub len: usize,
}

/// What to ask the ranker: `suspects` and the symptom's own series where it is known, reference first, incident from
/// `onset` on. Counters become rates per second; bucket series, our own, silent ones and those off the grid are left
/// out.
#[must_use]
pub fn question(
    onset: Timestamp,
    grid: Grid,
    symptom: Option<Suspect>,
    mut suspects: Vec<Suspect>,
    calls: Vec<(String, String)>,
) -> IncidentWindow {
    let times: Vec<Timestamp> = (0..grid.len).map(|i| grid.start + grid.step.times(i)).collect();
    suspects.retain(|suspect| is_evidence(suspect) && suspect.window.len() == grid.len);
    let symptom = symptom.map(|symptom| place(symptom, &mut suspects));
    let names = distinguishing_names(&suspects);
    let metrics = suspects.into_iter().zip(names).map(|(suspect, name)| as_metric(suspect, name)).collect();
    let onset_row = times.partition_point(|t| *t < onset);
    IncidentWindow { times, metrics, onset_row, symptom, calls, ..IncidentWindow::default() }
}

/// Where the symptom stands among the suspects; it joins them when it is the answer to a query and no stored series.
fn place(symptom: Suspect, suspects: &mut Vec<Suspect>) -> usize {
    let known = suspects.iter().position(|suspect| suspect.labels == symptom.labels);
    known.unwrap_or_else(|| {
        suspects.push(symptom);
        suspects.len() - 1
    })
}

fn is_evidence(suspect: &Suspect) -> bool {
    let name = suspect.labels.metric_name();
    !name.ends_with("_bucket") && !name.starts_with("bellwether_") && suspect.window.gap_share() < 1.0
}

fn as_metric(suspect: Suspect, name: String) -> Metric {
    let values = if is_counter(&suspect.labels) { rate(&suspect.window) } else { suspect.window.values };
    Metric { service: suspect.service, name, values }
}

/// By the naming convention of Prometheus: counters end in `_total`, histograms and summaries add `_count` and `_sum`.
fn is_counter(labels: &Labels) -> bool {
    ["_total", "_count", "_sum"].iter().any(|suffix| labels.metric_name().ends_with(suffix))
}

/// Increase per second since the point before; a fall is a reset, after which the counter began at zero.
fn rate(window: &Window) -> Vec<f64> {
    let per_second = window.step.as_secs_f64();
    let increase = |pair: &[f64]| if pair[1] < pair[0] { pair[1] } else { pair[1] - pair[0] };
    let rest = window.values.windows(2).map(|pair| increase(pair) / per_second);
    std::iter::once(f64::NAN).chain(rest).take(window.len()).collect()
}

/// The metric's name, and where a service has several series of that name the labels by which they differ.
fn distinguishing_names(suspects: &[Suspect]) -> Vec<String> {
    let mut families: BTreeMap<(&str, &str), Vec<&Labels>> = BTreeMap::new();
    for suspect in suspects {
        families.entry((&suspect.service, suspect.labels.metric_name())).or_default().push(&suspect.labels);
    }
    let differing: BTreeMap<_, BTreeSet<&str>> =
        families.into_iter().map(|(family, members)| (family, differing_labels(&members))).collect();
    let name = |suspect: &Suspect| {
        let family = (suspect.service.as_str(), suspect.labels.metric_name());
        let keep = differing.get(&family);
        suspect.labels.without(|l| l != METRIC_NAME && !keep.is_some_and(|keep| keep.contains(l))).to_string()
    };
    suspects.iter().map(name).collect()
}

fn differing_labels<'a>(members: &[&'a Labels]) -> BTreeSet<&'a str> {
    let all: BTreeSet<&str> = members.iter().flat_map(|labels| labels.iter().map(|(name, _)| name)).collect();
    let differs = |name: &&str| members.iter().any(|labels| labels.get(name) != members[0].get(name));
    all.into_iter().filter(differs).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{CalledService, Workload};

    fn suspect(service: &str, name: &str, instance: &str, values: &[f64]) -> Suspect {
        let labels = Labels::metric(name).with("service", service).with("instance", instance);
        let window = Window { start: Timestamp::from_secs(0), step: Step::from_secs(60), values: values.to_vec() };
        Suspect { service: service.to_owned(), labels, window }
    }

    fn grid(len: usize) -> Grid {
        Grid { start: Timestamp::from_secs(0), step: Step::from_secs(60), len }
    }

    #[test]
    fn dependencies_are_reached_through_others_even_in_a_circle() {
        let calls = |name: &str, to: &[&str]| CalledService {
            name: name.to_owned(),
            depends_on: to.iter().map(ToString::to_string).collect(),
        };
        let config = Config {
            workloads: vec![Workload {
                name: "web".to_owned(),
                depends_on: vec!["cart".to_owned()],
                ..Workload::default()
            }],
            services: vec![calls("cart", &["db", "web"]), calls("other", &["db"])],
            ..Config::default()
        };
        let topology = CallMap::of(&config);
        let reach = topology.reach(["web"]);
        assert_eq!(reach, ["web", "cart", "db"]);
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(topology.among(&reach), [pair("cart", "db"), pair("cart", "web"), pair("web", "cart")]);
        assert_eq!(topology.reach(["unknown"]), ["unknown"]);
    }

    #[test]
    fn series_are_named_by_what_tells_them_apart() {
        let suspects = [
            suspect("cart", "cpu", "a", &[1.0]),
            suspect("cart", "cpu", "b", &[1.0]),
            suspect("cart", "memory", "a", &[1.0]),
            suspect("db", "cpu", "a", &[1.0]),
        ];
        let names = distinguishing_names(&suspects);
        assert_eq!(names, [r#"cpu{instance="a"}"#, r#"cpu{instance="b"}"#, "memory", "cpu"]);
    }

    #[test]
    fn a_counter_becomes_a_rate_and_a_reset_does_not_make_it_negative() {
        let counter = suspect("cart", "requests_total", "a", &[0.0, 60.0, 180.0, 30.0, f64::NAN, 90.0]);
        let symptom = suspect("cart", "latency", "a", &[1.0; 6]);
        let window = question(Timestamp::from_secs(120), grid(6), Some(symptom), vec![counter], vec![]);
        let rates = &window.metrics[0].values;
        assert!(rates[0].is_nan() && rates[4].is_nan() && rates[5].is_nan());
        assert_eq!(rates[1..4], [1.0, 2.0, 0.5]);
        assert_eq!((window.onset_row, window.times.len()), (2, 6));
    }

    #[test]
    fn the_symptom_stands_once_and_what_says_nothing_is_left_out() {
        let symptom = suspect("cart", "latency", "a", &[1.0, 2.0]);
        let others = vec![
            suspect("cart", "latency_bucket", "a", &[1.0, 2.0]),
            suspect("cart", "bellwether_forecast", "a", &[1.0, 2.0]),
            suspect("cart", "silent", "a", &[f64::NAN, f64::NAN]),
            suspect("cart", "short", "a", &[1.0]),
            suspect("cart", "cpu", "a", &[1.0, 2.0]),
            symptom.clone(),
        ];
        let named = |w: &IncidentWindow| w.metrics.iter().map(|m| m.name.clone()).collect::<Vec<_>>();
        let window = question(Timestamp::from_secs(60), grid(2), Some(symptom.clone()), others, vec![]);
        assert_eq!((named(&window), window.symptom), (vec!["cpu".to_owned(), "latency".to_owned()], Some(1)));
        let alone = question(Timestamp::from_secs(60), grid(2), Some(symptom), vec![], vec![]);
        assert_eq!((named(&alone), alone.symptom), (vec!["latency".to_owned()], Some(0)));
    }
}
