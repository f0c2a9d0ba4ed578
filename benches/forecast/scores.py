"""Rolling origins of a manifest, and the figures of forecasts made there."""
import csv

import numpy as np

LEVELS = [0.1, 0.5, 0.9, 0.95]


def tasks(manifest):
    """Of each series: its name, values, seasons, horizon, context and origins."""
    numbers = lambda text: [int(part) for part in text.split(";")]
    for row in csv.DictReader(open(manifest)):
        values = [float(line.split(",")[1]) for line in open(manifest.parent / row["file"]).readlines()[1:]]
        origins, context = numbers(row["origins"]), int(row["context"])
        yield row["series"], np.array(values), numbers(row["seasons"]), int(row["horizon"]), context, origins


def figures(y, season, origins, horizon, said):
    """Scaled error, weighted quantile loss and share at or below p95 of `said`, shape [origins][LEVELS][horizon]."""
    actual = np.array([y[origin:origin + horizon] for origin in origins])
    said, first = np.array(said).transpose(1, 0, 2), min(origins)
    scale = np.abs(y[season:first] - y[:first - season]).mean()
    pinball = [np.maximum(p * (actual - q), (p - 1) * (actual - q)).sum() for p, q in zip(LEVELS, said)]
    return np.abs(actual - said[1]).mean() / scale, 2 * np.mean(pinball) / np.abs(actual).sum(), (actual <= said[3]).mean()


def together(of_series):
    """Geometric means of error and loss, mean and least share."""
    mase, wql, covered = zip(*of_series)
    gm = lambda values: float(np.exp(np.log(values).mean()))
    return gm(mase), gm(wql), np.mean(covered), min(covered)
