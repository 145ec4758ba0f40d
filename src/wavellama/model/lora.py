"""Low-rank adapters (LoRA, arXiv 2106.09685): projections that learn a small difference to weights
which stay as they are.

Shapes: I inputs and O outputs of a projection, R the rank of its adapter.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, TypeAlias, final

import torch
from fairseq2.nn import Projection
from fairseq2.nn.utils.module import reset_non_persistent_buffers
from torch import Tensor
from torch.nn import Dropout, Module, Parameter
from torch.nn.functional import linear
from torch.nn.init import kaiming_uniform_, zeros_
from typing_extensions import override

from wavellama.errors import ConfigError
from wavellama.faults import Checked, within

LAYERS: Final = r"(encoder|llama_decoder)\.layers\..*_proj"
"""The projections of all layers of encoder and decoder, as a regular expression."""


@dataclass(frozen=True, kw_only=True)
class LoraConfig(Checked):
    """Which projections get an adapter of which size, and what else is trained."""

    r: int = within("[1, inf)", 8)
    """The rank of the adapters."""

    alpha: float = 16.0
    """What an adapter computes counts ``alpha / r`` times."""

    dropout: float = within("[0, 1)", 0.0)
    """The probability with which an input of an adapter is dropped in training."""

    targets: Sequence[str] = (LAYERS,)
    """Regular expressions, one of which has to match the whole name of a projection."""

    also_train: Sequence[str] = ()
    """Regular expressions of modules, such as ``lang_embeddings``, that are trained whole."""

    @property
    def scale(self) -> float:
        """The factor of what an adapter computes."""
        return self.alpha / self.r

    @override
    def find_faults(self) -> Iterator[str]:
        yield from super().find_faults()
        if not 0.0 < self.alpha < math.inf:
            yield f"`alpha` must be greater than 0, and finite: {self.alpha:g}."
        if not self.targets:
            yield "`targets` names no projection to adapt."
        for name in ("targets", "also_train"):
            for pattern in getattr(self, name):
                if not _compiles(pattern):
                    yield f"`{name}` has no regular expression: {pattern}."


@final
class LoraProjection(Projection):
    """A projection with an adapter; its own weights keep their names."""

    def __init__(self, base: Projection, config: LoraConfig) -> None:
        """:raises ConfigError: the weights of ``base`` are cut for tensor parallelism."""
        super().__init__(base.input_dim, base.output_dim)
        weight = base.get_parameter("weight")  # (O, I)
        if weight.shape != (base.output_dim, base.input_dim):
            raise ConfigError("`lora` does not work with tensor parallelism.")
        self.weight = weight
        self.register_parameter("bias", base.bias)  # type: ignore[arg-type]
        empty = partial(torch.empty, device=weight.device, dtype=torch.float32)
        self.lora_A = Parameter(empty(config.r, base.input_dim))
        self.lora_B = Parameter(empty(base.output_dim, config.r))
        self.dropout, self.scale = Dropout(config.dropout), config.scale
        self.reset_parameters()
        self.train(base.training)

    def reset_parameters(self) -> None:
        """Let the adapter compute zeros."""
        kaiming_uniform_(self.lora_A, a=5**0.5)
        zeros_(self.lora_B)

    @override
    def forward(self, x: Tensor) -> Tensor:
        small = linear(self.dropout(x), self.lora_A.to(x.dtype))  # (*, R)
        change = linear(small, self.lora_B.to(x.dtype))
        return linear(x, self.weight, self.bias) + change * self.scale  # type: ignore[arg-type]

    @override
    def extra_repr(self) -> str:
        return f"input_dim={self.input_dim}, output_dim={self.output_dim}, scale={self.scale:g}"


def add_adapters(model: Module, config: LoraConfig) -> None:
    """Give projections adapters, and freeze all else but the modules that are trained whole.

    Frozen projections keep their type of numbers, all else becomes float32.

    :raises ConfigError: a pattern matches nothing.
    """
    modules = dict(model.named_modules())
    projections = {name: m for name, m in modules.items() if isinstance(m, Projection)}
    adapted = _matching(projections, config.targets, "targets")
    trained = _matching(modules, config.also_train, "also_train")
    model.requires_grad_(False)
    for name in adapted:
        parent, _, own = name.rpartition(".")
        setattr(model.get_submodule(parent), own, LoraProjection(projections[name], config))
    for name in trained:
        model.get_submodule(name).requires_grad_(True)
    _widen(model)


def _widen(model: Module) -> None:
    """Make float32 of what is no frozen weight of a projection, and compute anew what derives."""
    for module in model.modules():
        is_projection = isinstance(module, Projection)
        for parameter in module.parameters(recurse=False):
            if parameter.requires_grad or not is_projection:
                parameter.data = parameter.data.float()
        for name, buffer in module.named_buffers(recurse=False):
            if buffer.is_floating_point():
                setattr(module, name, buffer.float())
    reset_non_persistent_buffers(model)


def leave_out_frozen(model: Module) -> None:
    """Let the state dict of a model have no parameter that is frozen now, nor ask for one."""
    for module in model.modules():
        own = module.named_parameters(recurse=False)
        frozen = [name for name, parameter in own if not parameter.requires_grad]
        if frozen:
            hooked: Any = module  # torch has not annotated these two
            hooked.register_state_dict_post_hook(partial(_leave_out, frozen))
            hooked.register_load_state_dict_pre_hook(partial(_fill_in, frozen))


def merge_weight(weight: Tensor, lora_a: Tensor, lora_b: Tensor, alpha: float) -> Tensor:
    """Return the one weight that computes what a projection and its adapter do.

    :param weight: the projection's own. *Shape:* (O, I).
    :param lora_a: *Shape:* (R, I).
    :param lora_b: *Shape:* (O, R).
    """
    change = (lora_b.float() @ lora_a.float()) * (alpha / len(lora_a))
    return (weight.float() + change).to(weight.dtype)


_State: TypeAlias = dict[str, object]


def _leave_out(names: list[str], _: Module, state: _State, prefix: str, *__: object) -> None:
    for name in names:
        state.pop(prefix + name, None)


def _fill_in(names: list[str], module: Module, state: _State, prefix: str, *_: object) -> None:
    for name in names:
        state.setdefault(prefix + name, module.get_parameter(name))


def _matching(modules: Mapping[str, Module], patterns: Iterable[str], field: str) -> list[str]:
    matches = {p: [name for name in modules if re.fullmatch(p, name)] for p in patterns}
    for pattern, names in matches.items():
        if not names:
            kind = "projection" if field == "targets" else "module"
            raise ConfigError(f"`lora.{field}`: {pattern} matches no {kind} of this model.")
    return list(dict.fromkeys(name for names in matches.values() for name in names))


def _compiles(pattern: str) -> bool:
    try:
        re.compile(pattern)
    except re.error:
        return False
    return True
