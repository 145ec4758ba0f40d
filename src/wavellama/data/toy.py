"""A synthetic data set: tones that spell words, one pitch per letter. No files needed."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import pi
from pathlib import Path
from typing import Final, final

import torch
from torch import Tensor
from typing_extensions import override

from wavellama.data.dataset import AsrDataset
from wavellama.data.utterance import Utterance
from wavellama.data.words import AlignedWord
from wavellama.errors import UnknownNameError
from wavellama.faults import Checked
from wavellama.units import SAMPLE_RATE, samples_to_seconds, seconds_to_samples

TOY_TONES_FAMILY: Final = "toy_tones"

LETTERS: Final = "abcdefghij"
LANGS: Final = ("eng_Latn", "ita_Latn")
TONE_SECS: Final = 0.08


@dataclass(kw_only=True)
class ToyTonesConfig(Checked):
    """The size of the data set."""

    num_train: int = 64
    """Utterances in the split ``train``."""

    num_valid: int = 16
    """Utterances in each of the splits ``dev`` and ``test``."""

    @override
    def find_faults(self) -> Iterator[str]:
        if min(self.num_train, self.num_valid) < 1:
            yield "`num_train` and `num_valid` must be at least 1."


@final
class ToyTones(AsrDataset):
    """Two words of tones per utterance, always the same for the same split."""

    def __init__(self, config: ToyTonesConfig) -> None:
        valid = config.num_valid
        self._sizes = {"train": config.num_train, "dev": valid, "test": valid}

    @override
    def utterances(self, split: str) -> Sequence[Utterance]:
        if split not in self._sizes:
            raise UnknownNameError("split of this data set", split, self._sizes)
        draw = random.Random(split)
        return [_utterance(split, i, draw) for i in range(self._sizes[split])]

    @override
    def read_audio(self, utterance: Utterance) -> Tensor:
        return torch.cat([_tone(letter) for letter in utterance.text])


def _utterance(split: str, index: int, draw: random.Random) -> Utterance:
    words = ["".join(draw.choices(LETTERS, k=draw.randint(2, 4))) for _ in range(2)]
    text = " ".join(words)
    duration = samples_to_seconds(len(text) * seconds_to_samples(TONE_SECS))
    name = Path(f"{split}-{index}")
    lang = LANGS[index % 2]
    return Utterance(
        name, text, duration, lang, speaker="synthetic", split=split, words=_words(words)
    )


def _words(texts: Sequence[str]) -> tuple[AlignedWord, ...]:
    """Return the words with their times: a tone per letter, and one of silence between words."""
    words: list[AlignedWord] = []
    begin = 0
    for text in texts:
        end = begin + len(text)
        words.append(AlignedWord(text, begin * TONE_SECS, end * TONE_SECS))
        begin = end + 1
    return tuple(words)


def _tone(letter: str) -> Tensor:
    """Return a tone of the letter's pitch, or silence for a space. (T)."""
    times = torch.arange(seconds_to_samples(TONE_SECS)) / SAMPLE_RATE
    if letter == " ":
        return torch.zeros_like(times)
    return torch.sin(2 * pi * (300 + 200 * LETTERS.index(letter)) * times)
