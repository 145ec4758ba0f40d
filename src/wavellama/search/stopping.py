"""When a hypothesis ends other than by EOS."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class RepetitionGuard:
    """Stops a hypothesis that repeats itself."""

    window: int = 100
    """The number of last tokens to watch; shorter hypotheses are left alone."""

    threshold: float = 4.0
    """The compression ratio above which the window counts as repeating."""

    def cut(self, tokens: Sequence[int]) -> int | None:
        """Return how many tokens to keep, or None if ``tokens`` does not repeat itself.

        The window's ids, written as decimals, are compressed with zlib; where the ratio exceeds
        the threshold, what repeats at the end is cut to one copy of its smallest period.
        """
        if len(tokens) < self.window:
            return None
        written = " ".join(map(str, tokens[-self.window :])).encode()
        if len(written) / len(zlib.compress(written)) <= self.threshold:
            return None
        return self._keep_one_copy(tokens)

    def _keep_one_copy(self, tokens: Sequence[int]) -> int:
        """Return the length up to the end of the first copy of what repeats.

        A period counts if its copies fill at least half of the window; without one (a jumble of
        few tokens compresses well, too) all tokens are kept. What follows the copies goes, too: a
        beam may leave its loop with the very token that fills the window.
        """
        for period in range(1, self.window // 2 + 1):
            begin, length = _longest_run(tokens, period)
            if length >= max(2 * period, self.window // 2):
                return begin + period
        return len(tokens)


def _longest_run(tokens: Sequence[int], period: int) -> tuple[int, int]:
    """Return begin and length of the longest stretch that repeats every ``period`` tokens."""
    best, begin = (0, 0), 0
    for i in range(period, len(tokens)):
        if tokens[i] != tokens[i - period]:
            begin = i - period + 1
        elif i + 1 - begin > best[1]:
            best = (begin, i + 1 - begin)
    return best
