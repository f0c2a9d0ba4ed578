#!/usr/bin/env bash
# Executes every notebook against the demo, and fails on any error: notebooks/run.sh [--write]
# With --write the outputs are kept in the notebooks. BELLWETHER names a binary to use instead of building one.
set -euo pipefail
cd "$(dirname "$0")/.."

venv=.venv/notebooks
if ! cmp -s notebooks/requirements.txt "$venv/installed.txt"; then
    python3 -m venv --clear "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check --requirement notebooks/requirements.txt
    cp notebooks/requirements.txt "$venv/installed.txt"
fi

if [ -z "${BELLWETHER:-}" ]; then
    # The same selection of features as the tests have: nothing is built twice.
    cargo test --quiet --workspace --all-features --locked --no-run --test demo
    BELLWETHER=${CARGO_TARGET_DIR:-target}/debug/bellwether
fi

log=$(mktemp)
"$BELLWETHER" demo --listen 127.0.0.1:0 >"$log" 2>&1 &
demo=$!
trap 'kill "$demo" 2>/dev/null || true; wait "$demo" 2>/dev/null || true; rm -f "$log"' EXIT

# The replay is over when the page stays up.
for _ in $(seq 600); do
    grep -q "The page stays up" "$log" && break
    kill -0 "$demo" 2>/dev/null || { cat "$log"; echo "notebooks: the demo ended before its story did"; exit 1; }
    sleep 1
done
BELLWETHER_URL=$(sed -n 's|.*The page stays up at \(http://[0-9.:]*\).*|\1|p' "$log")
[ -n "$BELLWETHER_URL" ] || { cat "$log"; echo "notebooks: the demo told no end of its story in ten minutes"; exit 1; }
export BELLWETHER_URL
"$venv/bin/python" notebooks/execute.py "$@" notebooks/*.ipynb
