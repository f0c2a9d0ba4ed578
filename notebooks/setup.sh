#!/usr/bin/env bash
# Puts all that the notebooks need into .venv/notebooks: the packages of requirements.txt, and the package bellwether built
# from this source. Prints the binary that was built beside it. BELLWETHER and BELLWETHER_MODULE name a binary and a module
# to use instead of building them.
set -euo pipefail
cd "$(dirname "$0")/.."

venv=.venv/notebooks
if ! cmp -s notebooks/requirements.txt "$venv/installed.txt"; then
    python3 -m venv --clear "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check --requirement notebooks/requirements.txt
    cp notebooks/requirements.txt "$venv/installed.txt"
fi

built=${CARGO_TARGET_DIR:-target}/debug
if [ -z "${BELLWETHER:-}" ] || [ -z "${BELLWETHER_MODULE:-}" ]; then
    # The same selection of features as the tests have: nothing is built twice.
    cargo test --quiet --workspace --all-features --locked --no-run --test demo
fi
rm -rf .venv/wheel
wheel=$("$venv/bin/python" notebooks/python/pack.py "${BELLWETHER_MODULE:-$built/deps/libbellwether_python.so}" .venv/wheel)
"$venv/bin/pip" install --quiet --disable-pip-version-check --force-reinstall --no-deps "$wheel"
echo "${BELLWETHER:-$built/bellwether}"
