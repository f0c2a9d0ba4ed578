#!/usr/bin/env bash
# The score tables of docs/explanation/forecasting.md: every model over a manifest of rolling origins, what each member and
# each step adds, and statsforecast beside it where it is installed. One core each.
# usage: run.sh MANIFEST        (CSV series,file,step_s,seasons,horizon,context,origins; see bellwether backtest --help)
# MODELS names others; BELLWETHER names a program that is built already; PYTHON one that has statsforecast.
set -euo pipefail
manifest=${1:?usage: run.sh MANIFEST}
here=$(cd "$(dirname "$0")" && pwd)
cd "$here/../.."
if [ -z "${BELLWETHER:-}" ]; then
    cargo build --release --locked --quiet
    BELLWETHER=${CARGO_TARGET_DIR:-target}/release/bellwether
fi
export OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 NUMBA_NUM_THREADS=1
alone=seasonal_naive,naive,profile,ets,mstl,theta,arima,sarima,ridge,regression,lstm
without=without_naive,without_seasonal_naive,without_profile,without_ets,without_ridge,without_regression,without_lstm
steps=without_settling,without_weighing,without_widths
"$BELLWETHER" backtest --manifest "$manifest" --model "${MODELS:-combination,light,thorough,$alone,$without,$steps}"
python=${PYTHON:-python3}
if "$python" -c 'import statsforecast' 2>/dev/null; then
    "$python" "$here/peers.py" "$manifest"
else
    echo "statsforecast is not installed: pip install statsforecast==2.0.3, or name a PYTHON that has it"
fi
