#!/usr/bin/env python3
"""A second implementation of the ranker in numpy: expected numbers for the tests, and the tables of
docs/explanation/root-cause.md. Needs numpy, pandas; `calibrate` needs scikit-learn.

    cause.py reference CASE > cause.json    scores and onset of one case
    cause.py ablate TREE                    accuracy with each part left out
    cause.py classes TREE                   the same by data set and class of fault, as a table in Markdown
    cause.py choose TREE                    weights chosen on all data sets but one, judged on that one
    cause.py calibrate TREE RANKS.json ...  coefficients of the confidence from outputs of `bellwether rank --cases TREE`,
                                            and its error on the data set left out

TREE holds <dataset>/<case>/ with metrics.csv.gz, inject_time.txt, symptom.txt, topology.csv and, for the tables only,
root_cause.json with the keys service, metrics_true and, for classes, class.
"""
import itertools, json, re, sys
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.lib.stride_tricks import sliding_window_view

np.seterr(all="ignore")
import warnings
warnings.filterwarnings("ignore", category=RuntimeWarning)

GOOD = ("avail", "success", "uptime")
ERRORS = ("err", "fail", "5xx", "drop", "timeout", "exception", "reject", "retr")
LATENCY = ("duration", "delay", "latenc", "elapsed")
TRAFFIC = ("request", "req", "ops", "qps", "rps", "throughput", "calls", "net", "rx", "tx", "workload")
QUANTILE = re.compile(r"^[a-z]*p(50|75|90|95|99|999)$")
CHOSEN = dict(fall=0.5, latency=0.5, traffic=0.25, past=0.5, explained=0.9, time=0.9, unrelated=0.2, vantage=0.9, best=1.0)


def words(name):
    return [w.lower() for w in re.split(r"[^0-9A-Za-z]+|(?<=[a-z])(?=[A-Z])", name) if w]


def signal(name):
    starts = lambda starts_with: any(w.startswith(s) for w in words(name) for s in starts_with)
    if starts(GOOD) or starts(ERRORS):
        return "errors"
    if starts(LATENCY) or any(w.endswith("lat") or QUANTILE.match(w) for w in words(name)):
        return "latency"
    return "traffic" if starts(TRAFFIC) else "saturation"


class Case:
    def __init__(self, folder):
        folder = Path(folder)
        table = pd.read_csv(folder / "metrics.csv.gz")
        self.key = f"{folder.parent.name}/{folder.name}"
        self.dataset = folder.parent.name
        self.times = table.pop("time").to_numpy(float)
        self.columns = list(table.columns)
        self.values = table.to_numpy(float)
        self.services = [c.rsplit("_", 1)[0] for c in self.columns]
        self.names = [c.rsplit("_", 1)[1] for c in self.columns]
        self.signals = np.array([signal(n) for n in self.names])
        self.injected = float((folder / "inject_time.txt").read_text())
        text = lambda name: (folder / name).read_text().strip() if (folder / name).exists() else None
        self.symptom = self.columns.index(text("symptom.txt")) if text("symptom.txt") in self.columns else None
        calls = pd.read_csv(folder / "topology.csv").to_numpy().tolist() if (folder / "topology.csv").exists() else []
        self.calls = sorted({(a, b) for a, b in calls if a != b})
        answer = folder / "root_cause.json"
        self.truth = json.loads(answer.read_text()) if answer.exists() else None

    def row_at(self, time):
        return int((self.times < time).sum())

    def troubles(self, mirrored=True):
        values = self.values.copy()
        for j, name in enumerate(self.names):
            if mirrored and any(w.startswith(s) for w in words(name) for s in GOOD):
                largest = np.nanmax(values[:, j])
                best = 1.0 if largest <= 1 + 1e-6 else 100.0
                if largest <= best * (1 + 1e-6):
                    values[:, j] = best - values[:, j]
        return values


def shifts(reference, incident, past):
    """before, after, sigmas of each column."""
    before, after = np.nanmedian(reference, 0), np.nanmedian(incident, 0)
    spread = (np.nanpercentile(reference, 84, 0) - np.nanpercentile(reference, 16, 0)) / 2
    largest = np.nanmax(np.abs(np.vstack([reference, incident])), 0)
    usual = np.maximum(np.maximum(spread, 0.1 * np.abs(before)), 0.01 * largest)
    rows = max(2, min(len(incident), 5, len(reference) // 3))
    away = np.zeros_like(before)
    if len(reference) >= rows:
        running = np.nanmedian(sliding_window_view(reference, rows, axis=0), -1) - before
        away = np.nanmax(np.vstack([np.where(after >= before, running, -running), 0 * before]), 0)
    scale = usual + past * np.nan_to_num(away)
    scale = np.where(scale > 0, scale, 1.0)
    return before, after, np.nan_to_num((after - before) / scale)


def explained(case, sizes, sigmas):
    callees, callers, places = {}, {}, {}
    for a, b in case.calls:
        callees.setdefault(a, []).append(b)
        callers.setdefault(b, []).append(a)
    for i, place in enumerate(zip(case.services, case.names)):
        places[place] = i
    share = np.zeros(len(sizes))
    for i, (service, name) in enumerate(zip(case.services, case.names)):
        near = (callers if case.signals[i] == "traffic" else callees).get(service, [])
        for other in (places[(n, name)] for n in near if (n, name) in places):
            part = sizes[other] / sizes[i] if sizes[i] else 0
            if abs(sigmas[other]) >= 3 and part > 0:
                share[i] = max(share[i], min(1.0, part))
    return share


def correlations(case, values, onset):
    if case.symptom is None:
        return None
    rows = len(case.times)
    start = max(0, onset - max(30, rows - onset))
    filled = pd.DataFrame(values[start:]).ffill().bfill().fillna(0.0).to_numpy()
    best = np.zeros(filled.shape[1])
    for lead in range(6):
        if len(filled) - lead < 3:
            break
        x, y = filled[: len(filled) - lead], filled[lead:, case.symptom]
        x, y = x - x.mean(0), y - y.mean()
        norm = np.sqrt((x * x).sum(0) * (y * y).sum())
        r = np.abs((x * y[:, None]).sum(0)) / np.where(norm > 0, norm, np.inf)
        best = np.where(r > best + 1e-9, r, best)
    return np.nan_to_num(best)


def rows_of_change(values, before, after):
    place = np.clip((values - before) / np.where(after == before, np.nan, after - before), 0, 1) - 0.5
    balance = np.vstack([np.zeros(values.shape[1]), np.cumsum(np.nan_to_num(place), 0)])
    return balance.argmin(0)


def facts(case, onset, past, mirrored=True):
    """All that scoring needs and that its weights do not change."""
    values = case.troubles(mirrored)
    before, after, sigmas = shifts(values[:onset], values[onset:], past)
    rows = max(1, len(case.times) - onset)
    return dict(
        sigmas=sigmas,
        explained=explained(case, np.nan_to_num(after - before), sigmas),
        time=np.minimum(np.abs(rows_of_change(values, before, after) - onset) / rows, 1),
        r=correlations(case, case.values, onset),
        felt=vantage(case),
    )


def vantage(case):
    """Metrics of the symptom's service, when that is only a place from which users' trouble is seen."""
    if case.symptom is None:
        return np.zeros(len(case.columns), bool)
    service = case.services[case.symptom]
    own = np.array([s == service for s in case.services])
    called = any(service in pair for pair in case.calls)
    return own & (not called and not (case.signals[own] == "saturation").any())


def scores(case, fact, w):
    z = fact["sigmas"]
    weight = np.select([case.signals == "latency", case.signals == "traffic"], [w["latency"], w["traffic"]], 1.0)
    score = np.where(z >= 0, z, -w["fall"] * z) * weight
    score = score * (1 - w["explained"] * fact["explained"]) * (1 - w["time"] * fact["time"])
    if fact["r"] is not None:
        score = score * (1 - w["unrelated"] * (1 - fact["r"]))
    return score * np.where(fact["felt"], 1 - w["vantage"], 1.0)


def find_onset(case, alarm):
    alarm = min(alarm, len(case.times) - 1)
    first = int(alarm * 0.5)
    values = case.values
    if first == 0:
        return alarm
    before, after, sigmas = shifts(values[:first], values[alarm:], 0.5)
    found = []
    for j in np.flatnonzero(np.abs(sigmas) >= 3):
        row = alarm
        for i in range(alarm - 1, first - 1, -1):
            place = (values[i, j] - before[j]) / (after[j] - before[j])
            if np.isfinite(place) and place <= 0.2:
                break
            row = i if np.isfinite(values[i, j]) else row
        found.append((row, min(abs(sigmas[j]), 20.0)))
    found.sort()
    half, total = sum(weight for _, weight in found) / 2, 0.0
    for row, weight in found:
        total += weight
        if total >= half:
            return row
    return alarm


def positions(case, score):
    """Rank of the true service and of the best true metric; the users' entry is never a cause."""
    real = [i for i in range(len(score)) if case.services[i] != "entry"]
    order = sorted(real, key=lambda i: (-score[i], case.services[i], case.names[i]))
    services = list(dict.fromkeys(case.services[i] for i in order))
    truth = case.truth["service"]
    service = services.index(truth) + 1 if truth in services else 10**6
    wanted = set(case.truth["metrics_true"])
    metric = next((at + 1 for at, i in enumerate(order) if case.columns[i] in wanted), 10**6) if wanted else None
    return service, metric


def table(cases, ranks):
    """Mean over data sets of service AC@1, Avg@5; metric AC@1, Avg@5 over all cases that have one."""
    at = lambda ranks, k: float(np.mean([r <= k for r in ranks]))
    average = lambda ranks: float(np.mean([at(ranks, k) for k in range(1, 6)]))
    sets = {}
    for case, (service, _) in zip(cases, ranks):
        sets.setdefault(case.dataset, []).append(service)
    metric = [m for _, m in ranks if m is not None]
    macro = [float(np.mean([f(r) for r in sets.values()])) for f in (lambda r: at(r, 1), average)]
    return macro + ([at(metric, 1), average(metric)] if metric else [np.nan, np.nan])


def load(tree):
    return [Case(f.parent) for f in sorted(Path(tree).glob("*/*/metrics.csv.gz"))]


def reference(folder):
    case = Case(folder)
    onset = case.row_at(case.injected)
    score = scores(case, facts(case, onset, CHOSEN["past"]), CHOSEN)
    late = find_onset(case, min(onset + 1, len(case.times) - 1))
    print(json.dumps({"onset_of_alarm_one_row_late": late, "scores": dict(zip(case.columns, np.round(score, 9).tolist()))}, indent=0))


def ablate(tree):
    cases = load(tree)
    given = [c.row_at(c.injected) for c in cases]
    late = [min(c.row_at(c.injected + 60), len(c.times) - 1) for c in cases]
    print(f"{'':44s} service AC@1 Avg@5 | metric AC@1 Avg@5")

    def show(label, weights, onsets, mirrored=True):
        w = CHOSEN | weights
        ranks = [positions(c, scores(c, facts(c, o, w["past"], mirrored), w)) for c, o in zip(cases, onsets)]
        a, b, c, d = table(cases, ranks)
        print(f"{label:44s}        {a:.3f} {b:.3f} |       {c:.3f} {d:.3f}", flush=True)

    show("all parts, onset given", {}, given)
    show("without the metric's own past", {"past": 0}, given)
    show("without turning availability into errors", {}, given, mirrored=False)
    show("without the call graph", {"explained": 0}, given)
    show("without the meaning of names", {"latency": 1, "traffic": 1}, given)
    show("without the time of change", {"time": 0}, given)
    show("without correlation with the symptom", {"unrelated": 0}, given)
    show("without the vantage rule", {"vantage": 0}, given)
    show("falls weigh as rises", {"fall": 1}, given)
    show("shift alone", dict(past=0, explained=0, latency=1, traffic=1, time=0, unrelated=0, vantage=0, fall=1), given, False)
    show("onset found, alarm at the injection", {}, [find_onset(c, o) for c, o in zip(cases, given)])
    show("onset found, alarm 60 s late", {}, [find_onset(c, o) for c, o in zip(cases, late)])
    show("alarm 60 s late taken as the onset", {}, late)


PARTS = {
    "all parts": {},
    "no past": {"past": 0},
    "no call graph": {"explained": 0},
    "no names": {"latency": 1, "traffic": 1},
    "no time": {"time": 0},
    "no correlation": {"unrelated": 0},
    "no vantage": {"vantage": 0},
    "shift alone": dict(past=0, explained=0, latency=1, traffic=1, time=0, unrelated=0, vantage=0, fall=1),
}


def classes(tree):
    cases = load(tree)
    onsets = [c.row_at(c.injected) for c in cases]
    ranks = {}
    for part, weights in PARTS.items():
        w = CHOSEN | weights
        ranks[part] = [positions(c, scores(c, facts(c, o, w["past"]), w)) for c, o in zip(cases, onsets)]
    groups = sorted({(c.dataset, c.truth.get("class", "unknown")) for c in cases})
    print("| data set | class | cases |", " | ".join(PARTS), "|")
    print("| --- " * (3 + len(PARTS)) + "|")
    for group in groups:
        inside = [i for i, c in enumerate(cases) if (c.dataset, c.truth.get("class", "unknown")) == group]
        cells = []
        for part in PARTS:
            first, five = table([cases[i] for i in inside], [ranks[part][i] for i in inside])[:2]
            cells.append(f"{first:.2f} / {five:.2f}")
        print("|", group[0], "|", group[1], "|", len(inside), "|", " | ".join(cells), "|", flush=True)


def choose(tree):
    cases = load(tree)
    onsets = [c.row_at(c.injected) for c in cases]
    known = {past: [facts(c, o, past) for c, o in zip(cases, onsets)] for past in (0.5, 1.0)}
    grid = [dict(zip(("fall", "latency", "traffic", "unrelated", "time", "explained", "past"), v)) for v in itertools.product(
        (0.3, 0.5, 0.7, 1.0), (0.5, 0.7, 1.0), (0.25, 0.5, 1.0), (0.0, 0.2, 0.4, 0.8), (0.0, 0.6, 0.9), (0.7, 0.9), (0.5, 1.0))]
    sets = sorted({c.dataset for c in cases})
    results = np.zeros((len(grid), len(sets), 4))
    for g, weights in enumerate(grid):
        w = CHOSEN | weights
        ranks = [positions(c, scores(c, f, w)) for c, f in zip(cases, known[w["past"]])]
        for d, name in enumerate(sets):
            inside = [i for i, c in enumerate(cases) if c.dataset == name]
            results[g, d] = table([cases[i] for i in inside], [ranks[i] for i in inside])
    goal = np.nanmean(results, 2)
    for d, name in enumerate(sets):
        best = int(np.argmax(np.delete(goal, d, 1).mean(1)))
        print(name, grid[best], "service AC@1 %.3f Avg@5 %.3f metric AC@1 %.3f Avg@5 %.3f" % tuple(results[best, d]))
        results[0, d] = results[best, d]
    print("left out, mean over data sets: service AC@1 %.3f Avg@5 %.3f" % tuple(results[0, :, :2].mean(0)))


def calibrate(tree, files):
    from sklearn.linear_model import LogisticRegression

    answers = Path(tree).glob("*/*/root_cause.json")
    truth = {f"{f.parent.parent.name}/{f.parent.name}": json.loads(f.read_text())["service"] for f in answers}
    sets, right, x, source = [], [], [], []
    for file in files:
        for key, case in json.loads(Path(file).read_text()).items():
            first, second = ([max(e["score"], 0.0) for e in case["evidence"]] + [0.0, 0.0])[:2]
            x.append([np.log(max(first, 0.3) / max(second, 0.3)), np.log1p(first)])
            right.append(int(case["services"][0] == truth[key]))
            sets.append(key.split("/")[0])
            source.append((file, case["confidence"]))
    sets, right, x = np.array(sets), np.array(right), np.array(x)
    even = lambda keep: np.array([len(sets) / np.sum(sets[keep] == s) / len(set(sets)) for s in sets[keep]])
    fit = lambda keep: LogisticRegression(C=0.05).fit(x[keep], right[keep], sample_weight=even(keep))
    left_out = np.zeros(len(right))
    for name in sorted(set(sets)):
        left_out[sets == name] = fit(sets != name).predict_proba(x[sets == name])[:, 1]
    model = fit(np.ones(len(right), bool))
    print("intercept %.3f lead %.3f size %.3f" % (model.intercept_[0], *model.coef_[0]))
    for file in files:
        of_file = np.array([f == file for f, _ in source])
        for label, p in (("left out", left_out), ("as shipped", np.array([c for _, c in source]))):
            p, y = p[of_file], right[of_file]
            bins = np.minimum((p * 10).astype(int), 9)
            error = sum(np.mean(bins == b) * abs(p[bins == b].mean() - y[bins == b].mean()) for b in set(bins))
            sure = p >= 0.8
            print(f"{file} {label}: calibration error {error:.3f}; confidence >= 0.8 in {sure.mean():.2f} of cases, right in {y[sure].mean():.3f} of them; below 0.5 in {np.mean(p < 0.5):.2f}, right in {y[p < 0.5].mean():.2f} of them")


if __name__ == "__main__":
    command, *arguments = sys.argv[1:] or ["help"]
    commands = {"reference": reference, "ablate": ablate, "classes": classes, "choose": choose}
    if command == "calibrate":
        calibrate(arguments[0], arguments[1:])
    elif command in commands:
        commands[command](*arguments)
    else:
        print(__doc__)
