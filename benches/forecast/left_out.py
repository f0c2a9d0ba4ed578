#!/usr/bin/env python3
"""What the network is worth on a series of which its training saw nothing.

The traces are dealt into folds. For each fold a network is trained on the traces of all others, by the command that made
the one in the program but for the number of batches, and asked for the series made from the fold's traces. Beside it, a
network trained as long on all traces.

usage: left_out.py MANIFEST TRACES --bellwether PROGRAM [--folds 4] [--batches 1500]
TRACES: CSV `file,series`: each file that is trained on, and the series of MANIFEST made from it (`;` between several).
"""
import argparse
import csv
import subprocess
import tempfile
from pathlib import Path

from scores import LEVELS, figures, tasks, together

MODELS = ["lstm", "combination"]


def parsed():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("manifest", type=Path)
    parser.add_argument("traces", type=Path)
    parser.add_argument("--bellwether", required=True)
    parser.add_argument("--folds", type=int, default=4)
    parser.add_argument("--batches", type=int, default=1500)
    return parser.parse_args()


def train(args, files, output):
    command = [args.bellwether, "train", "--batches", str(args.batches), "--output", output, "--data", *files]
    subprocess.run(command, check=True)


def asked(args, model, weights, folder):
    """Figures by series of `model` with these weights."""
    output = folder / "said.csv"
    command = [args.bellwether, "backtest", "--manifest", args.manifest, "--model", model, "--weights", weights]
    subprocess.run([*command, "--output", output], check=True, stdout=subprocess.DEVNULL)
    said = {}
    for row in csv.DictReader(open(output)):
        levels = said.setdefault(row["series"], {}).setdefault(int(row["origin"]), [[] for _ in LEVELS])
        for level, column in zip(levels, ["p10", "p50", "p90", "p95"]):
            level.append(float(row[column]))
    of = lambda name, origins: [said[name][origin] for origin in origins]
    return {
        name: figures(y, seasons[0], origins, horizon, of(name, origins))
        for name, y, seasons, horizon, _, origins in tasks(args.manifest)
    }


def main():
    args = parsed()
    traces = [(row["file"], row["series"].split(";")) for row in csv.DictReader(open(args.traces))]
    files = [file for file, _ in traces]
    fold_of = {series: i % args.folds for i, (_, of_file) in enumerate(traces) for series in of_file}
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        train(args, files, folder / "all.safetensors")
        shown = {model: asked(args, model, folder / "all.safetensors", folder) for model in MODELS}
        unseen = {model: dict(shown[model]) for model in MODELS}  # a series of no trace was never trained on
        for fold in range(args.folds):
            weights = folder / f"without-{fold}.safetensors"
            train(args, [file for i, file in enumerate(files) if i % args.folds != fold], weights)
            for model in MODELS:
                found = asked(args, model, weights, folder)
                unseen[model].update({name: found[name] for name in found if fold_of.get(name) == fold})
    print(f"{'':<34}{'gm MASE':>9}{'gm WQL':>9}{'<=p95':>9}{'least':>9}")
    for model in MODELS:
        for what, scores in [("trained on all traces", shown), ("its own trace left out", unseen)]:
            row = "".join(f"{v:>9.4f}" for v in together(scores[model][name] for name in fold_of if name in scores[model]))
            print(f"{model + ', ' + what:<34}{row}")


if __name__ == "__main__":
    main()
