//! The points of one series, put together from the places they lie in.

use bellwether_models::series::Timestamp;

use super::chunk::Point;
use crate::store::Instants;

/// Which points of a series are wanted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    /// First and last millisecond.
    pub(super) from: i64,
    pub(super) to: i64,
    /// Where these are named, nothing is wanted but the last point at or before each.
    pub(super) instants: Option<Instants>,
}

impl Window {
    /// Everything from a first to a last millisecond.
    pub(super) fn between(from: i64, to: i64) -> Self {
        Self { from, to, instants: None }
    }

    /// Whether points from `oldest` to `newest` may be wanted.
    pub(super) fn touches(&self, (oldest, newest): (i64, i64)) -> bool {
        oldest <= self.to && newest >= self.from
    }

    /// The part of ascending points that lies within.
    fn part<'p>(&self, points: &'p [Point]) -> &'p [Point] {
        let until = points.partition_point(|(at, _)| *at <= self.to);
        let since = points.partition_point(|(at, _)| *at < self.from);
        &points[since.min(until)..until]
    }
}

impl Default for Window {
    fn default() -> Self {
        Self::between(i64::MIN, i64::MAX)
    }
}

/// Points of several places in one list; nothing is copied where the places follow each other in time, as they mostly do.
#[derive(Debug, Default)]
pub(super) struct Joined {
    window: Window,
    points: Vec<Point>,
    out_of_order: bool,
    /// Where the points of a place lie of which few are wanted.
    scratch: Vec<Point>,
}

impl Joined {
    /// Will keep the points within `window`.
    pub(super) fn within(window: Window) -> Self {
        Self { window, ..Self::default() }
    }

    /// Which points are kept.
    pub(super) fn window(&self) -> Window {
        self.window
    }

    /// Has `append` add the points of the next place, ascending, and keeps those that are wanted. At equal times the place
    /// added last is right.
    pub(super) fn add<R>(&mut self, append: impl FnOnce(&mut Vec<Point>) -> R) -> R {
        let seam = self.points.len();
        let answer = match self.window.instants {
            Some(instants) => {
                self.scratch.clear();
                let answer = append(&mut self.scratch);
                put_last(self.window.part(&self.scratch), instants, &mut self.points);
                answer
            }
            None => {
                let answer = append(&mut self.points);
                self.cut(seam);
                answer
            }
        };
        if let (Some(before), Some(after)) = (seam.checked_sub(1), self.points.get(seam)) {
            self.out_of_order |= self.points[before].0 >= after.0;
        }
        answer
    }

    /// As [`Joined::add`], for points that are at hand.
    pub(super) fn add_all(&mut self, points: &[Point]) {
        self.add(|all| all.extend_from_slice(points));
    }

    /// Takes away what was added from `seam` on and is not wanted.
    fn cut(&mut self, seam: usize) {
        let Window { from, to, .. } = self.window;
        let added = &self.points[seam..];
        let until = seam + added.partition_point(|(at, _)| *at <= to);
        let since = seam + added.partition_point(|(at, _)| *at < from);
        self.points.truncate(until);
        self.points.drain(seam..since.min(until));
    }

    /// All points in ascending order of time, one for each time.
    pub(super) fn finish(mut self) -> Vec<Point> {
        if self.out_of_order {
            self.points.reverse(); // stable sort: the last place's points now come first among equals
            self.points.sort_by_key(|point| point.0);
            self.points.dedup_by_key(|point| point.0);
        }
        self.points
    }
}

/// Puts the last of `points` at or before each instant.
fn put_last(points: &[Point], instants: Instants, out: &mut Vec<Point>) {
    let (mut next, mut last) = (i64::MIN, None);
    for point in points {
        if point.0 > next {
            out.extend(last);
            next = instants.at_or_after(Timestamp::from_millis(point.0)).as_millis();
        }
        last = Some(*point);
    }
    out.extend(last);
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use bellwether_models::series::Step;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn of_places_that_overlap_the_last_is_right(
            places in prop::collection::vec(prop::collection::btree_map(0i64..60, any::<u64>(), 0..20), 0..6),
            from in -5i64..65,
            length in 0i64..70,
        ) {
            let to = from + length;
            let mut joined = Joined::within(Window::between(from, to));
            for place in &places {
                joined.add(|all| all.extend(place.iter().map(|(at, bits)| (*at, *bits))));
            }
            let expected: BTreeMap<i64, u64> = places.into_iter().flatten().filter(|(at, _)| (from..=to).contains(at)).collect();
            prop_assert_eq!(joined.finish(), expected.into_iter().collect::<Vec<_>>());
        }

        #[test]
        fn at_each_instant_the_last_point_is_the_same_whatever_else_is_left_out(
            places in prop::collection::vec(prop::collection::btree_map(0i64..60, any::<u64>(), 0..20), 0..6),
            first in -5i64..65,
            step in 1i64..20,
        ) {
            let instants = Instants { first: Timestamp::from_millis(first), step: Step::from_millis(step).unwrap() };
            let joined = |instants| {
                let mut joined = Joined::within(Window { instants, ..Window::between(5, 50) });
                places.iter().for_each(|place| joined.add(|all| all.extend(place.iter().map(|(at, bits)| (*at, *bits)))));
                joined.finish()
            };
            let (all, few) = (joined(None), joined(Some(instants)));
            let last = |points: &[Point], at: i64| points.iter().rev().find(|point| point.0 <= at).copied();
            for at in (0..20).map(|i| first + i * step) {
                prop_assert_eq!(last(&few, at), last(&all, at));
            }
            prop_assert!(few.len() <= places.len() * (60 / step as usize + 3));
        }
    }
}
