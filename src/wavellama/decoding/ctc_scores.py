"""The CTC head's part in the search: as a scorer (joint decoding), or as a draft of the text.

Shapes: S frames, E encoder width, V vocabulary.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor

from wavellama.decoding.ctc import collapse
from wavellama.model.loss import CTC_BLANK
from wavellama.model.model import Wav2Vec2LlamaModel
from wavellama.search.ctc_prefix import CtcPrefixScorer
from wavellama.search.scorers import WeightedScorer

_log = logging.getLogger(__name__)


def ctc_scorers(
    model: Wav2Vec2LlamaModel, frames: Sequence[Tensor], weight: float
) -> list[WeightedScorer]:
    """Return the model's CTC head as a scorer; none at weight 0, or where there is no head.

    :param frames: the encoder's frames of each row. *Shape of each:* (S, E).
    :param weight: the head's share of the joint score.
    """
    if weight == 0.0:
        return []
    if model.ctc_head is None:
        _say_that_there_is_no_head()
        return []
    eos_idx = model.target_vocab_info.eos_idx
    assert eos_idx is not None, "checked by the model's constructor"
    log_probs = [ctc_log_probs(model, row) for row in frames]
    return [WeightedScorer(CtcPrefixScorer(log_probs, CTC_BLANK, eos_idx), weight)]


def ctc_log_probs(model: Wav2Vec2LlamaModel, frames: Tensor) -> Tensor:
    """Return the CTC head's log-probabilities of one clip, in at least float32. (S, E) -> (S, V).

    :raises BatchError: the model has no CTC head.
    """
    logits = model.ctc_logits(frames)
    return torch.log_softmax(logits, -1, dtype=torch.promote_types(logits.dtype, torch.float32))


def ctc_drafts(model: Wav2Vec2LlamaModel, frames: Sequence[Tensor]) -> list[list[int]] | None:
    """Return the head's best path of each row, collapsed; None where there is no head.

    :param frames: the encoder's frames of each row. *Shape of each:* (S, E).
    """
    if model.ctc_head is None:
        return None
    return [collapse(model.ctc_logits(row).argmax(-1)) for row in frames]


@cache
def _say_that_there_is_no_head() -> None:
    """Say once per process that the weight has no effect."""
    _log.warning(
        "`ctc_weight` has no effect: the model has no CTC head, so that the decoder decides alone."
    )
