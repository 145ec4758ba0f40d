"""How noise changes the errors of a model.

``python benchmarks/noise.py CARD|RUN_DIR --data DIR --split test --snr 20 10 5`` transcribes the
utterances of a split (every ``--every``-th of them), each with the language that it is in unless
``--untold``, as they are and with white noise of so many decibels below the speech. With ``--join
N`` N of them by one voice are one recording, with half a second between them. It prints the
character error rates with intervals of 95 %, and the seconds of audio per second of one thread's
processor time; the last line is a JSON object.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from time import process_time
from typing import NamedTuple, get_args

import torch
from torch import Tensor

from wavellama import ASRInferencePipeline
from wavellama.checkpoints.hub import find_model
from wavellama.data.manifest_dataset import (
    ManifestDataset,
    ManifestDatasetConfig,
    open_manifest_dataset,
)
from wavellama.data.utterance import Utterance
from wavellama.engine import WeightForm
from wavellama.metrics.error_rates import count_edits, score
from wavellama.text.normalize import normalize_text
from wavellama.units import SAMPLE_RATE, samples_to_seconds


def add_noise(speech: Tensor, snr: float, generator: torch.Generator) -> Tensor:
    """Add noise that has ``snr`` decibels less power than the speech."""
    noise = torch.randn(speech.shape, generator=generator)
    return speech + noise * speech.square().mean().sqrt() * 10 ** (-snr / 20)


class Recording(NamedTuple):
    """What was said in which language, and its audio. (T)"""

    text: str
    lang: str | None
    speech: Tensor


def join(dataset: ManifestDataset, utterances: Sequence[Utterance], number: int) -> list[Recording]:
    """Make one recording of each ``number`` utterances of a voice, the shortest recordings first.

    The last ones of a voice that are fewer make none.
    """
    voices: dict[tuple[str | None, str | None], list[Utterance]] = {}
    for one in utterances:
        voices.setdefault((one.speaker, one.lang), []).append(one)
    recordings: list[Recording] = []
    for (_, lang), own in voices.items():
        for i in range(0, len(own) - number + 1, number):
            block = own[i : i + number]
            parts = [dataset.read_audio(one) for one in block]
            pause = torch.zeros(SAMPLE_RATE // 2)
            speech = torch.cat([part for one in parts for part in (one, pause)][:-1])
            recordings.append(Recording(" ".join(one.text for one in block), lang, speech))
    return sorted(recordings, key=lambda one: len(one.speech))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", metavar="CARD|RUN_DIR")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR")
    parser.add_argument("--split", default="test")
    parser.add_argument("--every", type=int, default=1, metavar="N")
    parser.add_argument("--snr", type=float, nargs="*", default=[20, 10, 5], metavar="DB")
    parser.add_argument("--untold", action="store_true", help="do not tell the language")
    parser.add_argument("--ctc-weight", type=float, metavar="W", help="not that of the card")
    forms = get_args(WeightForm)
    parser.add_argument("--weights", choices=forms, default="native", help="of the decoder")
    parser.add_argument("--join", type=int, default=1, metavar="N")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(1)
    dataset = open_manifest_dataset(ManifestDatasetConfig(path=args.data))
    utterances = list(dataset.utterances(args.split))[:: args.every]
    recordings = join(dataset, utterances, args.join)
    search = replace(find_model(args.model).read_search(), weights=args.weights)
    if args.ctc_weight is not None:
        search = replace(search, ctc_weight=args.ctc_weight)
    pipeline = ASRInferencePipeline(
        args.model, device="cpu", dtype=torch.float32, beam_search_config=search
    )
    langs = None if args.untold else [one.lang for one in recordings]
    figures: dict[str, object] = {}
    for snr in [math.inf, *args.snr]:
        generator = torch.Generator().manual_seed(args.seed)
        noisy = [add_noise(one.speech, snr, generator) for one in recordings]
        began = process_time()
        inputs = [{"waveform": one, "sample_rate": SAMPLE_RATE} for one in noisy]
        texts = pipeline.transcribe(inputs, lang=langs, batch_size=8)
        secs = process_time() - began
        scores = score(
            [
                count_edits(
                    normalize_text(one.text),
                    normalize_text(text),
                    samples_to_seconds(len(one.speech)),
                    one.lang,
                )
                for one, text in zip(recordings, texts, strict=True)
            ]
        )
        own = {"cer": scores["cer"], "ci95": scores["cer_ci95"]}
        figures[f"{snr:g} dB"] = {**own, "speed": scores["audio_secs"] / secs}
        print(f"{snr:g} dB: {json.dumps(figures[f'{snr:g} dB'])}", flush=True)
    print(json.dumps({**vars(args), "data": str(args.data), **figures}))


if __name__ == "__main__":
    main()
