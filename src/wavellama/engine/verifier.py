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


@final
class EngineVerifier:
    """Reads guesses of what comes next, and keeps as many as the search agrees with.

    (A ``search.Verifier``.) Rows advance by different numbers of tokens.
    """

    def __init__(
        self, engine: Engine, prompts: Sequence[Tensor], prefix: Prefix | None = None
    ) -> None:
        """
        :param prompts: each row's embedded prompt. *Shape of each:* (S, M).
        :param prefix: what the engine has read before, and what stands before each prompt.
        """
        self._engine = engine
        self._prompts = prompts
        self._prefix = prefix
        offset = prefix.length if prefix is not None else 0
        lens = [offset + len(prompt) for prompt in prompts]
        self._lens = torch.tensor(lens, device=prompts[0].device)

    @property
    def cache(self) -> KeyValueCache:
        """The cache, once there is one."""
        return self._cache

    def prefill(self) -> Tensor:
        """Read the prompts; return log-probabilities of each row's first token. (N, V)."""
        self._cache, log_probs = self._engine.prefill(self._prompts, self._prefix)
        return log_probs

    def verify(self, tokens: Sequence[Sequence[int]]) -> Tensor:
        """Read tokens of each row; return the log-probabilities after each of them. (N, K, V).

        :param tokens: at least one per row; K is the most. What is returned beyond a row's own
            tokens means nothing.
        """
        device, cache = self._lens.device, self._cache
        num_tokens = max(map(len, tokens))
        grid = torch.tensor(
            [[*row, *[0] * (num_tokens - len(row))] for row in tokens], device=device
        )
        places = cache.take_places(num_tokens)
        steps = torch.arange(num_tokens, device=device)
        earlier = (steps[:, None] >= steps).expand(len(grid), -1, -1)  # (N, K, K)
        visible = cache.visible.repeat(1, num_tokens, 1)
        index = places[:, None].expand_as(earlier)
        cache.visible = visible.scatter_(2, index, earlier)
        return self._engine.extend(cache, grid, self._lens[:, None] + steps, places)

    def accept(self, counts: Sequence[int]) -> None:
        """Keep the first tokens of what was just read, of each row at least one.

        :param counts: the number of tokens to keep, per row.
        """
        kept = torch.tensor(counts, device=self._lens.device)
        self._cache.fork((kept - 1)[:, None])
        self._lens = self._lens + kept

    def keep_rows(self, rows: Sequence[int]) -> None:
        """Drop all other rows."""
        index = torch.tensor(rows, device=self._lens.device)
        self._cache.keep_rows(index)
        self._lens = self._lens[index]
