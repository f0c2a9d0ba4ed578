"""Forecasts, detection, causes and simulations by the code of the running system, and a client of it.

Nothing here computes by itself: every number comes from the functions that the binary calls, so the same input gives the
same floats, bit for bit. The same input also always gives the same output; only training draws chance, from its seed.

Data come as arrays (a regular grid, ``NaN`` for a gap) or as long frames with the columns ``unique_id, ds, y`` of pandas,
polars or Arrow, and what goes out has the kind of what came in. Times without a zone are UTC.
"""

from ._native import FitError, InputError, TrainError, Window, models
from ._native import VERSION as __version__
from .artefact import Artefact
from .causes import Case, Cause, Ranking, rank, read_case
from .client import Bellwether, RequestError, connect
from .detection import Detector, MultivariateDetector, RowScores, Scores, detect
from .forecasting import Backtest, Forecast, Forecaster, backtest, forecast
from .scaling import Simulation, simulate
from .training import scored, search_arima, train

__all__ = [
    "Artefact",
    "Backtest",
    "Bellwether",
    "Case",
    "Cause",
    "Detector",
    "FitError",
    "Forecast",
    "Forecaster",
    "InputError",
    "MultivariateDetector",
    "Ranking",
    "RequestError",
    "RowScores",
    "Scores",
    "Simulation",
    "TrainError",
    "Window",
    "__version__",
    "backtest",
    "connect",
    "detect",
    "forecast",
    "models",
    "rank",
    "read_case",
    "scored",
    "search_arima",
    "simulate",
    "train",
]
