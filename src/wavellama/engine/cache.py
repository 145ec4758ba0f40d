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
"""The places of a cache are a multiple of this: few beside a prompt, many beside a step.

Steps between two sizes have the same shapes and write into the same memory.
"""


@dataclass
class KeyValueCache:
    """The cache of all layers.

    All rows have as many places as the longest one needs, so that a layer's attention is one
    product over the batch: a short row beside a long one takes the long one's memory, and its
    empty places are read and masked. Batches of rows of like length waste little.

    As long as it does not grow, it stays where it is in memory, and none of what a step does with
    it (``fork``, ``take_places``, ``write``) waits for the device: the host counts along.
    """

    keys: list[Tensor]
    """Per layer. *Shape of each:* (N, G, C, D)."""

    values: list[Tensor]
    """Per layer. *Shape of each:* (N, G, C, D)."""

    visible: Tensor
    """The places that each hypothesis sees. *Shape:* (N, K, C)."""

    max_used: int
    """How many places of a row are in use, at most; the device alone knows how many are."""

    @staticmethod
    def allocate(
        num_layers: int, num_heads: int, head_dim: int, like: Sequence[Tensor], offset: int = 0
    ) -> KeyValueCache:
        """Return an empty cache with room for prompts, each seen by one hypothesis.

        :param like: the prompts, which give lengths, type and device. *Shape of each:* (S, M).
        :param offset: the number of positions before each prompt.
        """
        lens = [offset + len(prompt) for prompt in like]
        max_len, device = max(lens), like[0].device
        shape = (len(like), num_heads, _with_room(max_len), head_dim)
        ends = torch.tensor(lens, device=device)[:, None, None]
        visible = torch.arange(shape[2], device=device) < ends
        keys, values = ([like[0].new_zeros(shape) for _ in range(num_layers)] for _ in range(2))
        return KeyValueCache(keys, values, visible, max_len)

    @property
    def num_places(self) -> int:
        """Places per row."""
        return self.visible.size(2)

    @property
    def num_bytes(self) -> int:
        """The memory of keys and values."""
        return sum(cache.numel() * cache.element_size() for cache in self.keys + self.values)

    def copy_prefix(self, prefix: KeyValueCache, length: int) -> None:
        """Let all rows begin with the first ``length`` places of a cache of one row.

        They are copied into every row: what is read once takes memory once per row, as attention
        reads a row's places from one tensor.
        """
        for own, others in ((self.keys, prefix.keys), (self.values, prefix.values)):
            for cache, other in zip(own, others, strict=True):
                cache[:, :, :length] = other[:, :, :length]

    def has_room(self, num_places: int) -> bool:
        """Return whether the host knows of so many unused places in each row."""
        return self.max_used + num_places <= self.num_places

    def reserve(self, num_places: int) -> None:
        """Make sure that each row has so many unused places, and count them as used.

        Asks the device what is in use only if the host's count leaves no room.
        """
        if not self.has_room(num_places):
            self.max_used = int(self.visible.any(1).sum(1).max())
        missing = self.max_used + num_places - self.num_places
        if missing > 0:
            self._grow(_fill_bucket(missing))
        self.max_used += num_places

    def take_places(self, num_places: int) -> Tensor:
        """Return for each row some of the places that nobody sees; ``reserve`` them before.

        *Shape:* (N, num_places).
        """
        used = self.visible.any(1)  # (N, C)
        return used.to(torch.uint8).argsort(dim=1, stable=True)[:, :num_places]

    def write(self, layer: int, places: Tensor, keys: Tensor, values: Tensor) -> None:
        """Put new keys and values (N, K, G, D) into the places (N, K) of one layer."""
        rows = torch.arange(places.size(0), device=places.device)[:, None]
        self.keys[layer][rows, :, places] = keys
        self.values[layer][rows, :, places] = values

    def fork(self, parents: Tensor) -> None:
        """Replace the hypotheses: k of row n continues the old one ``parents[n, k]``. (N, K')."""
        rows = torch.arange(parents.size(0), device=parents.device)[:, None]
        visible = self.visible[rows, parents]
        if visible.shape == self.visible.shape:
            self.visible.copy_(visible)
        else:
            self.visible = visible

    def keep_rows(self, rows: Tensor) -> None:
        """Drop all but some rows (N'), and the places that nobody sees any more."""
        self.visible = self.visible[rows]
        used = self.visible.any(1)  # (N', C)
        self.max_used = int(used.sum(1).max())
        num_places = _with_room(self.max_used)
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
    return -(-num_places // BUCKET) * BUCKET
