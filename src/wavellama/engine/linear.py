"""Products with weights, in the form that reads them fastest.

A decoding step multiplies a handful of vectors with every weight of the decoder, so it takes as
long as it takes to read them. Shapes: B vectors, I inputs, O outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Literal, TypeAlias, final

import torch
from torch import Tensor
from torch.nn.functional import linear, pad

from wavellama.engine.torch_private import (
    has_fast_integers,
    has_packed_products,
    multiply_int4,
    multiply_int8,
    multiply_packed,
    multiply_weight_only,
    pack_int4,
    pack_int8,
    pack_weight,
)

WeightForm: TypeAlias = Literal["native", "int8", "int4"]
"""The form of weights: the model's own type, 8-bit integers with a scale per output, or 4-bit
integers with a scale and a zero for every 32 inputs of an output."""

Linear: TypeAlias = Callable[[Tensor], Tensor]
"""A product with a weight: (B, I) -> (B, O)."""

_FEW_ROWS: Final = 4
_LARGE: Final = 2**20  # weights, from which on reading them is what takes the time
_MAX_INT8: Final = 127
_ZERO_POINT: Final = 128  # of activations as unsigned 8-bit integers
_DIGIT: Final = 254  # a unit of the first 8-bit digit is this many of the second
_BLOCK: Final = 256  # vectors, whose float32 products are in memory at a time
_GROUP: Final = 32  # inputs of an output that share a scale in 4 bits
_OUTPUTS: Final = 16  # a 4-bit weight has a multiple of them
_MAX_INT4: Final = 15
_ZERO_INT4: Final = 8  # the integer that stands for a group's zero
_NUM_FITS: Final = 2


def choose_prompt_form(form: WeightForm, dtype: torch.dtype) -> WeightForm | None:
    """Return the form that reads prompts fastest, which are many vectors; None: none, no copy.

    Arithmetic is what takes the time then. Packed or in 8 bits, bfloat16 takes 1.2 times as long
    as it lies in the model; of float32, 8 bits are the fastest.
    """
    if dtype == torch.bfloat16:
        return None
    return "int8" if form == "int4" else form


def create_linear(weights: Sequence[Tensor], form: WeightForm | None) -> Linear:
    """Return the product with weights stacked along their outputs.

    :param weights: *Shape of each:* (O, I).
    :param form: None: as they lie in the model.
    :raises ValueError: integers are asked for on another device than the CPU.
    """
    device, dtype = weights[0].device, weights[0].dtype
    if form in ("int8", "int4"):
        if device.type != "cpu":
            raise ValueError(
                f"{form} weights run on the CPU only, but the weights are on {device}."
            )
        create = create_int8_linear if form == "int8" else Int4Linear
        return create(torch.cat(tuple(weights)))
    if form == "native" and device.type == "cpu" and has_packed_products(dtype):
        return PackedLinear(torch.cat(tuple(weights)))
    return PlainLinear(weights)


@final
class PlainLinear:
    """torch's own product, without a copy of the weights."""

    def __init__(self, weights: Sequence[Tensor]) -> None:
        self._weights = [weight.detach() for weight in weights]

    def __call__(self, seqs: Tensor) -> Tensor:
        """Multiply vectors with the weight. (B, I) -> (B, O)."""
        outputs = [linear(seqs, weight) for weight in self._weights]
        return outputs[0] if len(outputs) == 1 else torch.cat(outputs, -1)


@final
class PackedLinear:
    """oneDNN's product with weights that were laid out for its kernels beforehand (a copy).

    On one to eight vectors it reads the weights 1.3 to 4 times as fast as ``F.linear``. Its kernels
    for less than four vectors read large weights slower than the one for four, which is used then.
    """

    def __init__(self, weight: Tensor) -> None:
        self._min_rows = _FEW_ROWS if weight.numel() >= _LARGE else 1
        self._weight = pack_weight(weight.detach().contiguous())

    def __call__(self, seqs: Tensor) -> Tensor:
        """Multiply vectors with the weight. (B, I) -> (B, O)."""
        num_rows = len(seqs)
        if num_rows < self._min_rows:
            seqs = pad(seqs, (0, 0, 0, self._min_rows - num_rows))
        return multiply_packed(seqs, self._weight)[:num_rows]


def create_int8_linear(weight: Tensor) -> Linear:
    """Round a weight to 8 bits, symmetrically, with one scale per output."""
    scales = weight.detach().float().abs().amax(1).clamp(min=1e-12) / _MAX_INT8  # (O)
    rounded = (weight.detach().float() / scales[:, None]).round().to(torch.int8)
    kind = TwoDigitInt8Linear if has_fast_integers() else WeightOnlyInt8Linear
    return BlockwiseLinear(kind(rounded, scales), len(weight))


@final
class BlockwiseLinear:
    """Another product, on some hundred vectors at a time.

    What the product holds in float32 on the way stays small, however long the prompts are; blocks
    of this size take the same time as all vectors at once.
    """

    def __init__(self, product: Linear, num_outputs: int) -> None:
        self._product, self._num_outputs = product, num_outputs

    def __call__(self, seqs: Tensor) -> Tensor:
        """Multiply vectors with the weight. (B, I) -> (B, O)."""
        if len(seqs) <= _BLOCK:
            return self._product(seqs)
        outputs = seqs.new_empty(len(seqs), self._num_outputs)
        blocks = zip(torch.split(seqs, _BLOCK), torch.split(outputs, _BLOCK), strict=True)
        for block, place in blocks:
            place.copy_(self._product(block))
        return outputs


@final
class TwoDigitInt8Linear:
    """Integer products of 8-bit weights with activations of two 8-bit digits.

    The integer kernels of CPUs with VNNI instructions read 8-bit weights as fast as the memory
    gives them, where torch's weight-only kernel slows down from five vectors on. Each vector is
    scaled by its own maximum and written as two digits, about 16 bits together; the two are two
    rows of one integer product. What is lost is lost in the weights alone, and no vector depends
    on another.
    """

    def __init__(self, weight: Tensor, scales: Tensor) -> None:
        """Hold an int8 weight (O, I), and the value of one unit of each output's weights (O)."""
        self._weight, self._scales = pack_int8(weight), scales
        self._zero_points = torch.zeros(scales.shape, dtype=torch.int32)

    def __call__(self, seqs: Tensor) -> Tensor:
        """Multiply vectors with the weight. (B, I) -> (B, O)."""
        values = seqs.float()
        units = values.abs().amax(-1, keepdim=True).clamp_(min=1e-12) / _MAX_INT8  # (B, 1)
        values = values / units
        first = values.round()
        digits = torch.cat([first, (values - first).mul_(_DIGIT).round_()])
        digits = digits.add_(_ZERO_POINT).to(torch.uint8)
        products = multiply_int8(digits, _ZERO_POINT, self._weight, self._scales, self._zero_points)
        high, low = products.chunk(2)
        return torch.add(high, low, alpha=1 / _DIGIT).mul_(units).to(seqs.dtype)


@final
class WeightOnlyInt8Linear:
    """torch's product of bfloat16 activations with 8-bit weights, for CPUs without VNNI."""

    def __init__(self, weight: Tensor, scales: Tensor) -> None:
        """Hold an int8 weight (O, I), and the value of one unit of each output's weights (O)."""
        self._weight, self._scales = weight, scales
        self._ones = torch.ones(scales.shape, dtype=torch.bfloat16)

    def __call__(self, seqs: Tensor) -> Tensor:
        """Multiply vectors with the weight. (B, I) -> (B, O)."""
        products = multiply_weight_only(seqs.bfloat16(), self._weight, self._ones)
        return products.float().mul_(self._scales).to(seqs.dtype)


@final
class Int4Linear:
    """torch's product of bfloat16 activations with 4-bit weights, made for one to four vectors.

    The kernel unpacks the weights anew for every four vectors, and no vector depends on another.
    Its threads share four vectors evenly, but not more of them, so it is given four at a time.
    """

    def __init__(self, weight: Tensor) -> None:
        """Round a weight (O, I) to 4 bits, between the least and the greatest of each group."""
        self._num_outputs, num_inputs = weight.shape
        self._missing = -num_inputs % _GROUP
        padded = pad(weight.detach(), (0, self._missing, 0, -self._num_outputs % _OUTPUTS))
        rounded = [_round_to_int4(block) for block in torch.split(padded, _BLOCK)]
        integers, scales = zip(*rounded, strict=True)
        self._weight, self._scales = pack_int4(torch.cat(integers)), torch.cat(scales, 1)

    def __call__(self, seqs: Tensor) -> Tensor:
        """Multiply vectors with the weight. (B, I) -> (B, O)."""
        values = seqs.bfloat16()
        if self._missing:
            values = pad(values, (0, self._missing))
        blocks = torch.split(values, _FEW_ROWS)
        products = [multiply_int4(block, self._weight, _GROUP, self._scales) for block in blocks]
        return torch.cat(products)[:, : self._num_outputs].to(seqs.dtype)


def _round_to_int4(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Return integers (O, I), and each group's scale and zero (I / group, O, 2), bfloat16.

    Scales and zeros begin with a group's least and greatest weight; then they are those whose
    squared error is least for the integers found, twice, which takes 6 % of the error away.
    """
    groups = weight.float().view(len(weight), -1, _GROUP)
    low, high = groups.aminmax(dim=-1, keepdim=True)
    scales = ((high - low) / _MAX_INT4).clamp_(min=1e-12)
    zeros = low + _ZERO_INT4 * scales
    for _ in range(_NUM_FITS):
        integers = _to_integers(groups, scales, zeros)
        mean = integers.mean(-1, keepdim=True)
        spread = integers - mean
        covariance = (spread * groups).sum(-1, keepdim=True)
        scales = covariance.div_(spread.square().sum(-1, keepdim=True).clamp_(min=1e-12))
        scales.clamp_(min=1e-12)
        zeros = groups.mean(-1, keepdim=True) - scales * (mean - _ZERO_INT4)
    ends = torch.cat([scales, zeros], -1).bfloat16()
    integers = _to_integers(groups, *torch.split(ends.float(), 1, -1))
    return integers.to(torch.int32).flatten(1), ends.transpose(0, 1).contiguous()


def _to_integers(groups: Tensor, scales: Tensor, zeros: Tensor) -> Tensor:
    """Return the integers, as floats, that come nearest to the weights."""
    return ((groups - zeros) / scales).round_().add_(_ZERO_INT4).clamp_(0, _MAX_INT4)
