#!/usr/bin/env bash
# Builds the wheel for use, optimised, into FOLDER (dist by default): notebooks/python/wheel.sh [FOLDER]
# Needs Rust and Python alone; maturin comes from the pinned requirement into a virtual environment of its own.
set -euo pipefail
cd "$(dirname "$0")"
root=$(cd ../.. && pwd)
venv=$root/.venv/maturin
maturin=$(sed -n 's/.*"\(maturin==[0-9.]*\)".*/\1/p' pyproject.toml)
if [ ! -x "$venv/bin/maturin" ]; then
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check "$maturin"
fi
"$venv/bin/maturin" build --release --locked --out "${1:-$root/dist}"
