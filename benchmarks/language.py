"""How often the spoken language is found, and by which evidence.

``python benchmarks/language.py RUN_DIR --data DIR`` takes the held-out utterances of a data set and
a trained LLM_ASR_LID model, and lets several methods choose among the languages:

* ``scored``: ``detect_languages``, the text that the model writes without a language, scored under
  each candidate;
* ``own texts``: each candidate's own greedy text, by its log-probability;
* ``all texts``: the log-probability that any of all these texts is meant, under each candidate;
* ``script``: the first candidate whose script most letters of the text have;
* ``letters``: the text's log-probability under 4-grams of letters, counted for each candidate in
  the transcripts of the training split; a yardstick for what the text alone tells.

It prints the accuracy of each with a 95 % interval (Wilson), how far the probabilities of the first
can be trusted, and the time that it takes per second of audio; ``--plot`` draws confusion matrices.
The last line is a JSON object.
"""

from __future__ import annotations

import argparse
import json
import math
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import perf_counter
from typing import cast

import wavellama  # isort: skip  # before fairseq2, for which it loads libsndfile

import torch
from fairseq2.data.tokenizers import Tokenizer
from fairseq2.gang import create_fake_gangs
from matplotlib.figure import Figure

from wavellama.batch import AsrBatch
from wavellama.checkpoints.hub import find_model
from wavellama.data.manifest import find_manifests, read_manifest
from wavellama.data.manifest_dataset import ManifestDatasetConfig, open_manifest_dataset
from wavellama.data.plan import ReaderOptions
from wavellama.data.utterance import Utterance
from wavellama.decoding.language import detect_languages
from wavellama.model.model import Wav2Vec2LlamaModel
from wavellama.text.languages import languages
from wavellama.text.tags import script_name
from wavellama.units import SAMPLE_RATE

GREEDY = wavellama.Wav2Vec2LlamaBeamSearchConfig(nbest=1, max_new_tokens=200)
ORDER = 4
WIDTH = 0.45  # inches of a cell in the picture

Scores = Mapping[str, float]
"""Language code -> how well it fits; the highest is chosen."""


class Letters:
    """N-grams of letters of one language, interpolated with all shorter ones."""

    def __init__(self, texts: Sequence[str]) -> None:
        self._counts: Counter[str] = Counter()
        self._contexts: Counter[str] = Counter()
        for gram, context in (pair for text in texts for pair in _grams(text)):
            self._counts[gram] += 1
            self._contexts[context] += 1
        self._num_letters = 200

    def score(self, text: str) -> float:
        """Return the log-probability of a text and its end."""
        probability, total = 0.0, 0.0
        for gram, context in _grams(text):
            if not context:  # from here on a new letter, by longer and longer contexts
                total += math.log(probability) if probability else 0.0
                probability = 1 / self._num_letters
            seen = self._contexts[context]
            probability = (self._counts[gram] + 2 * probability) / (seen + 2)
        return total + math.log(probability)


def _grams(text: str) -> Iterator[tuple[str, str]]:
    """Yield each letter with contexts of 0, 1, ... letters before it."""
    padded = "\2" * (ORDER - 1) + text.lower() + "\3"
    for end in range(ORDER, len(padded) + 1):
        for size in range(1, ORDER + 1):
            yield padded[end - size : end], padded[end - size : end - 1]


@dataclass
class Results:
    """What was found for all utterances."""

    spoken: list[str] = field(default_factory=list)
    scores: dict[str, list[Scores]] = field(default_factory=dict)
    """Method -> the scores of each utterance."""

    audio_secs: float = 0.0
    seconds: dict[str, float] = field(default_factory=lambda: {"write": 0.0, "score": 0.0})

    def add(self, method: str, scores: Sequence[Scores]) -> None:
        """Take the scores of some more utterances."""
        self.scores.setdefault(method, []).extend(scores)

    def confusion(self, method: str, codes: Sequence[str]) -> list[list[int]]:
        """Return how often each language (row) was taken for each (column)."""
        pairs = zip(self.spoken, self.scores[method], strict=True)
        counts = Counter((spoken, max(codes, key=scores.__getitem__)) for spoken, scores in pairs)
        return [[counts[row, column] for column in codes] for row in codes]


class Bench:
    """The methods, over one model and its candidates."""

    def __init__(
        self, model: Wav2Vec2LlamaModel, tokenizer: Tokenizer, letters: Mapping[str, Letters]
    ) -> None:
        self._model = model
        self._decode = tokenizer.create_decoder(skip_special_tokens=True)
        self._letters = letters
        self._codes = list(letters)
        self.results = Results()

    def run(self, batch: AsrBatch, *, compare: bool) -> None:
        """Let the methods look at a batch.

        :param compare: whether the slow methods have a look, too.
        """
        results = self.results
        results.spoken += [code for code in batch.langs or [] if code]
        results.audio_secs += sum(batch.audio_lens) / SAMPLE_RATE
        begin = perf_counter()
        tokens, _ = self._write(batch, None)
        middle = perf_counter()
        results.add("scored", self._score(batch, tokens))
        results.seconds["write"] += middle - begin
        results.seconds["score"] += perf_counter() - middle
        if compare:
            self._compare(batch, tokens)
        texts = [str(self._decode(torch.tensor(row))) if row else "" for row in tokens]
        results.add("script", [self._fit_script(text) for text in texts])
        results.add("letters", [self._fit_letters(text) for text in texts])

    def _compare(self, batch: AsrBatch, bare: list[list[int]]) -> None:
        own = [self._write(batch, code) for code in self._codes]
        columns = zip(*(scores for _, scores in own), strict=True)
        self.results.add("own texts", [self._named(column) for column in columns])
        texts: list[dict[tuple[int, ...], Scores]] = [{} for _ in bare]
        for written in [bare, *(tokens for tokens, _ in own)]:
            scored = self._score(batch, written)
            for row, tokens, scores in zip(texts, written, scored, strict=True):
                row[tuple(tokens)] = scores
        self.results.add("all texts", [self._sum(list(row.values())) for row in texts])

    def _write(self, batch: AsrBatch, code: str | None) -> tuple[list[list[int]], list[float]]:
        """Return the text of each row in a language, and its log-probability."""
        given = replace(batch, langs=[code] * batch.num_rows)
        best = [row[0] for row in wavellama.generate(self._model, given, GREEDY)]
        return [hypothesis.tokens for hypothesis in best], [h.score for h in best]

    def _score(self, batch: AsrBatch, tokens: list[list[int]]) -> list[Scores]:
        found = detect_languages(self._model, batch, self._codes, texts=tokens, margin=None)
        return [row.log_likelihoods for row in found]

    def _sum(self, rows: Sequence[Scores]) -> Scores:
        return self._named(
            float(torch.tensor([row[code] for row in rows]).logsumexp(0)) for code in self._codes
        )

    def _fit_script(self, text: str) -> Scores:
        scripts = Counter(unicodedata.name(letter, "?").split()[0] for letter in text)
        table = languages()
        return self._named(scripts[script_name(table[code].script).upper()] for code in self._codes)

    def _fit_letters(self, text: str) -> Scores:
        return self._named(self._letters[code].score(text) for code in self._codes)

    def _named(self, values: Sequence[float] | Iterator[float]) -> Scores:
        return dict(zip(self._codes, values, strict=True))


def wilson(num_right: int, num: int) -> tuple[float, float]:
    """Return the 95 % interval of a share."""
    z, share = 1.96, num_right / num
    middle = share + z * z / (2 * num)
    spread = z * math.sqrt(share * (1 - share) / num + (z / (2 * num)) ** 2)
    scale = 1 + z * z / num
    return (middle - spread) / scale, (middle + spread) / scale


def calibration(results: Results, codes: Sequence[str]) -> dict[str, float]:
    """Return the mean probability of the chosen language, and the mean surprise at the true one."""
    rows = [[scores[code] for code in codes] for scores in results.scores["scored"]]
    log_probs = torch.tensor(rows, dtype=torch.float64).log_softmax(1)
    spoken = torch.tensor([codes.index(code) for code in results.spoken])
    return {
        "mean_probability": float(log_probs.amax(1).exp().mean()),
        "nats": float(-log_probs.gather(1, spoken[:, None]).mean()),
        "nats_of_chance": math.log(len(codes)),
    }


def summarize(results: Results, codes: Sequence[str]) -> dict[str, object]:
    """Return all figures."""
    num, methods = len(results.spoken), {}
    for method in results.scores:
        matrix = results.confusion(method, codes)
        num_right = sum(matrix[i][i] for i in range(len(codes)))
        low, high = wilson(num_right, num)
        methods[method] = {"accuracy": num_right / num, "low": low, "high": high}
    speed = {name: secs / results.audio_secs for name, secs in results.seconds.items()}
    return {
        "num_utterances": num,
        "candidates": list(codes),
        "methods": methods,
        "calibration": calibration(results, codes),
        "secs_per_audio_sec": speed,
        "confusion": {name: results.confusion(name, codes) for name in ("scored", "letters")},
    }


def draw(results: Results, codes: Sequence[str], path: Path) -> None:
    """Draw the confusion matrices of the scored text and of its letters."""
    names = {"scored": "text scored under each language", "letters": "letters of the text alone"}
    side = 1.5 + WIDTH * len(codes)
    figure = Figure(figsize=(2 * side, side), layout="constrained")
    for axes, (method, title) in zip(figure.subplots(1, 2), names.items(), strict=True):
        matrix = results.confusion(method, codes)
        shares = [[count / max(1, sum(row)) for count in row] for row in matrix]
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        for i, row in enumerate(matrix):
            for j, count in enumerate(row):
                color = "white" if shares[i][j] > 0.5 else "black"
                axes.text(j, i, str(count or ""), ha="center", va="center", color=color)
        ticks = range(len(codes))
        axes.set_xticks(ticks, [code[:3] for code in codes], rotation=90)
        axes.set_yticks(ticks, [code[:3] for code in codes])
        axes.set(xlabel="detected", ylabel="spoken", title=title)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)


def report(summary: Mapping[str, object], codes: Sequence[str]) -> None:
    """Print the figures as tables."""
    print("method      accuracy  95 % interval")
    for name, row in cast("Mapping[str, Mapping[str, float]]", summary["methods"]).items():
        print(f"{name:10}  {row['accuracy']:8.1%}  {row['low']:.1%} to {row['high']:.1%}")
    for name, matrix in cast("Mapping[str, list[list[int]]]", summary["confusion"]).items():
        print(f"\n{name}: spoken (rows), detected (columns)")
        print(" " * 9, *(f"{code[:3]:>4}" for code in codes))
        for code, counts in zip(codes, matrix, strict=True):
            print(f"{code:9}", *(f"{count:4}" for count in counts))
    print(json.dumps(summary))


def read_utterances(data: Path) -> list[Utterance]:
    """Return all utterances of a data set."""
    return [row for path in find_manifests(data) for row in read_manifest(path).utterances]


def batches(
    model: Wav2Vec2LlamaModel, tokenizer: Tokenizer, args: argparse.Namespace, spoken: set[str]
) -> Iterator[AsrBatch]:
    """Yield the held-out utterances, at most so many of each language."""
    dataset = open_manifest_dataset(ManifestDatasetConfig(path=args.data))
    options = ReaderOptions(
        batch_audio_secs=args.batch_secs, max_audio_secs=20, languages=tuple(sorted(spoken))
    )
    gangs = create_fake_gangs(torch.device("cpu"))
    left = dict.fromkeys(spoken, args.max_per_language)
    for (batch,) in dataset.create_reader(args.split, tokenizer, gangs, options):
        rows = model.read_batch(batch)
        kept = [i for i, code in enumerate(rows.langs or []) if code and _take(left, code)]
        if kept:
            yield _pick(rows, kept)


def _take(left: dict[str, int], code: str) -> bool:
    left[code] -= 1
    return left[code] >= 0


def _pick(batch: AsrBatch, rows: Sequence[int]) -> AsrBatch:
    lens = [batch.audio_lens[i] for i in rows]
    return AsrBatch(
        audio=batch.audio[list(rows), : max(lens)],
        audio_lens=lens,
        targets=[batch.targets[i] for i in rows],
        langs=[batch.langs[i] for i in rows] if batch.langs else None,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run_dir", help="the output directory of a training run")
    parser.add_argument("--data", type=Path, required=True, help="the data set's directory")
    parser.add_argument("--split", default="test")
    parser.add_argument("--languages", nargs="*", help="candidates (default: those of the split)")
    parser.add_argument("--max-per-language", type=int, default=10**6)
    parser.add_argument("--batch-secs", type=float, default=20.0, help="audio per batch")
    parser.add_argument("--compare", action="store_true", help="have the slow methods look, too")
    parser.add_argument("--plot", type=Path, help="where to draw the confusion matrices")
    args = parser.parse_args()
    model = cast("Wav2Vec2LlamaModel", wavellama.load_model(args.run_dir)).eval()
    tokenizer, utterances = find_model(args.run_dir).load_tokenizer(), read_utterances(args.data)
    spoken = {row.lang for row in utterances if row.split == args.split and row.lang}
    codes = sorted(args.languages or spoken)
    texts = {
        code: [r.text for r in utterances if (r.split, r.lang) == ("train", code)] for code in codes
    }
    bench = Bench(model, tokenizer, {code: Letters(rows) for code, rows in texts.items()})
    for batch in batches(model, tokenizer, args, spoken & set(codes)):
        bench.run(batch, compare=args.compare)
    report(summarize(bench.results, codes), codes)
    if args.plot:
        draw(bench.results, codes, args.plot)


if __name__ == "__main__":
    main()
