"""Decoders of batches that began at different times, moved on as one.

Shapes: N rows, B hypotheses of all rows, V vocabulary.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from itertools import islice
from typing import Any, Protocol, final, runtime_checkable

import torch
from torch import Tensor

from wavellama.search.types import Follower, StepDecoder


@runtime_checkable
class Companion(Protocol):
    """A decoder that takes a step for others of its kind, too, faster than each by itself."""

    def step_together(self, decoders: Sequence[Any], tokens: Sequence[list[int]]) -> list[Tensor]:
        """Do what ``step`` does, for several decoders with a list of tokens each."""
        ...


@final
class JoinedDecoder:
    """Lists the hypotheses of one decoder (or scorer) after another; forgets those without any.

    What a decoder says of its hypotheses does not depend on the others.
    """

    def __init__(self, decoder: StepDecoder) -> None:
        self._parts: list[tuple[StepDecoder, int]] = [(decoder, 0)]  # with their hypotheses

    def prefill(self) -> Tensor:
        """Read the prompts; return log-probabilities of each row's first token. (N, V)."""
        ((decoder, _),) = self._parts
        log_probs = decoder.prefill()
        self._parts = [(decoder, len(log_probs))]
        return log_probs

    def join(self, other: JoinedDecoder) -> None:
        """List the hypotheses of another one behind its own; both are between two steps."""
        self._parts += other._parts

    def reorder(self, parents: list[int]) -> None:
        """Replace the list: new hypothesis i continues the old hypothesis ``parents[i]``."""
        parts, begin, first = list[tuple[StepDecoder, int]](), 0, 0
        for decoder, count in self._parts:
            last = bisect_left(parents, begin + count, first)  # rows are in order
            if last > first:
                decoder.reorder([parent - begin for parent in parents[first:last]])
                parts.append((decoder, last - first))
            begin, first = begin + count, last
        self._parts = parts

    def step(self, tokens: list[int]) -> Tensor:
        """Append one token to each hypothesis; return the next log-probabilities. (B, V)."""
        decoders = [decoder for decoder, _ in self._parts]
        if len(decoders) == 1:
            return decoders[0].step(tokens)
        following = iter(tokens)
        lists = [[*islice(following, count)] for _, count in self._parts]
        if isinstance(decoders[0], Companion):
            return torch.cat(decoders[0].step_together(decoders, lists))
        pairs = zip(decoders, lists, strict=True)
        return torch.cat([decoder.step(own) for decoder, own in pairs])

    @property
    def steps_ahead(self) -> int:
        """How many tokens it follows at a time; 1 where it has been joined."""
        decoder = self._parts[0][0]
        is_alone = len(self._parts) == 1
        return decoder.steps_ahead if is_alone and isinstance(decoder, Follower) else 1

    def follow(self, log_probs: Tensor, num_tokens: int) -> tuple[Tensor, Tensor]:
        """Let each hypothesis go on by its likeliest tokens, as the decoder's own method does."""
        ((decoder, _),) = self._parts
        assert isinstance(decoder, Follower), "says `steps_ahead`"
        return decoder.follow(log_probs, num_tokens)
