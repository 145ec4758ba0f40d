"""What torch's modules lack: copies whatever weight norm keeps in them, eval mode for a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
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


@contextmanager
def eval_mode(model: Module) -> Iterator[None]:
    """Put the model in eval mode, and each of its modules back in the mode it was in."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True
