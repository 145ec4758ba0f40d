"""Greedy search with drafts: several tokens per call of the decoder, and the same text.

The decoder reads a guess of the next tokens in one call and says after each of them what it would
have emitted. The guess holds up to the first token on which the two differ; there the decoder's
token counts, which comes for free (Leviathan et al. 2023, for the greedy case).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice, takewhile
from typing import final

import torch
from torch import Tensor

from wavellama.search.greedy import GreedyRules, Path
from wavellama.search.types import Hypothesis, Verifier


@final
class Draft:
    """Tokens that are guessed to be emitted, aligned with those that have been.

    A guess that was wrong in one place is still good behind it: what comes next is read off where
    the emitted tokens fit best, by edit distance, so that a token too many, too few or another one
    costs no more than that place.
    """

    def __init__(self, tokens: Sequence[int]) -> None:
        self._tokens = list(tokens)
        self._costs = list(range(len(self._tokens) + 1))  # of the emitted tokens to each prefix

    def emit(self, token: int) -> None:
        """Take note of a token that was emitted."""
        old = self._costs
        new = [old[0] + 1]
        for i, guess in enumerate(self._tokens):
            new.append(min(old[i] + (guess != token), old[i + 1] + 1, new[i] + 1))
        self._costs = new

    def following(self, num_tokens: int) -> list[int]:
        """Return the next tokens, at most ``num_tokens``; of equal fits the furthest counts."""
        best = min(self._costs)
        begin = max(i for i, cost in enumerate(self._costs) if cost == best)
        return self._tokens[begin : begin + num_tokens]


@dataclass
class DraftCounts:
    """How far drafts have carried."""

    num_tokens: int = 0
    """Tokens emitted, those of all rows and EOS included."""

    num_calls: int = 0
    """Calls of the decoder, the prefill included; a call of several rows counts for each."""


@dataclass(frozen=True)
class SpeculativeSearch(GreedyRules):
    """Follows the likeliest token of each row, as ``GreedySearch`` does, guided by drafts."""

    max_draft: int = 8
    """The most guessed tokens to read in one call."""

    counts: DraftCounts = field(default_factory=DraftCounts)
    """Of all runs so far."""

    def run(
        self, verifier: Verifier, max_lens: Sequence[int], drafts: Sequence[Sequence[int]]
    ) -> list[list[Hypothesis]]:
        """Return one hypothesis per row, that of ``GreedySearch``.

        :param max_lens: the most tokens that each row may emit, at least 1.
        :param drafts: a guess of the tokens of each row, without EOS; may be empty.
        :raises ConfigError: the constraints leave a row no token.
        :raises DecodingError: the decoder produced NaN.
        """
        paths = [Path(i, max_len) for i, max_len in enumerate(max_lens)]
        guides = [Draft([*draft, self.eos_idx]) for draft in drafts]
        live, log_probs = paths, verifier.prefill()[:, None]
        self._follow(live, guides, [[] for _ in live], log_probs)
        while True:
            places = [i for i, path in enumerate(live) if path.stop_reason is None]
            if not places:
                return [[self.to_hypothesis(path)] for path in paths]
            if len(places) < len(live):
                verifier.keep_rows(places)
            live = [live[i] for i in places]
            guesses = [self._guess(path, guides[path.index]) for path in live]
            pairs = zip(live, guesses, strict=True)
            log_probs = verifier.verify([[path.tokens[-1], *guess] for path, guess in pairs])
            verifier.accept(self._follow(live, guides, guesses, log_probs))

    def _guess(self, path: Path, guide: Draft) -> list[int]:
        """Return the tokens to guess after a path; none that could not be emitted any more."""
        room = path.max_len - len(path.tokens) - 1
        return guide.following(min(self.max_draft, room))

    def _follow(
        self,
        paths: Sequence[Path],
        guides: Sequence[Draft],
        guesses: Sequence[Sequence[int]],
        log_probs: Tensor,
    ) -> list[int]:
        """Let the paths go on as far as the decoder agrees with the guesses, and a token further.

        :param log_probs: after the last token of each path, and after each guess. (N, K, V).
        :returns: how many of those positions the path has used, per row.
        """
        rows = list(zip(paths, guesses, log_probs, strict=True))
        prefixes = [
            [*path.tokens, *guess[:i]] for path, guess, _ in rows for i in range(len(guess) + 1)
        ]
        read = torch.cat([row[: len(guess) + 1] for _, guess, row in rows])
        chosen = iter(self.choose(read, prefixes))
        used = []
        for path, guess, _ in rows:
            own = list(islice(chosen, len(guess) + 1))
            num_agreed = _count_equal(guess, [token for token, _ in own])
            used.append(self._emit(path, guides[path.index], own[: num_agreed + 1]))
        self.counts.num_calls += len(rows)
        self.counts.num_tokens += sum(used)
        return used

    def _emit(self, path: Path, guide: Draft, chosen: Sequence[tuple[int, float]]) -> int:
        """Append tokens until the path ends; return how many."""
        for count, (token, logprob) in enumerate(chosen, 1):
            self.append(path, token, logprob)
            guide.emit(token)
            if path.stop_reason is not None:
                return count
        return len(chosen)


def _count_equal(guess: Sequence[int], chosen: Sequence[int]) -> int:
    equal = takewhile(lambda pair: pair[0] == pair[1], zip(guess, chosen, strict=False))
    return sum(1 for _ in equal)
