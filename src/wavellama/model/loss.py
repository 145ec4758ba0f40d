"""The training loss: logits and labels in, negative log-likelihood out, for every syntax."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, ctc_loss, log_softmax

from wavellama.faults import Checked, within
from wavellama.prompt.layout import NO_LABEL

CTC_BLANK: Final = 0
"""The CTC blank of the published models (token 0, BOS)."""


@dataclass(frozen=True, kw_only=True)
class Objective(Checked):
    """What training minimises: decoder and CTC head, and how the decoder is kept from guessing."""

    ctc_weight: float = within("[0, 1]", 0.0)
    """The share of the CTC loss; at 1 the decoder is not run at all."""

    label_smoothing: float = within("[0, 1)", 0.0)
    """The probability that a target gives away to all tokens alike."""

    token_noise_p: float = within("[0, 1]", 0.0)
    """The probability with which a token that the decoder reads is replaced by a random one."""


class TrainingLoss(NamedTuple):
    """The summed losses of a batch; what the objective leaves out is zero."""

    total: Tensor
    """What to minimise: the weighted sum of the other two."""

    nll: Tensor
    """Negative log-likelihood of the decoder, smoothed where the objective smooths it."""

    ctc: Tensor
    num_targets: int
    """The tokens that the losses cover: the texts, and one EOS after each."""


def nll_sum(logits: Tensor, labels: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Return the summed negative log-likelihood of the covered positions, in at least float32.

    :param logits: *Shape:* (..., V).
    :param labels: token ids, ``NO_LABEL`` where not covered. *Shape:* (...).
    :param label_smoothing: the probability that the target gives away to all tokens alike.
    """
    if logits.dtype.itemsize < 4:
        logits = logits.float()
    return cross_entropy(
        logits.flatten(0, -2),
        labels.flatten(),
        ignore_index=NO_LABEL,
        reduction="sum",
        label_smoothing=label_smoothing,
    )


def covered_nll(
    project: Callable[[Tensor], Tensor],
    hidden: Tensor,
    labels: Tensor,
    label_smoothing: float = 0.0,
) -> Tensor:
    """Return the same sum, with logits for the covered positions alone.

    :param project: from the decoder's outputs (..., M) to logits (..., V).
    :param hidden: *Shape:* (N, S, M).
    """
    labels = labels.to(hidden.device)
    covered = labels != NO_LABEL
    return nll_sum(project(hidden[covered]), labels[covered], label_smoothing)


def ctc_sum(logits: Tensor, frame_lens: Sequence[int], targets: Sequence[Sequence[int]]) -> Tensor:
    """Return the summed CTC loss of logits (N, S, V) with so many frames and these tokens per row.

    A row with fewer frames than tokens contributes nothing.
    """
    log_probs = log_softmax(logits.float(), dim=-1).transpose(0, 1)  # (S, N, V)
    return ctc_loss(
        log_probs,
        torch.tensor([token for row in targets for token in row], device=logits.device),
        torch.tensor(frame_lens),
        torch.tensor([len(row) for row in targets]),
        blank=CTC_BLANK,
        reduction="sum",
        zero_infinity=True,
    )
