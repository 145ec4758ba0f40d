"""The names beside torch's public ones that the engine uses: a version that changes one is told."""

from __future__ import annotations

import pytest
import torch
from torch.nn import Linear
from torch.nn.modules.module import (
    register_module_forward_hook,
    register_module_forward_pre_hook,
)

from wavellama.engine import torch_private


@pytest.fixture
def seqs() -> torch.Tensor:
    """Four vectors. (4, 16)."""
    return torch.randn(4, 16, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def weight() -> torch.Tensor:
    """A weight of whole numbers. (8, 16)."""
    return torch.randint(-9, 9, (8, 16), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_packed_products(dtype: torch.dtype, seqs: torch.Tensor, weight: torch.Tensor) -> None:
    """torch.ops.mkldnn: _is_mkldnn_bf16_supported, _reorder_linear_weight, _linear_pointwise."""
    if not torch_private.has_packed_products(dtype):
        pytest.skip("this CPU has no such kernels")
    packed = torch_private.pack_weight(weight.to(dtype))
    found = torch_private.multiply_packed(seqs.to(dtype), packed)
    expected = seqs.to(dtype).float() @ weight.float().T
    torch.testing.assert_close(found.float(), expected, rtol=0.01, atol=1e-4)


def test_integer_products(weight: torch.Tensor) -> None:
    """torch.ops.onednn: qlinear_prepack, qlinear_pointwise."""
    digits = torch.arange(32, dtype=torch.uint8).view(2, 16)
    scales, zeros = torch.linspace(0.5, 1, 8), torch.zeros(8, dtype=torch.int32)
    packed = torch_private.pack_int8(weight.to(torch.int8))
    found = torch_private.multiply_int8(digits, 5, packed, scales, zeros)
    expected = (digits.float() - 5) @ weight.float().T * scales
    torch.testing.assert_close(found, expected)


def test_products_with_8_bit_weights(seqs: torch.Tensor, weight: torch.Tensor) -> None:
    """torch._weight_int8pack_mm."""
    scales = torch.full((8,), 0.5, dtype=torch.bfloat16)
    found = torch_private.multiply_weight_only(seqs.bfloat16(), weight.to(torch.int8), scales)
    expected = seqs.bfloat16().float() @ weight.float().T / 2
    torch.testing.assert_close(found.float(), expected, rtol=0.02, atol=0.02)


@pytest.mark.parametrize("num_rows", [1, 4])
def test_products_with_4_bit_weights(num_rows: int) -> None:
    """torch._convert_weight_to_int4pack_for_cpu, torch._weight_int4pack_mm_for_cpu."""
    generator = torch.Generator().manual_seed(0)
    integers = torch.randint(0, 16, (80, 96), generator=generator)
    scales = torch.rand(3, 80, 2, generator=generator).bfloat16()
    seqs = torch.randn(num_rows, 96, generator=generator).bfloat16()
    unit, zero = scales.float().transpose(0, 1)[..., None].unbind(2)  # (80, 3, 1) each
    weight = (integers.view(80, 3, 32) - 8) * unit + zero
    packed = torch_private.pack_int4(integers.int())
    found = torch_private.multiply_int4(seqs, packed, 32, scales)
    expected = seqs.float() @ weight.flatten(1).T
    torch.testing.assert_close(found.float(), expected, rtol=0.01, atol=0.1)


def test_the_cpu_is_asked() -> None:
    """torch.cpu._is_vnni_supported."""
    assert torch_private.has_fast_integers() in (True, False)


def test_hooks_are_seen() -> None:
    """Module._forward_hooks, Module._forward_pre_hooks, and those of all modules."""
    module = Linear(2, 2)
    for register in (
        module.register_forward_hook,
        module.register_forward_pre_hook,
        register_module_forward_hook,
        register_module_forward_pre_hook,
    ):
        assert not torch_private.has_forward_hooks(module)
        handle = register(lambda *args: None)
        assert torch_private.has_forward_hooks(module)
        handle.remove()


def test_writes_are_counted() -> None:
    """Tensor._version."""
    tensor = torch.zeros(2)
    before = torch_private.count_writes(tensor)
    tensor.add_(1)
    assert torch_private.count_writes(tensor) > before
    with torch.inference_mode():
        assert torch_private.count_writes(torch.zeros(2)) == 0
