#!/usr/bin/env bash
# Runs the tests of a registry in a bucket against the S3 of moto, on a free port of this machine.
set -euo pipefail
cd "$(dirname "$0")/.."
venv=.venv/s3
[ -x "$venv/bin/moto_server" ] || { python3 -m venv "$venv" && "$venv/bin/pip" install --quiet --disable-pip-version-check 'moto[server]==5.2.5'; }
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
"$venv/bin/moto_server" -H 127.0.0.1 -p "$port" >/dev/null 2>&1 &
server=$!
trap 'kill "$server"' EXIT
export BELLWETHER_S3_ENDPOINT=http://127.0.0.1:$port AWS_ACCESS_KEY_ID=test AWS_SECRET_ACCESS_KEY=test
until curl -sf -o /dev/null -X PUT "$BELLWETHER_S3_ENDPOINT/models"; do sleep 0.2; done
cargo test --workspace --all-features --locked --lib -- --ignored a_bucket_keeps
