//! Who calls whom, as far as a ranking needs it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Services in order of name.
pub type Services<'a, 'g> = std::iter::Copied<std::iter::Flatten<std::option::IntoIter<&'g BTreeSet<&'a str>>>>;

/// Calls between services; self-calls and repetitions are dropped.
#[derive(Debug, Default)]
pub struct CallGraph<'a> {
    callees: BTreeMap<&'a str, BTreeSet<&'a str>>,
    callers: BTreeMap<&'a str, BTreeSet<&'a str>>,
}

impl<'a> CallGraph<'a> {
    /// From `(caller, callee)` pairs in any order.
    #[must_use]
    pub fn new(calls: &'a [(String, String)]) -> Self {
        let mut graph = Self::default();
        for (caller, callee) in calls.iter().filter(|(caller, callee)| caller != callee) {
            graph.callees.entry(caller).or_default().insert(callee);
            graph.callers.entry(callee).or_default().insert(caller);
        }
        graph
    }

    /// Whether no call is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.callees.is_empty()
    }

    /// Direct callees of `service`.
    pub fn callees(&self, service: &str) -> Services<'a, '_> {
        self.callees.get(service).into_iter().flatten().copied()
    }

    /// Direct callers of `service`.
    pub fn callers(&self, service: &str) -> Services<'a, '_> {
        self.callers.get(service).into_iter().flatten().copied()
    }

    /// Number of calls from `start` to every service it reaches, itself included. When `start` is not part of the graph
    /// (a load balancer, a probe from outside), counting starts at the services that nobody calls.
    #[must_use]
    pub fn hops_from(&self, start: &'a str) -> BTreeMap<&'a str, usize> {
        let known = self.callees.contains_key(start) || self.callers.contains_key(start);
        let first: Vec<&str> = if known { vec![start] } else { self.entrances() };
        let mut hops: BTreeMap<&str, usize> = first.iter().map(|s| (*s, 0)).collect();
        let mut queue = VecDeque::from(first);
        while let Some(service) = queue.pop_front() {
            let next = hops[service] + 1;
            for callee in self.callees(service) {
                if !hops.contains_key(callee) {
                    hops.insert(callee, next);
                    queue.push_back(callee);
                }
            }
        }
        hops
    }

    /// Services that call but are not called.
    fn entrances(&self) -> Vec<&'a str> {
        self.callees.keys().filter(|s| !self.callers.contains_key(**s)).copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn calls(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
    }

    #[test]
    fn hops_are_counted_from_the_symptom_or_from_the_entrances() {
        let calls = calls(&[("web", "cart"), ("cart", "db"), ("web", "web"), ("db", "cart")]);
        let graph = CallGraph::new(&calls);
        assert_eq!(graph.hops_from("cart"), BTreeMap::from([("cart", 0), ("db", 1)]));
        assert_eq!(graph.hops_from("probe"), BTreeMap::from([("web", 0), ("cart", 1), ("db", 2)]));
    }

    #[test]
    fn an_empty_graph_reaches_nothing() {
        assert!(CallGraph::new(&[]).is_empty());
        assert!(CallGraph::new(&[]).hops_from("web").is_empty());
    }
}
