//! Paths of members that are dear: asked for anew now and then, carried on in between.

use serde::{Deserialize, Serialize};

use super::member::Member;
use super::point::Path;

/// Looks at a dear member while a history is replayed: as many as errors are kept.
const LOOKS: usize = 300;
/// Most points between two looks at a dear member live.
const LIVE: usize = 8;

/// What dear members said last, and how long ago.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Held {
    /// Points from one look to the next; one where no member is dear.
    every: usize,
    /// Points since the last look; `None` before the first.
    age: Option<usize>,
    /// One for each member; empty where it is not dear.
    paths: Vec<Vec<f64>>,
}

impl Held {
    /// For the replay of so many points.
    pub(super) fn replay(members: &[Member], points: usize) -> Self {
        Self::every_so_often(members, points.div_ceil(LOOKS).max(1))
    }

    /// For points that come one by one: at least two looks within the `horizon`, so that bounds are checked at each point.
    pub(super) fn live(members: &[Member], horizon: usize) -> Self {
        Self::every_so_often(members, horizon.div_ceil(2).min(LIVE))
    }

    fn every_so_often(members: &[Member], every: usize) -> Self {
        let every = if members.iter().any(Path::is_dear) { every } else { 1 };
        Self { every, age: None, paths: vec![Vec::new(); members.len()] }
    }

    /// How many points one look stands for.
    pub(super) fn every(&self) -> usize {
        self.every
    }

    /// Has every member asked anew at the next point.
    pub(super) fn let_go(&mut self) {
        self.age = None;
    }

    /// The path of each member from the newest value of `past` on, and whether all of them were asked anew. Where they were
    /// not, it has one step, and a path that is held starts where it has come to, moved to the newest value.
    pub(super) fn paths(&mut self, members: &[Member], past: &[f64], horizon: usize) -> (Vec<Vec<f64>>, bool) {
        self.age = self.age.map(|age| age + 1).filter(|age| *age < self.every);
        let Some(age) = self.age else {
            self.age = Some(0);
            return (
                members.iter().zip(&mut self.paths).map(|(m, held)| ask(m, past, horizon, self.every, held)).collect(),
                true,
            );
        };
        let last = past.last().copied().unwrap_or(0.0);
        let carried = |(member, held): (&Member, &Vec<f64>)| match held.get(age - 1) {
            Some(expected) => held[age..].iter().take(1).map(|v| v + last - expected).collect(),
            None => member.path(past, 1),
        };
        (members.iter().zip(&self.paths).map(carried).collect(), false)
    }
}

/// The path of a member; one that is dear says a little more, which is held.
fn ask(member: &Member, past: &[f64], horizon: usize, every: usize, held: &mut Vec<f64>) -> Vec<f64> {
    if !member.is_dear() || every < 2 {
        return member.path(past, horizon);
    }
    *held = member.path(past, horizon + every - 1);
    held[..horizon].to_vec()
}

#[cfg(all(test, feature = "neural"))]
mod tests {
    use super::*;
    use crate::forecast::naive::LastValue;
    use crate::forecast::neural::Lstm;

    fn wave(n: usize) -> Vec<f64> {
        (0..n).map(|i| (i as f64 / 24.0 * std::f64::consts::TAU).sin() * 10.0 + 50.0).collect()
    }

    #[test]
    fn between_two_looks_a_path_goes_on_from_the_newest_value() {
        let y = wave(440);
        let members =
            [Member::Naive(LastValue), Member::Lstm(Lstm::fit(&y[..400], &[24]).expect("long enough to be shown"))];
        let mut held = Held::live(&members, 12);
        assert!(held.paths(&members, &y[..400], 12).1, "the first look is at all members");
        for n in 401..406 {
            let (paths, fresh) = held.paths(&members, &y[..n], 12);
            assert!(!fresh && paths[1].len() == 1 && paths[0] == [y[n - 1]]);
            assert!(paths[1].iter().zip(&y[n..]).all(|(a, b)| (a - b).abs() < 4.0), "{n}: {:?}", paths[1]);
        }
        assert!(held.paths(&members, &y[..406], 12).1);
        held.let_go();
        assert!(held.paths(&members, &y[..407], 12).1);
    }

    #[test]
    fn members_that_cost_little_are_asked_every_time() {
        let members = [Member::Naive(LastValue)];
        for mut held in [Held::live(&members, 12), Held::replay(&members, 5000)] {
            assert_eq!(held.every(), 1);
            assert!((1..9).all(|n| held.paths(&members, &wave(n), 3).1));
        }
    }
}
