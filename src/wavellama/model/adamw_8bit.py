"""The optimizer component ``adamw_8bit``: AdamW whose moments take a byte each, by bitsandbytes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, cast

from fairseq2.recipe.config import AdamWGroupConfig
from fairseq2.recipe.optim import prepare_parameter_groups
from fairseq2.runtime.dependency import DependencyResolver
from torch.nn import Module
from torch.optim import Optimizer

from wavellama.errors import ConfigError

ADAMW_8BIT: Final = "adamw_8bit"


@dataclass(kw_only=True)
class AdamW8BitConfig:
    """What ``adamw`` is told, without the choices that there are not."""

    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0
    groups: Sequence[AdamWGroupConfig] = field(default_factory=list)
    """Values of parameters whose names match."""


def create_adamw_8bit(resolver: DependencyResolver, config: AdamW8BitConfig) -> Optimizer:
    """Return the optimizer; weights of fewer than 4,096 numbers have moments in float32.

    :raises ConfigError: bitsandbytes is not installed.
    """
    try:
        from bitsandbytes.optim import AdamW8bit
    except ImportError:
        raise ConfigError(
            f"`optimizer.name: {ADAMW_8BIT}` needs the package bitsandbytes:"
            " pip install 'wavellama[adamw-8bit]'."
        ) from None
    groups = prepare_parameter_groups(resolver.resolve(Module), config.groups)
    values = {"lr": config.lr, "betas": config.betas, "eps": config.eps}
    return cast("Optimizer", AdamW8bit(groups, weight_decay=config.weight_decay, **values))
