#!/usr/bin/env bash
# Every trace of a folder through `bellwether simulate`, at start-up times of 30 s, 2, 5 and 15 minutes, and a table of what
# came of it:
#   benches/scaling/run.sh TRACES [OUT]     CSV files `timestamp,value`; reports are kept in OUT (default: out/scaling)
# Traces coarser than 5 minutes are simulated at a start-up time of 15 minutes alone; between two points demand is linear.
# Reports that are there are not made again: remove OUT to begin anew. BELLWETHER names the program (default: a release build of this source), STARTUPS
# other start-up times, COSTS other cost ratios.
set -euo pipefail
cd "$(dirname "$0")/../.."
traces=${1:?usage: benches/scaling/run.sh TRACES [OUT]} out=${2:-out/scaling}
mkdir -p "$out"
program=${BELLWETHER:-}
if [[ -z $program ]]; then
  cargo build --release --locked --bin bellwether
  program=${CARGO_TARGET_DIR:-target}/release/bellwether
fi
one() {
  local program=$1 trace=$2 startup=$3 report=$4
  [[ -s $report ]] && return
  "$program" simulate --demand "$trace" --startup "$startup" --coarse ${COSTS:+--costs "$COSTS"} --output "$report.part"
  mv "$report.part" "$report"
}
export -f one
seconds_apart() { python3 - "$1" <<'PY'
import csv, gzip, statistics, sys
with (gzip.open if sys.argv[1].endswith("gz") else open)(sys.argv[1], "rt") as file:
    times = [float(row[0]) for row in list(csv.reader(file))[1:]]
print(int(statistics.median(b - a for a, b in zip(times, times[1:]))))
PY
}
for trace in "$traces"/*.csv*; do
  coarse=$(($(seconds_apart "$trace") > 300))
  for startup in ${STARTUPS:-30s 2m 5m 15m}; do
    ((coarse)) && [[ $startup != 15m ]] && continue
    name=$(basename "$trace"); printf '%s\0' "$program" "$trace" "$startup" "$out/${name%%.csv*}-$startup.json"
  done
done | xargs -0 -n 4 -P "$(nproc)" bash -euc 'one "$@"' _
python3 benches/scaling/summary.py "$out"
