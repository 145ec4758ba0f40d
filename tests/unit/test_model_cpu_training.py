"""An encoder that trains faster on a CPU: the same model, and the same losses but for rounding."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
import torch
from fairseq2.nn import BatchLayout
from fairseq2.runtime.config_registry import get_config
from fairseq2.runtime.dependency import get_dependency_resolver
from torch import Tensor
from torch.nn import Dropout, Module, Sequential
from torch.profiler import profile

from wavellama.model.config import Wav2Vec2LlamaConfig
from wavellama.model.cpu_training import speed_up
from wavellama.model.factory import create_wav2vec2_llama_model

FUSED = "aten::_scaled_dot_product_flash_attention_for_cpu"


def _encoder() -> Module:
    config = get_config(get_dependency_resolver(), Wav2Vec2LlamaConfig, "conformer_6m")
    encoder = config.wav2vec2_asr_config.encoder_config
    encoder.num_encoder_layers, encoder.dropout_p, encoder.ffn_inner_dropout_p = 1, 0.0, 0.0
    encoder.attn_dropout_p = 0.0
    return create_wav2vec2_llama_model(config).encoder


@pytest.fixture(scope="module")
def encoders() -> tuple[Module, Module]:
    """An encoder as it is made, and one of the same weights that trains faster."""
    encoder = _encoder()
    quick = deepcopy(encoder)
    speed_up(quick)
    return encoder, quick


def _run(encoder: Module, num_frames: int = 20) -> Tensor:
    torch.manual_seed(1)
    seqs = torch.randn(2, num_frames, 192)
    layout = BatchLayout.of(seqs, [num_frames, num_frames - 3])
    with torch.autocast("cpu", torch.bfloat16):
        return encoder(seqs, layout)  # type: ignore[no-any-return]


def _operations(encoder: Module, num_frames: int) -> set[str]:
    with profile() as profiler:
        torch.autograd.backward(_run(encoder.train(), num_frames).sum())
    return {event.key for event in profiler.key_averages()}


def test_weights_keep_their_names_and_inference_its_numbers(encoders: Any) -> None:
    encoder, quick = encoders
    assert encoder.state_dict().keys() == quick.state_dict().keys()
    assert torch.equal(_run(encoder.eval()), _run(quick.eval()))


def test_losses_and_gradients_are_equal_but_for_rounding(encoders: Any) -> None:
    found = []
    for encoder in encoders:
        encoder.zero_grad()
        out = _run(encoder.train())[1, :17]
        torch.autograd.backward(
            (out * torch.randn(out.shape)).sum()
        )  # the same ones: `_run` has seeded
        found.append([out, *(parameter.grad for parameter in encoder.parameters())])
    for expected, actual in zip(*found, strict=True):
        assert (
            actual - expected
        ).norm() < 0.02 * expected.norm() + 1e-3  # rounding alone, where it is 0


def test_attention_takes_no_slow_way_unless_the_plain_one_is_too_large(encoders: Any) -> None:
    encoder, quick = encoders
    assert FUSED in _operations(encoder, 20)
    assert FUSED not in _operations(quick, 20)
    assert FUSED in _operations(quick, 513)


def test_a_dropped_element_counts_nothing_and_others_more() -> None:
    part = Sequential(Dropout(0.25))
    speed_up(part)
    x = torch.ones(333, 301, requires_grad=True)

    y = part(x)
    y.sum().backward()

    assert x.grad is not None
    assert torch.equal(x.grad, y.detach())
    assert y.unique().tolist() == pytest.approx([0, 4 / 3])
    assert (y == 0).float().mean().item() == pytest.approx(0.25, abs=0.01)
    assert y.mean().item() == pytest.approx(1, abs=0.01)
    assert not torch.equal(part(x), y)
    assert torch.equal(part.eval()(x), x)


def test_a_mask_takes_a_byte(encoders: Any) -> None:
    part = Sequential(Dropout(0.1))
    speed_up(part)
    sizes: list[int] = []

    def note(saved: Tensor) -> Tensor:
        sizes.append(saved.nbytes)
        return saved

    with torch.autograd.graph.saved_tensors_hooks(note, lambda saved: saved):
        part(torch.ones(100, requires_grad=True))

    assert sizes == [100]
