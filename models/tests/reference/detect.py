"""Writes detect.json: what scipy says of the building blocks of detection.

usage: python detect.py > detect.json      (scipy 1.10 or later, numpy, pandas)
"""
import json

import numpy as np
import pandas as pd
from scipy import stats

rng = np.random.default_rng(7)
tails = [
    {"z": z, "freedom": nu, "surprise": float(-(np.log(2) + stats.t.logsf(z, nu)) / np.log(10))}
    for nu in (3, 5, 12, 40, 1000)
    for z in (1.5, 3.0, 6.0, 12.0)
]
values = [round(float(v), 6) for v in rng.standard_t(3, 31)]
spread = {"values": values, "spread": float(1.4826 * stats.median_abs_deviation(values))}
noise = rng.standard_normal(400)
series = np.convolve(noise, np.ones(6) / 6, "same")
threshold = float(np.quantile(series, 0.9))
over = pd.Series(series > threshold)
recent = over.astype(int).shift(1, fill_value=0).rolling(4, min_periods=1).max() > 0  # a cluster ends after four below
clusters = {"values": [round(float(v), 6) for v in series], "threshold": round(threshold, 6),
            "index": float((over & ~recent).sum() / over.sum())}
json.dump({"student": tails, "spread": spread, "clusters": clusters}, __import__("sys").stdout, indent=1)
print()
