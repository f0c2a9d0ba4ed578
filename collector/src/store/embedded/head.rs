//! The samples not yet sealed: a few bytes each, appended in order, late ones beside them.

use super::chunk::Point;
use super::labels::SeriesId;
use super::wire::{Reader, put_zigzag};

/// Unsealed samples of all series, together with the journal segments that hold the same samples.
#[derive(Debug, Default)]
pub(super) struct Head {
    series: Vec<Option<Box<HeadSeries>>>,
    active: u64,
    samples: u64,
    bytes: u64,
}

impl Head {
    /// Adds a sample. In order of time it costs a byte or a few; a sample at the time of an earlier one replaces it.
    pub(super) fn push(&mut self, id: SeriesId, point: Point) {
        if self.series.len() <= id as usize {
            self.series.resize_with(id as usize + 1, || None);
        }
        let slot = &mut self.series[id as usize];
        self.samples += 1;
        if let Some(series) = slot {
            let before = series.size();
            series.push(point);
            self.bytes += (series.size() - before) as u64;
        } else {
            let series = slot.insert(Box::new(HeadSeries::new(point)));
            self.active += 1;
            self.bytes += (series.size() + size_of::<HeadSeries>()) as u64;
        }
    }

    /// Samples of a series in ascending order of time.
    pub(super) fn points(&self, id: SeriesId) -> Vec<Point> {
        self.series.get(id as usize).and_then(Option::as_ref).map_or_else(Vec::new, |series| series.points())
    }

    /// Time of the newest and bits of the newest sample of a series.
    pub(super) fn newest(&self, id: SeriesId) -> Option<Point> {
        self.series.get(id as usize)?.as_ref().map(|series| series.newest())
    }

    /// Oldest and newest time of a series.
    pub(super) fn span(&self, id: SeriesId) -> Option<(i64, i64)> {
        let series = self.series.get(id as usize)?.as_ref()?;
        let oldest = series.late.first().map_or(series.first.0, |late| late.0.min(series.first.0));
        Some((oldest, series.newest().0))
    }

    /// Series with samples, in order of number.
    pub(super) fn ids(&self) -> impl Iterator<Item = SeriesId> {
        (0u32..).zip(&self.series).filter(|(_, slot)| slot.is_some()).map(|(id, _)| id)
    }

    /// Number of series with samples.
    pub(super) fn active(&self) -> u64 {
        self.active
    }

    /// Number of samples.
    pub(super) fn samples(&self) -> u64 {
        self.samples
    }

    /// Memory in use, in bytes.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
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
    bytes: Vec<u8>,
    run: u8,
    late: Vec<Point>,
}

impl HeadSeries {
    fn new(first: Point) -> Self {
        Self { first, last: first, step: 0, bytes: Vec::new(), run: 0, late: Vec::new() }
    }

    fn size(&self) -> usize {
        self.bytes.capacity() + self.late.capacity() * size_of::<Point>()
    }

    fn push(&mut self, point: Point) {
        if point.0 > self.last.0 {
            self.push_in_order(point);
        } else {
            match self.late.binary_search_by_key(&point.0, |late| late.0) {
                Ok(at) => self.late[at] = point,
                Err(at) => self.late.insert(at, point),
            }
        }
    }

    fn push_in_order(&mut self, point: Point) {
        let step = point.0.wrapping_sub(self.last.0);
        let differing = point.1 ^ self.last.1;
        if step == self.step && differing == 0 {
            self.run += 1;
            if self.run == LONGEST_RUN {
                self.end_run();
            }
        } else {
            self.end_run();
            self.grow();
            put_change(&mut self.bytes, step.wrapping_sub(self.step), differing);
            self.step = step;
        }
        self.last = point;
    }

    /// Grows by half rather than to the double: most of the engine's memory lies here.
    fn grow(&mut self) {
        if self.bytes.capacity() - self.bytes.len() < 12 {
            self.bytes.reserve_exact(24 + self.bytes.len() / 4);
        }
    }

    fn end_run(&mut self) {
        if self.run > 0 {
            self.bytes.push(self.run - 1);
            self.run = 0;
        }
    }

    fn newest(&self) -> Point {
        match self.late.last() {
            Some(late) if late.0 >= self.last.0 => *late,
            _ => self.last,
        }
    }

    fn points(&self) -> Vec<Point> {
        let mut points = vec![self.first];
        let mut reader = Reader::new(&self.bytes);
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
        if self.late.is_empty() { points } else { merge(vec![points, self.late.clone()]) }
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

/// Joins runs of points, each ascending, into one; where several have a point at one time, the last run's stays.
pub(super) fn merge(mut runs: Vec<Vec<Point>>) -> Vec<Point> {
    runs.retain(|run| !run.is_empty());
    let in_order = runs.windows(2).all(|pair| pair[0].last().map(|p| p.0) < pair[1].first().map(|p| p.0));
    let mut all = runs.concat();
    if !in_order {
        all.reverse(); // stable sort: the last run's points now come first among equals
        all.sort_by_key(|point| point.0);
        all.dedup_by_key(|point| point.0);
    }
    all
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
        let mut series = HeadSeries::new((0, 5));
        (1..=1280).for_each(|i| series.push((i * 15_000, 5)));
        assert!(series.bytes.len() < 20, "{} bytes", series.bytes.len());
        assert_eq!(series.points().len(), 1281);
    }
}
