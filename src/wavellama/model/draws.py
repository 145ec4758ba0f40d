"""Random draws that a resumed run repeats: a function of (seed, step, rank, call, row)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import Module


class Draws:
    """Hands out one generator per forward pass of a training step.

    Gradient accumulation calls the model more than once a step; the calls are counted, so that
    each has draws of its own. Row i of a batch uses the i-th number of its generator.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._step_nr, self._rank, self._call = 0, 0, 0

    def reseed(self, seed: int) -> None:
        """Draw from another seed from now on."""
        self._seed = seed

    def start_step(self, step_nr: int, rank: int) -> None:
        """Begin the draws of training step ``step_nr`` on process ``rank``."""
        self._step_nr, self._rank, self._call = step_nr, rank, 0

    def next_generator(self) -> torch.Generator:
        """Return the generator of the next forward pass."""
        key = f"{self._seed}:{self._step_nr}:{self._rank}:{self._call}".encode()
        self._call += 1
        seed = int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "big") >> 1
        return torch.Generator().manual_seed(seed)


def all_draws(module: Module) -> list[Draws]:
    """Return the draws of a module and of those in it."""
    found = (getattr(part, "draws", None) for part in module.modules())
    return [draws for draws in found if isinstance(draws, Draws)]


def keep_rows(num_rows: int, keep_p: float, generator: torch.Generator) -> list[bool]:
    """Draw for each row, with probability ``keep_p``, whether to keep something."""
    draws: Tensor = torch.rand(num_rows, generator=generator)
    return [draw < keep_p for draw in draws.tolist()]


def token_noise(
    vocab_size: int, noise_p: float, generator: torch.Generator | None
) -> Callable[[Sequence[int]], Sequence[int]]:
    """Return the function from a text to what the decoder is shown of it.

    :param generator: draws in training; None outside of it, when nothing is replaced.
    """
    if generator is None or noise_p == 0.0:
        return lambda tokens: tokens
    return lambda tokens: replace_tokens(tokens, vocab_size, noise_p, generator)


def replace_tokens(
    tokens: Sequence[int], vocab_size: int, noise_p: float, generator: torch.Generator
) -> list[int]:
    """Replace each token, with probability ``noise_p``, by one drawn from the vocabulary."""
    keep = keep_rows(len(tokens), 1.0 - noise_p, generator)
    drawn = torch.randint(vocab_size, (len(tokens),), generator=generator).tolist()
    return [old if kept else new for old, new, kept in zip(tokens, drawn, keep, strict=True)]
