"""All that is used of torch beside its public names; each has a test that names it.

Shapes: B vectors, I inputs, O outputs.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import Module
from torch.nn.modules import module as hooks_of_all


def has_packed_products(dtype: torch.dtype) -> bool:
    """Return whether oneDNN has packed products of this type on this CPU."""
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    if dtype == torch.bfloat16:  # it refuses to pack for a CPU without AVX-512, say
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return dtype == torch.float32


def pack_weight(weight: Tensor) -> Tensor:
    """Return a copy of a weight (O, I), laid out for oneDNN's kernels."""
    packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight)
    return packed


def multiply_packed(seqs: Tensor, packed: Tensor) -> Tensor:
    """Multiply vectors with a packed weight. (B, I) -> (B, O)."""
    outputs: Tensor = torch.ops.mkldnn._linear_pointwise(seqs, packed, None, "none", [], "")
    return outputs


def has_fast_integers() -> bool:
    """Return whether the CPU has VNNI instructions."""
    return torch.cpu._is_vnni_supported()


def pack_int8(weight: Tensor) -> Tensor:
    """Return a copy of an int8 weight (O, I), laid out for oneDNN's kernels."""
    packed: Tensor = torch.ops.onednn.qlinear_prepack(weight, None)
    return packed


def multiply_int8(
    digits: Tensor, zero: int, packed: Tensor, scales: Tensor, zeros: Tensor
) -> Tensor:
    """Multiply unsigned integers (B, I) with a packed int8 weight; return float32 (B, O).

    :param zero: the integer that stands for 0.
    :param scales: the value of one unit of each output's weights. *Shape:* (O).
    :param zeros: the integers that stand for 0 in the weight. *Shape:* (O), int32.
    """
    products: Tensor = torch.ops.onednn.qlinear_pointwise(
        *(digits, 1.0, zero, packed, scales, zeros, None, 1.0, 0, torch.float32, "none", [], "")
    )
    return products


def multiply_weight_only(seqs: Tensor, weight: Tensor, scales: Tensor) -> Tensor:
    """Multiply bfloat16 vectors with an int8 weight (O, I). (B, I) -> (B, O)."""
    return torch._weight_int8pack_mm(seqs, weight, scales)


def pack_int4(integers: Tensor) -> Tensor:
    """Return integers from 0 to 15 (O, I), int32, two in a byte, laid out for the kernel.

    O is a multiple of 16, I one of the size of the groups.
    """
    return torch._convert_weight_to_int4pack_for_cpu(integers, 1)


def multiply_int4(seqs: Tensor, packed: Tensor, group: int, scales: Tensor) -> Tensor:
    """Multiply bfloat16 vectors with a packed 4-bit weight. (B, I) -> (B, O).

    :param group: how many inputs of an output share a scale: 32, 64, 128 or 256.
    :param scales: the value of one unit of each group, and that of the integer 8. *Shape:*
        (I / group, O, 2), bfloat16.
    """
    return torch._weight_int4pack_mm_for_cpu(seqs, packed, group, scales)


def has_forward_hooks(module: Module) -> bool:
    """Return whether anybody looks on while a module runs, or steps in."""
    if hooks_of_all._global_forward_hooks or hooks_of_all._global_forward_pre_hooks:
        return True
    return bool(module._forward_hooks or module._forward_pre_hooks)


def count_writes(tensor: Tensor) -> int:
    """Return how often a tensor was written to; one of inference mode counts nothing."""
    return 0 if tensor.is_inference() else tensor._version
