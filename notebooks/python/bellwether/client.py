"""A running server: what it knows as data frames, and its registry of models. The standard library does the talking."""

from __future__ import annotations

import json
import os
import urllib.error
import urllib.parse
import urllib.request
from typing import Any, BinaryIO

import numpy as np

from . import frames
from ._native import InputError
from .artefact import Artefact
from .causes import Case

__all__ = ["Bellwether", "RequestError", "connect"]

MOST_POINTS = 10_000
"""Points of a series asked for at once; servers give 11,000 unless told otherwise."""


class RequestError(RuntimeError):
    """A server could not be reached or refused; the text is its own."""

    def __init__(self, text: str, status: int | None = None) -> None:
        super().__init__(text)
        self.status = status
        """The HTTP status; ``None`` when the server was not reached."""


def connect(url: str | None = None, *, token: str | None = None, timeout: float = 60.0) -> Bellwether:
    """Connects to a running server.

    Parameters
    ----------
    url
        Its address; ``BELLWETHER_URL`` when left out, or ``http://127.0.0.1:9494``.
    token
        The bearer token, where the server asks for one; the content of the file that ``BELLWETHER_TOKEN_FILE`` names when
        left out.
    timeout
        Seconds that an answer may take.
    """
    file = os.environ.get("BELLWETHER_TOKEN_FILE")
    if token is None and file:
        with open(file) as opened:
            token = opened.read().strip()
    return Bellwether(url or os.environ.get("BELLWETHER_URL", "http://127.0.0.1:9494"), token, timeout)


class Bellwether:
    """A running server. Frames are of pandas unless ``kind`` names ``"polars"`` or ``"pyarrow"``."""

    def __init__(self, url: str, token: str | None = None, timeout: float = 60.0) -> None:
        if not url.startswith(("http://", "https://")):
            raise InputError(f"{url!r} is no address; write http://HOST:PORT")
        self.url = url.rstrip("/")
        self._token = token
        self._timeout = timeout

    # What it holds.

    def now(self) -> float:
        """The server's present, Unix seconds: the wall clock's, or a replay's."""
        return float(self._get("/api/v1/query", query="time()")["data"]["result"][1])

    def series(self, promql: str, start: Any = None, end: Any = None, step: Any = "1m", *, kind: str = "pandas") -> Any:
        """The series of a PromQL expression as a long frame ``unique_id, ds, y``.

        Parameters
        ----------
        promql
            The expression; each series is named by its labels.
        start
            First point: a time, or how long before ``end`` as a duration such as ``"14d"``; a day before when left out.
        end
            Last point; the server's present when left out.
        step
            Distance between points.
        """
        step_ms, (first, last) = frames.span_ms(step), self._span(start, end)
        found: dict[str, list[tuple[int, float]]] = {}
        while first <= last:
            until = min(last, first + (MOST_POINTS - 1) * step_ms)
            answer = self._get(
                "/api/v1/query_range", query=promql, start=first / 1000, end=until / 1000, step=step_ms / 1000
            )
            for one in answer["data"]["result"]:
                points = found.setdefault(_label(one["metric"]), [])
                points.extend((round(at * 1000), float(value)) for at, value in one["values"])
            first = until + step_ms
        rows = [(name, at, value) for name, points in found.items() for at, value in points]
        return _long(kind, rows)

    def export(
        self,
        query: str | None = None,
        *,
        match: str | list[str] | None = None,
        start: Any = None,
        end: Any = None,
        step: Any = "1m",
        kind: str = "pandas",
    ) -> Any:
        """Many series at once, as an Arrow stream: a long frame ``unique_id, ds, y``. Needs pyarrow or polars.

        Parameters
        ----------
        query
            A PromQL expression on a grid ``step`` apart.
        match
            Selectors in place of it: their samples as they were stored.
        start, end
            As for :meth:`series`.
        """
        first, last = self._span(start, end)
        asked: list[tuple[str, str]] = [("start", str(first / 1000)), ("end", str(last / 1000))]
        if query is not None:
            asked += [("query", query), ("step", str(frames.span_ms(step) / 1000))]
        asked += [("match[]", one) for one in ([match] if isinstance(match, str) else match or [])]
        with self._open("GET", "/api/v1/export?" + urllib.parse.urlencode(asked)) as answer:
            return _arrow(answer, kind)

    def workloads(self) -> list[dict[str, Any]]:
        """A line for each workload: demand, replicas, what serves, open incident."""
        told: list[dict[str, Any]] = self._get("/api/v1/workloads")
        return told

    def detection(self) -> dict[str, Any]:
        """How watchful detection is, and how often it raised an alarm."""
        told: dict[str, Any] = self._get("/api/v1/detection")
        return told

    def outlooks(self, workload: str | None = None, *, kind: str = "pandas") -> Any:
        """The newest forecasts as a long frame ``unique_id, ds, mean, p10, p50, …, model, version``, one workload or all."""
        rows: list[dict[str, Any]] = []
        for outlook in self.outlook_records(workload):
            foresight = outlook["foresight"]
            if foresight["kind"] != "forecast":
                continue
            told, serving = foresight["forecast"], outlook.get("model") or {}
            for index, mean in enumerate(told["mean"]):
                row = {"unique_id": outlook["workload"], "ds": told["start"] + index * told["step"], "mean": mean}
                for level, path in zip(told["levels"], told["quantiles"]):
                    row[f"p{round(100 * level, 6):g}"] = path[index]
                rows.append({**row, "model": foresight["model"], "version": serving.get("version")})
        return _table(kind, rows, ["ds"])

    def outlook_records(self, workload: str | None = None) -> list[dict[str, Any]]:
        """The newest outlooks as the server tells them."""
        every: list[dict[str, Any]] = self._get("/api/v1/outlooks")["workloads"]
        found = [outlook for outlook in every if workload in (None, outlook["workload"])]
        if workload is not None and not found:
            raise InputError(f"there is no workload {workload!r}; there are {', '.join(o['workload'] for o in every)}")
        return found

    def incidents(self, *, past: bool = False, kind: str = "pandas") -> Any:
        """Incidents, newest onset first: one line each, with the causes ranked first and how sure that is."""
        rows = []
        for incident in self.incident_records(past=past):
            ranking = incident["ranking"]
            causes = [cause["service"] for cause in ranking["causes"]]
            rows.append(
                {
                    "id": incident["id"],
                    "workload": incident["workload"],
                    "onset": incident["onset"],
                    "resolved_at": incident.get("resolved_at"),
                    "severity": incident["severity"],
                    "first": causes[0] if causes else None,
                    "causes": ", ".join(causes[:3]),
                    "confidence": ranking["confidence"],
                    "anomalies": len(incident["anomalies"]),
                }
            )
        return _table(kind, rows, ["onset", "resolved_at"])

    def incident_records(self, *, past: bool = False) -> list[dict[str, Any]]:
        """Incidents as the server tells them."""
        told: list[dict[str, Any]] = self._get("/api/v1/incidents", past="true" if past else "false")
        return told

    def decisions(self, workload: str | None = None, *, limit: int = 1000, kind: str = "pandas") -> Any:
        """Decisions, newest first: one line each."""
        asked: dict[str, Any] = {"limit": limit} | ({"workload": workload} if workload else {})
        rows = [
            {
                "at": decision["at"],
                "workload": decision["workload"],
                "from": decision.get("from"),
                "to": decision.get("to"),
                "reactive": decision.get("reactive"),
                "id": decision["id"],
            }
            for decision in self._get("/api/v1/decisions", **asked)
        ]
        return _table(kind, rows, ["at"])

    def what_if(self, workload: str, *, scale: dict[str, Any] | None = None, demand: float = 1.0) -> dict[str, Any]:
        """What would be decided with other settings, or ``demand`` times the demand. Nothing is done."""
        body = {"scale": scale or {}, "demand_factor": demand}
        told: dict[str, Any] = self._post(f"/api/v1/workloads/{_quoted(workload)}/what-if", body)
        return told

    def feedback(
        self, incident: str, verdict: str, *, by: str, service: str | None = None, metric: str | None = None, note: str = ""
    ) -> dict[str, Any]:
        """Says what an incident really was: ``verdict`` is ``"cause"``, with the ``service`` that broke first, or
        ``"false_alarm"``."""
        said = {"by": by, "note": note, "verdict": verdict, "service": service, "metric": metric}
        told: dict[str, Any] = self._post(f"/api/v1/incidents/{_quoted(incident)}/feedback", said)
        return told

    def case(self, incident: str) -> Case:
        """An incident with its metrics and calls, labelled by what people said of it: as ``bellwether export`` writes it."""
        told = self._get(f"/api/v1/incidents/{_quoted(incident)}/case")
        table = {"time": np.array(told["times"], dtype=np.float64) / 1000.0}
        for column in told["columns"]:
            table[column["name"]] = np.array(column["values"], dtype=np.float64)
        calls = [(caller, callee) for caller, callee in told["calls"]]
        return Case(told["name"], table, told["onset"] / 1000.0, told["symptom"], calls, told["cause"])

    # The registry of models.

    def models(self, workload: str | None = None) -> Any:
        """The record of one workload, with its versions, or of all: champion, challengers, retired, pinned."""
        if workload is None:
            return self._get("/api/v1/models")["workloads"]
        return self._get(f"/api/v1/models/{_quoted(workload)}")

    def artefact(self, workload: str, version: int) -> Artefact:
        """A version as it is registered."""
        path = f"/api/v1/models/{_quoted(workload)}/{version}"
        manifest = self._get(path)
        weights = None
        if manifest.get("sha256"):
            with self._open("GET", path + "/weights") as answer:
                weights = answer.read()
        return Artefact(manifest, weights)

    def register(self, workload: str, artefact: Artefact, *, author: str, note: str = "", **manifest: Any) -> dict[str, Any]:
        """Registers a model as a challenger and gives its manifest; ``manifest`` adds to that of the artefact."""
        body = artefact.body()
        body["manifest"] = {**body["manifest"], "author": author, "note": note, **manifest}
        told: dict[str, Any] = self._post(f"/api/v1/models/{_quoted(workload)}", body)
        return told

    def promote(self, workload: str, version: int, *, author: str, note: str = "") -> dict[str, Any]:
        """Makes a version the champion; it serves from the next round on."""
        return self._act(workload, f"/{version}/promote", author, note)

    def rollback(self, workload: str, *, author: str, note: str = "") -> dict[str, Any]:
        """Makes the champion before this one the champion again."""
        return self._act(workload, "/rollback", author, note)

    def pin(self, workload: str, version: int, *, author: str, note: str = "") -> dict[str, Any]:
        """Keeps the champion: nothing automatic moves it."""
        return self._act(workload, f"/{version}/pin", author, note)

    def unpin(self, workload: str, version: int, *, author: str, note: str = "") -> dict[str, Any]:
        """Lets go of what :meth:`pin` kept."""
        return self._act(workload, f"/{version}/unpin", author, note)

    def retire(self, workload: str, version: int, *, author: str, note: str = "") -> dict[str, Any]:
        """Takes a challenger out of the running."""
        return self._act(workload, f"/{version}/retire", author, note)

    def audit(self, workload: str, *, kind: str = "pandas") -> Any:
        """Who did what to the models of a workload, oldest first."""
        return _table(kind, self._get(f"/api/v1/models/{_quoted(workload)}/audit")["entries"], ["at"])

    def _act(self, workload: str, what: str, author: str, note: str) -> dict[str, Any]:
        by = {"author": author, "note": note}
        told: dict[str, Any] = self._post(f"/api/v1/models/{_quoted(workload)}{what}", by)
        return told

    # How it is asked.

    def _span(self, start: Any, end: Any) -> tuple[int, int]:
        last = round(self.now() * 1000) if end is None else frames.millis(end)
        if start is None:
            return last - 86_400_000, last
        if isinstance(start, str) and start[:1].isdigit() and start[-1:] in "smhdwy":
            return last - frames.span_ms(start), last
        return frames.millis(start), last

    def _get(self, path: str, **asked: Any) -> Any:
        query = "?" + urllib.parse.urlencode(asked) if asked else ""
        with self._open("GET", path + query) as answer:
            return json.load(answer)

    def _post(self, path: str, body: Any) -> Any:
        with self._open("POST", path, json.dumps(body).encode()) as answer:
            return json.load(answer)

    def _open(self, method: str, path: str, body: bytes | None = None) -> BinaryIO:
        request = urllib.request.Request(self.url + path, data=body, method=method)
        if body is not None:
            request.add_header("Content-Type", "application/json")
        if self._token:
            request.add_header("Authorization", f"Bearer {self._token}")
        try:
            return urllib.request.urlopen(request, timeout=self._timeout)  # type: ignore[no-any-return]
        except urllib.error.HTTPError as error:
            raise RequestError(f"{self.url}{path} answered {error.code}: {_reason(error.read())}", error.code) from None
        except OSError as error:
            reason = getattr(error, "reason", error)
            raise RequestError(f"could not reach {self.url} ({reason}); is `bellwether run` up?") from None


def _reason(body: bytes) -> str:
    text = body.decode(errors="replace")
    try:
        told = json.loads(text)
    except ValueError:
        return text.partition("\n")[0]
    return str(told.get("error", text)) if isinstance(told, dict) else text


def _quoted(name: str) -> str:
    return urllib.parse.quote(name, safe="")


def _label(metric: dict[str, str]) -> str:
    """A series by its labels, as Prometheus writes it."""
    rest = ",".join(f"{name}={json.dumps(metric[name], ensure_ascii=False)}" for name in sorted(metric) if name != "__name__")
    return metric.get("__name__", "") + (f"{{{rest}}}" if rest or "__name__" not in metric else "")


def _long(kind: str, rows: list[tuple[str, int, float]]) -> Any:
    columns = {
        "unique_id": [row[0] for row in rows],
        "ds": np.array([row[1] for row in rows], dtype=np.int64),
        "y": np.array([row[2] for row in rows], dtype=np.float64),
    }
    return frames.build(kind, columns, {"ds": frames.Clock(False)})


def _table(kind: str, rows: list[dict[str, Any]], times: list[str]) -> Any:
    """Rows as a frame; a missing time is none."""
    names = list(rows[0]) if rows else times
    columns: dict[str, Any] = {name: [row.get(name) for row in rows] for name in names}
    clocks = {name: frames.Clock(False) for name in times if name in columns}
    for name in clocks:
        columns[name] = [np.iinfo(np.int64).min if at is None else at for at in columns[name]]
    return frames.build(kind, columns, clocks)


def _arrow(answer: BinaryIO, kind: str) -> Any:
    if kind != "polars":
        try:
            import pyarrow
            import pyarrow.ipc

            table = pyarrow.ipc.open_stream(answer).read_all().rename_columns(["unique_id", "ds", "y"])
            table = table.set_column(1, "ds", table["ds"].cast(pyarrow.timestamp("ms")))
            return table.to_pandas() if kind == "pandas" else table
        except ImportError:
            pass
    try:
        import polars

        frame = polars.read_ipc_stream(answer.read())
        frame.columns = ["unique_id", "ds", "y"]
        frame = frame.with_columns(polars.col("ds").dt.replace_time_zone(None), polars.col("unique_id").cast(polars.String))
        return frame if kind == "polars" else frames.build(kind, frame.to_dict(as_series=False), {})
    except ImportError:
        raise InputError("an Arrow stream needs pyarrow or polars to be read; install one of them") from None
