"""Scaling policies on a demand trace."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from . import _native, frames

__all__ = ["Simulation", "simulate"]


@dataclass(frozen=True)
class Simulation:
    """What each policy would have cost, and what it would have failed to serve."""

    report: dict[str, Any]
    """The report, as ``bellwether simulate`` writes it."""

    @property
    def policies(self) -> list[dict[str, Any]]:
        """Every policy at every value of its knob: ``name, knob, violation_minutes, unserved_fraction, replica_hours,
        scale_events, flips``."""
        lines: list[dict[str, Any]] = self.report["policies"]
        return lines

    @property
    def equal_cost(self) -> list[dict[str, Any]]:
        """Every policy against the best plain autoscaler of the same cost."""
        lines: list[dict[str, Any]] = self.report["equal_cost"]
        return lines

    def to_pandas(self) -> Any:
        """The policies as a frame of pandas."""
        import pandas

        return pandas.DataFrame(self.policies)


def simulate(
    demand: Any,
    *,
    startup: Any = "120s",
    capacity: float | None = None,
    cadence: Any = "15s",
    metric_age: Any = "15s",
    targets: tuple[float, float, float] = (0.3, 0.95, 0.05),
    costs: Sequence[float] = (1, 2, 5, 10, 20, 50, 100, 200, 500),
    policy: dict[str, Any] | None = None,
    coarse: bool = False,
    name: str = "demand",
    step: Any = None,
    start: Any = 0,
    progress: Callable[[float], object] | None = None,
) -> Simulation:
    """Runs plain autoscalers, peers and ours side by side over one trace.

    Parameters
    ----------
    demand
        One series, as for :func:`bellwether.forecast`.
    startup
        Time from asking for a replica until it serves.
    capacity
        Demand that one replica serves; a tenth of the 95th percentile of demand when left out.
    cadence
        Time between two decisions.
    metric_age
        Age of the newest demand when a decision is made.
    targets
        Target utilisations of the plain autoscalers: first, last and step.
    costs
        Cost ratios of too few against too many replicas that our policy is run with.
    policy
        The ``scale`` section of a workload; what it leaves out has its default.
    coarse
        Simulates a trace coarser than the start-up time all the same.
    progress
        Hears the share that is done.
    """
    text = _native.simulate(
        frames.window(demand, step, start),
        name,
        frames.span_ms(startup),
        frames.span_ms(cadence),
        frames.span_ms(metric_age),
        targets,
        list(costs),
        capacity,
        None if policy is None else json.dumps(policy),
        coarse,
        progress,
    )
    return Simulation(json.loads(text))
