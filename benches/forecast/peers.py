#!/usr/bin/env python3
"""statsforecast on the rolling origins of a manifest: the columns of `bellwether backtest`, and CPU seconds.

usage: peers.py MANIFEST        (statsforecast 2, pandas)
"""
import csv
import sys
import time
from pathlib import Path

import numpy as np
from statsforecast.models import MSTL, AutoARIMA, AutoETS, AutoTheta, SeasonalNaive

LEVELS = [0.1, 0.5, 0.9, 0.95]
MODELS = {
    "SeasonalNaive": lambda seasons: SeasonalNaive(season_length=seasons[0]),
    "AutoTheta": lambda seasons: AutoTheta(season_length=seasons[0]),
    "AutoARIMA": lambda seasons: AutoARIMA(season_length=1),
    "MSTL_AutoETS": lambda seasons: MSTL(season_length=seasons, trend_forecaster=AutoETS(model="ZZN")),
}


def tasks(manifest):
    for row in csv.DictReader(open(manifest)):
        values = [float(line.split(",")[1]) for line in open(manifest.parent / row["file"]).readlines()[1:]]
        numbers = lambda text: [int(part) for part in text.split(";")]
        yield np.array(values), numbers(row["seasons"]), int(row["horizon"]), int(row["context"]), numbers(row["origins"])


def quantiles(model, known, horizon):
    """The point forecast, and p10, p50, p90, p95."""
    said = model.forecast(y=known, h=horizon, level=[80, 90])
    return [said["lo-80"], said["mean"], said["hi-80"], said["hi-90"]]


def score(make, all_tasks):
    mase, wql, covered, started = [], [], [], time.process_time()
    for y, seasons, horizon, context, origins in all_tasks:
        actual, said = [], []
        for origin in origins:
            said.append(quantiles(make(seasons), y[max(0, origin - context):origin], horizon))
            actual.append(y[origin:origin + horizon])
        actual, said = np.array(actual), np.array(said).transpose(1, 0, 2)
        first, season = min(origins), seasons[0]
        scale = np.abs(y[season:first] - y[:first - season]).mean()
        pinball = [np.maximum(p * (actual - q), (p - 1) * (actual - q)).sum() for p, q in zip(LEVELS, said)]
        mase.append(np.abs(actual - said[1]).mean() / scale)
        wql.append(2 * np.mean(pinball) / np.abs(actual).sum())
        covered.append((actual <= said[3]).mean())
    gm = lambda values: float(np.exp(np.log(values).mean()))
    return gm(mase), gm(wql), np.mean(covered), min(covered), time.process_time() - started


if __name__ == "__main__":
    all_tasks = list(tasks(Path(sys.argv[1])))
    print(f"{'statsforecast':<16}{'gm MASE':>9}{'gm WQL':>9}{'<=p95':>9}{'least':>9}{'CPU seconds':>13}")
    for name, make in MODELS.items():
        *figures, seconds = score(make, all_tasks)
        print(f"{name:<16}" + "".join(f"{v:>9.4f}" for v in figures) + f"{seconds:>13.2f}")
