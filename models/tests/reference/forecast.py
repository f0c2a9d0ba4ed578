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
from statsmodels.tsa.forecasting.theta import ThetaModel
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

# Drawn from a generator of their own, so that the cases above stay as they were.
rng = np.random.default_rng(20240301)


def seasonal_arma(orders, n, period, regressors, slopes, differences):
    """A regression with seasonal ARMA errors, summed up as often as it is differenced."""
    p, q, sp, sq = (np.array(c) for c in orders)
    lag = lambda c, s: np.r_[1.0, np.array([c[i // s - 1] if i % s == 0 else 0.0 for i in range(1, s * len(c) + 1)])]
    ar = np.convolve(lag(-p, 1), lag(-sp, period))
    ma = np.convolve(lag(q, 1), lag(sq, period))
    e, y = rng.normal(size=n + 400), np.zeros(n + 400)
    for t in range(len(y)):
        y[t] = sum(ma[i] * e[t - i] for i in range(len(ma)) if t >= i) - sum(ar[i] * y[t - i] for i in range(1, len(ar)) if t >= i)
    y = y[400:]
    if differences[1]:
        for t in range(period, n):
            y[t] += y[t - period]
    if differences[0]:
        y = np.cumsum(y)
    return y + regressors @ slopes


def differenced(x, differences, period):
    x = np.asarray(x, dtype=float)
    for _ in range(differences[0]):
        x = x[1:] - x[:-1]
    for _ in range(differences[1]):
        x = x[period:] - x[:-period]
    return x


seasonal = []
for orders, differences, period, drift, gaps_at in [
    (([0.5], [], [0.4], []), (0, 0), 12, False, []),
    (([], [0.4], [], [-0.5]), (1, 1), 12, False, []),
    (([0.6, -0.2], [0.3], [0.3], [-0.4]), (0, 1), 24, True, []),
    (([0.5], [0.3], [], []), (1, 0), 1, True, []),
    (([0.4], [], [], [0.5]), (0, 0), 7, False, [20, 21, 22, 90, 151]),
    (([], [0.3], [], [-0.3]), (1, 1), 7, False, [50, 51]),
]:
    n = 300
    regressors = np.column_stack([np.arange(n) % 17 == 0, np.sin(np.arange(n) / 9.0)]).astype(float)
    trend = np.column_stack([regressors, np.arange(n) * 0.2]) if drift else regressors
    y = rounded(seasonal_arma(orders, n, period, trend, np.array([3.0, -2.0] + [1.0] * drift), differences))
    y[gaps_at] = np.nan
    w, x = differenced(y, differences, period), differenced(regressors, differences, period)
    constant = drift or sum(differences) == 0
    x = np.column_stack([np.ones(len(w)), x]) if constant else x
    p, q, sp, sq = orders
    model = SARIMAX(w, exog=x, order=(len(p), 0, len(q)), seasonal_order=(len(sp), 0, len(sq), period if period > 1 else 0))
    fit = model.fit(disp=0, maxiter=500, pgtol=1e-9)
    k, count = x.shape[1], len(p) + len(q) + len(sp) + len(sq)
    arma_best, slopes = fit.params[k:k + count], fit.params[:k]
    # What comes, on the scale of the series: the forecast of differences, summed up again.
    future = np.column_stack([(np.arange(n, n + 15) % 17 == 0), np.sin(np.arange(n, n + 15) / 9.0)]).astype(float)
    forecast = None
    if not gaps_at:
        ahead = differenced(np.vstack([regressors, future]), differences, period)[-15:]
        said = fit.forecast(15, exog=np.column_stack([np.ones(15), ahead]) if constant else ahead)
        whole = list(y)
        for value in said:
            back = lambda i: whole[len(whole) - i]
            carried = {(0, 0): lambda: 0.0, (1, 0): lambda: back(1), (0, 1): lambda: back(period),
                       (1, 1): lambda: back(1) + back(period) - back(period + 1)}[differences]()
            whole.append(value + carried)
        forecast = whole[n:]
    seasonal.append({
        "y": [None if np.isnan(v) else v for v in y], "period": period, "ordinary": differences[0], "seasonal": differences[1],
        "constant": constant, "ar": p, "ma": q, "seasonal_ar": sp, "seasonal_ma": sq, "variance": 1.1,
        "slopes": [0.5] * constant + [3.0, -2.0],
        "log_likelihood": float(model.loglike(np.array([0.5] * constant + [3.0, -2.0] + p + q + sp + sq + [1.1]))),
        "best_arma": arma_best.tolist(), "best_slopes": slopes.tolist(), "best_log_likelihood": float(fit.llf),
        "regressors": regressors.T.tolist(), "future": future.T.tolist(), "forecast": forecast,
    })

theta = []
for slope in (0.0, 0.4):
    y = rounded(100 + slope * np.arange(120) + np.cumsum(rng.normal(size=120) * 0.7) + rng.normal(size=120))
    fit = ThetaModel(y, period=1, deseasonalize=False).fit(use_mle=False)
    theta.append({"y": y.tolist(), "alpha": float(fit.params["alpha"]), "slope": float(fit.params["b0"]),
                  "forecast": np.asarray(fit.forecast(12, theta=2)).tolist()})

print(json.dumps({
    "arima": arimas,
    "gaps": {"y": [None if np.isnan(v) else v for v in gaps], "ar": [0.6], "ma": [0.3], "variance": 0.9,
             "log_likelihood": float(gap_model.loglike(np.array([0.6, 0.3, 0.9])))},
    "ets": ets, "seasonal": seasonal, "theta": theta,
}, indent=None))
