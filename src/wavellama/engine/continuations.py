"""The engine as a comparison sees it: several continuations of one prompt, known beforehand.

Shapes: K continuations, T positions of each, S positions of the prompt, M decoder width, V
vocabulary.
"""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor

from wavellama.engine.decoder import Engine


@final
class EngineContinuations:
    """Reads a prompt once, then as many of its continuations as there are, several in one call.

    A continuation sees the prompt and itself. What was read leaves the cache again, so that its
    size does not depend on the number of calls.
    """

    def __init__(self, engine: Engine, prompt: Tensor) -> None:
        """:param prompt: the embedded prompt. *Shape:* (S, M), S at least 1."""
        self._engine = engine
        self._prompt_len = len(prompt)
        self._cache, _ = engine.prefill([prompt])

    def read(self, seqs: Tensor) -> Tensor:
        """Return the log-probabilities of the next token after each position. (K, T, V).

        :param seqs: embedded continuations, of one length. *Shape:* (K, T, M).
        """
        num_seqs, length, _ = seqs.shape
        cache = self._cache
        cache.reserve(num_seqs * length)  # it may grow
        places = cache.take_places(num_seqs * length)  # (1, K T)
        prompt = cache.visible
        cache.visible = self._see_own(prompt, places, num_seqs)
        positions = self._prompt_len + torch.arange(length, device=places.device)
        grid = seqs.flatten(0, 1)[None]  # (1, K T, M)
        log_probs = self._engine.extend_embedded(
            cache, grid, positions.repeat(num_seqs)[None], places
        )
        cache.visible = prompt
        return log_probs.view(num_seqs, length, -1)

    def _see_own(self, prompt: Tensor, places: Tensor, num_seqs: int) -> Tensor:
        """Return what each position sees: the prompt and, of its own continuation, what came before
        it and itself. (1, K T, C).
        """
        steps = torch.arange(places.size(1) // num_seqs, device=places.device)
        earlier = steps[:, None] >= steps  # (T, T)
        same = torch.eye(num_seqs, dtype=torch.bool, device=places.device)  # (K, K)
        own = (same[:, None, :, None] & earlier[:, None]).flatten(2).flatten(0, 1)[None]
        visible = prompt.repeat(1, places.size(1), 1)
        return visible.scatter_(2, places[:, None].expand_as(own), own)
