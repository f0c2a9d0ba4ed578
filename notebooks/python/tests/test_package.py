"""Frames, errors, threads: what the package promises beyond its numbers."""

import ast
import doctest
import threading
import time
import unittest
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa

import bellwether
import bellwether.causes
import bellwether.forecasting
from bellwether import _native

HOURS = pd.date_range("2026-03-01", periods=240, freq="h")
Y = 50 + 10 * np.sin(np.arange(240) / 24 * 2 * np.pi) + np.random.default_rng(2).normal(size=240)


def frame():
    two = {"unique_id": ["web"] * 240 + ["db"] * 240, "ds": [*HOURS, *HOURS], "y": [*Y, *(2 * Y)]}
    return pd.DataFrame(two)


class OnlyAStream:
    """A table that shows nothing but the Arrow C stream interface."""

    def __init__(self, table):
        self.table = table

    def __arrow_c_stream__(self, requested_schema=None):
        return self.table.__arrow_c_stream__(requested_schema)


class Frames(unittest.TestCase):
    def test_what_goes_out_has_the_kind_of_what_came_in(self):
        expected = bellwether.forecast(frame(), 3, model="ets")
        self.assertEqual(list(expected.columns), ["unique_id", "ds", "mean", "p10", "p50", "p90", "p95"])
        self.assertEqual(expected.ds[0], pd.Timestamp("2026-03-11 00:00"))
        polars = bellwether.forecast(pl.from_pandas(frame()), 3, model="ets")
        arrow = bellwether.forecast(pa.Table.from_pandas(frame()), 3, model="ets")
        stream = bellwether.forecast(OnlyAStream(pa.Table.from_pandas(frame())), 3, model="ets")
        self.assertIsInstance(polars, pl.DataFrame)
        self.assertIsInstance(arrow, pa.Table)
        for other in polars.to_dicts(), arrow.to_pylist(), stream.to_pylist():
            self.assertEqual(other, expected.to_dict("records"))

    def test_series_that_are_mixed_up_are_told_apart(self):
        mixed = frame().sort_values("ds", kind="stable")
        apart = bellwether.forecast(frame(), 2, model="naive").sort_values("unique_id", ignore_index=True)
        found = bellwether.forecast(mixed, 2, model="naive").sort_values("unique_id", ignore_index=True)
        pd.testing.assert_frame_equal(apart, found)

    def test_zones_and_unix_seconds_go_out_as_they_came_in(self):
        berlin = frame().assign(ds=lambda f: f.ds.dt.tz_localize("Etc/GMT-2"))
        self.assertEqual(str(bellwether.forecast(berlin, 1, model="naive").ds.dt.tz), "Etc/GMT-2")
        seconds = frame().assign(ds=lambda f: f.ds.astype("datetime64[s]").astype("int64"))
        self.assertEqual(int(bellwether.forecast(seconds, 1, model="naive").ds[0]), 1_773_187_200)

    def test_gaps_of_every_kind_of_frame_are_gaps(self):
        holed = frame().assign(y=lambda f: f.y.where(f.index != 100))
        expected = bellwether.detect(holed).surprise.tolist()
        nulls = pl.from_pandas(holed).with_columns(pl.col("y").fill_nan(None))
        self.assertEqual(nulls["y"].null_count(), 1)
        self.assertEqual(bellwether.detect(nulls)["surprise"].to_list(), expected)
        self.assertEqual(bellwether.detect(nulls.to_arrow())["surprise"].to_pylist(), expected)

    def test_many_at_once_are_the_same_as_one_after_the_other(self):
        heard = []
        parallel = bellwether.forecast(frame(), 6, jobs=2, progress=lambda done, all: heard.append((done, all)))
        pd.testing.assert_frame_equal(parallel, bellwether.forecast(frame(), 6))
        self.assertEqual(heard, [(1, 2), (2, 2)])

    def test_what_is_no_number_no_time_or_no_column_is_named(self):
        for broken, word in (
            (frame().assign(y="many"), "'y'"),
            (frame().assign(ds="soon"), "soon"),
            (frame().drop(columns="y"), "no column 'y'"),
            (frame().iloc[:0], "no rows"),
            (frame().iloc[::-1], "back in time"),
        ):
            with self.assertRaises(ValueError) as raised:
                bellwether.forecast(broken, 2)
            self.assertIn(word, str(raised.exception))


class Errors(unittest.TestCase):
    def test_they_have_the_words_of_the_program(self):
        with self.assertRaisesRegex(bellwether.FitError, "3 observations are too few, 8 are needed"):
            bellwether.forecast([1.0, 2.0, 3.0], 2)
        with self.assertRaisesRegex(bellwether.InputError, '"prophet" is no model; there are naive'):
            bellwether.forecast(Y, 2, model="prophet")
        with self.assertRaisesRegex(bellwether.InputError, "a quantile lies strictly between 0 and 1, not at 1.5"):
            bellwether.forecast(Y, 2, quantiles=[1.5])
        with self.assertRaisesRegex(bellwether.FitError, "series 'web': "):
            bellwether.forecast(frame().iloc[:3], 2)
        with self.assertRaisesRegex(bellwether.InputError, "not in the safetensors format"):
            bellwether.train(Y, batches=1, batch=1, start=b"no network")
        with self.assertRaisesRegex(bellwether.InputError, "the symptom \"x\" is no column; there are a_b"):
            bellwether.rank({"time": [0, 1], "a_b": [1.0, 2.0]}, onset=1, symptom="x")
        with self.assertRaisesRegex(bellwether.InputError, "learnt nothing yet"):
            bellwether.Forecaster().predict(1)
        with self.assertRaisesRegex(bellwether.RequestError, "could not reach http://127.0.0.1:1"):
            bellwether.connect("http://127.0.0.1:1").workloads()

    def test_no_input_makes_it_panic(self):
        odd = [np.nan, np.inf, -np.inf, 0.0, 1e308, -1e308]
        for values in ([], odd, [np.nan] * 50, [5.0] * 50, odd * 20):
            for model in ("automatic", "arima", "lstm"):
                try:
                    self.assertTrue(np.isfinite(bellwether.forecast(values, 3, model=model).mean).all())
                except bellwether.FitError:
                    pass
            self.assertFalse(np.isnan(bellwether.Detector().score(values).surprise).any())
            self.assertFalse(np.isnan(bellwether.MultivariateDetector().score(np.array([values, values]).T).score).any())

    def test_what_progress_raises_ends_a_replay(self):
        def stop(done, all):
            raise KeyboardInterrupt

        with self.assertRaises(KeyboardInterrupt):
            bellwether.backtest(Y, 3, origins=50, models=["naive"], progress=stop)


class Models(unittest.TestCase):
    def test_a_fitted_model_takes_in_new_points(self):
        model = bellwether.Forecaster("ets", season=24, horizon=6).fit(Y[:200], step="1h")
        model.update(Y[200:210])
        self.assertEqual(model.predict().start_ms, 210 * 3_600_000)
        self.assertEqual(model.predict(2, [0.5]).quantiles.shape, (1, 2))
        self.assertEqual((model.periods_, list(model.shares_)), ([24], ["ets"]))

    def test_an_artefact_is_written_and_read_back(self):
        import tempfile

        made = bellwether.train(Y, batches=1, batch=2, step="1h")
        with tempfile.TemporaryDirectory() as folder:
            made.save(f"{folder}/net.safetensors")
            self.assertEqual(bellwether.Artefact.load(f"{folder}/net.safetensors"), made)

    def test_a_trained_model_forecasts_by_itself_and_beside_others(self):
        network = bellwether.train(Y, batches=1, batch=2, step="1h")
        arima = bellwether.search_arima(Y, step="1h", season=24, seasonal=True)
        self.assertEqual(arima.manifest["parameters"]["orders"]["period"], 24)
        mine = bellwether.forecast(Y, 3, model=network, step="1h").mean
        self.assertNotEqual(mine.tolist(), bellwether.forecast(Y, 3, model="lstm", step="1h").mean.tolist())
        replay = bellwether.backtest(Y, 3, models={"mine": network, "arima": arima}, origins=3, step="1h")
        self.assertEqual([line["model"] for line in replay.scores], ["mine", "arima"])
        scores = bellwether.scored(arima, Y, 3, origins=3, season=24, step="1h").manifest["scores"]
        self.assertEqual((scores["origins"], scores["horizon"]), (3, 3))
        wrong = bellwether.Artefact({"kind": "arima", "parameters": {"orders": {"ar": 9}}})
        with self.assertRaisesRegex(bellwether.InputError, "ar is 9, at most 3 can be fitted"):
            bellwether.forecast(Y, 3, model=wrong)

    def test_computing_leaves_python_to_other_threads(self):
        ticks, over = 0, threading.Event()

        def tick():
            nonlocal ticks
            while not over.is_set():
                time.sleep(0.001)
                ticks += 1

        other = threading.Thread(target=tick)
        other.start()
        try:
            # With the lock held a waiting thread runs at most once before the call and never during it.
            before = ticks
            bellwether.train([Y] * 3, batches=20, batch=32, step="1h")
            during = ticks - before
        finally:
            over.set()
            other.join()
        self.assertGreater(during, 5)

    def test_the_stub_names_what_the_module_holds(self):
        stub = ast.parse((Path(bellwether.__file__).parent / "_native.pyi").read_text())
        for known in stub.body:
            if isinstance(known, (ast.ClassDef, ast.FunctionDef)):
                found = getattr(_native, known.name)
                methods = [m.name for m in getattr(known, "body", []) if isinstance(m, ast.FunctionDef)]
                self.assertEqual([name for name in methods if not hasattr(found, name)], [], known.name)
        named = {getattr(known, "name", None) for known in stub.body} | {"VERSION"}
        self.assertEqual({name for name in dir(_native) if not name.startswith("_")} - named, set())

    def test_the_examples_in_the_docstrings_hold(self):
        for module in bellwether.forecasting, bellwether.causes:
            self.assertEqual(doctest.testmod(module, verbose=False).failed, 0)


if __name__ == "__main__":
    unittest.main()
