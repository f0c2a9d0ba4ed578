"""Forecasts with calibrated quantiles, and their replay."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import _native, frames
from ._native import FitError, Forecast, InputError, Window
from .artefact import Model, native
from .progress import Progress, counter

__all__ = ["Backtest", "Forecast", "Forecaster", "backtest", "forecast"]

QUANTILES = (0.1, 0.5, 0.9, 0.95)


def _seasons(season: Any, step_ms: int) -> list[int]:
    if season is None:
        return []
    several = season if isinstance(season, (list, tuple)) else [season]
    return [frames.steps(one, step_ms) for one in several]


class Forecaster:
    """A model that learns a series and foretells it.

    Parameters
    ----------
    model
        ``"automatic"`` (the combination that runs live), ``"light"``, ``"thorough"``, one of :func:`models`, or
        ``"without_NAME"``; or an :class:`Artefact` that was trained.
    season
        Lengths of the seasons in steps or as durations; found in the data when left out.
    horizon
        How far ahead the forecasts will look, in steps or as a duration; further is possible, less precisely.

    Examples
    --------
    >>> import numpy as np
    >>> y = 50 + 10 * np.sin(np.arange(480) / 24 * 2 * np.pi)
    >>> Forecaster("seasonal_naive", season=24).fit(y).predict(2).mean.round(3)
    array([50.   , 52.588])
    """

    def __init__(self, model: Model = "automatic", *, season: Any = None, horizon: Any = 24) -> None:
        self.model = model
        self.season = season
        self.horizon = horizon
        self._fitted: _native.Fitted | None = None

    def fit(self, y: ArrayLike | Window, *, step: Any = None, start: Any = 0) -> Forecaster:
        """Learns ``y`` (shape ``[points]``, NaN for a gap; ``step`` apart, a minute when left out).

        Raises
        ------
        FitError
            When the history is too short, too sparse or beyond the model; the text says which.
        """
        window = frames.window(y, step, start)
        self._fitted = _native.fit(
            window, native(self.model), frames.steps(self.horizon, window.step_ms), _seasons(self.season, window.step_ms)
        )
        return self

    def predict(self, h: int | None = None, quantiles: Sequence[float] | None = None) -> Forecast:
        """The distribution of the next ``h`` steps (as many as ``horizon`` says when left out): ``mean`` of shape ``[h]``,
        ``quantiles`` of shape ``[levels, h]``."""
        return self._known().predict(h, None if quantiles is None else list(quantiles))

    def update(self, y: ArrayLike) -> Forecaster:
        """Takes in the next points of the grid, NaN for a gap, without fitting anew."""
        self._known().update(np.atleast_1d(np.asarray(y, dtype=np.float64)))
        return self

    @property
    def periods_(self) -> list[int]:
        """Seasons in use, in steps."""
        return self._known().periods()

    @property
    def shares_(self) -> dict[str, float]:
        """The share of each member in the forecast."""
        return dict(self._known().shares())

    @property
    def scores_(self) -> dict[str, float]:
        """Pinball loss of each member in the replay of its history, that of seasonal naive being 1; best first."""
        return dict(self._known().scores())

    def _known(self) -> _native.Fitted:
        if self._fitted is None:
            raise InputError("this forecaster has learnt nothing yet; call fit first")
        return self._fitted


def forecast(
    data: Any,
    horizon: Any,
    *,
    step: Any = None,
    start: Any = 0,
    season: Any = None,
    quantiles: Sequence[float] = QUANTILES,
    model: Model = "automatic",
    jobs: int = 1,
    progress: Progress | bool | None = None,
) -> Any:
    """Forecasts one series, or each of a long frame.

    Parameters
    ----------
    data
        A long frame (``unique_id, ds, y``), or one series: an array on a regular grid, or a pandas series indexed by time.
    horizon
        How far ahead, in steps or as a duration such as ``"1h"``.
    step
        Distance between points, as seconds, a text such as ``"5m"`` or a timedelta. Found in frames when left out; a
        minute for arrays.
    start
        Time of the first point of an array.
    season
        Lengths of the seasons in steps or as durations; found in the data when left out.
    quantiles
        Probabilities at which the distribution is read.
    model
        As for :class:`Forecaster`.
    jobs
        Series that are computed at once; computing leaves Python to other threads.
    progress
        ``True`` for a bar, or a function that hears ``(done, all)``.

    Returns
    -------
    A :class:`Forecast` for one series; for a frame a long frame of the same kind: ``unique_id, ds, mean`` and one column a
    quantile, named ``p50`` for 0.5.

    Raises
    ------
    FitError, InputError
        With the words of the program; for a frame the series is named.
    """

    method = native(model)

    def one(window: Window) -> Forecast:
        seasons = _seasons(season, window.step_ms)
        fitted = _native.fit(window, method, frames.steps(horizon, window.step_ms), seasons)
        return fitted.predict(None, list(quantiles))

    if not frames.is_frame(data):
        return one(frames.window(data, step, start))
    table = frames.long(data)
    count = counter(progress, len(table.names))
    step_ms = None if step is None else frames.span_ms(step)

    def of(index: int) -> Forecast:
        with _named(table.names[index]):
            made = one(Window.from_rows(table.times[index], table.values[index], step_ms))
        count()
        return made

    made = _each(of, len(table.names), jobs)
    columns: dict[str, Any] = {
        "unique_id": np.repeat(np.array(table.names, dtype=object), [len(f.mean) for f in made]),
        "ds": np.concatenate([f.times_ms for f in made]),
        "mean": np.concatenate([f.mean for f in made]),
    }
    for row, level in enumerate(made[0].levels):
        columns[f"p{round(100 * level, 6):g}"] = np.concatenate([f.quantiles[row] for f in made])
    columns["unique_id"] = columns["unique_id"].tolist()
    return frames.build(table.kind, columns, {"ds": table.clock})


class _named:
    """Names the series in what is raised."""

    def __init__(self, name: Any) -> None:
        self.name = name

    def __enter__(self) -> None: ...

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if isinstance(error, (FitError, InputError)):
            raise type(error)(f"series {self.name!r}: {error}") from error


def _each(work: Any, count: int, jobs: int) -> list[Any]:
    if jobs <= 1:
        return [work(index) for index in range(count)]
    with ThreadPoolExecutor(jobs) as pool:
        return list(pool.map(work, range(count)))


@dataclass(frozen=True)
class Backtest:
    """What a replay gave."""

    scores: list[dict[str, Any]]
    """One line a model: ``model, mase, wql, pinball, coverage_p95, least_coverage_p95, margin_p95, forecasts, refused``. MASE and
    WQL are geometric means over the series; coverage is the share of points at or below the 95 % quantile."""
    forecasts: dict[tuple[str, Any], list[tuple[int, Forecast]]]
    """By model and series: the origins, counted in points known, and the forecasts made there."""
    actual: dict[Any, NDArray[np.float64]] = field(repr=False)
    """By series: the values on their grid."""
    refused: list[tuple[str, Any, int, str]]
    """Model, series, origin and reason of each forecast that could not be made."""

    def to_pandas(self) -> Any:
        """The scores as a frame of pandas."""
        import pandas

        return pandas.DataFrame(self.scores).set_index("model")

    def calibration(self, model: str) -> list[tuple[float, float]]:
        """For each quantile of the forecasts of ``model``: its probability, and the share of points at or below it."""
        below: dict[float, list[int]] = {}
        for (name, series), made in self.forecasts.items():
            if name != model:
                continue
            for origin, forecast in made:
                actual = self.actual[series][origin : origin + len(forecast.mean)]
                seen = np.isfinite(actual)
                for level, path in zip(forecast.levels, forecast.quantiles):
                    told = below.setdefault(level, [0, 0])
                    told[0] += int((actual <= path[: len(actual)])[seen].sum())
                    told[1] += int(seen.sum())
        return [(level, hits / points) for level, (hits, points) in sorted(below.items()) if points]


def backtest(
    data: Any,
    horizon: Any,
    *,
    models: Sequence[str] | Mapping[str, Model] = ("automatic", "seasonal_naive", "naive"),
    origins: int | Sequence[int] = 10,
    stride: Any = None,
    context: int | None = None,
    season: Any = None,
    step: Any = None,
    start: Any = 0,
    progress: Progress | bool | None = None,
) -> Backtest:
    """Forecasts at past origins, seeing only what was known then, and scores what was said.

    Parameters
    ----------
    data
        As for :func:`forecast`.
    horizon
        Steps ahead, or a duration.
    models
        Models to score: names, or models by a name of one's own.
    origins
        How many, counted from the end of each series, or the numbers of points known at each.
    stride
        Distance between origins; the horizon when left out.
    context
        Newest points a fit may see; all when left out.
    season, step, start, progress
        As for :func:`forecast`; progress counts forecasts.
    """
    step_ms = None if step is None else frames.span_ms(step)
    if frames.is_frame(data):
        table = frames.long(data)
        series = {
            name: Window.from_rows(times, values, step_ms)
            for name, times, values in zip(table.names, table.times, table.values)
        }
    else:
        series = {"y": frames.window(data, step, start)}
    if isinstance(origins, int) and origins < 1:
        raise InputError("origins must be at least 1: without an origin there is nothing to score")
    tasks = [(name, window, *_plan(window, horizon, origins, stride, season)) for name, window in series.items()]
    count = counter(progress, len(models) * sum(len(known) for _, _, _, known, _ in tasks))
    scores: list[dict[str, Any]] = []
    made: dict[tuple[str, Any], list[tuple[int, Forecast]]] = {}
    refused: list[tuple[str, Any, int, str]] = []
    named = models if isinstance(models, Mapping) else {model: model for model in models}
    for model, made_of in named.items():
        board = _native.Board(native(made_of))
        for name, window, ahead, known, seasons in tasks:
            for origin, forecast, reason in board.play(window, seasons, known, context, ahead, count):
                if forecast is not None:
                    made.setdefault((model, name), []).append((origin, forecast))
                else:
                    refused.append((model, name, origin, reason or ""))
        scores.append({**board.summary(), "model": model})
    return Backtest(scores, made, {name: window.values for name, window in series.items()}, refused)


def _plan(
    window: Window, horizon: Any, origins: int | Sequence[int], stride: Any, season: Any
) -> tuple[int, list[int], list[int]]:
    ahead = frames.steps(horizon, window.step_ms)
    seasons = _seasons(season, window.step_ms)
    if not isinstance(origins, int):
        return ahead, list(origins), seasons
    apart = ahead if stride is None else frames.steps(stride, window.step_ms)
    return ahead, _native.last_origins(len(window), origins, apart, ahead), seasons
