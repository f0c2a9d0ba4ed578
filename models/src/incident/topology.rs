//! How near services are to one another, whoever calls whom.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Services joined by calls or declared dependencies, without direction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Topology {
    neighbours: BTreeMap<String, BTreeSet<String>>,
}

impl Topology {
    /// From pairs in any order: `(caller, callee)` or `(workload, what it depends on)`.
    #[must_use]
    pub fn new<A: Into<String>, B: Into<String>>(pairs: impl IntoIterator<Item = (A, B)>) -> Self {
        let mut topology = Self::default();
        for (a, b) in pairs {
            let (a, b) = (a.into(), b.into());
            topology.neighbours.entry(a.clone()).or_default().insert(b.clone());
            topology.neighbours.entry(b).or_default().insert(a);
        }
        topology
    }

    /// Services within `limit` steps of `start` with their distance, `start` itself at 0.
    #[must_use]
    pub fn within<'a>(&'a self, start: &'a str, limit: usize) -> BTreeMap<&'a str, usize> {
        let mut steps = BTreeMap::from([(start, 0)]);
        let mut queue = VecDeque::from([start]);
        while let Some(service) = queue.pop_front() {
            let next = steps[service] + 1;
            if next > limit {
                break; // breadth first: all that follow are as far
            }
            for neighbour in self.neighbours.get(service).into_iter().flatten() {
                if !steps.contains_key(neighbour.as_str()) {
                    steps.insert(neighbour, next);
                    queue.push_back(neighbour);
                }
            }
        }
        steps
    }

    /// `services` in parts, each joined within itself by steps of at most `hops`; in order of first member.
    #[must_use]
    pub fn parts<'a>(&'a self, services: &'a [String], hops: usize) -> Vec<BTreeSet<&'a str>> {
        let mut left: BTreeSet<&str> = services.iter().map(String::as_str).collect();
        let mut parts = Vec::new();
        while let Some(first) = left.pop_first() {
            let (mut part, mut queue) = (BTreeSet::from([first]), VecDeque::from([first]));
            while let Some(service) = queue.pop_front() {
                let near = self.within(service, hops);
                let (joined, others): (BTreeSet<&str>, BTreeSet<&str>) =
                    left.iter().partition(|s| near.contains_key(**s));
                left = others;
                queue.extend(&joined);
                part.extend(joined);
            }
            parts.push(part);
        }
        parts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_fall_into_parts_that_no_steps_join() {
        let topology = Topology::new([("web", "cart"), ("cart", "db"), ("mail", "queue")]);
        let services = ["db", "lone", "mail", "queue", "web"].map(str::to_owned);
        let parts: Vec<Vec<&str>> = topology.parts(&services, 2).into_iter().map(|p| p.into_iter().collect()).collect();
        assert_eq!(parts, [vec!["db", "web"], vec!["lone"], vec!["mail", "queue"]]);
        assert_eq!(topology.parts(&services, 1).len(), 4, "db and web are two steps apart");
    }

    #[test]
    fn nearness_is_the_same_both_ways_and_ends_at_the_limit() {
        let topology = Topology::new([("web", "cart"), ("cart", "db"), ("db", "disk")]);
        assert_eq!(topology.within("db", 1), BTreeMap::from([("db", 0), ("cart", 1), ("disk", 1)]));
        assert_eq!(topology.within("web", 2).get("db"), Some(&2));
        assert_eq!(topology.within("nowhere", 3), BTreeMap::from([("nowhere", 0)]));
    }
}
