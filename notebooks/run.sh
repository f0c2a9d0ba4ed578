#!/usr/bin/env bash
# Tests the Python package, executes every notebook against the demo, and fails on any error: notebooks/run.sh [--write]
# With --write the outputs are kept in the notebooks. BELLWETHER and BELLWETHER_MODULE: see setup.sh.
set -euo pipefail
cd "$(dirname "$0")/.."

BELLWETHER=$(notebooks/setup.sh)
export BELLWETHER
notebooks/python/test.sh

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
.venv/notebooks/bin/python notebooks/execute.py "$@" notebooks/*.ipynb
