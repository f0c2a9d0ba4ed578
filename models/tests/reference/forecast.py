#!/usr/bin/env python3
"""Reference numbers for the forecasting models, from statsmodels.

usage: forecast.py > forecast.json        (statsmodels 0.15, numpy 2)

The series are made here from a fixed seed, so that nothing but this file is needed to make them again.
"""
import json
import warnings

import numpy as np
from statsmodels.tsa.exponential_smoothing.ets import ETSModel
from statsmodels.tsa.statespace.sarimax import SARIMAX
from statsmodels.tsa.stattools import kpss

warnings.filterwarnings("ignore")
rng = np.random.default_rng(20240229)


def arma(ar, ma, n, mean=0.0, d=0):
    e = rng.normal(size=n + 100)
    y = np.zeros(n + 100)
    for t in range(len(y)):
        y[t] = e[t] + sum(c * y[t - 1 - i] for i, c in enumerate(ar) if t > i)
        y[t] += sum(c * e[t - 1 - i] for i, c in enumerate(ma) if t > i)
    y = y[100:] + mean
    return np.cumsum(y) if d else y


def rounded(y):
    return np.round(y, 4)


arimas = []
for ar, ma, d in [([0.7], [], 0), ([0.5, 0.2], [0.4], 0), ([0.6], [-0.3], 1), ([], [0.5, 0.2], 1), ([1.2, -0.5, 0.1], [], 0)]:
    y = rounded(arma(ar, ma, 220, d=d))
    order = (len(ar), d, len(ma))
    model = SARIMAX(np.diff(y) if d else y, order=(order[0], 0, order[2]), trend="n")
    fit = model.fit(disp=0, maxiter=500, pgtol=1e-9)
    arimas.append({
        "y": y.tolist(), "differences": d, "ar": ar, "ma": ma, "variance": 1.3,
        "log_likelihood": float(model.loglike(np.array(ar + ma + [1.3]))),
        "best_ar": fit.params[:len(ar)].tolist(), "best_ma": fit.params[len(ar):-1].tolist(),
        "best_log_likelihood": float(fit.llf),
        "kpss": float(kpss(y, regression="c", nlags=int(3 * np.sqrt(len(y)) / 13))[0]),
    })

gaps = rounded(arma([0.6], [0.3], 150))
gaps[[10, 11, 12, 60, 149]] = np.nan
gap_model = SARIMAX(gaps, order=(1, 0, 1), trend="n")

ets = []
for trend in (False, True):
    y = rounded(50 + np.cumsum(rng.normal(size=160) * 0.5) + rng.normal(size=160) + (0.3 * np.arange(160) if trend else 0))
    model = ETSModel(y, error="add", trend="add" if trend else None, damped_trend=trend,
                     initialization_method="known", initial_level=50.0, initial_trend=0.2 if trend else None)
    parameters = [0.4, 0.1, 0.9] if trend else [0.4]
    result = model.smooth(np.array(parameters + ([50.0, 0.2] if trend else [50.0])))
    ets.append({
        "y": y.tolist(), "alpha": 0.4, "beta": 0.1 if trend else 0.0, "phi": 0.9 if trend else 0.0,
        "level": 50.0, "slope": 0.2 if trend else 0.0,
        "squares": float(np.sum(np.asarray(result.resid) ** 2)), "forecast": np.asarray(result.forecast(5)).tolist(),
    })

print(json.dumps({
    "arima": arimas,
    "gaps": {"y": [None if np.isnan(v) else v for v in gaps], "ar": [0.6], "ma": [0.3], "variance": 0.9,
             "log_likelihood": float(gap_model.loglike(np.array([0.6, 0.3, 0.9])))},
    "ets": ets,
}, indent=None))
