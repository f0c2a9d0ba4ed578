//! The points of one series, put together from the places they lie in.

use super::chunk::Point;

/// Points of several places in one list; nothing is copied where the places follow each other in time, as they mostly do.
#[derive(Debug, Default)]
pub(super) struct Joined {
    points: Vec<Point>,
    out_of_order: bool,
}

impl Joined {
    /// Has `append` add the points of the next place, ascending, and keeps those within a closed range. At equal times the
    /// place added last is right.
    pub(super) fn add<R>(&mut self, from: i64, to: i64, append: impl FnOnce(&mut Vec<Point>) -> R) -> R {
        let seam = self.points.len();
        let answer = append(&mut self.points);
        let added = &self.points[seam..];
        let until = seam + added.partition_point(|(at, _)| *at <= to);
        let since = seam + added.partition_point(|(at, _)| *at < from);
        self.points.truncate(until);
        self.points.drain(seam..since.min(until));
        if let (Some(before), Some(after)) = (seam.checked_sub(1), self.points.get(seam)) {
            self.out_of_order |= self.points[before].0 >= after.0;
        }
        answer
    }

    /// As [`Joined::add`], for all points that are at hand.
    pub(super) fn add_all(&mut self, points: &[Point]) {
        self.add(i64::MIN, i64::MAX, |all| all.extend_from_slice(points));
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

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
            let mut joined = Joined::default();
            for place in &places {
                joined.add(from, to, |all| all.extend(place.iter().map(|(at, bits)| (*at, *bits))));
            }
            let expected: BTreeMap<i64, u64> = places.into_iter().flatten().filter(|(at, _)| (from..=to).contains(at)).collect();
            prop_assert_eq!(joined.finish(), expected.into_iter().collect::<Vec<_>>());
        }
    }
}
