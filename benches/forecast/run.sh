#!/usr/bin/env bash
# The score table of docs/explanation/forecasting.md: every model over a manifest of rolling origins, and statsforecast
# beside it where it is installed. One core each.
# usage: run.sh MANIFEST        (CSV series,file,step_s,seasons,horizon,context,origins; see bellwether backtest --help)
set -euo pipefail
manifest=${1:?usage: run.sh MANIFEST}
here=$(cd "$(dirname "$0")" && pwd)
cd "$here/../.."
cargo build --release --locked --quiet
export OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 NUMBA_NUM_THREADS=1
models=combination,seasonal_naive,naive,profile,ets,mstl,theta,arima,ridge,regression,lstm
target/release/bellwether backtest --manifest "$manifest" --model "$models"
python=${PYTHON:-python3}
if "$python" -c 'import statsforecast' 2>/dev/null; then
    "$python" "$here/peers.py" "$manifest"
else
    echo "statsforecast is not installed: pip install statsforecast==2.0.3, or name a PYTHON that has it"
fi
