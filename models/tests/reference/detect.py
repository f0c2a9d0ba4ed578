"""Writes detect.json: what scipy, scikit-learn and statsmodels say of the building blocks of detection.

usage: python detect.py > detect.json      (scipy 1.10 or later, numpy, pandas, scikit-learn, statsmodels)
"""
import json

import numpy as np
import pandas as pd
from scipy import signal, stats
from sklearn.ensemble import IsolationForest
from sklearn.linear_model import Ridge
from sklearn.metrics.pairwise import cosine_similarity
from sklearn.neighbors import NearestNeighbors
from statsmodels.duration.survfunc import SurvfuncRight

RIDGE_PER_THOUSAND = 1.5

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
base = rng.standard_normal((600, 3)).astype(np.float32)
known = np.column_stack([base, base[:, 0] + base[:, 1] + 0.1 * base[:, 2]]).round(4)
asked = np.vstack([known[:5], [[0, 0, 0, 0], [4, 0, 0, 4], [0, 0, 0, 3], [-5, 5, 5, 0], [9, 9, 9, 18]]]).round(4)
forest = IsolationForest(n_estimators=1000, max_samples=256, random_state=7).fit(known)
distances = NearestNeighbors(n_neighbors=10).fit(known).kneighbors(asked)[0].mean(axis=1) / np.sqrt(known.shape[1])
inputs, output = known[:, :3], known[:, 3] ** 2
ridge = Ridge(alpha=RIDGE_PER_THOUSAND * len(known) / 1000, solver="cholesky", fit_intercept=False)
ridge.fit(np.column_stack([inputs, np.ones(len(inputs))]), output)  # the intercept shrinks with the rest
left = output - ridge.predict(np.column_stack([inputs, np.ones(len(inputs))]))
law = {"inputs": inputs.tolist(), "outputs": output[:, None].tolist(),
       "residuals": (left / np.sqrt((left ** 2).mean()))[:20].tolist()}
rows = {"known": known.tolist(), "asked": asked.tolist(), "forest": (-forest.score_samples(asked)).tolist(),
        "distances": distances.tolist()}
pareto = stats.genpareto(0.3, loc=1.0, scale=0.5).rvs(20000, random_state=7)
tail = {"values": [round(float(v), 5) for v in pareto[:6000]], "asked": [4.0, 8.0, 20.0],
        "surprises": [float(-stats.genpareto(0.3, loc=1.0, scale=0.5).logsf(v) / np.log(10)) for v in (4.0, 8.0, 20.0)]}
lengths = [int(v) for v in np.minimum(rng.geometric(0.35, 1500) * rng.choice([1, 1, 1, 4], 1500), 60)]
survival = SurvfuncRight(np.array(lengths) + 1, np.ones(len(lengths)))  # one more: a run survives the length it reaches
reached = [2, 4, 8, 16]
runs = {"lengths": lengths, "reached": reached,
        "survival": [float(survival.surv_prob[survival.surv_times <= length][-1]) for length in reached]}
blocks = 20 + 0.05 * np.arange(96) + 3 * np.sin(np.arange(96) / 24 * 2 * np.pi) + 0.3 * rng.standard_normal(96)
blocks = [round(float(v), 4) for v in blocks]
straight = signal.detrend(blocks)
lags = [6, 12, 20, 24, 30]
season = {"blocks": blocks, "detrended": straight.tolist(), "lags": lags,
          "correlation": [float(cosine_similarity([straight[:-lag]], [straight[lag:]])[0, 0]) for lag in lags]}
known_now = {"student": tails, "spread": spread, "clusters": clusters, "rows": rows, "law": law, "tail": tail,
             "runs": runs, "season": season}
json.dump(known_now, __import__("sys").stdout, separators=(",", ":"))
print()
