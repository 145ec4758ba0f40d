"""The confidence of words, and how it is calibrated.

Shapes: W words.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from wavellama.transcript.calibration import Confidence, word_logit

__all__ = ["Confidence", "fit_confidence"]

_PRIOR: Final = 1e-3
"""How strongly a fit holds on to no calibration: enough where nothing else keeps it finite."""


def fit_confidence(words: Sequence[Sequence[float]], are_right: Sequence[bool]) -> Confidence:
    """Return the calibration that makes it likeliest that just these words are right.

    :param words: the log-probabilities of each word's tokens, at least one per word.
    :param are_right: whether each word is right; some must be, and some not.
    """
    logits = torch.tensor([word_logit(word) for word in words], dtype=torch.float64)  # (W)
    targets = torch.tensor(are_right, dtype=torch.float64)
    fitted = torch.zeros(2, dtype=torch.float64, requires_grad=True)  # log of the slope, and bias
    optimizer = torch.optim.LBFGS([fitted], max_iter=100, line_search_fn="strong_wolfe")

    def compute_loss() -> Tensor:
        optimizer.zero_grad()
        calibrated = logits * fitted[0].exp() + fitted[1]
        loss = (
            binary_cross_entropy_with_logits(calibrated, targets) + _PRIOR * fitted.square().sum()
        )
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimizer.step(compute_loss)  # type: ignore[no-untyped-call]
    log_slope, bias = fitted.tolist()
    return Confidence(float(torch.tensor(-log_slope).exp()), bias)
