"""A guess of the whole text, and where in it the search is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final


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
