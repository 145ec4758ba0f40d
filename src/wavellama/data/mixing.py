"""How often an epoch reads each corpus and each language, where that is not by their hours.

A corpus c that has H(c) of H hours gets the weight (H(c) / H) ** beta_corpus, and a language l that
has h(c, l) hours of it the weight (h(c, l) / H(c)) ** beta_language. Weights are divided by their
sum, the ones over all corpora, the others over the languages of a corpus, and multiplied: that is
the share of an epoch's rows that come from there. 1 is by hours, 0 is all alike.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Final, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Generator, Tensor

from wavellama.data.facts import Facts, facts_of
from wavellama.data.shuffle import WINDOW, shuffle
from wavellama.data.utterance import Utterance
from wavellama.errors import DataError

NOT_NAMED: Final = "(none)"
"""The corpus, or the language, of rows that name none."""

_log = logging.getLogger(__name__)

K = TypeVar("K")


@dataclass(frozen=True, kw_only=True)
class Betas:
    """The exponents of the formula; None is by hours, and rows need not name what it is about."""

    corpus: float | None = None
    language: float | None = None


class Part(NamedTuple):
    """What is mixed: a language of a corpus."""

    corpus: str
    lang: str


class Mixture:
    """Which rows of a split an epoch reads: of each part as many as the formula says.

    An epoch has as many rows as the split. Where a part gets more than it has, none of its rows is
    read again before all others have been read as often.
    """

    def __init__(self, utterances: Sequence[Utterance], betas: Betas) -> None:
        """:raises DataError: an exponent is about what no row names."""
        facts = facts_of(utterances)
        self._groups, self._rows = facts.groups, _find_parts(facts)
        self._secs = {part: float(facts.secs[own].sum()) for part, own in self._rows.items()}
        self.shares = compute_shares(self._secs, betas)
        self.num_draws = count_draws(self.shares, len(utterances))
        """How many rows an epoch has of each part."""
        for kind, beta, column in (("corpus", betas.corpus, 0), ("language", betas.language, 1)):
            if beta is not None:
                self._tell_unnamed(kind, column, utterances)
        _log.info("%s", "\n".join(self._describe()))

    def _tell_unnamed(self, kind: str, column: int, utterances: Sequence[Utterance]) -> None:
        """Name the rows that have no weight of their own.

        :param column: where a part says what this is about.
        :raises DataError: that are all of them.
        """
        unnamed = [own for part, own in self._rows.items() if part[column] == NOT_NAMED]
        number = sum(map(len, unnamed))
        if number == len(utterances):
            hint = " Manifests do so in the column `corpus`." if kind == "corpus" else ""
            raise DataError(
                f"`beta_{kind}` mixes the data by their {kind}, but no row names one.{hint}"
            )
        if number > 0:
            _log.warning(
                "%d of %d rows name no %s, such as %s; they are mixed as a %s of their own, %s.",
                *(number, len(utterances), kind, utterances[int(unnamed[0][0])].audio),
                *(kind, NOT_NAMED),
            )

    def draw_rows(self, generator: Generator) -> Tensor:
        """Return the rows of an epoch in their order: each part comes at regular intervals."""
        rows, times = [], []
        total = sum(self.num_draws.values())
        groups = self._groups if total > WINDOW else None
        for part, own in self._rows.items():
            num_draws = self.num_draws[part]
            window = max(1, WINDOW * num_draws // total)  # what a window has of the part
            passes = [
                shuffle(own, groups, generator, window) for _ in range(-(-num_draws // len(own)))
            ]
            rows.append(torch.cat(passes)[:num_draws])
            jitter = torch.rand(num_draws, generator=generator, dtype=torch.float64)
            times.append((torch.arange(num_draws) + jitter) / num_draws)
        return torch.cat(rows)[torch.cat(times).argsort()]

    def _describe(self) -> Iterator[str]:
        total = sum(self.num_draws.values())
        yield "What an epoch reads of each corpus and language:"
        for part, num_draws in sorted(self.num_draws.items()):
            num_rows = len(self._rows[part])
            yield (
                f"  {part.corpus} {part.lang}: {num_draws / total:.2%} of its rows (by the formula"
                f" {self.shares[part]:.2%}), each of {num_rows} rows, {self._secs[part] / 3600:.2f}"
                f" h, {num_draws / num_rows:.2f} times"
            )


def _find_parts(facts: Facts) -> dict[Part, Tensor]:
    """Return the rows of each part; the part of the first row comes first."""
    numbers = facts.corpora.numbers.astype(np.int64) * len(facts.langs.known) + facts.langs.numbers
    found, first = np.unique(numbers, return_index=True)
    parts = {}
    for number in found[first.argsort()]:
        corpus, lang = divmod(int(number), len(facts.langs.known))
        names = facts.corpora.known[corpus], facts.langs.known[lang]
        part = Part(*(name or NOT_NAMED for name in names))
        parts[part] = torch.from_numpy(np.flatnonzero(numbers == number))
    return parts


def compute_shares(amounts: Mapping[Part, float], betas: Betas) -> dict[Part, float]:
    """Return the share of each part by the formula; they sum to 1.

    :param amounts: how much audio each part has, in any unit.
    """
    corpora: dict[str, dict[Part, float]] = {}
    for part, amount in amounts.items():
        corpora.setdefault(part.corpus, {})[part] = amount
    of_corpora = _flatten({name: sum(own.values()) for name, own in corpora.items()}, betas.corpus)
    return {
        part: of_corpora[name] * share
        for name, own in corpora.items()
        for part, share in _flatten(own, betas.language).items()
    }


def _flatten(amounts: Mapping[K, float], beta: float | None) -> dict[K, float]:
    """Return the shares of the amounts to the power of ``beta``, divided by their sum."""
    total = sum(amounts.values())
    powers = {
        key: (amount / total) ** (1.0 if beta is None else beta) for key, amount in amounts.items()
    }
    scale = sum(powers.values())
    return {key: power / scale for key, power in powers.items()}


def count_draws(shares: Mapping[Part, float], total: int) -> dict[Part, int]:
    """Return whole numbers in the proportion of shares, at least 1 each, that sum to ``total``.

    :param total: at least the number of shares.
    """
    counts = {part: max(1, int(total * share)) for part, share in shares.items()}
    missing = total - sum(counts.values())
    nearest = sorted(counts, key=lambda part: total * shares[part] - counts[part], reverse=True)
    for part in islice(cycle(nearest), max(0, missing)):
        counts[part] += 1
    for _ in range(-missing):
        counts[max(counts, key=lambda part: counts[part])] -= 1
    return counts
