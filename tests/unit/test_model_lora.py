"""Low-rank adapters: what they change, what is trained and saved, and the one merged weight."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.fakes import LID, loss_of, make_batch, make_waveforms, merge, tiny_model
from wavellama.checkpoints.hub import load_model
from wavellama.errors import ConfigError
from wavellama.model.lora import LoraConfig, add_adapters, leave_out_frozen, merge_weight
from wavellama.model.model import Wav2Vec2LlamaModel

BATCH = make_batch(make_waveforms([9000, 6400], seed=1), [[5, 6, 7], [8, 9]])

Q_PROJ = "llama_decoder.layers.0.self_attn.q_proj"


def adapted(dtype: torch.dtype = torch.float32, **config: Any) -> Wav2Vec2LlamaModel:
    model = tiny_model(dtype=dtype)
    add_adapters(model, LoraConfig(**{"r": 2, "alpha": 4.0, **config}))
    return model


def trained(model: Wav2Vec2LlamaModel) -> dict[str, Tensor]:
    return {n: p.detach().clone() for n, p in model.named_parameters() if p.requires_grad}


def train(model: Wav2Vec2LlamaModel, num_steps: int = 3) -> Wav2Vec2LlamaModel:
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    for _ in range(num_steps):
        optimizer.zero_grad()
        torch.autograd.backward(loss_of(model, BATCH))
        optimizer.step()
    return model


def test_fresh_adapters_change_nothing() -> None:
    assert torch.equal(loss_of(adapted(), BATCH), loss_of(tiny_model(dtype=torch.float32), BATCH))


def test_training_changes_the_adapters_alone() -> None:
    model, plain = adapted(also_train=["encoder_proj"]), tiny_model(dtype=torch.float32)
    names = dict(plain.named_parameters())
    before = trained(model)
    train(model)
    assert loss_of(model, BATCH) < loss_of(plain, BATCH)
    assert {n for n in before if n in names} == {"encoder_proj.weight", "encoder_proj.bias"}
    for name, parameter in model.named_parameters():
        old = before[name] if name in before else names[name]
        assert torch.equal(parameter, old) != (name in before), name


def test_all_projections_of_both_stacks_are_adapted_unless_patterns_say_otherwise() -> None:
    def owners(model: Wav2Vec2LlamaModel) -> set[str]:
        return {name.removesuffix(".lora_A") for name in trained(model) if name.endswith("lora_A")}

    plain = dict(tiny_model().named_modules())
    layers = {n for n in plain if n.endswith("_proj") and ".layers." in n and "front" not in n}
    assert owners(adapted()) == layers
    assert owners(adapted(targets=[r"llama_decoder\..*q_proj"])) == {
        f"llama_decoder.layers.{i}.self_attn.q_proj" for i in range(2)
    }


@pytest.mark.parametrize("field", ["targets", "also_train"])
def test_a_pattern_without_a_match(field: str) -> None:
    patterns: dict[str, Any] = {field: ["q_proj"]}
    with pytest.raises(ConfigError, match=rf"`lora.{field}`: q_proj matches no"):
        add_adapters(tiny_model(), LoraConfig(**patterns))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"r": 0}, "`r` must be at least 1"),
        ({"alpha": 0.0}, "`alpha` must be greater than 0"),
        ({"alpha": math.inf}, "`alpha` must be greater than 0, and finite"),
        ({"alpha": math.nan}, "`alpha` must be greater than 0, and finite"),
        ({"targets": []}, "`targets` names no projection"),
        ({"dropout": 1.0}, r"`dropout` must lie in \[0, 1\)"),
        ({"targets": ["("]}, r"`targets` has no regular expression: \("),
    ],
)
def test_what_cannot_be_configured(fields: dict[str, Any], words: str) -> None:
    assert re.search(words, str(LoraConfig(**fields).validate()))


def test_one_merged_weight_computes_the_same() -> None:
    model = train(adapted(alpha=32.0))
    parameters = dict(model.named_parameters())
    plain = tiny_model(dtype=torch.float32)
    with torch.no_grad():
        for name, weight in plain.named_parameters():
            pair = [parameters.get(name.replace("weight", part)) for part in ("lora_A", "lora_B")]
            if pair[0] is not None and pair[1] is not None and name.endswith("_proj.weight"):
                weight.copy_(merge_weight(weight, pair[0], pair[1], alpha=32.0))
    torch.testing.assert_close(loss_of(model, BATCH), loss_of(plain, BATCH), atol=1e-5, rtol=0)
    assert loss_of(model, BATCH) < loss_of(adapted(), BATCH) - 0.01


def test_dropout_acts_in_training_only() -> None:
    model = train(adapted(dropout=0.5))
    assert torch.equal(loss_of(model, BATCH), loss_of(model, BATCH))
    model.train()
    assert not torch.equal(loss_of(model, BATCH), loss_of(model, BATCH))


def test_a_state_dict_holds_what_is_trained_and_loads_it_again() -> None:
    first, second = (
        train(adapted(also_train=["encoder_proj"])),
        adapted(also_train=["encoder_proj"]),
    )
    for model in (first, second):
        leave_out_frozen(model)
    state = first.state_dict()
    assert state.keys() == trained(first).keys()
    second.load_state_dict(state)
    assert torch.equal(loss_of(first, BATCH), loss_of(second, BATCH))
    with pytest.raises(RuntimeError, match=r"Missing key.*encoder_proj\.bias"):
        second.load_state_dict({n: w for n, w in state.items() if n != "encoder_proj.bias"})


def test_half_of_the_bytes_for_frozen_projections_and_float32_for_all_else() -> None:
    model = adapted(torch.bfloat16, also_train=["encoder_proj"])
    types = {name: parameter.dtype for name, parameter in model.named_parameters()}
    assert types[f"{Q_PROJ}.weight"] == torch.bfloat16
    for name in (f"{Q_PROJ}.lora_A", "encoder_proj.weight", "encoder.layer_norm.weight"):
        assert types[name] == torch.float32
    with torch.autocast("cpu", torch.bfloat16):
        half = loss_of(model, BATCH)
    torch.testing.assert_close(half, loss_of(adapted(), BATCH), rtol=0.02, atol=0)


def test_rank_8_is_a_small_part_of_the_packaged_model() -> None:
    model = load_model("wavellama_small", device="meta")
    num_weights = sum(parameter.numel() for parameter in model.parameters())
    add_adapters(model, LoraConfig())
    adapters = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert 0.01 < adapters / num_weights < 0.02


def test_a_family_without_a_decoder_has_adapters_too() -> None:
    model = load_model("omniASR_CTC_300M", device="meta")
    add_adapters(model, LoraConfig())
    assert {name.split(".")[0] for name, p in model.named_parameters() if p.requires_grad} == {
        "encoder"
    }


def test_a_language_of_ones_own() -> None:
    model = tiny_model(merge(LID, {}), arch="tiny_lid", dtype=torch.float32)
    add_adapters(model, LoraConfig(also_train=["lang_embeddings"]))
    assert model.get_parameter("lang_embeddings.weight").requires_grad
