"""Modules that ``copy.deepcopy`` can copy, whatever weight norm keeps in them."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from torch import Tensor
from torch.nn import Module
from typing_extensions import Self


class CopyableModule(Module):
    """A module that can be copied at any time.

    torch's weight norm (of the encoder's positions) keeps the weight that it computed last. A
    tensor that was computed cannot be copied; the copy gets its values, until it computes its own.
    """

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Copy the module with all its parameters and buffers."""
        for module in self.modules():
            for value in vars(module).values():
                if isinstance(value, Tensor) and not value.is_leaf:
                    memo[id(value)] = value.detach().clone()
        memo[id(self)] = copy = self.__new__(type(self))
        copy.__dict__.update(deepcopy(self.__dict__, memo))
        return copy
