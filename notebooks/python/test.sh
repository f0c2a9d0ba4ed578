#!/usr/bin/env bash
# The wheel in an empty environment with the example of the README, then the package against the binary, bit for bit.
# Needs what notebooks/setup.sh made; BELLWETHER names the binary.
set -euo pipefail
cd "$(dirname "$0")/../.."

empty=$(mktemp -d)
trap 'rm -rf "$empty"' EXIT
numpy=$(grep '^numpy==' notebooks/requirements.txt)
python3 -m venv "$empty"
"$empty/bin/pip" install --quiet --disable-pip-version-check --only-binary :all: "$numpy" .venv/wheel/*.whl
example() { sed -n '/^```python$/,/^```$/p' "$1" | grep -v '^```'; }
example README.md >"$empty/example.py"
example notebooks/python/README.md | diff "$empty/example.py" -
(cd "$empty" && bin/python example.py)

BELLWETHER=$(realpath "$BELLWETHER")
export BELLWETHER
cd notebooks/python/tests
../../../.venv/notebooks/bin/python -m unittest --failfast
