"""When a hypothesis ends other than by EOS."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class RepetitionGuard:
    """Stops a hypothesis that repeats itself."""

    window: int
    """The number of last tokens to watch; shorter hypotheses are left alone."""

    threshold: float
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

        A period counts if its copies, of which there are two at least, fill half of the window or
        more; without one (a jumble of few tokens compresses well, too) all tokens are kept. The
        copies may have begun before the window. What follows them goes, too: a beam may leave its
        loop with the very token that fills the window.
        """
        start = len(tokens) - self.window
        for period in range(1, self.window // 2 + 1):
            begin, end = _longest_run(tokens, period, start)
            if end - begin >= self.window // 2:
                begin = _first_of_run(tokens, period, begin)
                if end - begin >= 2 * period:
                    return begin + period
        return len(tokens)


def _longest_run(tokens: Sequence[int], period: int, start: int) -> tuple[int, int]:
    """Return begin and end of the longest stretch from ``start`` on with the given period."""
    best, begin = (start, start), start
    for i in range(start + period, len(tokens)):
        if tokens[i] != tokens[i - period]:
            begin = i - period + 1
        elif i + 1 - begin > best[1] - best[0]:
            best = (begin, i + 1)
    return best


def _first_of_run(tokens: Sequence[int], period: int, begin: int) -> int:
    """Return where a stretch with the given period begins, of which ``begin`` is a part."""
    while begin > 0 and tokens[begin - 1] == tokens[begin - 1 + period]:
        begin -= 1
    return begin
