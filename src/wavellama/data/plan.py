"""How a split is read, and the plan of a row: which utterances are joined, and how fast."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
from fairseq2.datasets import SyncMode
from numpy.typing import NDArray

from wavellama.data.facts import Facts, Names, facts_of
from wavellama.data.mixing import Betas
from wavellama.data.utterance import Utterance
from wavellama.errors import DataError
from wavellama.text.languages import LanguageTable
from wavellama.units import seconds_to_samples

ExampleSource: TypeAlias = Literal["speaker", "language"]


@dataclass(frozen=True, kw_only=True)
class ReaderOptions:
    """How a split is read."""

    batch_audio_secs: float = 40.0
    """The most audio in a batch in seconds, padding included."""

    min_audio_secs: float = 0.1
    """Shorter utterances are left out."""

    max_audio_secs: float = 30.0
    """Longer utterances are left out."""

    skip_bad_texts: bool = False
    """Whether to leave out utterances whose text cannot be what is spoken (training)."""

    languages: tuple[str, ...] = ()
    """The languages to read; none named: all."""

    shuffle: bool = False
    """Whether to draw a new order in every epoch."""

    seed: int = 2
    """The seed of that order."""

    short_first: bool = False
    """Whether the first epoch goes from short utterances to long ones."""

    betas: Betas | None = None
    """How corpora and languages are mixed; None: an epoch has every row once."""

    speeds: tuple[float, ...] = ()
    """Speeds to draw from in training; none: the audio as it is."""

    concat_p: float = 0.0
    """The probability of joining an utterance with another one of its language."""

    num_examples: int = 0
    """Context examples of each row (ZERO_SHOT)."""

    examples_from: ExampleSource = "language"
    """Whether the examples of a row share its speaker or its language."""

    model_languages: LanguageTable = field(default_factory=lambda: LanguageTable({}))
    """The languages that the model knows; none if it reads none."""

    language_column: str = "lang"
    """The name of the metadata column of language codes, as the model reads it."""

    failures_path: Path | None = None
    """Where to list utterances whose audio cannot be used."""

    max_bad_share: float = 0.0
    """The share of such utterances above which reading stops."""

    shares_path: Path | None = None
    """Where to draw how ``betas`` mix the data, as PNG."""

    num_accumulate: int = 1
    """Batches per step."""

    sync_mode: SyncMode = SyncMode.UNTIL_LAST
    """When the ranks of a run stop: with the first one out of data, or with the last."""

    def find_kept(self, facts: Facts) -> NDArray[np.int64]:
        """Return the places of the utterances whose length and language are read."""
        are_kept = (facts.secs >= self.min_audio_secs) & (facts.secs <= self.max_audio_secs)
        if self.languages:
            are_kept &= facts.langs.are_in(self.languages)
        return np.flatnonzero(are_kept)


@dataclass(frozen=True)
class Plan:
    """What is read for one row of a batch."""

    indices: tuple[int, ...]
    """The utterances to join."""

    speed: float
    """How many times faster than spoken."""

    num_samples: int
    """The length that results."""

    examples: tuple[int, ...] = ()
    """Utterances for the context, more than are needed, since some may turn out unreadable."""


class Planner:
    """Decides, for an utterance that is read, what it is joined with and how fast it is."""

    def __init__(self, utterances: Sequence[Utterance], options: ReaderOptions) -> None:
        self._utterances, self._options = utterances, options
        self.facts = facts_of(utterances)
        self.num_utterances = len(utterances)
        self.audio_secs = float(self.facts.secs.sum())
        """The length of all of them."""

    @cached_property
    def _by_lang(self) -> dict[str | None, NDArray[np.int64]]:
        """The places of the utterances of each language."""
        return self.facts.langs.places()

    @cached_property
    def _by_source(self) -> dict[str | None, NDArray[np.int64]]:
        """The places of the utterances of each source of examples."""
        if self._options.examples_from == "language":
            return self._by_lang
        return Names.of([utterance.speaker for utterance in self._utterances]).places()

    def plan(self, index: int, draw: random.Random) -> Plan:
        """Return what to read for an utterance: with which one it is joined, and how fast.

        :param draw: where what is random comes from.
        """
        options = self._options
        indices = [index]
        if draw.random() < options.concat_p:
            lang = self.facts.langs.known[self.facts.langs.numbers[index]]
            partner = int(draw.choice(self._by_lang[lang]))
            if partner != index and self._secs([index, partner]) <= options.max_audio_secs:
                indices.append(partner)
        speed = draw.choice(options.speeds) if options.speeds else 1.0
        if self._secs(indices) / speed > options.max_audio_secs:
            speed = 1.0
        num_samples = seconds_to_samples(self._secs(indices) / speed)
        examples = self._draw_examples(indices, draw) if options.num_examples else []
        return Plan(tuple(indices), speed, num_samples, tuple(examples))

    def _draw_examples(self, indices: Sequence[int], draw: random.Random) -> list[int]:
        """Draw other utterances of the same source as candidates for the context.

        :param indices: the utterances that are read, none of which may be an example.
        :raises DataError: there is no other one.
        """
        options, utterance = self._options, self._utterances[indices[0]]
        by_speaker = options.examples_from == "speaker"
        source = utterance.speaker if by_speaker else utterance.lang
        candidates = self._by_source[source]
        others = candidates[~np.isin(candidates, indices)]
        if not len(others):
            raise DataError(
                f"{utterance.audio} is the only utterance of its {options.examples_from}"
                f" ({source}), so there is no context example for it."
            )
        drawn = draw.sample(range(len(others)), min(len(others), 2 * options.num_examples))
        return [int(others[place]) for place in drawn]

    def _secs(self, indices: list[int]) -> float:
        return float(sum(self.facts.secs[index] for index in indices))
