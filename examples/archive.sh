#!/usr/bin/env bash
# Transcribes a folder of recordings with several workers, each file once: one worker per GPU, without a GPU one
# in all. WORKERS sets another number; each holds the whole model and has its share of the cores.
# Start it again after an interruption: what is done is not done again.
#   examples/archive.sh FOLDER JOB [MODEL]
set -euo pipefail
folder=$1 job=$2 model=${3:-wavellama_small}
gpus=$({ nvidia-smi -L 2>/dev/null || true; } | wc -l)
workers=${WORKERS:-$((gpus > 0 ? gpus : 1))}
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$((($(nproc) + workers - 1) / workers))}
wavellama=.venv/bin/wavellama
[ -e "$job/job.json" ] || "$wavellama" archive create "$job" "$folder" --model "$model"
for ((worker = 0; worker < workers; worker++)); do
  if ((gpus > 0)); then export CUDA_VISIBLE_DEVICES=$((worker % gpus)); fi
  "$wavellama" archive work "$job" &
done
wait
"$wavellama" archive merge "$job"
