"""The engine as a search sees it: a list of hypotheses that fork, end and grow by a token.

Shapes: N rows, K hypotheses per row, B hypotheses of all rows, M decoder width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Final, final

import torch
from torch import Tensor

from wavellama.engine.cache import KeyValueCache
from wavellama.engine.decoder import Engine, Prefix

_KEEP_FROM: Final = 0.75
"""Rows are taken out of the cache once no more than this share of them is alive."""


@final
class EngineStepDecoder:
    """Decodes the rows of a batch in lock-step (a ``search.StepDecoder``).

    The engine works on a grid of N rows with K hypotheses each; the list of hypotheses names
    places of the grid. Places that are not named repeat another hypothesis of their row and cost
    next to nothing; rows that have ended leave the grid together.
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
        self._counts = [1] * len(prompts)  # hypotheses in the list, per row of the grid

    def prefill(self) -> Tensor:
        """Read the prompts; return log-probabilities of each row's first token. (N, V)."""
        self._cache, log_probs = self._engine.prefill(self._prompts, self._prefix)
        return log_probs

    @property
    def cache(self) -> KeyValueCache:
        """The cache, once there is one."""
        return self._cache

    def reorder(self, parents: list[int]) -> None:
        """Replace the list: new hypothesis i continues the old hypothesis ``parents[i]``."""
        ends = list(accumulate(self._counts))
        begins = [0, *ends[:-1]]
        spans = zip(begins, ends, strict=True)
        kept = [[parent - b for parent in parents if b <= parent < e] for b, e in spans]
        self._counts = [len(row) for row in kept]
        num_places = max(self._counts)
        grid = [(row + [row[0] if row else 0] * num_places)[:num_places] for row in kept]
        self._cache.fork(torch.tensor(grid, device=self._lens.device))
        alive = [i for i, count in enumerate(self._counts) if count]
        if len(alive) <= _KEEP_FROM * len(self._counts):
            self._keep_rows(alive)
        elif len(alive) < len(self._counts):
            dead = [i for i, count in enumerate(self._counts) if not count]
            self._lens[dead] = 0  # they go along, from the first position on

    def step(self, tokens: list[int]) -> Tensor:
        """Append one token to each hypothesis; return the next log-probabilities. (B, V)."""
        index = [(row, i) for row, count in enumerate(self._counts) for i in range(count)]
        rows, columns = torch.tensor(index, device=self._lens.device).T
        cache = self._cache
        num_rows, num_places, _ = cache.visible.shape
        places = cache.take_places(num_places)
        cache.visible.scatter_(2, places[..., None], True)
        grid = torch.zeros((num_rows, num_places), dtype=torch.int64, device=self._lens.device)
        grid[rows, columns] = torch.tensor(tokens, device=self._lens.device)
        positions = self._lens[:, None].expand_as(grid)
        log_probs = self._engine.extend(cache, grid, positions, places)
        self._lens = self._lens + 1
        return log_probs[rows, columns]

    def _keep_rows(self, rows: list[int]) -> None:
        index = torch.tensor(rows, device=self._lens.device)
        self._cache.keep_rows(index)
        self._lens = self._lens[index]
        self._counts = [self._counts[row] for row in rows]
