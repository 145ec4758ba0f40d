"""All that is used of fairseq2 beside its public names; each has a test that names it.

Also ``StandardModelFamily`` is marked final and is derived from (``checkpoints.family``).
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fairseq2.early_stopper import EarlyStopper
    from fairseq2.runtime.dependency import DependencyContainer
    from fairseq2.trainer import Trainer
    from torch.nn import Module


def register_or_replace(
    container: DependencyContainer,
    kls: type[object],
    key: Hashable,
    provider: Any,  # noqa: ANN401
) -> None:
    """Register a provider, or put it in the place of one that fairseq2 has registered itself.

    fairseq2 refuses to register a key twice.
    """
    registered = container._registrations.get((kls, key))
    if registered is None:
        container.register(kls, provider, key=key)
    else:
        registered.provider = provider


def set_early_stopper(trainer: Trainer, stopper: EarlyStopper) -> None:
    """Let ``stopper`` decide after each validation of ``trainer``.

    fairseq2's trainer takes a stopper, but its recipes pass the one that never stops, and offer no
    way to choose another.

    :raises InvalidOperationError: the trainer already has a stopper.
    """
    from fairseq2.early_stopper import NOOP_EARLY_STOPPER
    from fairseq2.error import InvalidOperationError

    if trainer._early_stopper is not NOOP_EARLY_STOPPER:
        raise InvalidOperationError("The trainer already has an early stopper.")
    trainer._early_stopper = stopper


def has_attention_hooks(module: Module) -> bool:
    """Tell whether somebody looks at a module's attention weights."""
    return bool(getattr(module, "_attn_weight_hooks", None))
