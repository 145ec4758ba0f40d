"""Weights in 8 bits with a scale per output: a quarter of the size of a checkpoint in float32.

A matrix, a convolution or a table of embeddings named ``NAME`` is stored as integers of -127 to 127
under that name, and beside it ``NAME.scale`` holds the factor of each of its rows. The model
computes with the products of both; this form is for files alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, cast

import torch
from torch import Tensor

_SCALE: Final = ".scale"

_LARGEST: Final = 127

_FEWEST: Final = 4096
"""Weights of fewer numbers stay as they are: there is nothing to save."""


def to_eight_bits(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights with the large ones in 8 bits; vectors and integers stay as they are."""
    stored: dict[str, Tensor] = {}
    for name, weight in weights.items():
        if weight.ndim < 2 or weight.numel() < _FEWEST or not weight.is_floating_point():
            stored[name] = weight
            continue
        rows = weight.detach().float().flatten(1)
        scale = rows.abs().amax(1).clamp_min(torch.finfo(torch.float32).tiny) / _LARGEST
        stored[name] = (rows / scale[:, None]).round().to(torch.int8).view(weight.shape)
        stored[name + _SCALE] = scale
    return stored


def from_eight_bits(weights: Mapping[str, object]) -> dict[str, object]:
    """Return the weights that stand in 8 bits as float32, without their scales; others as such."""
    scales = {name + _SCALE for name in weights if _find_scale(weights, name) is not None}
    return {name: read_weight(weights, name) for name in weights if name not in scales}


def outline(weights: Mapping[str, object]) -> dict[str, object]:
    """Return what ``from_eight_bits`` does; what stands in 8 bits has names and shapes alone."""
    light = {
        part: cast(Tensor, weights[part]).to("meta")
        for name in weights
        if _find_scale(weights, name) is not None
        for part in (name, name + _SCALE)
    }
    return from_eight_bits({**weights, **light})


def read_weight(weights: Mapping[str, object], name: str) -> object:
    """Return one of the weights: as float32 if it stands in 8 bits, else as such."""
    weight, scale = weights[name], _find_scale(weights, name)
    if scale is None or not isinstance(weight, Tensor):
        return weight
    return weight.float() * scale.view(-1, *[1] * (weight.ndim - 1))


def _find_scale(weights: Mapping[str, object], name: str) -> Tensor | None:
    weight, scale = weights[name], weights.get(name + _SCALE)
    is_stored = isinstance(weight, Tensor) and weight.dtype == torch.int8
    return scale if is_stored and isinstance(scale, Tensor) else None
