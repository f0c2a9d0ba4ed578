//! The instants at which a query is evaluated. All times are milliseconds since the epoch; arithmetic saturates.

use std::time::Duration;

/// `len` instants from `first`, `step` apart; at least one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Grid {
    pub first: i64,
    pub step: i64,
    pub len: usize,
}

impl Grid {
    pub fn instant(at: i64) -> Self {
        Self { first: at, step: 1, len: 1 }
    }

    /// From `first` to the last instant that is not after `last`; `None` when `last` lies before `first`.
    pub fn between(first: i64, last: i64, step: i64) -> Option<Self> {
        let span = u64::try_from(last.checked_sub(first)?).ok()?;
        let steps = span / u64::try_from(step.max(1)).ok()?;
        Some(Self { first, step: step.max(1), len: usize::try_from(steps).ok()?.saturating_add(1) })
    }

    pub fn time(&self, index: usize) -> i64 {
        let index = i64::try_from(index).unwrap_or(i64::MAX);
        self.first.saturating_add(self.step.saturating_mul(index))
    }

    pub fn last(&self) -> i64 {
        self.time(self.len - 1)
    }

    pub fn times(&self) -> impl Iterator<Item = i64> {
        let grid = *self;
        (0..grid.len).map(move |index| grid.time(index))
    }

    pub fn only_first(&self) -> Self {
        Self { len: 1, ..*self }
    }
}

/// Which instant a selector reads at a given step: the step's own, or a fixed one (`@`), moved back by `offset`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct When {
    pub at: Option<i64>,
    pub offset: i64,
}

impl When {
    pub fn of(&self, time: i64) -> i64 {
        self.at.unwrap_or(time).saturating_sub(self.offset)
    }
}

/// The grid on which the inside of a subquery is evaluated, aligned to multiples of its step so that neighbouring steps
/// of the outer query share points. `None` when no point falls into the range.
pub(super) fn subquery_grid(outer: Grid, when: When, range: i64, step: i64) -> Option<Grid> {
    let (from, to) = (when.of(outer.first).saturating_sub(range), when.of(outer.last()));
    let mut first = from - from % step;
    if first < from {
        first = first.saturating_add(step);
    }
    Grid::between(first, to, step)
}

/// Whole milliseconds, saturating.
pub(super) fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
