"""A CTC output that is told the language.

An encoder that learnt a language from few voices takes the voice for a sign of the language, and
writes the Russian of a new voice in Latin letters. A head that knows the language need not guess.

Shapes: N rows, S frames, E encoder width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, final

import torch
from fairseq2.nn import Linear, StandardEmbedding
from torch import Tensor
from torch.nn import Conv1d, LayerNorm, Module, ModuleList
from torch.nn.functional import dropout, gelu
from typing_extensions import override

KERNEL_SIZE: Final = 5
"""Frames that a convolution sees."""

DROPOUT_P: Final = 0.1


@final
class LanguageCtcHead(Module):
    """Adds the language to normalised frames; convolutions and an output layer follow."""

    def __init__(self, width: int, num_languages: int, vocab_size: int, num_layers: int) -> None:
        """
        :param width: the width of the encoder (E).
        :param num_languages: the rows of the table of languages; row 0 is an unknown one.
        :param num_layers: the number of convolutions, each added to what it reads.
        """
        super().__init__()
        self.layer_norm = LayerNorm(width)
        self.languages = StandardEmbedding(num_languages, width)
        layers = [Conv1d(width, width, KERNEL_SIZE, padding="same") for _ in range(num_layers)]
        self.layers = ModuleList(layers)
        self.proj = Linear(width, vocab_size, bias=True)

    @override
    def forward(
        self, frames: Tensor, frame_lens: Sequence[int], languages: Sequence[int]
    ) -> Tensor:
        """Return the logits (N, S, V); those of a row depend on that row alone.

        :param frames: *Shape:* (N, S, E).
        :param frame_lens: frames per row.
        :param languages: the row of the table of languages for each row of the batch.
        """
        lens = torch.tensor(frame_lens, device=frames.device)
        inside = (torch.arange(frames.size(1), device=frames.device) < lens[:, None])[..., None]
        told = self.languages(torch.tensor(languages, device=frames.device))[:, None]
        hidden = self.layer_norm(frames) + told.type_as(frames)
        for layer in self.layers:
            change = layer((hidden * inside).transpose(1, 2)).transpose(1, 2)
            hidden = hidden + dropout(gelu(change), DROPOUT_P, self.training)
        logits: Tensor = self.proj(hidden)
        return logits

    if TYPE_CHECKING:
        __call__ = forward
