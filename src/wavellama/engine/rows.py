"""The rows of a batch while they are decoded: their cache, how long they are, when they leave.

Shapes: N rows, M decoder width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, final

import torch
from torch import Tensor

from wavellama.engine.cache import KeyValueCache
from wavellama.engine.decoder import Engine, Prefix

_KEEP_FROM: Final = 0.75
"""Rows are taken out of the cache once no more than this share of them is alive."""


@final
class CachedRows:
    """Rows that are decoded together. Those that have ended go along until it pays to drop them:
    whoever drops rows copies the cache of the others.
    """

    lens: list[int]
    """How many positions each row has read."""

    cache: KeyValueCache
    """Keys and values of what was read; there is one from ``prefill`` on."""

    def __init__(
        self, engine: Engine, prompts: Sequence[Tensor], prefix: Prefix | None = None
    ) -> None:
        """
        :param prompts: each row's embedded prompt. *Shape of each:* (S, M).
        :param prefix: what the engine has read before, and what stands before each prompt.
        """
        self._engine, self._prompts, self._prefix = engine, prompts, prefix
        self._device = prompts[0].device
        offset = prefix.length if prefix is not None else 0
        self.lens = [offset + len(prompt) for prompt in prompts]

    def prefill(self) -> Tensor:
        """Read the prompts; return log-probabilities of each row's first token. (N, V)."""
        self.cache, log_probs = self._engine.prefill(self._prompts, self._prefix)
        return log_probs

    def pays_to_drop(self, num_alive: int) -> bool:
        """Return whether only so many rows are left that the others should be dropped."""
        return num_alive <= _KEEP_FROM * len(self.lens)

    def keep(self, rows: Sequence[int]) -> None:
        """Drop all other rows."""
        self.cache.keep_rows(self.send(rows))
        self.lens = [self.lens[row] for row in rows]

    def send(self, numbers: Sequence[int] | Sequence[Sequence[int]]) -> Tensor:
        """Return numbers of the host as a tensor on the device, which need not have finished."""
        return torch.tensor(numbers).to(self._device, non_blocking=True)
