"""What broke first."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from . import _native, frames
from ._native import InputError

__all__ = ["Case", "Cause", "Ranking", "rank", "read_case"]


@dataclass(frozen=True)
class Cause:
    """One suspected service, with what speaks for it."""

    service: str
    metric: str
    """Its most telling metric."""
    score: float
    """Comparable only within one ranking."""
    evidence: list[dict[str, Any]]
    summary: str
    """The evidence as one sentence."""
    doubt: str
    """What would speak against it; empty when nothing stands out."""


@dataclass(frozen=True)
class Ranking:
    """Suspects, best first."""

    causes: list[Cause]
    """One a service."""
    columns: list[tuple[str, float]]
    """Every column with its score."""
    confidence: float
    """Probability that the first cause is the true one."""
    abstained: str | None
    """Why the ranker would rather not say, when it abstains."""
    onset_ms: int | None
    """When the incident began, milliseconds."""

    @property
    def services(self) -> list[str]:
        """The services alone."""
        return [cause.service for cause in self.causes]


def rank(
    table: Any,
    *,
    onset: Any = None,
    alarm: Any = None,
    symptom: str | None = None,
    topology: Any = (),
    changes: Iterable[tuple[str, str, Any]] = (),
    time: str | None = None,
) -> Ranking:
    """Ranks the causes of an incident.

    Parameters
    ----------
    table
        A wide table whose first column is the time, each other column ``<service>_<metric>``: a frame of pandas, polars or
        Arrow, or a mapping of names to arrays. Gaps are NaN.
    onset
        When the incident began; found before ``alarm`` when left out.
    alarm
        When the alarm was raised.
    symptom
        The column that raised it.
    topology
        Who calls whom: pairs ``(caller, callee)``, or a frame with two columns.
    changes
        Deploys and the like: ``(service, kind, time)``.

    Examples
    --------
    >>> import numpy as np
    >>> quiet, broken = [1, 1.1, 0.9, 1], [9, 9.1, 9]
    >>> table = {"time": np.arange(7) * 10, "db_cpu": quiet + broken, "web_cpu": quiet + [1.1, 1, 0.9]}
    >>> rank(table, onset=40).services[0]
    'db'
    """
    data = frames.wide(table, time)
    text, onset_ms = _native.rank(
        data.times,
        data.names,
        data.columns,
        None if onset is None else frames.millis(onset),
        None if alarm is None else frames.millis(alarm),
        symptom,
        _pairs(topology),
        [(service, kind, frames.millis(at)) for service, kind, at in changes],
    )
    told = json.loads(text)
    return Ranking(
        [Cause(**cause) for cause in told["causes"]],
        [(data.names[index], score) for index, score in told["metrics"]],
        told["confidence"],
        told["abstained"],
        onset_ms,
    )


def _pairs(topology: Any) -> list[tuple[str, str]]:
    if frames.is_frame(topology):
        columns = topology.to_dict("list") if hasattr(topology, "iloc") else topology.to_pydict() if hasattr(
            topology, "to_pydict"
        ) else topology.to_dict(as_series=False)
        first, second = list(columns.values())[:2]
        return list(zip(first, second))
    return [(str(caller), str(callee)) for caller, callee in topology]


@dataclass(frozen=True)
class Case:
    """A labelled incident, as ``bellwether export --cases`` writes it."""

    name: str
    table: dict[str, np.ndarray]
    """The column ``time`` (Unix seconds), then one column ``<service>_<metric>``."""
    onset: float
    """When the fault was injected or the incident began, Unix seconds."""
    symptom: str | None
    topology: list[tuple[str, str]]
    cause: dict[str, Any] | None
    """What people named as the cause; the ranker never sees it."""

    def rank(self, *, alarm: Any = None) -> Ranking:
        """Ranks its causes from the known onset, or from one that is found before ``alarm``."""
        symptom = self.symptom if self.symptom in self.table else None
        onset = self.onset if alarm is None else None
        return rank(self.table, onset=onset, alarm=alarm, symptom=symptom, topology=self.topology)


def read_case(folder: str | Path) -> Case:
    """Reads a folder with ``metrics.csv`` (or ``.csv.gz``), ``inject_time.txt`` and, where they are, ``symptom.txt``,
    ``topology.csv`` and ``root_cause.json``."""
    folder = Path(folder)
    paths = [folder / name for name in ("metrics.csv.gz", "metrics.csv") if (folder / name).is_file()]
    if not paths:
        raise InputError(f"{folder}: there is neither metrics.csv.gz nor metrics.csv")
    data = paths[0].read_bytes()
    text = (gzip.decompress(data) if paths[0].suffix == ".gz" else data).decode()
    header, *rows = csv.reader(io.StringIO(text))
    columns = [np.array([_number(row[at]) for row in rows]) for at in range(len(header))]
    onset = _text(folder / "inject_time.txt")
    if onset is None:
        raise InputError(f"{folder}: inject_time.txt is missing")
    calls = _text(folder / "topology.csv")
    cause = _text(folder / "root_cause.json")
    return Case(
        folder.name,
        dict(zip(["time", *header[1:]], columns)),
        float(onset),
        _text(folder / "symptom.txt"),
        [(row[0], row[1]) for row in list(csv.reader(io.StringIO(calls or "")))[1:]],
        json.loads(cause) if cause else None,
    )


def _number(cell: str) -> float:
    cell = cell.strip()
    return float("nan") if not cell or cell.lower() in ("nan", "null", "na") else float(cell)


def _text(path: Path) -> str | None:
    return (path.read_text().strip() or None) if path.is_file() else None
