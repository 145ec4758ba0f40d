"""Copies of a model."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch

from tests.fakes import SMALL, loss_of, make_batch, make_waveforms, tiny_model


@pytest.mark.parametrize("has_trained", [False, True])
def test_a_model_can_be_copied(has_trained: bool) -> None:
    """A new one, too, whose weight norm has computed its weight with gradients."""
    model = tiny_model(SMALL).train(has_trained)
    batch = make_batch(make_waveforms([3000]), [[5, 6, 7]])
    if has_trained:
        loss_of(model, batch).backward()  # type: ignore[no-untyped-call]
    copy = deepcopy(model).eval()
    expected = loss_of(model.eval(), batch)
    assert torch.equal(loss_of(copy, batch), expected)
    assert [*copy.state_dict()] == [*model.state_dict()]
    with torch.no_grad():
        for parameter in copy.parameters():
            parameter.mul_(1.5)
    assert torch.equal(loss_of(model, batch), expected)
    changed = loss_of(copy, batch)
    assert not torch.equal(changed, expected)
    changed.backward()  # type: ignore[no-untyped-call]
    assert all(parameter.grad is not None for parameter in copy.encoder_frontend.parameters())
