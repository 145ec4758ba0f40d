"""Best-path decoding of CTC models.

Shapes: N rows, T samples, S frames, V vocabulary.
"""

from __future__ import annotations

from typing import Final

import torch
from fairseq2.models.wav2vec2.asr import Wav2Vec2AsrModel
from fairseq2.nn import BatchLayout
from torch import Tensor

BLANK: Final = 0
"""The CTC blank of the published models (token 0, BOS)."""


@torch.no_grad()
def ctc_generate(model: Wav2Vec2AsrModel, audio: Tensor, audio_lens: list[int]) -> list[list[int]]:
    """Return the best path of each row, collapsed.

    :param model: a CTC model in eval mode.
    :param audio: waveforms. *Shape:* (N, T).
    :param audio_lens: samples per row.
    """
    dtype = next(model.parameters()).dtype
    logits, layout = model(audio.to(dtype), BatchLayout.of(audio, audio_lens))  # (N, S, V)
    paths = logits.argmax(-1)  # (N, S)
    pairs = zip(paths, layout.seq_lens, strict=True)
    return [collapse(path[:length]) for path, length in pairs]


def collapse(path: Tensor) -> list[int]:
    """Merge repeated tokens and drop blanks. (S) -> tokens."""
    tokens: list[int] = torch.unique_consecutive(path).tolist()
    return [token for token in tokens if token != BLANK]
