"""Writes detect.json: what scipy says of the building blocks of detection.

usage: python detect.py > detect.json      (scipy 1.10 or later, numpy)
"""
import json

import numpy as np
from scipy import stats

rng = np.random.default_rng(7)
tails = [
    {"z": z, "freedom": nu, "surprise": float(-(np.log(2) + stats.t.logsf(z, nu)) / np.log(10))}
    for nu in (3, 5, 12, 40, 1000)
    for z in (1.5, 3.0, 6.0, 12.0)
]
values = [round(float(v), 6) for v in rng.standard_t(3, 31)]
spread = {"values": values, "spread": float(1.4826 * stats.median_abs_deviation(values))}
json.dump({"student": tails, "spread": spread}, __import__("sys").stdout, indent=1)
print()
