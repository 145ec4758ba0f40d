"""An output that hears which language is spoken.

It reads the frames of a lower layer of the encoder, which finetuning leaves as they are, with the
form of Whisper's decoder in its first step: one query that looks at the frames layer by layer.

Shapes: N rows, S frames, E encoder width, L languages.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, final

import torch
from fairseq2.models.transformer import (
    AttentionBiasCache,
    IdentityBias,
    StandardMultiheadAttention,
    TransformerEncoder,
    create_default_sdpa,
)
from fairseq2.models.wav2vec2 import Wav2Vec2Frontend
from fairseq2.nn import BatchLayout, Linear
from torch import Tensor
from torch.nn import GELU, Conv1d, LayerNorm, Module, ModuleList, Parameter, Sequential
from typing_extensions import override

from wavellama.model.features import extract_features

NUM_LAYERS: Final = 6
NUM_HEADS: Final = 8
INNER_DIM: Final = 256
"""The inner width of what changes each frame, and the query after each look at the frames."""


@final
class LanguageHead(Module):
    """One learnt query attends to frames; what it gathers is compared with each language."""

    def __init__(self, width: int, num_languages: int, depth: int) -> None:
        """
        :param width: the width of the encoder (E).
        :param num_languages: the languages, in the order of the model's table.
        :param depth: the layers of the encoder whose output is read.
        """
        super().__init__()
        self.depth = depth
        self.conv = Conv1d(width, width, 3, padding="same")
        self.change = _create_change(width)
        self.query = Parameter(torch.zeros(width))
        self.layers = ModuleList(_Layer(width) for _ in range(NUM_LAYERS))
        self.layer_norm = LayerNorm(width)
        self.proj = Linear(width, num_languages, bias=True)

    @override
    def forward(self, frames: Tensor, layout: BatchLayout) -> Tensor:
        """Return the logits (N, L); those of a row depend on that row alone.

        :param frames: *Shape:* (N, S, E).
        :param layout: frames per row.
        """
        inside = layout.position_indices >= 0
        hidden = self.conv((frames * inside[..., None]).transpose(1, 2)).transpose(1, 2)
        hidden = hidden + self.change(hidden)
        query = self.query.expand(len(frames), 1, -1)
        for layer in self.layers:
            query = layer(query, hidden, layout)
        logits: Tensor = self.proj(self.layer_norm(query[:, 0]))
        return logits

    if TYPE_CHECKING:
        __call__ = forward

    def hear(
        self,
        frontend: Wav2Vec2Frontend,
        encoder: TransformerEncoder,
        seqs: Tensor,
        seq_lens: list[int],
    ) -> Tensor:
        """Return the logits (N, L) of waveforms (N, T), which only the lower layers read.

        :param seq_lens: samples per row.
        """
        layout = BatchLayout.of(seqs, seq_lens)
        features, layout = extract_features(frontend, seqs, layout, self.query.dtype)
        frames, _ = frontend.process_features(features, layout)
        cache = AttentionBiasCache()
        for layer in list(encoder.layers)[: self.depth]:
            frames = layer(frames, layout, cache)
        return self(frames, layout)


@final
class _Layer(Module):
    """A look at the frames, and what follows from it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.value_layer_norm = LayerNorm(width)
        self.value = Linear(width, width, bias=True)  # all that is left of attention to itself
        self.attn_layer_norm = LayerNorm(width)
        sdpa = create_default_sdpa(IdentityBias())
        self.attn = StandardMultiheadAttention(width, NUM_HEADS, sdpa)
        self.change = _create_change(width)

    @override
    def forward(self, query: Tensor, frames: Tensor, layout: BatchLayout) -> Tensor:
        """Return the changed query. (N, 1, E)."""
        query = query + self.value(self.value_layer_norm(query))
        looking, one = self.attn_layer_norm(query), BatchLayout.of(query)
        query = query + self.attn(looking, one, frames, layout, frames, AttentionBiasCache())
        changed: Tensor = query + self.change(query)
        return changed


def _create_change(width: int) -> Sequential:
    """Create what is added to a vector, from the vector itself."""
    inward, outward = Linear(width, INNER_DIM, bias=True), Linear(INNER_DIM, width, bias=True)
    return Sequential(LayerNorm(width), inward, GELU(), outward)
