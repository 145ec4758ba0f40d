"""Best-path decoding of CTC models.

Shapes: N rows, T samples, S frames, V vocabulary.
"""

from __future__ import annotations

import torch
from fairseq2.models.wav2vec2.asr import Wav2Vec2AsrModel
from fairseq2.nn import BatchLayout
from torch import Tensor

from wavellama.batch import AsrBatch
from wavellama.model.loss import CTC_BLANK
from wavellama.model.model import Wav2Vec2LlamaModel


@torch.no_grad()
def ctc_generate(model: Wav2Vec2AsrModel, audio: Tensor, audio_lens: list[int]) -> list[list[int]]:
    """Return the best path of each row, collapsed.

    :param model: a CTC model in eval mode.
    :param audio: waveforms. *Shape:* (N, T).
    :param audio_lens: samples per row.
    """
    dtype = next(model.parameters()).dtype
    logits, layout = model(audio.to(dtype), BatchLayout.of(audio, audio_lens))  # (N, S, V)
    return _best_paths(logits, layout)


@torch.no_grad()
def ctc_head_generate(model: Wav2Vec2LlamaModel, batch: AsrBatch) -> list[list[int]]:
    """Return the best path of each row through the model's CTC head, collapsed.

    :param model: a model in eval mode.
    :raises BatchError: the model has no CTC head.
    """
    frames, layout = model.encode_audio(batch.audio, batch.audio_lens)
    return _best_paths(model.ctc_logits(frames), layout)


def _best_paths(logits: Tensor, layout: BatchLayout) -> list[list[int]]:
    """Return the likeliest path of each row, collapsed. (N, S, V) -> tokens."""
    pairs = zip(logits.argmax(-1), layout.seq_lens, strict=True)
    return [collapse(path[:length]) for path, length in pairs]


def collapse(path: Tensor) -> list[int]:
    """Merge repeated tokens and drop blanks. (S) -> tokens."""
    tokens: list[int] = torch.unique_consecutive(path).tolist()
    return [token for token in tokens if token != CTC_BLANK]
