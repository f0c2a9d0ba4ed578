"""How far a long computation has come."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable

Progress = Callable[[int, int], object]
"""Hears the parts done and all parts. What it raises ends the computation."""

WIDTH = 40


def counter(progress: Progress | bool | None, total: int) -> Callable[[], None]:
    """Something to call once a part is done: ``True`` draws a bar on standard error, a function is told."""
    lock, done = threading.Lock(), 0
    tell: Progress | None = _bar if progress is True else (progress or None)

    def count() -> None:
        nonlocal done
        with lock:
            done += 1
            if tell is not None:
                tell(done, total)

    return count


def _bar(done: int, total: int) -> None:
    filled = WIDTH * done // max(total, 1)
    end = "\n" if done >= total else ""
    sys.stderr.write(f"\r[{'#' * filled}{'.' * (WIDTH - filled)}] {done}/{total}{end}")
    sys.stderr.flush()
