#!/usr/bin/env bash
# Tests the Python package, executes every notebook against two running servers, and fails on any error:
# notebooks/run.sh [--write]
# One server is the demo after its story; the other runs on the wall clock (live.yaml, feed.py), so that models can be
# promoted on it. With --write the outputs are kept in the notebooks. BELLWETHER and BELLWETHER_MODULE: see setup.sh.
set -euo pipefail
cd "$(dirname "$0")/.."

BELLWETHER=$(realpath "$(notebooks/setup.sh)")
export BELLWETHER
notebooks/python/test.sh

folder=$(mktemp -d)
started=()
stop() {
    for pid in "${started[@]}"; do kill "$pid" 2>/dev/null || true; done
    wait
    rm -rf "$folder"
}
trap stop EXIT

# Waits until the log $2 of process $1 says $3.
await() {
    for _ in $(seq 600); do
        grep -q "$3" "$2" && return
        kill -0 "$1" 2>/dev/null || { cat "$2"; echo "notebooks: a server ended before it said \"$3\""; exit 1; }
        sleep 1
    done
    cat "$2"; echo "notebooks: no \"$3\" in ten minutes"; exit 1
}

"$BELLWETHER" demo --listen 127.0.0.1:0 >"$folder/demo.log" 2>&1 &
started+=($!)
demo=$!

{ cat notebooks/live.yaml; echo "store: { embedded: { path: $folder/data } }"; } >"$folder/live.yaml"
NO_COLOR=1 "$BELLWETHER" run --config "$folder/live.yaml" --listen 127.0.0.1:0 >"$folder/live.log" 2>&1 &
started+=($!)
await $! "$folder/live.log" "listening address="
BELLWETHER_LIVE_URL=http://$(sed -n 's/.*listening address=\([0-9.:]*\).*/\1/p' "$folder/live.log" | head -1)
.venv/notebooks/bin/python notebooks/feed.py "$BELLWETHER_LIVE_URL" >"$folder/feed.log" 2>&1 &
started+=($!)
await $! "$folder/feed.log" "fed"

await "$demo" "$folder/demo.log" "The page stays up"
BELLWETHER_URL=$(sed -n 's|.*The page stays up at \(http://[0-9.:]*\).*|\1|p' "$folder/demo.log")
export BELLWETHER_URL BELLWETHER_LIVE_URL
.venv/notebooks/bin/python notebooks/execute.py "$@" notebooks/*.ipynb
