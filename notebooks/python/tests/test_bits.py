"""The same input gives the same floats in Python and from the binary's commands: equal, not merely close."""

import csv
import gzip
import json
import math
import os
import subprocess
import tempfile
import unittest
from pathlib import Path

import numpy as np

import bellwether

ROOT = Path(__file__).parents[3]
BINARY = os.environ["BELLWETHER"]
DEMAND = ROOT / "demo/data/demand.csv.gz"
FAULT = ROOT / "demo/data/fault"
LEVELS = ["p10", "p50", "p90", "p95"]
MODELS = [*bellwether.models(), "automatic", "light", "thorough", "without_lstm", "without_widths"]


def run(*arguments, **environment):
    done = attempt(*arguments, **environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def attempt(*arguments, **environment):
    surroundings = {**os.environ, **environment}
    return subprocess.run([BINARY, *map(str, arguments)], capture_output=True, text=True, env=surroundings)


def rows(path):
    with open(path) as file:
        return list(csv.DictReader(file))


def recorded(every=30, points=400):
    """Recorded demand, thinned to half-hours, with a gap in it."""
    with gzip.open(DEMAND, "rt") as file:
        kept = list(csv.reader(file))[1:][::every][:points]
    times = np.array([np.datetime64(row[0]) if "-" in row[0] else np.datetime64(int(row[0]), "s") for row in kept])
    values = np.array([float(row[1]) for row in kept])
    values[37] = math.nan
    return times.astype("datetime64[ms]"), values


class Bits(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.times, self.values = recorded()
        self.millis = self.times.astype(np.int64)
        self.file = self.write("load.csv", ["timestamp", "value"], [self.values])
        self.window = bellwether.Window.from_rows(self.millis, self.values)

    def write(self, name, header, columns):
        with open(self.folder / name, "w", newline="") as file:
            out = csv.writer(file)
            out.writerow(header)
            for at, *cells in zip(self.millis.tolist(), *columns):
                out.writerow([at // 1000, *("" if math.isnan(cell) else repr(float(cell)) for cell in cells)])
        return self.folder / name

    def test_a_forecast_of_every_model(self):
        for model in MODELS:
            for season in ([], ["--season", "48"]):
                with self.subTest(model=model, season=season):
                    name = "combination" if model == "automatic" else model
                    asked = ["--input", self.file, "--horizon", 12, "--model", name, *season, "--output", self.folder / "f.csv"]
                    done = attempt("forecast", *asked)
                    try:
                        made = bellwether.forecast(self.window, 12, model=model, season=48 if season else None)
                    except bellwether.FitError as error:
                        self.assertEqual(done.stderr.strip(), f"bellwether: load: no forecast: {error}")
                        continue
                    told = rows(self.folder / "f.csv")
                    self.assertEqual(made.mean.tolist(), [float(row["mean"]) for row in told])
                    self.assertEqual(made.times_ms.tolist(), [round(float(row["timestamp"]) * 1000) for row in told])
                    for level, path in zip(LEVELS, made.quantiles):
                        self.assertEqual(path.tolist(), [float(row[level]) for row in told])

    def test_a_replay_and_its_scores(self):
        table = run(
            "backtest", "--input", self.file, "--horizon", 6, "--season", 48, "--origins", 4,
            "--model", "ets,combination", "--output", self.folder / "b.csv",
        )  # fmt: skip
        replay = bellwether.backtest(self.window, 6, season=48, origins=4, models=["ets", "automatic"])
        told = rows(self.folder / "b.csv")
        made = replay.forecasts["ets", "y"]
        self.assertEqual([origin for origin, _ in made for _ in range(6)], [int(row["origin"]) for row in told])
        for index, level in enumerate(LEVELS):
            paths = [value for _, forecast in made for value in forecast.quantiles[index].tolist()]
            self.assertEqual(paths, [float(row[level]) for row in told])
        for line, scores in zip(table.splitlines()[1:], replay.scores):
            shown = ["-" if scores[name] is None else f"{scores[name]:.4f}" for name in ("mase", "wql", "coverage_p95", "least_coverage_p95", "margin_p95")]
            self.assertEqual(line.split()[1:6], shown)

    def test_scores_of_one_series(self):
        run("detect", "--input", self.file, "--output", self.folder / "d.csv")
        told = [float(row["anomaly_score"]) for row in rows(self.folder / "d.csv")]
        scored = bellwether.Detector().score(self.values, self.times)
        self.assertEqual(scored.score.tolist(), told)
        stream = bellwether.Detector()
        streamed = [stream.update(value, at) for at, value in zip(self.times, self.values)]
        self.assertEqual(streamed, scored.surprise.tolist())

    def test_scores_of_rows_with_history(self):
        chance = np.random.default_rng(4)
        matrix = np.column_stack([self.values, self.values * 2 + chance.normal(size=400), chance.normal(size=400)])
        matrix[300:, 1] += 400
        columns = list(matrix.T)
        rest = self.write("rows.csv", ["timestamp", "a", "b", "c"], columns)
        for options, forest in ([], False), (["--isolation-forest"], True):
            run("detect", "--input", rest, "--train", rest, "--contributions", *options, "--output", self.folder / "m.csv")
            told = rows(self.folder / "m.csv")
            detector = bellwether.MultivariateDetector(isolation_forest=forest).fit(matrix, self.times)
            scored = detector.score(matrix, self.times)
            self.assertEqual(scored.score.tolist(), [float(row["anomaly_score"]) for row in told])
            for index, name in enumerate("abc"):
                self.assertEqual(scored.contributions[:, index].tolist(), [float(row[name]) for row in told])
            self.assertGreater(scored.score.max(), 0)

    def test_a_ranking_with_its_evidence(self):
        case = bellwether.read_case(FAULT)
        for options, alarm in ([], None), (["--onset", "found", "--alarm-delay", "60s"], case.onset + 60):
            told = json.loads(run("rank", "--case", FAULT, *options))
            (told,) = told.values()
            ranking = case.rank(alarm=alarm)
            self.assertEqual([name for name, _ in ranking.columns], told["ranks"])
            self.assertEqual((ranking.services, ranking.confidence), (told["services"], told["confidence"]))
            self.assertEqual([vars(cause) for cause in ranking.causes[:3]], told["evidence"])
            self.assertEqual(ranking.onset_ms, told["onset"])

    def test_a_simulation(self):
        run(
            "simulate", "--demand", self.file, "--startup", "600s", "--cadence", "300s", "--costs", "1,10,100", "--coarse",
            "--output", self.folder / "s.json",
        )  # fmt: skip
        told = json.loads((self.folder / "s.json").read_text())
        made = bellwether.simulate(
            self.window, startup="600s", cadence="300s", costs=(1, 10, 100), coarse=True, name="load"
        )
        self.assertEqual(made.report, told)

    def test_the_weights_of_a_network(self):
        # The sums of the tensor library depend on how many threads share them: one, here and there.
        code = (
            "import sys, numpy as np, bellwether as b\n"
            "times, values = np.load(sys.argv[1]), np.load(sys.argv[2])\n"
            "made = b.train(b.Window.from_rows(times, values), batches=2, batch=4, seed=3, start=None)\n"
            "open(sys.argv[3], 'wb').write(made.weights)\n"
        )
        np.save(self.folder / "t.npy", self.millis), np.save(self.folder / "v.npy", self.values)
        one = {"RAYON_NUM_THREADS": "1"}
        python = [os.sys.executable, "-c", code, *(str(self.folder / name) for name in ("t.npy", "v.npy", "p.safetensors"))]
        subprocess.run(python, check=True, env={**os.environ, **one})
        made = self.folder / "b.safetensors"
        run("train", "--data", self.file, "--share", 1, "--batches", 2, "--batch", 4, "--seed", 3, "--fresh", "--output", made, **one)
        self.assertEqual((self.folder / "p.safetensors").read_bytes(), made.read_bytes())


if __name__ == "__main__":
    unittest.main()
