//! How few random cuts set a row apart.

use serde::{Deserialize, Serialize};

use super::synthetic::Noise;

/// Trees, and rows each of them is grown from, as in the source.
const TREES: usize = 100;
const SAMPLE: usize = 256;
const EULER: f64 = 0.577_215_664_901_532_9;

/// An isolation forest: trees that cut a random metric at a random value between its extremes. A row that few cuts leave
/// alone is unlike the others.
///
/// Source: F. T. Liu, K. M. Ting, Z.-H. Zhou, "Isolation forest", ICDM 2008.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Forest {
    trees: Vec<Vec<Node>>,
    /// Cuts that set apart a row among as many as a tree was grown from, on average.
    usual: f64,
}

/// A node of a tree; the first is the root.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
enum Node {
    /// Rows with less than `at` of `metric` go on at `below`, the others at the node after it.
    Cut { metric: u32, at: f32, below: u32 },
    /// So many cuts, those that are still due among the rows left here included.
    Leaf { depth: f32 },
}

impl Forest {
    /// Grown from `rows`, all of one length, by `chance`.
    pub(super) fn grow(rows: &[&[f32]], chance: &mut Noise) -> Self {
        let size = SAMPLE.min(rows.len());
        let most = (size.max(2) as f64).log2().ceil() as u32;
        let tree = |chance: &mut Noise| {
            let mut sample: Vec<&[f32]> = (0..size).map(|_| rows[below(rows.len(), chance)]).collect();
            let mut nodes = vec![Node::Leaf { depth: 0.0 }];
            split(&mut nodes, 0, &mut sample, most, 0, chance);
            nodes
        };
        Self { trees: (0..TREES).map(|_| tree(chance)).collect(), usual: average_cuts(size) }
    }

    /// The anomaly score of the source, in `0.0..=1.0`: a half is usual, one is alone at once. A forest of nothing says a half.
    pub(super) fn score(&self, row: &[f32]) -> f64 {
        if self.trees.is_empty() || self.usual <= 0.0 {
            return 0.5;
        }
        let cuts: f64 = self.trees.iter().map(|tree| cuts(tree, row)).sum();
        (-(cuts / self.trees.len() as f64) / self.usual).exp2()
    }
}

fn split(nodes: &mut Vec<Node>, place: usize, rows: &mut [&[f32]], left: u32, depth: u32, chance: &mut Noise) {
    nodes[place] = Node::Leaf { depth: (f64::from(depth) + average_cuts(rows.len())) as f32 };
    let Some((metric, at)) = (left > 0).then(|| cut(rows, chance)).flatten() else { return };
    rows.sort_by(|a, b| a[metric].total_cmp(&b[metric]));
    let (low, high) = rows.split_at_mut(rows.partition_point(|row| row[metric] < at));
    let below = nodes.len();
    nodes[place] = Node::Cut { metric: metric as u32, at, below: below as u32 };
    nodes.extend([Node::Leaf { depth: 0.0 }; 2]);
    split(nodes, below, low, left - 1, depth + 1, chance);
    split(nodes, below + 1, high, left - 1, depth + 1, chance);
}

/// A metric on which the rows differ, and a value between its extremes.
fn cut(rows: &[&[f32]], chance: &mut Noise) -> Option<(usize, f32)> {
    let width = rows.first()?.len();
    let extremes = |k: usize| {
        rows.iter().fold((f32::INFINITY, f32::NEG_INFINITY), |(low, high), row| (low.min(row[k]), high.max(row[k])))
    };
    let differ: Vec<(usize, f32, f32)> =
        (0..width).map(|k| (k, extremes(k).0, extremes(k).1)).filter(|(_, low, high)| low < high).collect();
    let (metric, low, high) = *differ.get(below(differ.len(), chance))?;
    let at = low + (high - low) * chance.uniform() as f32;
    Some((metric, if at > low { at } else { high }))
}

fn cuts(tree: &[Node], row: &[f32]) -> f64 {
    let mut place = 0;
    loop {
        match tree[place] {
            Node::Leaf { depth } => return f64::from(depth),
            Node::Cut { metric, at, below } => place = below as usize + usize::from(row[metric as usize] >= at),
        }
    }
}

/// Mean depth of an unsuccessful search in a binary tree of `n` rows.
fn average_cuts(n: usize) -> f64 {
    match n {
        0 | 1 => 0.0,
        2 => 1.0,
        n => 2.0 * (((n - 1) as f64).ln() + EULER) - 2.0 * (n - 1) as f64 / n as f64,
    }
}

fn below(n: usize, chance: &mut Noise) -> usize {
    ((chance.uniform() * n as f64) as usize).min(n.saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::reference;

    #[test]
    fn scores_are_those_of_scikit_learn_but_for_chance() {
        let case = &reference::known()["rows"];
        let known = reference::rows(&case["known"]);
        let forest = Forest::grow(&known.iter().map(Vec::as_slice).collect::<Vec<_>>(), &mut Noise::new(1));
        for (row, expected) in reference::rows(&case["asked"]).iter().zip(reference::numbers(&case["forest"])) {
            let told = forest.score(row);
            assert!((told - expected).abs() < 0.04, "{told} for {expected}");
        }
    }

    #[test]
    fn a_forest_of_nothing_or_of_equal_rows_says_nothing() {
        assert_eq!(Forest::default().score(&[1.0]), 0.5);
        let forest = Forest::grow(&[[1.0, 2.0].as_slice(); 9], &mut Noise::new(1));
        assert_eq!(forest.score(&[1.0, 2.0]), forest.score(&[5.0, 9.0]));
        assert_eq!(Forest::grow(&[], &mut Noise::new(1)).score(&[]), 0.5);
    }
}
