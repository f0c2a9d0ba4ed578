//! Pods on their way: placed on a node, but not yet seen in its load.
//!
//! The scheduler does not tell an extender where a pod went. It is counted where it was scored best, in equal parts where
//! several nodes were, until the load of the node has risen by as much, or the time is over that its load takes to show.

use std::collections::{HashMap, HashSet, VecDeque};

use bellwether_models::series::Timestamp;
use serde_json::Value;

use crate::config::{PlacementConfig, PodRequest};

/// What is on its way to each node; bounded by [`PlacementConfig::most`].
#[derive(Clone, Debug, Default)]
pub struct Placements {
    places: VecDeque<Place>,
    /// The load of each node when the first of its pods came.
    before: HashMap<String, f64>,
}

/// A pod, or part of one.
#[derive(Clone, Debug)]
struct Place {
    pod: String,
    node: String,
    load: f64,
    at: Timestamp,
}

impl Placements {
    /// `pod` goes to one of `nodes`, and will bring `load` to each as far as is known, which is its own over the number of
    /// nodes it may go to. `seen` is the load of a node as it is measured now.
    pub fn place(
        &mut self,
        pod: &str,
        load: f64,
        nodes: &[&str],
        seen: impl Fn(&str) -> Option<f64>,
        config: &PlacementConfig,
        now: Timestamp,
    ) {
        self.forget(pod);
        if config.settle.is_zero() || !(load.is_finite() && load > 0.0) || pod.is_empty() {
            return;
        }
        for node in nodes {
            let node = (*node).to_owned();
            if let Some(seen) = seen(&node) {
                self.before.entry(node.clone()).or_insert(seen);
            }
            self.places.push_back(Place { pod: pod.to_owned(), node, load, at: now });
        }
        let many = self.places.len().saturating_sub(config.most);
        self.places.drain(..many);
        self.tidy();
    }

    /// `pod` is placed anew: where it was counted before no longer matters.
    pub fn forget(&mut self, pod: &str) {
        self.places.retain(|place| place.pod != pod);
        self.tidy();
    }

    /// The load on its way to each node, in the units of the nodes' load; nodes without any are left out.
    pub fn under_way(
        &mut self,
        seen: impl Fn(&str) -> Option<f64>,
        config: &PlacementConfig,
        now: Timestamp,
    ) -> HashMap<String, f64> {
        self.expire(&seen, config, now);
        let mut coming: HashMap<String, f64> = HashMap::new();
        for place in &self.places {
            *coming.entry(place.node.clone()).or_default() += place.load;
        }
        for (node, load) in &mut coming {
            let risen = seen(node).zip(self.before.get(node)).map_or(0.0, |(seen, before)| (seen - before).max(0.0));
            *load -= risen;
        }
        coming.retain(|_, load| *load > 0.0);
        // What has shown does not come back when the load falls.
        self.places.retain(|place| coming.contains_key(&place.node));
        self.tidy();
        metrics::gauge!("bellwether_scheduler_placements_under_way").set(self.places.len() as f64);
        coming
    }

    /// Lets go of pods whose time is over, and of so much of what their nodes rose by as was theirs: it is not to be taken
    /// for the load of those that came later.
    fn expire(&mut self, seen: impl Fn(&str) -> Option<f64>, config: &PlacementConfig, now: Timestamp) {
        let waits = |place: &Place| now.since(place.at).max(place.at.since(now)) < config.settle;
        for place in self.places.iter().filter(|place| !waits(place)) {
            if let Some((seen, before)) = seen(&place.node).zip(self.before.get_mut(&place.node)) {
                *before += (seen - *before).max(0.0).min(place.load);
            }
        }
        self.places.retain(waits);
    }

    /// A node to which nothing is on its way any more begins anew with the next pod.
    fn tidy(&mut self) {
        let nodes: HashSet<&str> = self.places.iter().map(|place| place.node.as_str()).collect();
        self.before.retain(|node, _| nodes.contains(node.as_str()));
    }
}

/// The load that `pod`, a Pod as the API writes it, will bring: what its containers request together.
#[must_use]
pub fn load_of(pod: &Value, config: &PlacementConfig) -> f64 {
    let name = match config.request {
        PodRequest::Cpu => "cpu",
        PodRequest::Memory => "memory",
    };
    let containers = pod["spec"]["containers"].as_array().into_iter().flatten();
    let asked: f64 = containers.filter_map(|c| quantity(&c["resources"]["requests"][name])).sum();
    if asked > 0.0 { asked } else { config.unasked }
}

/// Name by which a pod is known: its uid, or its namespace and name.
#[must_use]
pub fn name_of(pod: &Value) -> String {
    let metadata = &pod["metadata"];
    match (metadata["uid"].as_str(), metadata["namespace"].as_str(), metadata["name"].as_str()) {
        (Some(uid), _, _) if !uid.is_empty() => uid.to_owned(),
        (_, namespace, Some(name)) => format!("{}/{name}", namespace.unwrap_or_default()),
        _ => String::new(),
    }
}

const SUFFIXES: [(&str, f64); 14] = [
    ("Ki", 1024.0),
    ("Mi", 1_048_576.0),
    ("Gi", 1_073_741_824.0),
    ("Ti", 1_099_511_627_776.0),
    ("Pi", 1_125_899_906_842_624.0),
    ("Ei", 1_152_921_504_606_846_976.0),
    ("n", 1e-9),
    ("u", 1e-6),
    ("m", 1e-3),
    ("k", 1e3),
    ("M", 1e6),
    ("G", 1e9),
    ("T", 1e12),
    ("P", 1e15),
];

/// A quantity of Kubernetes, such as `250m`, `1.5`, `128Mi`, `1e3` (API conventions, "Quantity").
fn quantity(value: &Value) -> Option<f64> {
    let text = match value {
        Value::String(text) => text.trim(),
        other => return other.as_f64().filter(|x| *x >= 0.0),
    };
    let suffix = SUFFIXES.iter().find(|(suffix, _)| text.ends_with(suffix));
    let (number, scale) = suffix.map_or((text, 1.0), |(suffix, scale)| (&text[..text.len() - suffix.len()], *scale));
    let number = number.strip_suffix('E').map_or_else(|| number.parse(), |exa| exa.parse::<f64>().map(|x| x * 1e18));
    number.ok().map(|x: f64| x * scale).filter(|x| x.is_finite() && *x >= 0.0)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn at(secs: i64) -> Timestamp {
        Timestamp::from_secs(1_000_000 + secs)
    }

    fn idle(_: &str) -> Option<f64> {
        Some(2.0)
    }

    #[test]
    fn a_pod_counts_until_its_load_shows_or_its_time_is_over() {
        let config = PlacementConfig::default();
        let mut placed = Placements::default();
        placed.place("p1", 1.0, &["n1"], idle, &config, at(0));
        placed.place("p2", 2.0, &["n1"], idle, &config, at(10));
        let risen = |load: f64| move |_: &str| Some(2.0 + load);
        assert_eq!(placed.under_way(idle, &config, at(20))["n1"], 3.0);
        assert_eq!(placed.under_way(risen(0.5), &config, at(30))["n1"], 2.5);
        let mut shown = placed.clone();
        assert!(shown.under_way(risen(3.0), &config, at(40)).is_empty());
        assert!(shown.under_way(idle, &config, at(50)).is_empty(), "what has shown does not come back");
        assert_eq!(placed.under_way(idle, &config, at(125))["n1"], 2.0, "the first is over");
        assert!(placed.under_way(idle, &config, at(130)).is_empty());
    }

    #[test]
    fn a_pod_that_may_be_on_several_nodes_counts_in_parts_and_once_however_often_it_is_placed() {
        let config = PlacementConfig::default();
        let mut placed = Placements::default();
        placed.place("p", 0.5, &["n1", "n2"], idle, &config, at(0));
        placed.place("p", 0.5, &["n2", "n3"], idle, &config, at(5));
        let coming = placed.under_way(idle, &config, at(6));
        assert_eq!((coming.get("n1"), coming["n2"], coming["n3"]), (None, 0.5, 0.5));
        placed.forget("p");
        assert!(placed.under_way(idle, &config, at(7)).is_empty());
    }

    #[test]
    fn the_load_that_rose_before_a_pod_came_is_not_taken_for_its_own() {
        let config = PlacementConfig::default();
        let mut placed = Placements::default();
        placed.place("early", 1.0, &["n1"], idle, &config, at(0));
        placed.place("other", 2.0, &["n2", "n3"], idle, &config, at(60));
        assert_eq!(placed.under_way(idle, &config, at(130)).len(), 2, "n1 has settled");
        let busy = |_: &str| Some(9.0);
        placed.place("late", 1.0, &["n1"], busy, &config, at(140));
        assert_eq!(placed.under_way(busy, &config, at(150)).get("n1"), Some(&1.0));
    }

    #[test]
    fn what_a_pod_brought_whose_time_is_over_is_not_taken_for_the_load_of_a_later_one() {
        let config = PlacementConfig::default();
        let mut placed = Placements::default();
        let half_shown = |_: &str| Some(3.0);
        placed.place("p1", 2.0, &["n1"], idle, &config, at(0));
        placed.place("p2", 1.0, &["n1"], half_shown, &config, at(60));
        assert_eq!(placed.under_way(half_shown, &config, at(70))["n1"], 2.0);
        assert_eq!(placed.under_way(half_shown, &config, at(125))["n1"], 1.0);
        assert_eq!(placed.under_way(|_| Some(3.5), &config, at(130))["n1"], 0.5, "it shows by and by");
    }

    #[test]
    fn what_a_pod_requests_is_what_it_brings() {
        let config = PlacementConfig::default();
        let pod = |requests: Value| {
            let container = json!({ "resources": { "requests": requests } });
            json!({ "metadata": { "namespace": "shop", "name": "web-1" }, "spec": { "containers": [container, {}] } })
        };
        assert_eq!(load_of(&pod(json!({ "cpu": "250m", "memory": "1Gi" })), &config), 0.25);
        assert_eq!(load_of(&pod(json!({ "cpu": "much" })), &config), 0.1);
        assert_eq!(load_of(&Value::Null, &config), 0.1);
        let memory = PlacementConfig { request: PodRequest::Memory, ..config };
        assert_eq!(load_of(&pod(json!({ "cpu": 1, "memory": "128Mi" })), &memory), 134_217_728.0);
        assert_eq!((name_of(&pod(json!({}))), name_of(&Value::Null)), ("shop/web-1".to_owned(), String::new()));
        for (text, value) in [("2", 2.0), ("1.5", 1.5), ("1e3", 1e3), ("2k", 2e3), ("1E", 1e18), ("100M", 1e8)] {
            assert_eq!(quantity(&json!(text)), Some(value), "{text}");
        }
        for text in ["", "m", "-1", "NaN", "1Zi", "∞"] {
            assert_eq!(quantity(&json!(text)), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn memory_is_bounded_and_nothing_comes_from_nowhere(
            story in prop::collection::vec((0..40u8, 0.0..4.0f64, 0..6usize, 0..300i64, 0.0..20.0f64), 1..120)
        ) {
            let config = PlacementConfig { most: 12, settle: Duration::from_secs(60), ..PlacementConfig::default() };
            let nodes = ["a", "b", "c", "d", "e"];
            let mut placed = Placements::default();
            for (pod, load, many, secs, seen) in story {
                placed.place(&pod.to_string(), load, &nodes[..many.min(5)], |_| Some(seen), &config, at(secs));
                let coming = placed.under_way(|_| Some(seen), &config, at(secs));
                prop_assert!(placed.places.len() <= 12 && placed.before.len() <= 12);
                prop_assert!(coming.values().all(|load| load.is_finite() && *load > 0.0));
                prop_assert!(coming.values().sum::<f64>() <= placed.places.iter().map(|p| p.load).sum::<f64>() + 1e-9);
            }
        }
    }
}
