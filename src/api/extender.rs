//! An extender of Kubernetes' scheduler: new pods go where there will be room.
//!
//! Each node is a backend of `reroute` of the same name. Filtered out are nodes that are being drained, and those that will
//! be full, unless that would leave none; scored is the room that is foreseen, less the pods that are on their way. A node we know nothing of is let pass, with a
//! middling score.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::extract::State;
use axum::routing::post;
use axum::{Json, Router};
use bellwether_models::outlook::Outlook;
use bellwether_scheduler::config::BackendConfig;
use bellwether_scheduler::route::placement::{Placements, load_of, name_of};
use bellwether_scheduler::route::{Grounds, Weight};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Faces;

/// The best score of an extender.
const BEST: f64 = 10.0;
/// The score of a node nothing is known of.
const UNKNOWN: i64 = 5;
/// Expected load over capacity from which a node counts as full.
const FULL: f64 = 1.0;

/// `/api/v1/extender/{filter,prioritize}`.
pub fn router(faces: Faces) -> Router {
    Router::new()
        .route("/api/v1/extender/filter", post(filter))
        .route("/api/v1/extender/prioritize", post(prioritize))
        .with_state(Extender { faces, placements: Arc::default() })
}

/// What the scheduler sends. Its fields are named as in Go.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Asked {
    /// The pod that is to be placed.
    #[serde(default)]
    pod: Value,
    /// Whole nodes, when the scheduler does not send names alone.
    #[serde(default)]
    nodes: Option<Nodes>,
    #[serde(default)]
    node_names: Option<Vec<String>>,
}

#[derive(Debug, Deserialize, Serialize)]
struct Nodes {
    #[serde(default)]
    items: Vec<Value>,
}

#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Filtered {
    nodes: Option<Nodes>,
    node_names: Option<Vec<String>>,
    failed_nodes: BTreeMap<String, String>,
    failed_and_unresolvable_nodes: BTreeMap<String, String>,
    error: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Scored {
    host: String,
    score: i64,
}

impl Asked {
    fn names(&self) -> Vec<String> {
        let of = |nodes: &Nodes| nodes.items.iter().filter_map(name).map(str::to_owned).collect();
        self.node_names.clone().or_else(|| self.nodes.as_ref().map(of)).unwrap_or_default()
    }
}

async fn filter(State(extender): State<Extender>, Json(asked): Json<Asked>) -> Json<Filtered> {
    let names = asked.names();
    let rooms = extender.rooms(&asked.pod);
    let failed = passed_over(&names, &rooms, &extender.drained());
    let stays = |name: &str| !failed.contains_key(name);
    let left: Vec<&str> = names.iter().map(String::as_str).filter(|name| stays(name)).collect();
    if let [only] = left[..] {
        extender.place(&asked.pod, &[only]); // the scheduler asks for no scores where there is no choice
    }
    let nodes = asked
        .nodes
        .map(|nodes| Nodes { items: nodes.items.into_iter().filter(|node| name(node).is_none_or(stays)).collect() });
    let node_names = asked.node_names.map(|names| names.into_iter().filter(|name| stays(name)).collect());
    Json(Filtered { nodes, node_names, failed_nodes: failed, ..Filtered::default() })
}

async fn prioritize(State(extender): State<Extender>, Json(asked): Json<Asked>) -> Json<Vec<Scored>> {
    let rooms = extender.rooms(&asked.pod);
    let score = |host: String| Scored { score: score(&host, &rooms), host };
    let mut scored: Vec<Scored> = asked.names().into_iter().map(score).collect();
    let drained = extender.drained();
    scored.iter_mut().filter(|node| drained.contains(&node.host)).for_each(|node| node.score = 0);
    extender.place(&asked.pod, &best(&scored));
    Json(scored)
}

/// The nodes, and the pods on their way to them.
#[derive(Clone)]
struct Extender {
    faces: Faces,
    placements: Arc<Mutex<Placements>>,
}

/// Expected load over capacity of each node of which something is known.
type Rooms = HashMap<String, f64>;

impl Extender {
    /// As `pod` finds them, wherever it was thought to be before.
    fn rooms(&self, pod: &Value) -> Rooms {
        let (config, view) = (self.faces.config.borrow().clone(), self.faces.scheduler.view());
        let mut placements = self.placements();
        placements.forget(&name_of(pod));
        let loads = self.loads();
        let seen = |node: &str| loads.get(node).copied();
        let coming = placements.under_way(seen, &config.reroute.placement, (self.faces.clock)());
        drop(placements);
        rooms(&view.weights, &config.reroute.backends, &coming)
    }

    /// The nodes that are being drained.
    fn drained(&self) -> HashSet<String> {
        let drained = |weight: &&Weight| weight.grounds == Grounds::Draining;
        self.faces.scheduler.view().weights.iter().filter(drained).map(|weight| weight.backend.clone()).collect()
    }

    fn place(&self, pod: &Value, nodes: &[&str]) {
        let reroute = self.faces.config.borrow().reroute.clone();
        let config = &reroute.placement;
        let (part, nodes) = parts(load_of(pod, config), nodes, &reroute.backends);
        let loads = self.loads();
        let seen = |node: &str| loads.get(node).copied();
        self.placements().place(&name_of(pod), part, &nodes, seen, config, (self.faces.clock)());
    }

    /// The load of each node as it is measured now.
    fn loads(&self) -> HashMap<String, f64> {
        let snapshot = self.faces.snapshots.borrow();
        let load = |outlook: &Outlook| Some((outlook.workload.clone(), outlook.demand?.value));
        snapshot.backends.iter().filter_map(load).collect()
    }

    fn placements(&self) -> MutexGuard<'_, Placements> {
        self.placements.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn rooms(weights: &[Weight], backends: &[BackendConfig], coming: &HashMap<String, f64>) -> Rooms {
    let expected: HashMap<&str, f64> =
        weights.iter().filter_map(|weight| Some((weight.backend.as_str(), weight.saturation?))).collect();
    let room = |backend: &BackendConfig| {
        let coming = coming.get(&backend.name).copied().unwrap_or(0.0);
        Some((backend.name.clone(), expected.get(backend.name.as_str())? + coming / backend.capacity.value()))
    };
    backends.iter().filter_map(room).collect()
}

/// The nodes that take no new pods, each with why: the drained ones, and among the others those that will be full.
fn passed_over(names: &[String], rooms: &Rooms, drained: &HashSet<String>) -> BTreeMap<String, String> {
    let (out, left): (Vec<String>, Vec<String>) = names.iter().cloned().partition(|name| drained.contains(name));
    let mut failed = full(&left, rooms);
    failed.extend(out.into_iter().map(|name| (name, "it is being drained".to_owned())));
    failed
}

/// The nodes that will be full, each with why; none when that would leave nowhere to go.
fn full(names: &[String], rooms: &Rooms) -> BTreeMap<String, String> {
    let why = |name: &String| {
        let saturation = *rooms.get(name)?;
        let text = format!(
            "its load, with what is on its way to it, is expected at {:.0} % of what it can carry",
            saturation * 100.0
        );
        (saturation >= FULL).then(|| (name.clone(), text))
    };
    let failed: BTreeMap<String, String> = names.iter().filter_map(why).collect();
    if failed.len() < names.len() { failed } else { BTreeMap::new() }
}

fn score(name: &str, rooms: &Rooms) -> i64 {
    rooms.get(name).map_or(UNKNOWN, |s| ((1.0 - s).clamp(0.0, 1.0) * BEST).round() as i64)
}

/// Where the scheduler is likeliest to put the pod.
fn best(scored: &[Scored]) -> Vec<&str> {
    let most = scored.iter().map(|scored| scored.score).max();
    scored.iter().filter(|scored| Some(scored.score) == most).map(|scored| scored.host.as_str()).collect()
}

/// What each of `nodes`, to one of which `load` goes, is to be charged with, and those of them that are backends: nobody asks
/// what is on its way to the others.
fn parts<'a>(load: f64, nodes: &[&'a str], backends: &[BackendConfig]) -> (f64, Vec<&'a str>) {
    let known: HashSet<&str> = backends.iter().map(|backend| backend.name.as_str()).collect();
    (load / nodes.len() as f64, nodes.iter().copied().filter(|node| known.contains(node)).collect())
}

fn name(node: &Value) -> Option<&str> {
    node["metadata"]["name"].as_str()
}

#[cfg(test)]
mod tests {
    use super::*;
    use bellwether_scheduler::RerouteConfig;
    use bellwether_scheduler::config::PlacementConfig;

    fn weights(saturations: &[(&str, Option<f64>)]) -> Vec<Weight> {
        let weight = |(backend, saturation): &(&str, Option<f64>)| Weight {
            backend: (*backend).to_owned(),
            weight: 1.0,
            saturation: *saturation,
            grounds: Grounds::Healthy,
        };
        saturations.iter().map(weight).collect()
    }

    /// Nodes of 10 cores.
    fn nodes(names: &[&str]) -> Vec<BackendConfig> {
        let node = |name: &&str| serde_json::json!({ "name": name, "load": "cores", "capacity": 10.0 });
        let nodes: Vec<Value> = names.iter().map(node).collect();
        let config: RerouteConfig = serde_json::from_value(serde_json::json!({ "backends": nodes })).unwrap();
        config.backends
    }

    fn names(of: &[&str]) -> Vec<String> {
        of.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn a_node_that_will_be_full_is_passed_over_unless_all_will_be() {
        let weights = weights(&[("a", Some(1.2)), ("b", Some(0.4)), ("c", None), ("d", Some(1.0))]);
        let rooms = rooms(&weights, &nodes(&["a", "b", "c", "d"]), &HashMap::new());
        let failed = full(&names(&["a", "b", "c", "stranger"]), &rooms);
        assert_eq!(failed.keys().collect::<Vec<_>>(), ["a"]);
        assert!(failed["a"].contains("120 %"), "{failed:?}");
        assert!(full(&names(&["a", "d"]), &rooms).is_empty());
    }

    #[test]
    fn a_drained_node_takes_no_pods_even_where_the_others_will_be_full() {
        let rooms = rooms(&weights(&[("a", Some(0.1)), ("b", Some(1.2))]), &nodes(&["a", "b"]), &HashMap::new());
        let drained = HashSet::from(["a".to_owned()]);
        let failed = passed_over(&names(&["a", "b"]), &rooms, &drained);
        assert_eq!(failed.into_iter().collect::<Vec<_>>(), [("a".to_owned(), "it is being drained".to_owned())]);
    }

    #[test]
    fn the_more_room_is_foreseen_the_higher_the_score() {
        let weights = weights(&[("a", Some(1.2)), ("b", Some(0.4)), ("c", None)]);
        let rooms = rooms(&weights, &nodes(&["a", "b", "c"]), &HashMap::new());
        let scores: Vec<i64> = ["a", "b", "c", "stranger"].iter().map(|name| score(name, &rooms)).collect();
        assert_eq!(scores, [0, 6, UNKNOWN, UNKNOWN]);
    }

    /// Thirty pods of a core within a second, each where it is scored best: cores that each of three nodes is left to carry.
    fn thirty_pods(config: &PlacementConfig) -> Vec<f64> {
        let (hosts, mut loads) = (["a", "b", "c"], HashMap::from([("a", 1.0), ("b", 2.0), ("c", 3.0)]));
        let weights = weights(&[("a", Some(0.1)), ("b", Some(0.2)), ("c", Some(0.3))]);
        let (backends, now) = (nodes(&hosts), bellwether_models::series::Timestamp::from_secs(0));
        let (measured, mut placements) = (loads.clone(), Placements::default());
        for pod in 0..30 {
            let seen = |node: &str| measured.get(node).copied();
            let rooms = rooms(&weights, &backends, &placements.under_way(seen, config, now));
            let scored = hosts.map(|host| Scored { host: host.to_owned(), score: score(host, &rooms) });
            let likeliest = best(&scored);
            let (part, places) = parts(1.0, &likeliest, &backends);
            placements.place(&pod.to_string(), part, &places, seen, config, now);
            *loads.get_mut(likeliest[pod % likeliest.len()]).unwrap() += 1.0; // the scheduler picks any of the best
        }
        hosts.map(|host| loads[host]).to_vec()
    }

    #[test]
    fn pods_that_come_at_once_do_not_all_go_where_there_was_most_room_before() {
        let counted = thirty_pods(&PlacementConfig::default());
        assert!(counted.iter().all(|load| (10.0..=14.0).contains(load)), "{counted:?}");
        let blind = thirty_pods(&PlacementConfig { settle: std::time::Duration::ZERO, ..PlacementConfig::default() });
        assert_eq!(blind, [31.0, 2.0, 3.0], "without counting what is on its way");
    }

    #[test]
    fn a_pod_that_may_go_to_many_strangers_is_charged_to_our_nodes_alone_and_in_part() {
        assert_eq!(parts(8.0, &["a", "stranger", "b", "other"], &nodes(&["a", "b", "c"])), (2.0, vec!["a", "b"]));
        assert!(parts(8.0, &["stranger"], &nodes(&["a"])).1.is_empty());
    }

    #[test]
    fn fields_are_named_as_the_scheduler_names_them() {
        let asked: Asked = serde_json::from_str(r#"{"Pod":{},"Nodes":null,"NodeNames":["n1"]}"#).unwrap();
        assert_eq!(asked.names(), ["n1"]);
        let filtered = Filtered { node_names: Some(names(&["n1"])), ..Filtered::default() };
        let text = serde_json::to_string(&filtered).unwrap();
        let expected =
            r#"{"Nodes":null,"NodeNames":["n1"],"FailedNodes":{},"FailedAndUnresolvableNodes":{},"Error":""}"#;
        assert_eq!(text, expected);
        assert_eq!(
            serde_json::to_string(&Scored { host: "n1".to_owned(), score: 3 }).unwrap(),
            r#"{"Host":"n1","Score":3}"#
        );
    }
}
