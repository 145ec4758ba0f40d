"""What a resumed run does before it reads its checkpoint: a model without storage gets some."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from fairseq2.device import CPU
from fairseq2.nn.fsdp.common import FSDPParameterInitializer
from fairseq2.nn.utils.module import to_device
from torch import Tensor
from torch.nn import Module

from tests.fakes import arch_config
from wavellama.model.factory import create_wav2vec2_llama_model


@pytest.fixture(autouse=True)
def _fresh_memory_holds_nan() -> Iterator[None]:
    """Let PyTorch fill new storage with NaN, so that what nobody computes is found."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("arch", ["tiny_lid", "transformer_4m", "conformer_6m", "whisper_base"])
@pytest.mark.parametrize("how", ["one process or DDP", "FSDP"])
def test_buffers_that_no_checkpoint_holds_are_computed(arch: str, how: str) -> None:
    config = arch_config(arch)
    expected = unsaved_buffers(create_wav2vec2_llama_model(config))
    with torch.device("meta"):
        model = create_wav2vec2_llama_model(config)
    if how == "FSDP":
        FSDPParameterInitializer(CPU, skip_init=True)(model)
    else:
        to_device(model, CPU)
    actual = unsaved_buffers(model)
    assert expected.keys() == actual.keys() != set()
    assert [name for name in expected if not torch.equal(expected[name], actual[name])] == []


def unsaved_buffers(model: Module) -> dict[str, Tensor]:
    saved = model.state_dict().keys()
    return {name: buffer for name, buffer in model.named_buffers() if name not in saved}
