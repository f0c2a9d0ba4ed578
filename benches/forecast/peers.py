#!/usr/bin/env python3
"""statsforecast on the rolling origins of a manifest: the columns of `bellwether backtest`, and CPU seconds.

usage: peers.py MANIFEST        (statsforecast 2, pandas)
"""
import sys
import time
from pathlib import Path

from scores import figures, tasks, together
from statsforecast.models import MSTL, AutoARIMA, AutoETS, AutoTheta, SeasonalNaive

MODELS = {
    "SeasonalNaive": lambda seasons: SeasonalNaive(season_length=seasons[0]),
    "AutoTheta": lambda seasons: AutoTheta(season_length=seasons[0]),
    "AutoARIMA": lambda seasons: AutoARIMA(season_length=1),
    "MSTL_AutoETS": lambda seasons: MSTL(season_length=seasons, trend_forecaster=AutoETS(model="ZZN")),
}


def quantiles(model, known, horizon):
    """The point forecast, and p10, p50, p90, p95."""
    said = model.forecast(y=known, h=horizon, level=[80, 90])
    return [said["lo-80"], said["mean"], said["hi-80"], said["hi-90"]]


def score(make, all_tasks):
    of_series, started = [], time.process_time()
    for _, y, seasons, horizon, context, origins in all_tasks:
        said = [quantiles(make(seasons), y[max(0, origin - context):origin], horizon) for origin in origins]
        of_series.append(figures(y, seasons[0], origins, horizon, said))
    return *together(of_series), time.process_time() - started


if __name__ == "__main__":
    all_tasks = list(tasks(Path(sys.argv[1])))
    print(f"{'statsforecast':<16}{'gm MASE':>9}{'gm WQL':>9}{'<=p95':>9}{'least':>9}{'CPU seconds':>13}")
    for name, make in MODELS.items():
        *scores, seconds = score(make, all_tasks)
        print(f"{name:<16}" + "".join(f"{v:>9.4f}" for v in scores) + f"{seconds:>13.2f}", flush=True)
