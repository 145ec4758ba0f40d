"""Keys and values of a batch: the prompt once per row, the rest wherever there is room.

Keys carry their rotation, so that their place in the cache means nothing; which of them a
hypothesis sees is a matter of its mask. Hypotheses of a row share what they have in common, and a
place is free again once no hypothesis sees it: nothing is copied when hypotheses fork or end.

Shapes: N rows, K hypotheses per row, G key/value heads, C places, D width of a head.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

BUCKET = 64
"""A cache has a multiple of so many places: few beside a prompt, many beside a step.

Steps between two sizes have the same shapes and write into the same memory.
"""


@dataclass
class KeyValueCache:
    """The cache of all layers."""

    keys: list[Tensor]
    """Per layer. *Shape of each:* (N, G, C, D)."""

    values: list[Tensor]
    """Per layer. *Shape of each:* (N, G, C, D)."""

    visible: Tensor
    """The places that each hypothesis sees. *Shape:* (N, K, C)."""

    @staticmethod
    def allocate(
        num_layers: int, num_heads: int, head_dim: int, like: Sequence[Tensor], offset: int = 0
    ) -> KeyValueCache:
        """Return an empty cache with room for prompts, each seen by one hypothesis.

        :param like: the prompts, which give lengths, type and device. *Shape of each:* (S, M).
        :param offset: the number of positions before each prompt.
        """
        lens = torch.tensor([offset + len(prompt) for prompt in like], device=like[0].device)
        width = _with_room(int(lens.max()))
        shape = (len(like), num_heads, width, head_dim)
        visible = torch.arange(width, device=lens.device) < lens[:, None, None]
        layers = range(num_layers)
        keys = [like[0].new_zeros(shape) for _ in layers]
        return KeyValueCache(keys, [like[0].new_zeros(shape) for _ in layers], visible)

    @property
    def num_bytes(self) -> int:
        """The memory of keys and values."""
        return sum(cache.numel() * cache.element_size() for cache in self.keys + self.values)

    def copy_prefix(self, prefix: KeyValueCache, length: int) -> None:
        """Let all rows begin with the first ``length`` places of a cache of one row."""
        for own, others in ((self.keys, prefix.keys), (self.values, prefix.values)):
            for cache, other in zip(own, others, strict=True):
                cache[:, :, :length] = other[:, :, :length]

    def take_places(self, num_places: int) -> Tensor:
        """Return for each row some places that nobody sees. *Shape:* (N, num_places)."""
        used = self.visible.any(1)  # (N, C)
        missing = num_places - int((~used).sum(1).min())
        if missing > 0:
            self._grow(_fill_bucket(missing))
            used = self.visible.any(1)
        return used.to(torch.uint8).argsort(dim=1, stable=True)[:, :num_places]

    def write(self, layer: int, places: Tensor, keys: Tensor, values: Tensor) -> None:
        """Put new keys and values into one layer.

        :param places: where to. *Shape:* (N, K).
        :param keys: *Shape:* (N, K, G, D).
        :param values: *Shape:* (N, K, G, D).
        """
        rows = torch.arange(places.size(0), device=places.device)[:, None]
        self.keys[layer][rows, :, places] = keys
        self.values[layer][rows, :, places] = values

    def fork(self, parents: Tensor) -> None:
        """Replace the hypotheses: k of row n continues the old one ``parents[n, k]``. (N, K')."""
        rows = torch.arange(parents.size(0), device=parents.device)[:, None]
        self.visible = self.visible[rows, parents]

    def keep_rows(self, rows: Tensor) -> None:
        """Drop all other rows, and the places that nobody sees any more.

        :param rows: the indices of the rows to keep. *Shape:* (N').
        """
        self.visible = self.visible[rows]
        used = self.visible.any(1)  # (N', C)
        num_places = _with_room(int(used.sum(1).max()))
        order = used.to(torch.uint8).argsort(dim=1, descending=True, stable=True)[:, :num_places]
        self.visible = self.visible.gather(2, order[:, None].expand(-1, self.visible.size(1), -1))
        for caches in (self.keys, self.values):
            for i, cache in enumerate(caches):
                caches[i] = cache[rows[:, None], :, order].transpose(1, 2).contiguous()

    def _grow(self, num_places: int) -> None:
        self.visible = pad(self.visible, (0, num_places))
        for caches in (self.keys, self.values):
            for i, cache in enumerate(caches):
                caches[i] = pad(cache, (0, 0, 0, num_places))


def _with_room(num_used: int) -> int:
    """Return how many places to have where ``num_used`` are taken: half a bucket more at least."""
    return _fill_bucket(num_used + BUCKET // 2)


def _fill_bucket(num_places: int) -> int:
    """Round up to whole buckets."""
    return -(-num_places // BUCKET) * BUCKET
