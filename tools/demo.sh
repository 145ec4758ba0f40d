#!/usr/bin/env bash
# The demo: the model of the package writes down recordings and a sentence that is spoken on the spot, is measured on
# others, learns from the corpus of the package for two minutes, and is measured again.
set -euo pipefail
cd "$(dirname "$0")/.."
bin=.venv/bin
corpus=assets/corpora/mini
out=runs/demo
export FAIRSEQ2_NO_PROGRESS=1
mkdir -p "$out"

# hear LANG FILE SAID: what was said, and what is recognised.
hear() {
  echo "said:       $3"
  echo "recognised: $("$bin/wavellama" transcribe "$2" --lang "$1" 2>"$out/hear.log")"
}

# first SPLIT LANG: an utterance of the corpus, as FILE<tab>TEXT.
first() {
  awk -F '\t' -v split_="$1" -v lang="$2" 'NR == 1 { for (i = 1; i <= NF; i++) column[$i] = i; next }
    $column["split"] == split_ && $column["lang"] == lang && $column["duration"] > 3 {
      print $column["audio"] "\t" $column["text"]; exit }' "$corpus/manifest.tsv"
}

# measure MODEL SPLIT: its error rates, by the search of its card and by its CTC head alone.
measure() {
  "$bin/wavellama" recipe asr eval small_eval --output-dir "$out/eval" --model "$1" --no-rich \
    --config "dataset.valid_split=$2" >"$out/eval.log" 2>&1 || { tail -n 5 "$out/eval.log" >&2; exit 1; }
  awk -F ' *[|] *' -v what="$1, $2" '/^# /{ search = substr($0, 3) } $2 == "all" && !(search in seen) {
    seen[search]; printf "%-38s %-9s %s utterances, CER %s %%, WER %s %%\n", what, search, $3, $5, $6 }' "$out/eval/report.md"
}

echo "== recordings: two known voices, one that the model has never heard, one made now"
for place in test:ita_Latn test:rus_Cyrl test_unseen:eng_Latn; do
  IFS=$'\t' read -r file text < <(first "${place%:*}" "${place#*:}")
  hear "${place#*:}" "$corpus/$file" "$text"
done
said="the old bridge was closed because the river had risen in the night"
"$bin/python" tools/speak.py "$said" "$out/spoken.wav"
hear eng_Latn "$out/spoken.wav" "$said"

echo "== a sonnet, as subtitles with the times of its words (the first lines of $out/sonnet.vtt)"
"$bin/wavellama" transcribe "$corpus/audio/sonnet.ogg" --lang eng_Latn --format vtt,json --output-dir "$out" 2>"$out/sonnet.log"
head -n 11 "$out/sonnet.vtt"

echo "== error rates: voices that the model knows, voices that it has never heard"
for split in test test_unseen; do measure wavellama_small "$split"; done

echo "== two minutes of training on $corpus, and the known voices again"
"$bin/python" -m torch.distributed.run --standalone --nproc-per-node "$(($(nproc) > 1 ? 2 : 1))" \
  -m wavellama recipe asr train small_finetune --no-rich >"$out/finetuned.log" 2>&1 ||
  { tail -n 5 "$out/finetuned.log" >&2; exit 1; }
measure runs/small_finetune test
