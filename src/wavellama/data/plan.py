"""The plan of an epoch: which utterances are read at each place, how, and in which bucket."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from fairseq2.datasets import SyncMode

from wavellama.data.utterance import Utterance
from wavellama.units import seconds_to_samples


@dataclass(frozen=True, kw_only=True)
class ReaderOptions:
    """How a split is read."""

    batch_audio_secs: float = 40.0
    """The most audio in a batch in seconds, padding included."""

    min_audio_secs: float = 0.1
    """Shorter utterances are left out."""

    max_audio_secs: float = 30.0
    """Longer utterances are left out."""

    languages: tuple[str, ...] = ()
    """The languages to read; none named: all."""

    shuffle: bool = False
    """Whether to draw a new order in every epoch."""

    seed: int = 2
    """The seed of that order."""

    speeds: tuple[float, ...] = ()
    """Speeds to draw from in training; none: the audio as it is."""

    concat_p: float = 0.0
    """The probability of joining an utterance with another one of its language."""

    language_column: str = "lang"
    """The name of the metadata column of language codes, as the model reads it."""

    failures_path: Path | None = None
    """Where to list utterances whose audio cannot be used."""

    max_bad_share: float = 0.0
    """The share of such utterances above which reading stops."""

    num_accumulate: int = 1
    """Batches per step."""

    sync_mode: SyncMode = SyncMode.UNTIL_LAST
    """When the ranks of a run stop: with the first one out of data, or with the last."""


class Plan(TypedDict):
    """What is read for one row of a batch (a dict, as fairseq2's pipeline needs)."""

    indices: list[int]
    """The utterances to join."""

    speed: float
    num_samples: int
    """The length that results."""


class Planner:
    """Decides, for each place in the order of an epoch, which utterances are read and how.

    The draws are a function of seed, epoch, rank and place, so that a resumed run repeats them.
    """

    def __init__(self, utterances: Sequence[Utterance], options: ReaderOptions, rank: int) -> None:
        self._utterances, self._options, self._rank = utterances, options, rank
        self.epoch = 0
        self._by_lang: dict[str | None, list[int]] = {}
        for index, utterance in enumerate(utterances):
            self._by_lang.setdefault(utterance.lang, []).append(index)

    def plan(self, numbered: list[int]) -> Plan:
        """Return what to read at a place: utterances to join, their speed, and their length.

        :param numbered: the index of an utterance, and its place in the order.
        """
        index, place = numbered
        options = self._options
        draw = random.Random(f"{options.seed}:{self.epoch}:{self._rank}:{place}")
        indices = [index]
        if draw.random() < options.concat_p:
            partner = draw.choice(self._by_lang[self._utterances[index].lang])
            if partner != index and self._secs([index, partner]) <= options.max_audio_secs:
                indices.append(partner)
        speed = draw.choice(options.speeds) if options.speeds else 1.0
        if self._secs(indices) / speed > options.max_audio_secs:
            speed = 1.0
        num_samples = seconds_to_samples(self._secs(indices) / speed)
        return {"indices": indices, "speed": speed, "num_samples": num_samples}

    def _secs(self, indices: list[int]) -> float:
        return sum(self._utterances[index].duration for index in indices)


def bucket_sizes(options: ReaderOptions, ratio: float = 1.25) -> list[tuple[int, int]]:
    """Return (rows, samples) of each bucket: rows x samples never exceeds the budget.

    The limits of length grow by ``ratio`` from bucket to bucket, so at most a fifth of a batch is
    padding.
    """
    sizes: list[tuple[int, int]] = []
    limit_secs, longest = max(options.min_audio_secs, 0.5), options.max_audio_secs
    while True:
        limit_secs = min(limit_secs, longest)
        rows = max(1, int(options.batch_audio_secs / limit_secs))
        sizes.append((rows, seconds_to_samples(limit_secs)))
        if limit_secs == longest:
            return sizes
        limit_secs *= ratio
