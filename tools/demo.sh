#!/usr/bin/env bash
# The demo: trains a small model on recorded Italian and Russian speech in three stages, evaluates
# it on sentences that it has not heard, and shows what it wrote. Run by `make demo`; a second call
# goes on where the first one stopped.
set -euo pipefail
cd "$(dirname "$0")/.."
bin=.venv/bin
processes=$(($(nproc) > 1 ? 2 : 1))
export OMP_NUM_THREADS=1 FAIRSEQ2_NO_PROGRESS=1

train() {
  echo "== $1"
  "$bin/python" -m torch.distributed.run --standalone --nproc-per-node "$processes" \
    -m wavellama recipe asr train "$1" --no-rich >"runs/$1.log" 2>&1 ||
    { tail -n 5 "runs/$1.log" >&2; exit 1; }
  grep -o 'Score - Metric.*' "runs/$1.log" | tail -n 1
}

mkdir -p runs
for stage in demo_ctc demo_decoder demo_joint; do train "$stage"; done
echo "== evaluation on held-out sentences"
"$bin/wavellama" recipe asr eval demo_eval --model runs/demo_joint --no-rich 2>runs/demo_eval.log
