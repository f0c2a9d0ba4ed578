//! Which disturbances belong together: density clustering over time and topology.

use std::collections::BTreeMap;
use std::sync::Arc;

use linfa::ParamGuard;
use linfa::traits::Transformer;
use linfa_clustering::Dbscan;
use linfa_nn::LinearSearch;
use linfa_nn::distance::Distance;
use ndarray::{Array2, ArrayView, Dimension};

use super::Topology;

/// A service out of order from `onset` to `last_seen`, both in seconds.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Disturbance {
    pub service: String,
    pub onset: f64,
    pub last_seen: f64,
}

/// For each disturbance the number of its cluster; numbers are dense and follow the order of first members.
///
/// Two disturbances are neighbours when their services are at most `hops` apart and their onsets at most `seconds`; on one
/// and the same service also when they overlap. A disturbance without neighbours is a cluster of its own.
///
/// # Source
/// DBSCAN (Ester, Kriegel, Sander, Xu 1996) with two points to a core: whatever is joined by a chain of neighbours. The
/// distance is the larger of time and topology, each in units of its limit.
pub(super) fn clusters(all: &[Disturbance], topology: &Topology, seconds: f64, hops: usize) -> Vec<usize> {
    let services: BTreeMap<&str, usize> = number(all.iter().map(|d| d.service.as_str()));
    let points = Array2::from_shape_fn((all.len(), 3), |(row, column)| match column {
        0 => services[all[row].service.as_str()] as f64,
        1 => all[row].onset,
        _ => all[row].last_seen,
    });
    let nearness = Nearness { reach: reach(&services, topology, hops), seconds: seconds.max(f64::MIN_POSITIVE) };
    let params = Dbscan::params_with(2, nearness, LinearSearch::new()).tolerance(1.0 + 1e-9).check();
    let found = params.map(|dbscan| dbscan.transform(&points)).map_or_else(|_| vec![None; all.len()], |f| f.to_vec());
    dense(&found)
}

/// Consecutive numbers for distinct names, in order of name.
fn number<'a>(names: impl Iterator<Item = &'a str>) -> BTreeMap<&'a str, usize> {
    let mut numbers: BTreeMap<&str, usize> = names.map(|name| (name, 0)).collect();
    for (index, number) in numbers.values_mut().enumerate() {
        *number = index;
    }
    numbers
}

/// Distance in units of `hops` between every two services; infinite beyond it.
fn reach(services: &BTreeMap<&str, usize>, topology: &Topology, hops: usize) -> Arc<Array2<f64>> {
    let mut reach = Array2::from_elem((services.len(), services.len()), f64::MAX);
    for (service, row) in services {
        for (other, steps) in topology.within(service, hops) {
            if let Some(column) = services.get(other) {
                reach[[*row, *column]] = steps as f64 / hops.max(1) as f64;
            }
        }
    }
    Arc::new(reach)
}

/// Noise becomes clusters of one; numbers follow first appearance.
fn dense(found: &[Option<usize>]) -> Vec<usize> {
    let mut numbers = BTreeMap::new();
    let mut next = 0;
    let mut fresh = || {
        next += 1;
        next - 1
    };
    let mut number = |cluster: &Option<usize>| match cluster {
        Some(cluster) => *numbers.entry(*cluster).or_insert_with(&mut fresh),
        None => fresh(),
    };
    found.iter().map(&mut number).collect()
}

#[derive(Clone)]
struct Nearness {
    reach: Arc<Array2<f64>>,
    seconds: f64,
}

impl Distance<f64> for Nearness {
    fn distance<D: Dimension>(&self, a: ArrayView<'_, f64, D>, b: ArrayView<'_, f64, D>) -> f64 {
        let (mut a, mut b) = (a.iter().copied(), b.iter().copied());
        let mut next = || (a.next().unwrap_or(0.0), b.next().unwrap_or(0.0));
        let (services, onsets, ends) = (next(), next(), next());
        let hops = self.reach.get([services.0 as usize, services.1 as usize]).copied().unwrap_or(f64::MAX);
        let overlap = services.0 == services.1 && onsets.0 <= ends.1 && onsets.1 <= ends.0;
        let time = if overlap { 0.0 } else { (onsets.0 - onsets.1).abs() / self.seconds };
        hops.max(time)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(service: &str, onset: f64, last_seen: f64) -> Disturbance {
        Disturbance { service: service.to_owned(), onset, last_seen }
    }

    fn topology() -> Topology {
        Topology::new([("web", "cart"), ("cart", "db"), ("mail", "queue")])
    }

    #[test]
    fn neighbours_in_time_and_topology_are_one_and_strangers_are_not() {
        let all = [at("web", 0.0, 50.0), at("mail", 5.0, 50.0), at("db", 60.0, 90.0), at("db", 900.0, 990.0)];
        assert_eq!(clusters(&all, &topology(), 100.0, 2), [0, 1, 0, 2]);
        assert_eq!(clusters(&all, &topology(), 100.0, 1), [0, 1, 2, 3], "web and db are two steps apart");
        assert_eq!(clusters(&all, &topology(), 10.0, 2), [0, 1, 2, 3], "a minute is too long");
    }

    #[test]
    fn a_chain_of_neighbours_is_one_cluster() {
        let all = [at("web", 0.0, 9.0), at("cart", 90.0, 99.0), at("db", 180.0, 199.0)];
        assert_eq!(clusters(&all, &topology(), 100.0, 1), [0, 0, 0]);
    }

    #[test]
    fn what_overlaps_on_one_service_is_one_however_long_it_lasts() {
        let all = [at("web", 0.0, 9000.0), at("web", 8000.0, 9000.0)];
        assert_eq!(clusters(&all, &topology(), 100.0, 1), [0, 0]);
    }

    #[test]
    fn nothing_gives_no_cluster() {
        assert!(clusters(&[], &topology(), 100.0, 1).is_empty());
    }
}
