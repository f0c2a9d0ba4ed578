"""How unlikely values are on their own past."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import _native, frames
from ._native import InputError
from .progress import Progress, counter

__all__ = ["Detector", "MultivariateDetector", "RowScores", "Scores", "detect"]


@dataclass(frozen=True)
class Scores:
    """Scores of values, arrays of shape ``[values]``."""

    surprise: NDArray[np.float64]
    """``-log10`` of the tail probability: 3 means one in a thousand."""
    score: NDArray[np.float64]
    """The same in ``[0, 1)``: ``s / (s + 3)``."""
    expected: NDArray[np.float64]
    """What was expected; NaN while the series is still being learnt."""
    kind: list[str | None]
    """``spike``, ``level_shift``, ``drift``, ``variance``, ``stuck`` or ``missing``, where one stands out."""


class Detector:
    """Streaming detector of one series: fixed memory, one pass, no look-ahead.

    Parameters
    ----------
    step
        Distance between values that come without a time; a minute by default.
    """

    def __init__(self, *, step: Any = 60, start: Any = 0) -> None:
        self._detector = _native.Detector()
        self._step_ms = frames.span_ms(step)
        self._next_ms = frames.millis(start)

    def update(self, value: float, at: Any = None) -> float:
        """Scores ``value`` against what was seen before, then learns from it: its surprise. NaN is a gap."""
        time_ms = self._next_ms if at is None else frames.millis(at)
        self._next_ms = time_ms + self._step_ms
        return self._detector.update(time_ms, value)[0]

    def score(self, values: ArrayLike, times: ArrayLike | None = None) -> Scores:
        """As :meth:`update` for many values."""
        values = np.ascontiguousarray(values, dtype=np.float64)
        times_ms = _times(times, len(values), self._next_ms, self._step_ms)
        if len(times_ms):
            self._next_ms = int(times_ms[-1]) + self._step_ms
        return Scores(*self._detector.score(times_ms, values))

    def why(self) -> dict[str, Any]:
        """What the last value was measured by: level, spread, error, seasons, and the surprise of each kind."""
        told: dict[str, Any] = json.loads(self._detector.why())
        return told

    @property
    def maturity(self) -> str:
        """How much of the series is known: ``learning``, ``useful`` or ``full``."""
        return self._detector.maturity()


@dataclass(frozen=True)
class RowScores:
    """Scores of rows of several metrics."""

    surprise: NDArray[np.float64]
    """Shape ``[rows]``."""
    score: NDArray[np.float64]
    """Shape ``[rows]``, in ``[0, 1)``."""
    contributions: NDArray[np.float64]
    """Shape ``[rows, metrics]``: how much of the departure each metric carries."""


class MultivariateDetector:
    """Detector of the metrics of one node or workload together.

    Parameters
    ----------
    isolation_forest
        Judges rows by an isolation forest, for comparison; the default finds more.
    """

    def __init__(self, *, step: Any = 60, start: Any = 0, isolation_forest: bool = False) -> None:
        self._step_ms = frames.span_ms(step)
        self._next_ms = frames.millis(start)
        self._forest = isolation_forest
        self._detector: _native.RowDetector | None = None

    def fit(self, rows: ArrayLike, times: ArrayLike | None = None) -> MultivariateDetector:
        """Learns ``rows`` (shape ``[rows, metrics]``, NaN for a gap) as history."""
        matrix, times_ms = self._taken(rows, times)
        self._for(matrix).train(times_ms, matrix)
        return self

    def score(self, rows: ArrayLike, times: ArrayLike | None = None) -> RowScores:
        """Scores ``rows`` by what was seen before each, and learns from them."""
        matrix, times_ms = self._taken(rows, times)
        return RowScores(*self._for(matrix).score(times_ms, matrix))

    def contributions(self, rows: ArrayLike, times: ArrayLike | None = None) -> NDArray[np.float64]:
        """As :meth:`score`: only what each metric gave, shape ``[rows, metrics]``."""
        return self.score(rows, times).contributions

    def _taken(self, rows: ArrayLike, times: ArrayLike | None) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        matrix = np.ascontiguousarray(rows, dtype=np.float64)
        if matrix.ndim != 2:
            raise InputError(f"rows have two dimensions [rows, metrics], not {matrix.ndim}")
        times_ms = _times(times, len(matrix), self._next_ms, self._step_ms)
        if len(times_ms):
            self._next_ms = int(times_ms[-1]) + self._step_ms
        return matrix, times_ms

    def _for(self, matrix: NDArray[np.float64]) -> _native.RowDetector:
        if self._detector is None:
            self._detector = _native.RowDetector(matrix.shape[1], self._forest)
        return self._detector


def detect(data: Any, *, progress: Progress | bool | None = None) -> Any:
    """Scores every series of a long frame (``unique_id, ds, y``) by a detector of its own: a long frame of the same kind
    with ``surprise, score, expected, kind``."""
    table = frames.long(data)
    count = counter(progress, len(table.names))
    scored = []
    for times, values in zip(table.times, table.values):
        scored.append(Scores(*_native.Detector().score(times, values)))
        count()
    columns = {
        "unique_id": [name for name, times in zip(table.names, table.times) for _ in times],
        "ds": np.concatenate(table.times),
        "y": np.concatenate(table.values),
        "surprise": np.concatenate([one.surprise for one in scored]),
        "score": np.concatenate([one.score for one in scored]),
        "expected": np.concatenate([one.expected for one in scored]),
        "kind": [kind for one in scored for kind in one.kind],
    }
    return frames.build(table.kind, columns, {"ds": table.clock})


def _times(times: ArrayLike | None, count: int, start_ms: int, step_ms: int) -> NDArray[np.int64]:
    if times is None:
        return start_ms + step_ms * np.arange(count, dtype=np.int64)
    return frames._times(times if hasattr(times, "to_numpy") else np.asarray(times), "times")[0]
