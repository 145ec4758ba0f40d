"""What takes most of a training step on a CPU, done faster: nothing changes elsewhere."""

from __future__ import annotations

from typing import Any, Final, cast, final

import torch
from fairseq2.models.transformer import NaiveSDPA, TorchSDPA
from fairseq2.models.transformer.sdpa.base import SDPA
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import Conv1d, Dropout, Module
from torch.nn.functional import linear
from typing_extensions import override

_MOST_KEYS: Final = 512
"""Plain attention is used up to here: its memory grows with the square."""


def speed_up(encoder: Module) -> None:
    """Let an encoder train faster on a CPU; weights and their names stay as they are."""
    for parent in [*encoder.modules()]:
        for name, module in [*parent.named_children()]:
            setattr(parent, name, _quick(module))


def _quick(module: Module) -> Module:
    if type(module) is Dropout:
        return QuickDropout(module.p)
    if type(module) is TorchSDPA and module.scale is None:
        return QuickSDPA(module)
    if type(module) is Conv1d and module.kernel_size == (1,) and module.groups == 1:
        return QuickPointwise(module)
    return module


@final
class QuickDropout(Dropout):
    """Dropout by 16 random bits for each element, with masks of a byte.

    torch's ``bernoulli_`` takes ten times as long, and its masks four bytes.
    """

    @override
    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0:
            return x
        return cast(Tensor, _Drop.apply(x, round(self.p * 2**16)))  # type: ignore[no-untyped-call]


class _Drop(torch.autograd.Function):
    """Drops elements whose 16 bits make a number below ``num_dropped``."""

    @staticmethod
    @override
    def forward(ctx: Any, x: Tensor, num_dropped: int) -> Tensor:
        bits = torch.empty(x.numel() // 4 + 1, dtype=torch.int64).random_(-(2**63), None)
        is_kept = bits.view(torch.int16)[: x.numel()].view(x.shape) >= num_dropped - 2**15
        ctx.save_for_backward(is_kept)
        ctx.scale = 2**16 / (2**16 - num_dropped)
        return x * is_kept.to(x.dtype).mul_(ctx.scale)

    @staticmethod
    @once_differentiable
    @override
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (is_kept,) = ctx.saved_tensors
        return grad * is_kept.to(grad.dtype).mul_(ctx.scale), None


@final
class QuickSDPA(SDPA):
    """Attention by plain products in bfloat16, for which torch's backward pass takes far longer."""

    def __init__(self, sdpa: TorchSDPA) -> None:
        super().__init__()
        self.fused, self.plain = sdpa, NaiveSDPA(sdpa.bias, dropout_p=sdpa.dropout_p)

    @override
    def forward(self, q: Tensor, q_layout: Any, k: Tensor, *rest: Any, **options: Any) -> Any:
        is_slow = self.training and q.dtype == torch.bfloat16 and k.size(-3) <= _MOST_KEYS
        return (self.plain if is_slow else self.fused)(q, q_layout, k, *rest, **options)


@final
class QuickPointwise(Conv1d):
    """A convolution over one frame, in training as a projection."""

    def __init__(self, conv: Conv1d) -> None:
        has_bias = conv.bias is not None
        super().__init__(conv.in_channels, conv.out_channels, 1, bias=has_bias, device="meta")
        self.weight, self.bias = conv.weight, conv.bias

    @override
    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        return linear(x.transpose(1, 2), self.weight[:, :, 0], self.bias).transpose(1, 2)
