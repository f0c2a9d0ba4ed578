//! The samples not yet sealed: a few bytes each, appended in order, late ones beside them.
//!
//! All series share one arena of small cells, so that a series costs no allocation of its own and sealing gives the whole
//! of it back to the system.

use std::collections::HashMap;

use super::arena::{Arena, Chain};
use super::chunk::Point;
use super::joined::Joined;
use super::labels::SeriesId;
use super::paged::Paged;
use super::wire::{Reader, put_zigzag};

/// Unsealed samples of all series, together with the journal segments that hold the same samples.
#[derive(Debug, Default)]
pub(super) struct Head {
    /// For each series number one more than its place in `series`.
    places: Paged<u32>,
    series: Vec<HeadSeries>,
    /// Samples that came at or before the newest of their series, ascending.
    late: HashMap<SeriesId, Vec<Point>>,
    arena: Arena,
    samples: u64,
    late_bytes: u64,
    /// Where a change is put together before it joins the arena.
    scratch: Vec<u8>,
}

impl Head {
    /// Adds a sample. In order of time it costs a byte or a few; a sample at the time of an earlier one replaces it.
    pub(super) fn push(&mut self, id: SeriesId, point: Point) {
        self.samples += 1;
        let Some(place) = self.places.get(id) else {
            self.series.push(HeadSeries::new(point));
            self.places.set(id, self.series.len() as u32);
            return;
        };
        let series = &mut self.series[*place as usize - 1];
        if point.0 > series.last.0 {
            series.push(point, &mut self.arena, &mut self.scratch);
        } else {
            self.push_late(id, point);
        }
    }

    fn push_late(&mut self, id: SeriesId, point: Point) {
        let late = self.late.entry(id).or_default();
        let before = late.capacity();
        match late.binary_search_by_key(&point.0, |late| late.0) {
            Ok(at) => late[at] = point,
            Err(at) => late.insert(at, point),
        }
        self.late_bytes += ((late.capacity() - before) * size_of::<Point>()) as u64;
    }

    fn find(&self, id: SeriesId) -> Option<&HeadSeries> {
        self.series.get(*self.places.get(id)? as usize - 1)
    }

    /// Samples of a series in ascending order of time.
    pub(super) fn points(&self, id: SeriesId) -> Vec<Point> {
        let Some(series) = self.find(id) else { return Vec::new() };
        let points = series.points(&self.arena);
        let Some(late) = self.late.get(&id) else { return points };
        let mut joined = Joined::default();
        [&points, late].into_iter().for_each(|some| joined.add_all(some));
        joined.finish()
    }

    /// Time of the newest and bits of the newest sample of a series.
    pub(super) fn newest(&self, id: SeriesId) -> Option<Point> {
        let last = self.find(id)?.last;
        let late = self.late.get(&id).and_then(|late| late.last()).filter(|late| late.0 >= last.0);
        Some(late.copied().unwrap_or(last))
    }

    /// Oldest and newest time of a series.
    pub(super) fn span(&self, id: SeriesId) -> Option<(i64, i64)> {
        let series = self.find(id)?;
        let late = self.late.get(&id).and_then(|late| late.first());
        Some((late.map_or(series.first.0, |late| late.0.min(series.first.0)), series.last.0))
    }

    /// Series with samples, in order of number.
    pub(super) fn ids(&self) -> impl Iterator<Item = SeriesId> {
        self.places.iter().map(|(id, _)| id)
    }

    /// Number of series with samples.
    pub(super) fn active(&self) -> u64 {
        self.series.len() as u64
    }

    /// Number of samples.
    pub(super) fn samples(&self) -> u64 {
        self.samples
    }

    /// Memory in use, in bytes.
    pub(super) fn bytes(&self) -> u64 {
        let fixed = self.series.len() * (size_of::<HeadSeries>() + size_of::<u32>());
        fixed as u64 + self.arena.bytes() + self.late_bytes
    }
}

/// Marks a changed step with an unchanged value: no value can have seven zero bytes before eight others.
const SAME_VALUE: u8 = 0x3f;
const STEP_CHANGED: u8 = 0x40;
const CHANGED: u8 = 0x80;
const LONGEST_RUN: u8 = 0x80;

/// One series: its first sample, then for each further one either a place in a run of equal steps and values, or the
/// change of step (when there is one) and the bytes of the value that differ from the one before.
#[derive(Debug)]
struct HeadSeries {
    first: Point,
    last: Point,
    step: i64,
    codes: Chain,
    run: u8,
}

impl HeadSeries {
    fn new(first: Point) -> Self {
        Self { first, last: first, step: 0, codes: Chain::default(), run: 0 }
    }

    /// Adds a point later than the last.
    fn push(&mut self, point: Point, arena: &mut Arena, scratch: &mut Vec<u8>) {
        let step = point.0.wrapping_sub(self.last.0);
        let differing = point.1 ^ self.last.1;
        if step == self.step && differing == 0 {
            self.run += 1;
            if self.run == LONGEST_RUN {
                self.end_run(arena);
            }
        } else {
            self.end_run(arena);
            scratch.clear();
            put_change(scratch, step.wrapping_sub(self.step), differing);
            arena.append(&mut self.codes, scratch);
            self.step = step;
        }
        self.last = point;
    }

    fn end_run(&mut self, arena: &mut Arena) {
        if self.run > 0 {
            arena.append(&mut self.codes, &[self.run - 1]);
            self.run = 0;
        }
    }

    fn points(&self, arena: &Arena) -> Vec<Point> {
        let codes = arena.bytes_of(&self.codes);
        let mut points = vec![self.first];
        let mut reader = Reader::new(&codes);
        let (mut last, mut step) = (self.first, 0i64);
        while let Some(op) = reader.byte() {
            if op < CHANGED {
                repeat(&mut points, &mut last, step, op + 1);
            } else {
                let Some((turn, differing)) = take_change(&mut reader, op) else { break };
                step = step.wrapping_add(turn);
                last = (last.0.wrapping_add(step), last.1 ^ differing);
                points.push(last);
            }
        }
        repeat(&mut points, &mut last, step, self.run);
        points
    }
}

fn repeat(points: &mut Vec<Point>, last: &mut Point, step: i64, times: u8) {
    for _ in 0..times {
        last.0 = last.0.wrapping_add(step);
        points.push(*last);
    }
}

fn put_change(out: &mut Vec<u8>, turn: i64, differing: u64) {
    let turned = if turn == 0 { 0 } else { STEP_CHANGED };
    if differing == 0 {
        out.push(CHANGED | turned | SAME_VALUE);
    } else {
        let zeros_before = (differing.leading_zeros() / 8) as u8;
        let zeros_after = (differing.trailing_zeros() / 8) as u8;
        let kept = 8 - zeros_before - zeros_after;
        out.push(CHANGED | turned | zeros_before << 3 | (kept - 1));
        out.extend_from_slice(&differing.to_be_bytes()[zeros_before as usize..(zeros_before + kept) as usize]);
    }
    if turn != 0 {
        put_zigzag(out, turn);
    }
}

fn take_change(reader: &mut Reader<'_>, op: u8) -> Option<(i64, u64)> {
    let mut differing = [0; 8];
    if op & SAME_VALUE != SAME_VALUE {
        let (zeros_before, kept) = ((op >> 3 & 7) as usize, (op & 7) as usize + 1);
        differing.get_mut(zeros_before..zeros_before + kept)?.copy_from_slice(reader.take(kept)?);
    }
    let turn = if op & STEP_CHANGED == 0 { 0 } else { reader.zigzag()? };
    Some((turn, u64::from_be_bytes(differing)))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn any_point() -> impl Strategy<Value = Point> {
        let times = prop_oneof![0i64..2000, any::<i64>()];
        let values = prop_oneof![Just(1.0f64.to_bits()), (0..9u32).prop_map(|v| f64::from(v).to_bits()), any::<u64>()];
        (times, values)
    }

    proptest! {
        #[test]
        fn what_goes_in_comes_out_in_order_of_time_and_the_last_word_stays(points in prop::collection::vec(any_point(), 1..300)) {
            let mut head = Head::default();
            let mut expected = BTreeMap::new();
            for point in &points {
                head.push(3, *point);
                expected.insert(point.0, point.1);
            }
            prop_assert_eq!(head.points(3), expected.clone().into_iter().collect::<Vec<_>>());
            prop_assert_eq!(head.newest(3), expected.into_iter().next_back());
            prop_assert_eq!(head.points(2), Vec::new());
        }
    }

    #[test]
    fn a_steady_series_costs_a_byte_for_a_hundred_samples() {
        let mut head = Head::default();
        (0..=1280).for_each(|i| head.push(0, (i * 15_000, 5)));
        assert_eq!(head.points(0).len(), 1281);
        assert!(head.bytes() < 100, "{} bytes", head.bytes());
    }
}
