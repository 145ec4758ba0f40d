"""Where, and with numbers of which type, a model runs where nobody says."""

from __future__ import annotations

import pytest
import torch

from wavellama.pipeline.devices import default_dtype, find_device
from wavellama.tasks.inference_config import EvalConfig, TranscribeConfig


@pytest.mark.parametrize(("device", "dtype"), [("cpu", "float32"), ("cuda:1", "bfloat16")])
def test_the_type_of_weights_follows_from_the_device(device: str, dtype: str) -> None:
    assert default_dtype(torch.device(device)) == getattr(torch, dtype)


@pytest.mark.parametrize("has_gpu", [False, True])
@pytest.mark.parametrize("kls", [EvalConfig, TranscribeConfig])
def test_recipes_take_the_type_that_the_command_line_takes(
    kls: type[EvalConfig | TranscribeConfig], has_gpu: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They took float32 on a GPU, where the command line took bfloat16."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: has_gpu)
    assert kls().model.dtype == (torch.bfloat16 if has_gpu else torch.float32)


@pytest.mark.parametrize(("device", "is_tried"), [("mps", False), ("xpu:1", False), ("cuda", True)])
def test_devices_that_torch_has_are_taken_and_untried_ones_named(
    device: str, is_tried: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    zeros = torch.zeros
    monkeypatch.setattr(torch, "zeros", lambda *shape, **_: zeros(*shape))  # it is there
    assert find_device(device) == torch.device(device)
    assert (f"No model of wavellama has run on {device} yet" in caplog.text) is not is_tried
