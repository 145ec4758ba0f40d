#!/usr/bin/env bash
# The demos: train a small model on recorded speech in three stages, evaluate it on sentences that
# it has not heard, transcribe a few, and show what it wrote. A second call goes on where the first
# one stopped.
#   tools/demo_train.sh demo        Italian and Russian, from the corpus in the package
#   tools/demo_train.sh demo_full   five languages, from Debian packages (data/debian-speech)
set -euo pipefail
cd "$(dirname "$0")/.."
demo=${1:-demo}
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
if [ "$demo" = demo_full ]; then "$bin/wavellama" data fetch debian-speech --out data/debian-speech; fi
for stage in ctc decoder joint; do train "${demo}_$stage"; done
echo "== evaluation on held-out sentences"
"$bin/wavellama" recipe asr eval "${demo}_eval" --model "runs/${demo}_joint" --no-rich 2>"runs/${demo}_eval.log"
echo "== the same model on three recordings, by \`wavellama transcribe\`: what was said, what was recognised"
corpus=$([ "$demo" = demo ] && echo assets/corpora/mini || echo data/debian-speech)
awk -F '\t' 'NR == 1 { for (i = 1; i <= NF; i++) column[$i] = i; next }
  $column["split"] == "test" && $column["lang"] == "ita_Latn" && n++ < 3 {
    print $column["audio"] "\t" $column["text"] }' "$corpus/manifest.tsv" >"runs/${demo}_files.tsv"
mapfile -t files < <(cut -f 1 "runs/${demo}_files.tsv" | sed "s|^|$corpus/|")
"$bin/wavellama" transcribe "${files[@]}" --model "runs/${demo}_joint" --lang ita_Latn --beam 5 |
  cut -f 2- | paste <(cut -f 2 "runs/${demo}_files.tsv") - | sed 's/^/said:       /; s/\t/\nrecognised: /'
