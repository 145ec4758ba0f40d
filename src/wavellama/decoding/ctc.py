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
from wavellama.search.types import Hypothesis


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


@torch.no_grad()
def ctc_hypotheses(
    model: Wav2Vec2AsrModel, audio: Tensor, audio_lens: list[int]
) -> list[Hypothesis]:
    """Return the best path of each row, collapsed, as a hypothesis.

    A token's log-probability is that of its likeliest frame; the score is that of the whole path.

    :param model: a CTC model in eval mode.
    :param audio: waveforms. *Shape:* (N, T).
    :param audio_lens: samples per row.
    """
    dtype = next(model.parameters()).dtype
    logits, layout = model(audio.to(dtype), BatchLayout.of(audio, audio_lens))  # (N, S, V)
    log_probs = torch.log_softmax(logits, -1, dtype=torch.float32)
    pairs = zip(log_probs, layout.seq_lens, strict=True)
    return [_best_hypothesis(row[:length]) for row, length in pairs]


def _best_hypothesis(log_probs: Tensor) -> Hypothesis:
    """Return the best path through the frames of one row. (S, V)."""
    best, path = log_probs.max(-1)
    tokens, counts = torch.unique_consecutive(path, return_counts=True)
    likeliest = [float(run.max()) for run in torch.split(best, counts.tolist())]
    kept = [(t, p) for t, p in zip(tokens.tolist(), likeliest, strict=True) if t != CTC_BLANK]
    score = float(best.sum())
    return Hypothesis([t for t, _ in kept], score, [p for _, p in kept], True, "eos")


def collapse(path: Tensor) -> list[int]:
    """Merge repeated tokens and drop blanks. (S) -> tokens."""
    tokens: list[int] = torch.unique_consecutive(path).tolist()
    return [token for token in tokens if token != CTC_BLANK]
