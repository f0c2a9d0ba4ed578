"""Training of models, and the artefacts that the registry of a server takes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from . import _native, frames
from ._native import InputError, Window
from .artefact import Artefact
from .forecasting import backtest

__all__ = ["scored", "search_arima", "train"]


def train(
    data: Any,
    *,
    batches: int = 120,
    batch: int = 128,
    seed: int = 1,
    patience: int = 5,
    share: float = 1.0,
    start: Artefact | bytes | Literal["pretrained"] | None = "pretrained",
    step: Any = None,
    progress: Callable[[int, float], object] | None = None,
) -> Artefact:
    """Trains the network behind the model ``lstm``, anew or on from one that is there.

    Parameters
    ----------
    data
        A long frame, one series, or a list of such; each frame of a list counts alike, however many series it holds.
    batches
        Batches to learn from: some dozens fit a trained network to new series, some thousands make one of fresh weights.
    batch
        Origins in a batch.
    seed
        The same seed and data give the same network on the same machine with ``RAYON_NUM_THREADS=1``.
    patience
        Looks, of twenty on the whole way, at a part of each series that is held out; after so many in vain learning stops.
    share
        Share of each series that is learnt from, counted from its beginning; the rest stays unseen for scoring.
    start
        A network to go on from: the one that comes with the program, one of your own, or ``None`` for fresh weights.
    progress
        Hears the batches done and their mean loss.
    """
    if not 0 < share <= 1:
        raise InputError("share must lie above 0 and be at most 1")
    several = isinstance(data, (list, tuple)) and len(data) > 0 and not np.isscalar(data[0])
    sources = [_source(one, step) for one in (data if several else [data])]
    learnt = [[window.first(int(len(window) * share)) for window in source] for source in sources]
    before = _native.pretrained() if start == "pretrained" else start.weights if isinstance(start, Artefact) else start
    weights = _native.train(learnt, batches, batch, seed, patience, before, progress)
    windows = [window for source in learnt for window in source]
    return Artefact({**_manifest("lstm", windows), "seed": seed}, weights)


def search_arima(data: Any, *, seasonal: bool = False, season: Any = None, step: Any = None, start: Any = 0) -> Artefact:
    """Searches the orders of an ARIMA: differences by the KPSS test, terms by AICc. Coefficients are fitted anew by whoever
    forecasts with it.

    Parameters
    ----------
    data
        One series.
    seasonal
        Whether seasonal terms are looked for, with seasons of up to 24 steps.
    season, step, start
        As for :func:`bellwether.forecast`.
    """
    window = frames.window(data, step, start)
    seasons = [] if season is None else [frames.steps(season, window.step_ms)]
    fitted = _native.fit(window, _native.Model("sarima" if seasonal else "arima"), 1, seasons)
    orders = json.loads(fitted.arima_orders() or "null")
    if orders is None:
        raise InputError("the history is too short for an ARIMA")
    manifest = _manifest("arima", [window])
    return Artefact({**manifest, "parameters": {"seasons": fitted.periods() or None, "orders": orders}})


def scored(artefact: Artefact, data: Any, horizon: Any, *, origins: int = 24, **given: Any) -> Artefact:
    """The artefact with its scores of a replay on ``data``, which it should not have been trained on."""
    replay = backtest(data, horizon, models={"it": artefact}, origins=origins, **given)
    (told,), made = replay.scores, replay.forecasts.get(("it", "y"), [])
    scores = {
        "pinball": told["pinball"],
        "mase": told["mase"],
        "coverage_p95": told["coverage_p95"],
        "origins": told["forecasts"],
        "horizon": len(made[0][1].mean) if made else 0,
    }
    sound = all(value is not None for value in scores.values()) and made
    return Artefact({**artefact.manifest, "scores": scores if sound else None}, artefact.weights)


def _manifest(kind: str, windows: list[Window]) -> dict[str, Any]:
    return {
        "schema": 1,
        "kind": kind,
        "parameters": {},
        "trained": _trained(windows),
        "data_sha256": _digest(windows),
        "code_version": _native.VERSION,
    }


def _source(data: Any, step: Any) -> list[Window]:
    if not frames.is_frame(data):
        return [frames.window(data, step)]
    table = frames.long(data)
    step_ms = None if step is None else frames.span_ms(step)
    return [Window.from_rows(times, values, step_ms) for times, values in zip(table.times, table.values)]


def _trained(windows: list[Window]) -> dict[str, int]:
    ends = [window.start_ms + window.step_ms * (len(window) - 1) for window in windows]
    return {"from": min(window.start_ms for window in windows), "to": max(ends), "step": windows[0].step_ms}


def _digest(windows: list[Window]) -> str:
    digest = hashlib.sha256()
    for window in windows:
        digest.update(f"{window.start_ms} {window.step_ms} {len(window)}\n".encode())
        digest.update(window.values.astype("<f8").tobytes())
    return digest.hexdigest()
