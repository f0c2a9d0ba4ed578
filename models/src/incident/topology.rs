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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearness_is_the_same_both_ways_and_ends_at_the_limit() {
        let topology = Topology::new([("web", "cart"), ("cart", "db"), ("db", "disk")]);
        assert_eq!(topology.within("db", 1), BTreeMap::from([("db", 0), ("cart", 1), ("disk", 1)]));
        assert_eq!(topology.within("web", 2).get("db"), Some(&2));
        assert_eq!(topology.within("nowhere", 3), BTreeMap::from([("nowhere", 0)]));
    }
}
