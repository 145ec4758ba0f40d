#!/usr/bin/env bash
# Transcribes a folder of recordings in several processes, each file once: one process per GPU, without a GPU one
# in all. PROCESSES sets another number; each holds the whole model and has its share of the cores.
# Start it again after an interruption: what is done is not done again.
#   examples/archive.sh FOLDER OUT [MODEL]
set -euo pipefail
folder=$1 out=$2 model=${3:-wavellama_small}
gpus=$({ nvidia-smi -L 2>/dev/null || true; } | wc -l)
processes=${PROCESSES:-$((gpus > 0 ? gpus : 1))}
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$((($(nproc) + processes - 1) / processes))}
quoted=\'${folder//\'/\'\'}\' # as YAML reads a name with blanks and commas
.venv/bin/torchrun --standalone --nproc-per-node "$processes" -m wavellama \
  recipe asr transcribe transcribe_files --model "$model" --output-dir "$out" --no-rich \
  --config "files=[$quoted]"
