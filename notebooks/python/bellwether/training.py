"""Training of models, and the artefacts that the registry of a server takes."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from . import _native, frames
from ._native import InputError, Window

__all__ = ["Artefact", "train"]


@dataclass(frozen=True)
class Artefact:
    """A trained model: plain data, nothing that runs."""

    manifest: dict[str, Any]
    """Kind, parameters, training window, digest of the data, seed, scores, author and note."""
    weights: bytes | None = None
    """The network as safetensors; ``None`` for kinds that have none."""

    def save(self, path: str | Path) -> None:
        """Writes the weights to ``path`` (``.safetensors``) and the manifest beside it (``.json``)."""
        path = Path(path)
        if self.weights is not None:
            path.write_bytes(self.weights)
        path.with_suffix(".json").write_text(json.dumps(self.manifest, indent=2) + "\n")

    @classmethod
    def load(cls, path: str | Path) -> Artefact:
        """Reads what :meth:`save` wrote; weights that are no network of this version are refused."""
        path = Path(path)
        manifest = json.loads(path.with_suffix(".json").read_text())
        weights = path.read_bytes() if path.suffix != ".json" and path.is_file() else None
        if weights is not None:
            _native.check_network(weights)
        return cls(manifest, weights)

    def body(self) -> dict[str, Any]:
        """What is posted to the registry."""
        weights = None if self.weights is None else base64.b64encode(self.weights).decode()
        return {"manifest": self.manifest, "weights": weights}


def train(
    data: Any,
    *,
    batches: int = 3000,
    batch: int = 128,
    seed: int = 1,
    share: float = 1.0,
    start: Artefact | bytes | None = None,
    step: Any = None,
    progress: Callable[[int, float], object] | None = None,
) -> Artefact:
    """Trains the network behind the model ``lstm``, anew or on from one that is there.

    Parameters
    ----------
    data
        A long frame, one series, or a list of such; each frame of a list counts alike, however many series it holds.
    batches
        Batches to learn from: some thousands make a network, some dozens with ``start`` fit one to new series.
    batch
        Origins in a batch.
    seed
        The same seed and data give the same network on the same machine with ``RAYON_NUM_THREADS=1``.
    share
        Share of each series that is learnt from, counted from its beginning; the rest stays unseen for scoring.
    start
        A network to go on from.
    progress
        Hears the batches done and their mean loss.
    """
    if not 0 < share <= 1:
        raise InputError("share must lie above 0 and be at most 1")
    several = isinstance(data, (list, tuple)) and len(data) > 0 and not np.isscalar(data[0])
    sources = [_source(one, step) for one in (data if several else [data])]
    learnt = [[window.first(int(len(window) * share)) for window in source] for source in sources]
    before = start.weights if isinstance(start, Artefact) else start
    weights = _native.train(learnt, batches, batch, seed, before, progress)
    windows = [window for source in learnt for window in source]
    manifest = {
        "schema": 1,
        "kind": "lstm",
        "parameters": {},
        "trained": _trained(windows),
        "data_sha256": _digest(windows),
        "seed": seed,
    }
    return Artefact(manifest, weights)


def _source(data: Any, step: Any) -> list[Window]:
    if not frames.is_frame(data):
        return [frames.window(data, step)]
    table = frames.long(data)
    step_ms = None if step is None else frames.span_ms(step)
    return [Window.from_rows(times, values, step_ms) for times, values in zip(table.times, table.values)]


def _trained(windows: list[Window]) -> dict[str, int]:
    ends = [window.start_ms + window.step_ms * len(window) for window in windows]
    return {"from": min(window.start_ms for window in windows), "to": max(ends), "step": windows[0].step_ms}


def _digest(windows: list[Window]) -> str:
    digest = hashlib.sha256()
    for window in windows:
        digest.update(f"{window.start_ms} {window.step_ms} {len(window)}\n".encode())
        digest.update(window.values.astype("<f8").tobytes())
    return digest.hexdigest()
