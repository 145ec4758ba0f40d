"""What is known of all utterances of a split at once, in arrays: no utterance has to be read.

A split may have a hundred million rows, whose texts and audio lie in files. Which of them are read,
how often and in which order, depends on their lengths, languages and corpora alone.

Shapes: U utterances.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from wavellama.data.utterance import Utterance

UtteranceT = TypeVar("UtteranceT", bound=Utterance, covariant=True)


@dataclass(frozen=True)
class Names:
    """A name for each utterance, as its place in a list of all names."""

    numbers: NDArray[Any]
    """*Shape:* (U)."""

    known: Sequence[str | None]
    """All names; None for utterances that have none."""

    @classmethod
    def of(cls, names: Sequence[str | None]) -> Names:
        """Number names in the order in which they come first."""
        known = {name: number for number, name in enumerate(dict.fromkeys(names))}
        return cls(np.array([known[name] for name in names], np.int64), list(known))

    def used(self) -> list[str | None]:
        """Return the names that some utterance has."""
        return [self.known[number] for number in np.unique(self.numbers)]

    def places(self) -> dict[str | None, NDArray[np.int64]]:
        """Return where each name that is used stands."""
        found = ((name, np.flatnonzero(self.numbers == i)) for i, name in enumerate(self.known))
        return {name: places for name, places in found if len(places)}

    def are_in(self, names: Sequence[str]) -> NDArray[np.bool_]:
        """Say which utterances have one of some names. (U)."""
        return np.isin(self.numbers, [i for i, name in enumerate(self.known) if name in names])

    def __getitem__(self, places: NDArray[np.int64]) -> Names:
        return Names(self.numbers[places], self.known)


@dataclass(frozen=True)
class Facts:
    """What is known of utterances."""

    secs: NDArray[np.float64]
    """Their lengths. *Shape:* (U)."""

    langs: Names
    corpora: Names

    groups: NDArray[np.int64] | None = None
    """Numbers of what is read from the disk at once; None: each by itself. *Shape:* (U)."""

    def __getitem__(self, places: NDArray[np.int64]) -> Facts:
        groups = None if self.groups is None else self.groups[places]
        return Facts(self.secs[places], self.langs[places], self.corpora[places], groups)


class StoredUtterances(Sequence[UtteranceT]):
    """Utterances that are read when they are asked for."""

    @property
    @abstractmethod
    def facts(self) -> Facts:
        """What is known of them without that."""

    @abstractmethod
    def take(self, places: NDArray[np.int64]) -> StoredUtterances[UtteranceT]:
        """Return those at some places."""


def facts_of(utterances: Sequence[Utterance]) -> Facts:
    """Return what is known of utterances."""
    if isinstance(utterances, StoredUtterances):
        return utterances.facts
    return Facts(
        np.array([utterance.duration for utterance in utterances], np.float64),
        Names.of([utterance.lang for utterance in utterances]),
        Names.of([utterance.corpus for utterance in utterances]),
    )


def take(utterances: Sequence[Utterance], places: NDArray[np.int64]) -> Sequence[Utterance]:
    """Return the utterances at some places."""
    if isinstance(utterances, StoredUtterances):
        return utterances.take(places)
    return [utterances[place] for place in places.tolist()]
