"""The engine as a search with drafts sees it: several tokens of a row are read in one call.

Shapes: N rows, K tokens, M decoder width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor

from wavellama.engine.cache import KeyValueCache
from wavellama.engine.decoder import Engine, Prefix
from wavellama.engine.rows import CachedRows


@final
class EngineVerifier:
    """Reads guesses of what comes next, and keeps as many as the search agrees with.

    (A ``search.Verifier``.) Rows advance by different numbers of tokens.
    """

    def __init__(
        self, engine: Engine, prompts: Sequence[Tensor], prefix: Prefix | None = None
    ) -> None:
        """Begin; prompts and prefix are those of ``CachedRows``."""
        self._engine = engine
        self._rows = CachedRows(engine, prompts, prefix)
        self._alive = list(range(len(prompts)))  # the search's rows among those of the cache

    @property
    def cache(self) -> KeyValueCache:
        """The cache, once there is one."""
        return self._rows.cache

    def prefill(self) -> Tensor:
        """Read the prompts; return log-probabilities of each row's first token. (N, V)."""
        return self._rows.prefill()

    def verify(self, tokens: Sequence[Sequence[int]]) -> Tensor:
        """Read tokens of each row; return the log-probabilities after each of them. (N, K, V).

        :param tokens: at least one per row; K is the most. What is returned beyond a row's own
            tokens means nothing.
        """
        cache, width = self.cache, max(map(len, tokens))
        cache.reserve(width)
        places = cache.take_places(width)
        steps = torch.arange(width, device=places.device)
        earlier = (steps[:, None] >= steps).expand(len(places), -1, -1)  # (N, K, K)
        visible = cache.visible.repeat(1, width, 1)
        cache.visible = visible.scatter_(2, places[:, None].expand_as(earlier), earlier)
        ids, positions = self._rows.send(self._arrange(tokens, width)).view(2, -1, width)
        log_probs = self._engine.extend(cache, ids, positions, places)
        if self._alive == [*range(len(log_probs))]:
            return log_probs
        return log_probs[self._rows.send(self._alive)]

    def accept(self, counts: Sequence[int]) -> None:
        """Keep the first ``counts`` tokens of what was just read, of each row at least one."""
        last = [0] * len(self._rows.lens)
        for row, count in zip(self._alive, counts, strict=True):
            last[row] = count - 1
            self._rows.lens[row] += count
        self.cache.fork(self._rows.send(last)[:, None])

    def keep_rows(self, rows: Sequence[int]) -> None:
        """Drop all other rows."""
        self._alive = [self._alive[row] for row in rows]
        if self._rows.pays_to_drop(len(self._alive)):
            self._rows.keep(self._alive)
            self._alive = list(range(len(self._alive)))

    def _arrange(self, tokens: Sequence[Sequence[int]], width: int) -> list[list[int]]:
        """Return the grid's tokens and their positions, row by row; what ended gets zeros.

        Rows are padded at the position of their last token: there may be none behind it.
        """
        read = dict(zip(self._alive, tokens, strict=True))
        ids: list[int] = []
        positions: list[int] = []
        for row, length in enumerate(self._rows.lens):
            own = read.get(row, ())
            padding = width - len(own)
            steps = range(length, length + len(own))
            ids += [*own, *[0] * padding]
            positions += [*steps, *[steps[-1] if own else 0] * padding]
        return [ids, positions]
