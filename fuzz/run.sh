#!/usr/bin/env bash
# Fuzzes every reader, or those named, FUZZ_SECONDS each (60), with coverage guidance on stable Rust. What is found lies in
# fuzz/findings: mend it, then move the file into its corpus, which every run of the tests replays.
set -euo pipefail
cd "$(dirname "$0")"
target_dir=${CARGO_TARGET_DIR:-target}
host=$(rustc -vV | sed -n 's/^host: //p')
export RUSTFLAGS="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares --cfg fuzzing"
CARGO_TARGET_DIR=$target_dir cargo build --release --locked --target "$host"
targets=("$@")
[[ ${#targets[@]} -gt 0 ]] || targets=(corpus/*/)
found=0
for target in "${targets[@]}"; do
  target=$(basename "$target")
  # New inputs go to a folder beside the corpus, so that the corpus stays small; `minimise` moves what is worth it.
  mkdir -p "work/$target" findings "corpus/$target"
  echo "fuzz: $target for ${FUZZ_SECONDS:-60} s"
  BELLWETHER_FUZZ_TARGET=$target "$target_dir/$host/release/bellwether-fuzz" "work/$target" "corpus/$target" \
    -max_total_time="${FUZZ_SECONDS:-60}" -timeout=10 -rss_limit_mb=2048 -malloc_limit_mb=512 -max_len=4096 \
    -artifact_prefix="findings/$target-" -print_final_stats=1 >"work/$target.log" 2>&1 || { found=1; tail -40 "work/$target.log"; }
  grep -E "stat::(number_of_executed_units|peak_rss_mb)|#[0-9]+.*DONE" "work/$target.log" || true
done
exit $found
