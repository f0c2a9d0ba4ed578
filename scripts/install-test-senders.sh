#!/usr/bin/env bash
# Installs the official clients that the tests run into .venv/senders; where that is impossible it says so and ends well:
# the tests then skip what they cannot run, and say so too.
set -euo pipefail
cd "$(dirname "$0")/.."
venv=.venv/senders
if ! cmp -s tests/senders/requirements.txt "$venv/installed.txt"; then
  if python3 -m venv "$venv" && "$venv/bin/pip" install --quiet --disable-pip-version-check -r tests/senders/requirements.txt; then
    cp tests/senders/requirements.txt "$venv/installed.txt"
  else
    echo "install-test-senders: not installed; tests that need the Python clients will be skipped"
  fi
fi
js=$venv/js
if ! cmp -s tests/senders/package-lock.json "$js/installed.json"; then
  mkdir -p "$js"
  cp tests/senders/package.json tests/senders/package-lock.json "$js"
  if command -v npm >/dev/null 2>&1 && npm ci --prefix "$js" --silent --no-audit --no-fund; then
    cp tests/senders/package-lock.json "$js/installed.json"
  else
    echo "install-test-senders: not installed; tests that need the JavaScript client will be skipped"
  fi
fi
