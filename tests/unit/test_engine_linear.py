"""Products with weights that are packed or rounded."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import get_args

import pytest
import torch
from torch import Tensor

from wavellama.engine import linear, torch_private
from wavellama.engine.linear import (
    BlockwiseLinear,
    Int4Linear,
    Linear,
    PackedLinear,
    PlainLinear,
    TwoDigitInt8Linear,
    WeightForm,
    WeightOnlyInt8Linear,
    choose_prompt_form,
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


@pytest.mark.parametrize("form", ["int8", "int4"])
def test_integers_on_another_device_are_refused(form: WeightForm) -> None:
    weight = create_weights()[0].to("meta")
    with pytest.raises(ValueError, match=f"{form} .* CPU only, but the weights are on meta"):
        create_linear([weight], form)


def read_back(weight: Tensor) -> Tensor:
    """Return what 4 bits keep of a weight (O, I), as bfloat16 products tell it."""
    return create_linear([weight], "int4")(torch.eye(weight.size(1))).T


@pytest.mark.parametrize("num_inputs", [16, 32, 70])
@pytest.mark.parametrize("num_outputs", [5, 16, 72])
def test_int4_rounds_each_group_of_inputs_by_its_own_scale(
    num_outputs: int, num_inputs: int
) -> None:
    """Widths that the kernel does not take are filled up."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(num_outputs, num_inputs, generator=generator)
    weight[:, 32:64] *= 1000
    weight[1] += 5
    error = (read_back(weight) - weight).abs()
    for inputs in (slice(32), slice(32, 64), slice(64, None)):
        group = weight[:, inputs]
        if group.numel():
            reach = group.amax(1).clamp(min=0) - group.amin(1).clamp(max=0)
            assert (error[:, inputs] <= reach[:, None] / 15 * 0.8).all()


def test_int4_loses_less_than_between_the_ends_of_each_group() -> None:
    """By a squared error, fitted scales and zeros are better than the least and the greatest."""
    weight = torch.randn(64, 320, generator=torch.Generator().manual_seed(0))
    groups = weight.view(64, 10, 32)
    low, high = groups.aminmax(dim=-1, keepdim=True)
    unit = (high - low) / 15
    plain = ((groups - low) / unit).round() * unit + low
    error = (read_back(weight) - weight).square().mean()
    assert error < 0.92 * (plain - groups).square().mean()


@pytest.mark.parametrize("value", [0.0, 3.0, -1e-3])
def test_int4_takes_weights_that_are_all_the_same(value: float) -> None:
    weight = torch.full((16, 64), value)
    torch.testing.assert_close(read_back(weight), weight, rtol=0.004, atol=0)


@pytest.mark.parametrize("num_rows", [1, 4, 5, 11])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_int4_products_of_a_row_do_not_depend_on_the_others(
    num_rows: int, dtype: torch.dtype
) -> None:
    product, seqs = Int4Linear(create_weights()[0]), create_seqs(num_rows).to(dtype)
    together = product(seqs)
    assert together.dtype == dtype
    for i in range(num_rows):
        assert torch.equal(together[i], product(seqs[i : i + 1])[0])


def test_int4_is_given_as_many_vectors_as_its_kernel_is_made_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sizes, multiply = list[int](), torch_private.multiply_int4

    def count(seqs: Tensor, packed: Tensor, group: int, scales: Tensor) -> Tensor:
        sizes.append(len(seqs))
        return multiply(seqs, packed, group, scales)

    monkeypatch.setattr(linear, "multiply_int4", count)
    Int4Linear(create_weights()[0])(create_seqs(5))
    assert sizes == [4, 1]


def test_prompts_are_read_as_they_are_read_fastest() -> None:
    for form in get_args(WeightForm):
        assert choose_prompt_form(form, torch.bfloat16) is None
    assert choose_prompt_form("int8", torch.float32) == "int8"
    assert choose_prompt_form("int4", torch.float32) == "int8"
    assert choose_prompt_form("native", torch.float32) == "native"
    weight = create_weights()[0].bfloat16()
    product = create_linear([weight], None)
    weight.zero_()
    assert not product(create_seqs().bfloat16()).any(), "of which there is no copy"
