"""From data frames to arrays and back. pandas, polars and pyarrow are used where they are at hand; none is required."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._native import InputError, Window, duration_ms

__all__ = ["Long", "Wide", "build", "is_frame", "long", "millis", "span_ms", "steps", "wide", "window"]


def millis(time: Any) -> int:
    """Milliseconds since the epoch of a time: Unix seconds, ``datetime``, ``numpy.datetime64``, pandas' ``Timestamp``, or
    text in ISO 8601. Without a zone it is UTC."""
    if isinstance(time, str):
        time = datetime.datetime.fromisoformat(time)
    if isinstance(time, datetime.datetime):
        if time.tzinfo is None:
            time = time.replace(tzinfo=datetime.timezone.utc)
        return int((time - datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)) // datetime.timedelta(milliseconds=1))
    if isinstance(time, np.datetime64):
        return int(time.astype("datetime64[ms]").astype(np.int64))
    try:
        return round(float(time) * 1000)
    except (TypeError, ValueError):
        raise InputError(f"{time!r} is no time; give Unix seconds, a datetime, or text in ISO 8601") from None


def span_ms(span: Any) -> int:
    """Milliseconds of a span: a text such as ``"5m"``, seconds, ``timedelta`` or ``numpy.timedelta64``."""
    if isinstance(span, str):
        return duration_ms(span)
    if isinstance(span, datetime.timedelta):
        return span // datetime.timedelta(milliseconds=1)
    if isinstance(span, np.timedelta64):
        return int(span.astype("timedelta64[ms]").astype(np.int64))
    try:
        return round(float(span) * 1000)
    except (TypeError, ValueError):
        raise InputError(f"{span!r} is no span of time; give seconds, a text such as '5m', or a timedelta") from None


def steps(span: Any, step_ms: int) -> int:
    """Whole steps: a number of steps as it is, any other span rounded up."""
    if isinstance(span, (int, np.integer)) and not isinstance(span, bool):
        count = int(span)
    else:
        count = -(-span_ms(span) // step_ms)
    if not 1 <= count <= 1_000_000:
        raise InputError(f"a span of {count} steps makes no sense; give 1 to 1000000 steps or a duration such as '1h'")
    return count


def _kind(frame: Any) -> str | None:
    module = type(frame).__module__.partition(".")[0]
    if module in ("pandas", "polars") and hasattr(frame, "columns"):
        return module
    if module == "pyarrow" and hasattr(frame, "column_names"):
        return "pyarrow"
    return "arrow" if hasattr(frame, "__arrow_c_stream__") and module not in ("pandas", "polars") else None


def is_frame(data: Any) -> bool:
    """Whether ``data`` is a table of pandas, polars or Arrow."""
    return _kind(data) is not None


def _readable(frame: Any, kind: str) -> tuple[Any, str]:
    """A frame that can be read, and its kind: any Arrow stream through pyarrow or polars."""
    if kind != "arrow":
        return frame, kind
    try:
        import pyarrow

        return pyarrow.table(frame), "pyarrow"
    except ImportError:
        pass
    try:
        import polars

        return polars.from_arrow(frame), "polars"
    except ImportError:
        raise InputError("an Arrow stream needs pyarrow or polars to be read; install one of them") from None


def _names(frame: Any, kind: str) -> list[str]:
    return list(frame.column_names) if kind == "pyarrow" else [str(name) for name in frame.columns]


def _column(frame: Any, kind: str, name: str) -> Any:
    return frame.column(name) if kind == "pyarrow" else frame[name]


def _array(column: Any) -> NDArray[Any]:
    """A column as an array, with no copy where its kind allows."""
    if isinstance(column, np.ndarray):
        return column
    if type(column).__module__.startswith("pandas") and getattr(column.dtype, "tz", None) is not None:
        column = column.dt.tz_convert("UTC").dt.tz_localize(None)
    return np.asarray(column.to_numpy())


def _numbers(column: Any, name: str) -> NDArray[np.float64]:
    if type(column).__module__.startswith("pandas"):
        try:
            return np.ascontiguousarray(column.to_numpy(dtype=np.float64, na_value=np.nan))
        except (TypeError, ValueError):
            raise InputError(f"column {name!r} holds what is no number") from None
    values = _array(column)
    try:
        return np.ascontiguousarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise InputError(f"column {name!r} holds what is no number") from None


@dataclass(frozen=True)
class Clock:
    """How times were written, so that times go out as they came in."""

    numeric: bool
    zone: Any = None


def _times(column: Any, name: str) -> tuple[NDArray[np.int64], Clock]:
    values = _array(column)
    zone = getattr(getattr(column, "dtype", None), "tz", None) or getattr(getattr(column, "dtype", None), "time_zone", None)
    zone = zone or getattr(getattr(column, "type", None), "tz", None)
    if values.dtype.kind == "M":
        if np.isnat(values).any():
            raise InputError(f"column {name!r} has rows without a time")
        return values.astype("datetime64[ms]").astype(np.int64), Clock(False, zone)
    if values.dtype.kind in "iu":
        return values.astype(np.int64) * 1000, Clock(True)
    if values.dtype.kind == "f" and np.isfinite(values).all():
        return np.rint(values * 1000.0).astype(np.int64), Clock(True)
    if values.dtype.kind in "OUT":
        return np.array([millis(value) for value in values], dtype=np.int64), Clock(False)
    raise InputError(f"column {name!r} holds no times; give datetimes, ISO 8601 or Unix seconds")


@dataclass(frozen=True)
class Long:
    """A long frame: its series in order of appearance, each with its rows."""

    kind: str
    clock: Clock
    names: list[Any]
    times: list[NDArray[np.int64]]
    values: list[NDArray[np.float64]]


def _pieces(ids: NDArray[Any]) -> dict[Any, list[slice]]:
    """Stretches of rows by name, names in order of appearance."""
    if not len(ids):
        raise InputError("the frame has no rows")
    borders = [0, *(np.flatnonzero(ids[1:] != ids[:-1]) + 1).tolist(), len(ids)]
    pieces: dict[Any, list[slice]] = {}
    for start, end in zip(borders, borders[1:]):
        pieces.setdefault(ids[start], []).append(slice(start, end))
    return pieces


def _joined(column: NDArray[Any], pieces: list[slice]) -> NDArray[Any]:
    return column[pieces[0]] if len(pieces) == 1 else np.concatenate([column[piece] for piece in pieces])


def long(frame: Any, id: str = "unique_id", time: str = "ds", target: str = "y") -> Long:
    """Takes a long frame apart. Without a column ``unique_id`` it is one series. Rows of a series need not follow each
    other, but are in order of time."""
    kind = _kind(frame)
    if kind is None:
        raise InputError(f"{type(frame).__name__} is no frame of pandas, polars or Arrow")
    frame, kind = _readable(frame, kind)
    there = _names(frame, kind)
    for name in (time, target):
        if name not in there:
            raise InputError(f"there is no column {name!r}; there are {', '.join(there)}")
    times, clock = _times(_column(frame, kind, time), time)
    values = _numbers(_column(frame, kind, target), target)
    ids = _array(_column(frame, kind, id)) if id in there else np.full(len(times), target, dtype=object)
    pieces = _pieces(ids)
    return Long(
        kind,
        clock,
        list(pieces),
        [_joined(times, rows) for rows in pieces.values()],
        [_joined(values, rows) for rows in pieces.values()],
    )


@dataclass(frozen=True)
class Wide:
    """A wide table: times, and one column a metric."""

    times: NDArray[np.int64]
    names: list[str]
    columns: list[NDArray[np.float64]]


def wide(table: Any, time: str | None = None) -> Wide:
    """Takes a wide table apart: a frame whose first column (or ``time``) is the time, a pandas frame indexed by time, or a
    mapping of names to columns with a column ``time``."""
    if hasattr(table, "items") and not is_frame(table):
        named = dict(table.items())
        time = time or next(iter(named), "time")
        names = [str(name) for name in named if name != time]
        times, _ = _times(np.asarray(named[time]), time)
        return Wide(times, names, [_numbers(np.asarray(named[name]), name) for name in names])
    kind = _kind(table)
    if kind is None:
        raise InputError(f"{type(table).__name__} is no table; give a frame, or a mapping of names to columns")
    table, kind = _readable(table, kind)
    if kind == "pandas" and time is None and getattr(table.index, "dtype", np.dtype(int)).kind == "M":
        names = [str(name) for name in table.columns]
        times, _ = _times(table.index.to_series(), "index")
        return Wide(times, names, [_numbers(table.iloc[:, i], name) for i, name in enumerate(names)])
    there = _names(table, kind)
    time = time or there[0]
    if time not in there:
        raise InputError(f"there is no column {time!r}; there are {', '.join(there)}")
    times, _ = _times(_column(table, kind, time), time)
    names = [name for name in there if name != time]
    return Wide(times, names, [_numbers(_column(table, kind, name), name) for name in names])


def window(series: Any, step: Any = None, start: Any = 0) -> Window:
    """One series as a window: a :class:`Window` as it is, a pandas series indexed by time on the grid its rows lie on, any
    other array as values ``step`` apart (a minute when left out) from ``start`` on."""
    if isinstance(series, Window):
        return series
    step_ms = None if step is None else span_ms(step)
    if getattr(getattr(getattr(series, "index", None), "dtype", None), "kind", "") == "M":
        times, _ = _times(series.index.to_series(), "index")
        return Window.from_rows(times, _numbers(series, "y"), step_ms)
    values = np.ascontiguousarray(series, dtype=np.float64)
    if values.ndim != 1:
        raise InputError(f"a series has one dimension, not {values.ndim}")
    return Window(values, millis(start), step_ms or 60_000)


def build(kind: str, columns: dict[str, Any], times: dict[str, Clock]) -> Any:
    """A frame of ``kind``. ``times`` names the columns that hold milliseconds, and how times are written."""
    if kind == "pandas":
        import pandas

        frame = pandas.DataFrame({name: _written(values, times.get(name)) for name, values in columns.items()})
        for name, clock in times.items():
            if clock.zone is not None:
                frame[name] = frame[name].dt.tz_localize("UTC").dt.tz_convert(clock.zone)
        return frame
    if kind == "polars":
        import polars

        frame = polars.DataFrame({name: _written(values, times.get(name)) for name, values in columns.items()})
        zoned = [
            polars.col(name).dt.replace_time_zone("UTC").dt.convert_time_zone(clock.zone)
            for name, clock in times.items()
            if clock.zone is not None
        ]
        return frame.with_columns(zoned) if zoned else frame
    import pyarrow

    def arrow(name: str, values: Any) -> Any:
        clock = times.get(name)
        if clock is None or clock.numeric:
            return pyarrow.array(_written(values, clock))
        return pyarrow.array(np.asarray(values, dtype=np.int64)).cast(pyarrow.timestamp("ms", tz=clock.zone))

    return pyarrow.table({name: arrow(name, values) for name, values in columns.items()})


def _written(values: Any, clock: Clock | None) -> Any:
    if clock is None:
        return values
    stamps = np.asarray(values, dtype=np.int64)
    if not clock.numeric:
        return stamps.astype("datetime64[ms]")
    return stamps // 1000 if not (stamps % 1000).any() else stamps / 1000.0
