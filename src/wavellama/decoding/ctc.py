"""What CTC layers say: best paths of a CTC model or head; the head as a scorer of the search.

Shapes: N rows, T samples, S frames, E encoder width, V vocabulary.
"""

from __future__ import annotations

import logging
from functools import cache

import torch
from fairseq2.models.wav2vec2.asr import Wav2Vec2AsrModel
from fairseq2.nn import BatchLayout
from torch import Tensor

from wavellama.batch import AsrBatch
from wavellama.model.loss import CTC_BLANK
from wavellama.model.model import Wav2Vec2LlamaModel
from wavellama.model.outputs import EmbeddedPrompt
from wavellama.search.ctc_prefix import CtcPrefixScorer
from wavellama.search.scorers import WeightedScorer
from wavellama.search.types import Hypothesis

_log = logging.getLogger(__name__)


@torch.no_grad()
def ctc_generate(model: Wav2Vec2AsrModel, audio: Tensor, audio_lens: list[int]) -> list[list[int]]:
    """Return the best path, collapsed, of each row of waveforms (N, T); in eval mode."""
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
    languages = [model.lang_mapping.row(code) for code in batch.langs or [None] * batch.num_rows]
    return _best_paths(model.ctc_logits(frames, layout.seq_lens, languages), layout)


def _best_paths(logits: Tensor, layout: BatchLayout) -> list[list[int]]:
    """Return the likeliest path of each row, collapsed. (N, S, V) -> tokens."""
    pairs = zip(logits.argmax(-1), layout.seq_lens, strict=True)
    return [collapse(path[:length]) for path, length in pairs]


@torch.no_grad()
def ctc_hypotheses(
    model: Wav2Vec2AsrModel, audio: Tensor, audio_lens: list[int]
) -> list[Hypothesis]:
    """Return the best path of each row of waveforms (N, T), collapsed, as a hypothesis.

    A token's log-probability is that of its likeliest frame; the score is that of the whole path.
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


def ctc_scorers(
    model: Wav2Vec2LlamaModel, prompt: EmbeddedPrompt, weight: float
) -> list[WeightedScorer]:
    """Return the model's CTC head as a scorer; none at weight 0, or where there is no head."""
    if weight == 0.0:
        return []
    if model.ctc_head is None:
        say_that_there_is_no_head()
        return []
    eos_idx = model.target_vocab_info.eos_idx
    assert eos_idx is not None, "checked by the model's constructor"
    pairs = zip(prompt.frames, prompt.languages, strict=True)
    log_probs = [ctc_log_probs(model, *pair) for pair in pairs]
    return [WeightedScorer(CtcPrefixScorer(log_probs, CTC_BLANK, eos_idx), weight)]


def ctc_log_probs(model: Wav2Vec2LlamaModel, frames: Tensor, language: int = 0) -> Tensor:
    """Return the CTC head's log-probabilities of one clip, in at least float32. (S, E) -> (S, V).

    :param language: as ``lang_mapping`` numbers it; 0 if it is not known.
    :raises BatchError: the model has no CTC head.
    """
    (logits,) = model.ctc_logits(frames[None], [len(frames)], [language])
    return torch.log_softmax(logits, -1, dtype=torch.promote_types(logits.dtype, torch.float32))


def ctc_drafts(model: Wav2Vec2LlamaModel, prompt: EmbeddedPrompt) -> list[list[int]] | None:
    """Return the head's best path of each row, collapsed; None where there is no head."""
    if model.ctc_head is None:
        return None
    pairs = zip(prompt.frames, prompt.languages, strict=True)
    return [collapse(ctc_log_probs(model, *pair).argmax(-1)) for pair in pairs]


@cache
def say_that_there_is_no_head() -> None:
    """Say once per process that the weight has no effect."""
    _log.warning(
        "`ctc_weight` has no effect: the model has no CTC head, so that the decoder decides alone."
    )
