"""A random order of rows, in which those that are read at once stay near each other."""

from __future__ import annotations

from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor

WINDOW: Final = 2048
"""Rows that are shuffled among each other, and sorted by length together."""


def shuffle(
    rows: Tensor, groups: NDArray[np.int64] | None, generator: Generator, window: int = WINDOW
) -> Tensor:
    """Return rows in a random order.

    With groups, the groups come in a random order, and the rows of as many groups as make a window
    are shuffled: no more groups than that are read at a time. Rows that make a single window are
    shuffled as if there were no groups.

    :param rows: places of utterances. *Shape:* (R).
    :param groups: the group of each utterance. *Shape:* (U).
    :param window: how many of the rows are read together.
    """
    if groups is None or len(rows) <= window:
        return rows[torch.randperm(len(rows), generator=generator)]
    _, numbers = np.unique(groups[rows.numpy()], return_inverse=True)
    ranks = torch.randperm(int(numbers.max()) + 1, generator=generator)
    rows = rows[_shuffle_within(ranks[torch.from_numpy(numbers)], generator)]
    return rows[_shuffle_within(torch.arange(len(rows)) // window, generator)]


def _shuffle_within(numbers: Tensor, generator: Generator) -> Tensor:
    """Return the places of numbers in rising order, those of equal ones in a random order."""
    draws = torch.rand(len(numbers), generator=generator, dtype=torch.float64)
    return (numbers + draws).argsort()
