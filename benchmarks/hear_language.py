"""How often a model's language head hears which language is spoken, by the length of the clip.

``python benchmarks/hear_language.py CARD|RUN_DIR --data DIR --split test`` lets the head choose
among all languages of the model for every ``--every``-th clip of at most 20 seconds. It prints, for
clips of each length, the accuracy with an interval of 95 % (Wilson), the share that is sure enough
to be told to the model where nobody names a language, and how many of these are right; then how
often each language was taken for each. The last line is a JSON object.
"""

from __future__ import annotations

import argparse
import json
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from time import process_time
from typing import NamedTuple, cast

import wavellama  # isort: skip  # before fairseq2, for which it loads libsndfile

import torch

from wavellama.audio.load import normalize
from wavellama.batch import AsrBatch
from wavellama.data.manifest_dataset import ManifestDatasetConfig, open_manifest_dataset
from wavellama.decoding.language import detect_languages
from wavellama.model.inputs import pad
from wavellama.model.model import Wav2Vec2LlamaModel
from wavellama.pipeline.languages import SURE

LENGTHS = {"below 1.5 s": (0.0, 1.5), "1.5 to 4 s": (1.5, 4.0), "from 4 s": (4.0, 20.0)}
ALL = "all"
BATCH = 16


class Heard(NamedTuple):
    """One clip: its length in seconds, and what was spoken and heard."""

    secs: float
    spoken: str
    heard: str
    probability: float


def wilson(num_right: int, num: int) -> list[float]:
    """Return the 95 % interval of a share."""
    z, share = 1.96, num_right / num
    middle = share + z * z / (2 * num)
    spread = z * math.sqrt(share * (1 - share) / num + (z / (2 * num)) ** 2)
    return [(middle + sign * spread) / (1 + z * z / num) for sign in (-1, 1)]


def summarize(clips: Sequence[Heard]) -> dict[str, object]:
    """Return the figures of some clips."""
    right = sum(clip.spoken == clip.heard for clip in clips)
    sure = [clip for clip in clips if clip.probability >= SURE]
    return {
        "clips": len(clips),
        "accuracy": right / len(clips),
        "ci95": wilson(right, len(clips)),
        "sure": len(sure) / len(clips),
        "right_if_sure": sum(clip.spoken == clip.heard for clip in sure) / max(1, len(sure)),
    }


def hear(model: Wav2Vec2LlamaModel, args: argparse.Namespace) -> list[Heard]:
    """Let the head choose for each clip."""
    dataset = open_manifest_dataset(ManifestDatasetConfig(path=args.data))
    utterances = [one for one in dataset.utterances(args.split) if one.duration <= 20]
    chosen = sorted(utterances[:: args.every], key=lambda one: one.duration)
    heard: list[Heard] = []
    for i in range(0, len(chosen), BATCH):
        block = chosen[i : i + BATCH]
        audio, lens = pad([normalize(dataset.read_audio(one)) for one in block])
        rows = detect_languages(model, AsrBatch(audio, lens, [], [None] * len(block)))
        heard += [
            Heard(one.duration, str(one.lang), row.best, row.probabilities[row.best])
            for one, row in zip(block, rows, strict=True)
        ]
    return heard


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", metavar="CARD|RUN_DIR")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR")
    parser.add_argument("--split", default="test")
    parser.add_argument("--every", type=int, default=1, metavar="N")
    args = parser.parse_args()
    torch.set_num_threads(1)
    model = cast("Wav2Vec2LlamaModel", wavellama.load_model(args.model, dtype=torch.float32))
    if model.language_head is None:
        parser.error(f"{args.model} has no language head")
    began = process_time()
    heard = hear(model, args)
    figures: dict[str, object] = {
        "audio_secs_per_sec": sum(clip.secs for clip in heard) / (process_time() - began)
    }
    for name, (low, high) in {ALL: (0.0, 20.1), **LENGTHS}.items():
        clips = [clip for clip in heard if low <= clip.secs < high]
        figures[name] = summarize(clips) if clips else None
        print(f"{name}: {json.dumps(figures[name])}")
    codes, pairs = list(model.lang_mapping), Counter((clip.spoken, clip.heard) for clip in heard)
    print(" " * 9, *(f"{code[:3]:>4}" for code in codes))
    for spoken in sorted({clip.spoken for clip in heard}):
        print(f"{spoken:9}", *(f"{pairs[spoken, code]:4}" for code in codes))
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
