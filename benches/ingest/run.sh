#!/usr/bin/env bash
# Remote write over loopback into ourselves, the real Prometheus and the real VictoriaMetrics, one after the other: the same
# recorded node_exporter scrapes, multiplied to many series over hours of 15 s steps; then the same questions. One core for
# the receiver, another for the sender. Ends with a table.
#
#   benches/ingest/run.sh            both sizes below
#   SIZES="2000:6" benches/ingest/run.sh
#
# SIZES      series:hours, several separated by spaces    (default "2000:24 100000:1")
# SCRAPES    a folder of recorded scrapes                 (default: recorded now)
# RECORD     how many scrapes to record                   (default 240)
# RECORD_EVERY  seconds between them                      (default 1; they are stamped 15 s apart all the same)
# RECEIVER   how to start us, with ADDRESS and DATA in it (default the release binary's `run`)
set -euo pipefail
cd "$(dirname "$0")/../.."
SIZES=${SIZES:-2000:24 100000:1} RECORD=${RECORD:-240} RECORD_EVERY=${RECORD_EVERY:-1}
target=${CARGO_TARGET_DIR:-target}
work=$(mktemp -d)
pids=()
trap 'for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done; rm -rf "$work"' EXIT

need() { command -v "$1" >/dev/null || { echo "ingest bench: $1 is not in PATH; make peers installs it" >&2; exit 1; }; }
free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
wait_for() { for _ in $(seq 300); do curl -sf -o /dev/null "$1" && return; sleep 0.2; done; echo "ingest bench: $1 does not answer" >&2; exit 1; }

record() { # folder
  local port; port=$(free_port)
  prometheus-node-exporter --web.listen-address="127.0.0.1:$port" >/dev/null 2>&1 & pids+=($!)
  wait_for "http://127.0.0.1:$port/metrics"
  for i in $(seq -w "$RECORD"); do curl -s "http://127.0.0.1:$port/metrics" >"$1/$i.txt"; sleep "$RECORD_EVERY"; done
}

load() { # name address pid data series hours
  taskset -c 1 "$target/release/examples/ingest-load" --scrapes "$scrapes" --name "$1" --address "$2" --pid "$3" \
    --data "$4" --series "$5" --hours "$6" | tee -a "$results"
}

sealed() { # name series bytes-per-sample
  echo "{\"name\":\"$1\",\"series\":$2,\"sealed_bytes_per_sample\":$3}" >>"$results"
}

ours() { # series hours
  local address data=$work/ours-$1 start pid
  address=127.0.0.1:$(free_port)
  mkdir "$data"
  cat >"$data.yaml" <<YAML
server: { listen: "$address" }
host: { enabled: false }
ingest: { max_series: 1000000, max_series_per_source: 1000000, max_series_per_metric: 0 }
store: { embedded: { path: "$data" } }
YAML
  start=${RECEIVER:-$target/release/bellwether run --config $data.yaml}
  start=${start//ADDRESS/$address} start=${start//DATA/$data}
  taskset -c 0 $start >"$data.log" 2>&1 & pid=$!; pids+=("$pid")
  wait_for "http://$address/${READY:--/ready}"
  load bellwether "$address" "$pid" "$data" "$1" "$2"
  kill "$pid"; wait "$pid" || true
  [ -n "${RECEIVER:-}" ] && return
  "$target/release/bellwether" store verify "$data" | head -1 | tee "$data.verify" || true
  sealed bellwether "$1" "$(sed 's/.*(\([0-9.]*\) each).*/\1/' "$data.verify")"
}

prometheus_() { # series hours
  local address data=$work/prometheus-$1 pid
  address=127.0.0.1:$(free_port)
  mkdir "$data"; echo 'global: {}' >"$data.yaml"
  taskset -c 0 prometheus --config.file="$data.yaml" --storage.tsdb.path="$data" --storage.tsdb.retention.time=30d \
    --web.listen-address="$address" --web.enable-remote-write-receiver --log.level=warn >"$data.log" 2>&1 & pid=$!; pids+=("$pid")
  wait_for "http://$address/-/ready"
  load prometheus "$address" "$pid" "$data" "$1" "$2"
  kill "$pid"; wait "$pid" || true
  sealed prometheus "$1" "$(python3 - "$data" <<'PY'
import json, pathlib, sys
blocks = [meta.parent for meta in pathlib.Path(sys.argv[1]).glob("*/meta.json")]
samples = sum(json.loads((block / "meta.json").read_text())["stats"]["numSamples"] for block in blocks)
size = sum(file.stat().st_size for block in blocks for file in block.rglob("*") if file.is_file())
print(f"{size / max(samples, 1):.3f}")
PY
)"
}

victoria() { # series hours
  local address data=$work/victoria-metrics-$1 pid samples
  address=127.0.0.1:$(free_port)
  mkdir "$data"
  taskset -c 0 victoria-metrics -storageDataPath="$data" -retentionPeriod=30d -httpListenAddr="$address" \
    -loggerLevel=ERROR -search.maxUniqueTimeseries=1000000 -search.latencyOffset=0s >"$data.log" 2>&1 & pid=$!; pids+=("$pid")
  wait_for "http://$address/health"
  load victoria-metrics "$address" "$pid" "$data" "$1" "$2"
  samples=$(tail -1 "$results" | python3 -c 'import json, sys; print(json.load(sys.stdin)["samples"])')
  kill "$pid"; wait "$pid" || true
  sealed victoria-metrics "$1" "$(du -sb "$data/data" "$data/indexdb" | awk -v n="$samples" '{sum += $1} END {printf "%.3f", sum / n}')"
}

table() {
  python3 - "$results" <<'PY'
import json, sys
rows = {}
for line in open(sys.argv[1]):
    row = json.loads(line)
    rows.setdefault((row["series"], row["name"]), {}).update(row)
names = ["bellwether", "prometheus", "victoria-metrics"]
figures = [
    ("samples per second of one core", lambda r: f"{r['samples_per_core_second']:,.0f}"),
    ("resident memory, MiB", lambda r: f"{r['rss_mib']:.1f}"),
    ("memory per series above the idle process, bytes", lambda r: f"{r['rss_bytes_per_series']:,.0f}"),
    ("bytes per sample, sealed", lambda r: f"{r.get('sealed_bytes_per_sample', float('nan')):.3f}"),
    ("bytes per sample on disk, write-ahead log included", lambda r: f"{r['disk_bytes_per_sample']:.2f}"),
    ("(a) 3 h of one series, ms", lambda r: f"{r['query_ms']['a']:.1f}"),
    ("(b) last 15 min of all series, ms", lambda r: f"{r['query_ms']['b']:.1f}"),
    ("(c) 24 h at 5 min of 50 series, ms", lambda r: f"{r['query_ms']['c']:.1f}"),
]
for series in sorted({series for series, _ in rows}):
    print(f"\n| {series:,} series | " + " | ".join(names) + " |\n| --- |" + " --- |" * len(names))
    for title, show in figures:
        cells = [show(rows[series, name]) if (series, name) in rows else "" for name in names]
        print(f"| {title} | " + " | ".join(cells) + " |")
PY
}

need prometheus; need prometheus-node-exporter; need victoria-metrics; need taskset
results=$work/results.jsonl
[ -n "${RECEIVER:-}" ] || cargo build --release --locked --quiet --bin bellwether
cargo build --release --locked --quiet -p bellwether-collector --example ingest-load
scrapes=${SCRAPES:-$work/scrapes}
[ -n "${SCRAPES:-}" ] || { mkdir "$scrapes"; echo "recording $RECORD scrapes, one every $RECORD_EVERY s" >&2; record "$scrapes"; }
for size in $SIZES; do
  for server in ours prometheus_ victoria; do
    $server "${size%:*}" "${size#*:}"
    rm -rf "$work"/*"-${size%:*}"
  done
done
table
