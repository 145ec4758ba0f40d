"""Products with weights that are packed or rounded."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from wavellama.engine import linear
from wavellama.engine.linear import (
    BlockwiseLinear,
    Linear,
    PackedLinear,
    PlainLinear,
    TwoDigitInt8Linear,
    WeightOnlyInt8Linear,
    create_int8_linear,
    create_linear,
)

Int8Linear = Callable[[Tensor, Tensor], Linear]


def create_weights(seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(24, 32, generator=generator), torch.randn(8, 32, generator=generator)


def create_seqs(num_rows: int = 7) -> Tensor:
    return torch.randn(num_rows, 32, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_stacks_outputs(dtype: torch.dtype) -> None:
    weights = [weight.to(dtype) for weight in create_weights()]
    seqs = create_seqs().to(dtype)
    expected = seqs.double() @ torch.cat(weights).double().T
    actual = create_linear(weights, "native")(seqs)
    assert actual.dtype == dtype
    tolerance = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 0.05}[dtype]
    torch.testing.assert_close(actual.double(), expected, rtol=0, atol=tolerance)


def test_packs_what_the_cpu_has_kernels_for() -> None:
    first, second = create_weights()
    assert isinstance(create_linear([first, second], "native"), PackedLinear)
    assert isinstance(create_linear([first.double()], "native"), PlainLinear)


def test_packs_no_bfloat16_where_the_cpu_has_no_kernels_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """oneDNN refuses to pack it there."""
    mkldnn = SimpleNamespace(
        _is_mkldnn_bf16_supported=lambda: False,
        _reorder_linear_weight=torch.ops.mkldnn._reorder_linear_weight,
    )
    monkeypatch.setattr(torch.ops, "mkldnn", mkldnn)
    weight = create_weights()[0]
    assert isinstance(create_linear([weight.bfloat16()], "native"), PlainLinear)
    assert isinstance(create_linear([weight], "native"), PackedLinear)


@pytest.mark.parametrize("num_rows", [1, 3, 4, 9])
def test_a_large_product_of_few_vectors(num_rows: int) -> None:
    weight = torch.randn(1024, 1024, generator=torch.Generator().manual_seed(0))
    seqs = torch.randn(num_rows, 1024, generator=torch.Generator().manual_seed(1))
    expected = seqs.double() @ weight.double().T
    torch.testing.assert_close(PackedLinear(weight)(seqs).double(), expected, rtol=0, atol=1e-3)


def test_a_plain_product_copies_no_weights() -> None:
    weight = create_weights()[0].double()
    product = create_linear([weight], "native")
    weight.zero_()
    assert not product(create_seqs().double()).any()


@pytest.mark.parametrize(
    ("kind", "tolerance"), [(TwoDigitInt8Linear, 2e-4), (WeightOnlyInt8Linear, 2e-2)]
)
def test_int8_products_lose_what_their_activations_lose(kind: Int8Linear, tolerance: float) -> None:
    """Two 8-bit digits lose a hundredth of what bfloat16 loses."""
    weight = torch.randint(-127, 128, (24, 32), generator=torch.Generator().manual_seed(0))
    scales, seqs = torch.rand(24) + 0.1, create_seqs()
    actual = kind(weight.to(torch.int8), scales)(seqs)
    expected = seqs.double() @ (weight * scales[:, None]).double().T
    assert (actual - expected).abs().max() < tolerance * expected.abs().max()


@pytest.mark.parametrize("kind", [TwoDigitInt8Linear, WeightOnlyInt8Linear])
def test_int8_products_of_a_row_do_not_depend_on_the_others(kind: Int8Linear) -> None:
    weight = torch.randint(-127, 128, (24, 32)).to(torch.int8)
    product, seqs = kind(weight, torch.rand(24)), create_seqs()
    seqs[3] *= 1000
    together = product(seqs)
    for i in range(len(seqs)):
        torch.testing.assert_close(together[i], product(seqs[i : i + 1])[0], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("kind", [TwoDigitInt8Linear, WeightOnlyInt8Linear])
@pytest.mark.parametrize("num_rows", [1, linear._BLOCK, 2 * linear._BLOCK + 1])
def test_int8_products_of_many_vectors_are_made_in_blocks(kind: Int8Linear, num_rows: int) -> None:
    weight = torch.randint(-127, 128, (24, 32)).to(torch.int8)
    product, sizes = kind(weight, torch.rand(24)), list[int]()

    def multiply(seqs: Tensor) -> Tensor:
        sizes.append(len(seqs))
        return product(seqs)

    seqs = create_seqs(num_rows).bfloat16()
    outputs = BlockwiseLinear(multiply, 24)(seqs)
    assert max(sizes) <= linear._BLOCK
    assert outputs.dtype == torch.bfloat16
    torch.testing.assert_close(outputs, product(seqs))
    assert isinstance(create_int8_linear(weight.float()), BlockwiseLinear)


def test_int8_rounds_each_output_by_its_own_scale() -> None:
    weight = create_weights()[0]
    weight[5] *= 1000
    product = create_int8_linear(weight)
    rounded = product(torch.eye(32)).T  # (24, 32)
    error = (rounded - weight).abs().amax(1)
    assert (error <= weight.abs().amax(1) / 127 * 0.51).all()


def test_int8_takes_zeros() -> None:
    product = create_int8_linear(torch.zeros(24, 32))
    assert torch.equal(product(torch.zeros(3, 32)), torch.zeros(3, 24))


def test_int8_on_another_device_is_refused() -> None:
    weight = create_weights()[0].to("meta")
    with pytest.raises(ValueError, match="CPU only, but the weights are on meta"):
        create_linear([weight], "int8")
