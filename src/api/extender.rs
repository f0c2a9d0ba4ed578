//! An extender of Kubernetes' scheduler: new pods go where there will be room.
//!
//! Each node is a backend of `reroute` of the same name. Filtered out are nodes that will be full, unless all will be;
//! scored is the room that is foreseen. A node we know nothing of is let pass, with a middling score.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::routing::post;
use axum::{Json, Router};
use bellwether_scheduler::route::Weight;
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
        .with_state(faces)
}

/// What the scheduler sends. Its fields are named as in Go.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Asked {
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

async fn filter(State(faces): State<Faces>, Json(asked): Json<Asked>) -> Json<Filtered> {
    let names = asked.names();
    let view = faces.scheduler.view();
    let failed = full(&names, &view.weights);
    let stays = |name: &str| !failed.contains_key(name);
    let nodes = asked
        .nodes
        .map(|nodes| Nodes { items: nodes.items.into_iter().filter(|node| name(node).is_none_or(stays)).collect() });
    let node_names = asked.node_names.map(|names| names.into_iter().filter(|name| stays(name)).collect());
    Json(Filtered { nodes, node_names, failed_nodes: failed, ..Filtered::default() })
}

async fn prioritize(State(faces): State<Faces>, Json(asked): Json<Asked>) -> Json<Vec<Scored>> {
    let view = faces.scheduler.view();
    let score = |host: String| Scored { score: room(&host, &view.weights), host };
    Json(asked.names().into_iter().map(score).collect())
}

/// The nodes that will be full, each with why; none when that would leave nowhere to go.
fn full(names: &[String], weights: &[Weight]) -> BTreeMap<String, String> {
    let why = |name: &String| {
        let saturation = saturation(name, weights)?;
        let text = format!("its load is expected at {:.0} % of what it can carry", saturation * 100.0);
        (saturation >= FULL).then(|| (name.clone(), text))
    };
    let failed: BTreeMap<String, String> = names.iter().filter_map(why).collect();
    if failed.len() < names.len() { failed } else { BTreeMap::new() }
}

fn room(name: &str, weights: &[Weight]) -> i64 {
    saturation(name, weights).map_or(UNKNOWN, |s| ((1.0 - s).clamp(0.0, 1.0) * BEST).round() as i64)
}

fn saturation(name: &str, weights: &[Weight]) -> Option<f64> {
    weights.iter().find(|weight| weight.backend == name)?.saturation
}

fn name(node: &Value) -> Option<&str> {
    node["metadata"]["name"].as_str()
}

#[cfg(test)]
mod tests {
    use bellwether_scheduler::route::Grounds;

    use super::*;

    fn weights(saturations: &[(&str, Option<f64>)]) -> Vec<Weight> {
        let weight = |(backend, saturation): &(&str, Option<f64>)| Weight {
            backend: (*backend).to_owned(),
            weight: 1.0,
            saturation: *saturation,
            grounds: Grounds::Healthy,
        };
        saturations.iter().map(weight).collect()
    }

    fn names(of: &[&str]) -> Vec<String> {
        of.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn a_node_that_will_be_full_is_passed_over_unless_all_will_be() {
        let weights = weights(&[("a", Some(1.2)), ("b", Some(0.4)), ("c", None), ("d", Some(1.0))]);
        let failed = full(&names(&["a", "b", "c", "stranger"]), &weights);
        assert_eq!(failed.keys().collect::<Vec<_>>(), ["a"]);
        assert!(failed["a"].contains("120 %"), "{failed:?}");
        assert!(full(&names(&["a", "d"]), &weights).is_empty());
    }

    #[test]
    fn the_more_room_is_foreseen_the_higher_the_score() {
        let weights = weights(&[("a", Some(1.2)), ("b", Some(0.4)), ("c", None)]);
        let scores: Vec<i64> = ["a", "b", "c", "stranger"].iter().map(|name| room(name, &weights)).collect();
        assert_eq!(scores, [0, 6, UNKNOWN, UNKNOWN]);
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
