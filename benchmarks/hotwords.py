"""What hotwords and a language model of words bring, and what they break.

``python benchmarks/hotwords.py RUN_DIR --data DIR`` transcribes held-out sentences that hold a rare
word (five letters or more, at most twice in the training texts) with 5 beams and a CTC weight of
0.3, once per weight, and prints the character error rate

* with the rare words of all sentences as hotwords, and how many of them are found where they are
  said;
* with as many words of ``dev`` as ``--num-others`` that are not said in these sentences;
* where kenlm is installed, with a bigram model of the training texts (Witten-Bell), also the word
  error rate.

The last line is a JSON object.
"""

from __future__ import annotations

import argparse
import json
import math
import random
from collections import Counter
from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final

import torch

from wavellama import ASRInferencePipeline, TranscribeOptions, Wav2Vec2LlamaBeamSearchConfig
from wavellama.data.manifest_dataset import ManifestDatasetConfig, open_manifest_dataset
from wavellama.metrics.error_rates import count_edits, score
from wavellama.text.normalize import normalize_text
from wavellama.units import SAMPLE_RATE

if TYPE_CHECKING:
    from benchmarks.live import DEMO_LANGUAGES

    from wavellama.data.manifest_dataset import ManifestDataset
    from wavellama.data.utterance import Utterance
else:  # this folder is where a script is looked for, and no package
    from live import DEMO_LANGUAGES

MIN_LETTERS: Final = 5
MAX_COUNT: Final = 2
HOTWORD_WEIGHTS: Final = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0)
LM_WEIGHTS: Final = (0.0, 0.1, 0.3)
SEARCH: Final = Wav2Vec2LlamaBeamSearchConfig(nbest=5, ctc_weight=0.3)


def words_of(text: str) -> list[str]:
    """Return the words that count as hotwords: the longer ones."""
    return [word for word in normalize_text(text).split() if len(word) >= MIN_LETTERS]


class Trial:
    """Sentences that are transcribed again and again."""

    def __init__(
        self, pipeline: ASRInferencePipeline, dataset: ManifestDataset, rows: Sequence[Utterance]
    ) -> None:
        self._pipeline, self._rows = pipeline, rows
        self._audio = [
            {"waveform": dataset.read_audio(row), "sample_rate": SAMPLE_RATE} for row in rows
        ]
        syntax = getattr(pipeline.model, "syntax", None)
        is_told = syntax is not None and syntax.needs_language
        self._langs = [row.lang if is_told else None for row in rows]

    def run(self, said: Sequence[str] = (), **options: Any) -> dict[str, float]:
        """Transcribe with options; return error rates, and the share of ``said`` that is found."""
        chosen = TranscribeOptions(search=SEARCH, **options)
        results = self._pipeline.stream_results(self._audio, chosen, lang=self._langs)
        texts = [normalize_text(transcript.text) for transcript in results]
        pairs = [
            (normalize_text(row.text), text) for row, text in zip(self._rows, texts, strict=True)
        ]
        scores = score([count_edits(reference, text) for reference, text in pairs])
        places = [
            word in text.split()
            for reference, text in pairs
            for word in reference.split()
            if word in said
        ]
        found = {"found": sum(places) / len(places)} if places else {}
        return {"cer": scores["cer"], "wer": scores["wer"], **found}


def write_bigrams(texts: Iterable[str], path: Path) -> None:
    """Write a bigram model with Witten-Bell smoothing in the ARPA format."""
    sentences = [["<s>", *text.split(), "</s>"] for text in texts]
    pairs = Counter(pair for words in sentences for pair in pairwise(words))
    counts = Counter(word for words in sentences for word in words[1:])
    starts, kinds = Counter[str](), Counter[str]()
    for (first, _), count in pairs.items():
        starts[first] += count
        kinds[first] += 1
    total = sum(counts.values()) + len(counts) + 1
    single = {word: (counts[word] + 1) / total for word in [*counts, "<unk>"]}
    lines = ["\\data\\", f"ngram 1={len(single) + 1}", f"ngram 2={len(pairs)}", "", "\\1-grams:"]
    for word, share in [("<s>", 1e-9), *single.items()]:
        rest = kinds[word] / (starts[word] + kinds[word]) if starts[word] else 1.0
        lines.append(f"{math.log10(share):.6f}\t{word}\t{math.log10(rest):.6f}")
    lines += ["", "\\2-grams:"]
    for (first, second), count in pairs.items():
        share = (count + kinds[first] * single[second]) / (starts[first] + kinds[first])
        lines.append(f"{math.log10(share):.6f}\t{first} {second}")
    path.write_text("\n".join([*lines, "", "\\end\\", ""]), "utf-8")


def choose(
    dataset: ManifestDataset, args: argparse.Namespace, draw: random.Random
) -> tuple[list[Utterance], list[str], list[str]]:
    """Return sentences with a rare word, their rare words, and other words that are not said."""
    split = {name: _rows(dataset, name, args.languages) for name in ("train", "dev", "test")}
    known = Counter(word for row in split["train"] for word in words_of(row.text))

    def rare(row: Utterance) -> list[str]:
        return [word for word in words_of(row.text) if known[word] <= MAX_COUNT]

    candidates = [row for row in split["test"] if rare(row)]
    rows = draw.sample(candidates, min(args.num_sentences, len(candidates)))
    said = sorted({word for row in rows for word in rare(row)})
    all_said = {word for row in rows for word in normalize_text(row.text).split()}
    others = sorted({word for row in split["dev"] for word in words_of(row.text)} - all_said)
    return rows, said, draw.sample(others, min(args.num_others, len(others)))


def _rows(dataset: ManifestDataset, split: str, languages: Sequence[str]) -> list[Utterance]:
    return [row for row in dataset.utterances(split) if row.lang in languages]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run_dir", help="the output directory of a training run")
    parser.add_argument("--data", type=Path, required=True, help="the data set's directory")
    parser.add_argument("--languages", nargs="+", default=DEMO_LANGUAGES, metavar="CODE")
    parser.add_argument("--num-sentences", type=int, default=60, metavar="N")
    parser.add_argument("--num-others", type=int, default=100, metavar="N")
    parser.add_argument("--seed", type=int, default=0, help="of what is chosen")
    args = parser.parse_args()
    dataset = open_manifest_dataset(ManifestDatasetConfig(path=args.data))
    rows, said, others = choose(dataset, args, random.Random(args.seed))
    print(f"{len(rows)} sentences with {len(said)} rare words; {len(others)} words not said.")
    pipeline = ASRInferencePipeline(args.run_dir, device="cpu", dtype=torch.float32)
    trial = Trial(pipeline, dataset, rows)
    figures: dict[str, dict[str, float]] = {}
    for name, words in (("said", said), ("not said", others)):
        for weight in HOTWORD_WEIGHTS:
            own = trial.run(said, hotwords=words, hotword_weight=weight)
            figures[f"{name}, {weight:g}"] = own
            print(f"{name:10}{weight:4g}  {json.dumps(own)}", flush=True)
    with TemporaryDirectory() as folder:
        lm = Path(folder) / "words.arpa"
        texts = [normalize_text(row.text) for row in _rows(dataset, "train", args.languages)]
        write_bigrams(texts, lm)
        for weight in LM_WEIGHTS if find_spec("kenlm") else ():
            figures[f"lm, {weight:g}"] = own = trial.run(said, lm=lm, lm_weight=weight)
            print(f"{'lm':10}{weight:4g}  {json.dumps(own)}", flush=True)
    print(json.dumps({**vars(args), "data": str(args.data), **figures}))


if __name__ == "__main__":
    main()
