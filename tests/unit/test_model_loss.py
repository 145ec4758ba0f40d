"""The loss of covered positions."""

from __future__ import annotations

import pytest
import torch

from wavellama.model.loss import nll_sum
from wavellama.prompt.layout import NO_LABEL


def test_only_covered_positions_count() -> None:
    logits = torch.randn(2, 3, 5)
    labels = torch.tensor([[NO_LABEL, 4, 0], [NO_LABEL, NO_LABEL, 2]])
    log_probs = torch.log_softmax(logits, -1)
    expected = -(log_probs[0, 1, 4] + log_probs[0, 2, 0] + log_probs[1, 2, 2])
    torch.testing.assert_close(nll_sum(logits, labels), expected)


def test_nothing_covered_is_no_loss() -> None:
    assert nll_sum(torch.randn(1, 2, 3), torch.full((1, 2), NO_LABEL)) == 0


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_is_summed_in_float32(dtype: torch.dtype) -> None:
    logits = torch.randn(64, 7).to(dtype)
    labels = torch.randint(7, (64,))
    loss = nll_sum(logits, labels)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, nll_sum(logits.float(), labels))


def test_float64_stays_float64() -> None:
    logits = torch.randn(2, 3, dtype=torch.float64)
    assert nll_sum(logits, torch.tensor([0, 1])).dtype == torch.float64
