"""The training loss: logits and labels in, negative log-likelihood out, for every syntax."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import cross_entropy

from wavellama.prompt.layout import NO_LABEL


def nll_sum(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the summed negative log-likelihood of the covered positions, in at least float32.

    :param logits: *Shape:* (..., V).
    :param labels: token ids, ``NO_LABEL`` where not covered. *Shape:* (...).
    """
    if logits.dtype.itemsize < 4:
        logits = logits.float()
    return cross_entropy(
        logits.flatten(0, -2), labels.flatten(), ignore_index=NO_LABEL, reduction="sum"
    )
