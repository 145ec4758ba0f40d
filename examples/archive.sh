#!/usr/bin/env bash
# Transcribes a folder of recordings with as many processes as there are GPUs (or PROCESSES), each file once.
# Start it again after an interruption: what is done is not done again.
#   examples/archive.sh FOLDER OUT [MODEL]
set -euo pipefail
folder=$1 out=$2 model=${3:-runs/demo_joint}
.venv/bin/torchrun --standalone --nproc-per-node "${PROCESSES:-gpu}" -m wavellama \
  recipe asr transcribe transcribe_files --model "$model" --output-dir "$out" --no-rich \
  --config "files=[$folder]"
