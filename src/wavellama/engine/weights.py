"""The weights of a Llama decoder as the engine runs them.

Shapes: M decoder width, H query heads, G key/value heads, D width of a head, I inner width of the
feed-forward network, V vocabulary, P positions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class LayerWeights:
    """One pre-norm layer: self-attention, then a gated (SwiGLU) feed-forward network."""

    attention_norm: Tensor
    """*Shape:* (M)."""

    query: Tensor
    """*Shape:* (H D, M)."""

    key: Tensor
    """*Shape:* (G D, M)."""

    value: Tensor
    """*Shape:* (G D, M)."""

    attention_output: Tensor
    """*Shape:* (M, H D)."""

    ffn_norm: Tensor
    """*Shape:* (M)."""

    gate: Tensor
    """*Shape:* (I, M)."""

    up: Tensor
    """*Shape:* (I, M)."""

    down: Tensor
    """*Shape:* (M, I)."""


@dataclass(frozen=True)
class DecoderWeights:
    """A Llama decoder between the embeddings of its text and the scores of the next token."""

    embeddings: Tensor
    """One row per token that may be emitted. *Shape:* (V, M)."""

    layers: Sequence[LayerWeights]

    norm: Tensor
    """*Shape:* (M)."""

    output: Tensor
    """*Shape:* (V, M)."""

    rotations: Tensor
    """Cosine and sine of every position's angles, which turn adjacent pairs of a head's values.
    *Shape:* (P, D / 2, 2), float32."""

    num_heads: int
    num_key_value_heads: int
    norm_eps: float = 1e-5

    def to(self, dtype: torch.dtype) -> DecoderWeights:
        """Return the weights in another type; the rotations stay in float32."""
        layers = [
            LayerWeights(*(w.to(dtype) for w in vars(layer).values())) for layer in self.layers
        ]
        ends = {name: getattr(self, name).to(dtype) for name in ("embeddings", "norm", "output")}
        return replace(self, layers=layers, **ends)
