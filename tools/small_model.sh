#!/usr/bin/env bash
# The small model, from its data to a file of 8-bit weights: fetches three corpora, merges them, trains the three
# stages, and converts. It needs the encoder of Whisper base (docs/training.md); a second call goes on where the
# first one stopped.
#   tools/small_model.sh OUT.safetensors
set -euo pipefail
cd "$(dirname "$0")/.."
out=${1:?usage: tools/small_model.sh OUT.safetensors}
bin=.venv/bin
if [ ! -e data/whisper_base_encoder.safetensors ]; then
  echo "data/whisper_base_encoder.safetensors is missing; docs/training.md says how to make it." >&2
  exit 1
fi
corpora=()
for name in debian-speech amazon-queen spoken-texts; do
  "$bin/wavellama" data fetch "$name" --out "data/$name"
  corpora+=("data/$name")
done
"$bin/wavellama" data merge "${corpora[@]}" --out data/small_model.tsv
for stage in ctc decoder joint; do
  "$bin/wavellama" recipe asr train "small_$stage" --config dataset.path=data/small_model.tsv
done
"$bin/wavellama" asset convert --int8 runs/small_joint "$out"
