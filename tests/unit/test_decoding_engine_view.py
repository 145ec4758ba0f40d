"""Which models the engine runs, and that it runs their present weights."""

from __future__ import annotations

import gc
import subprocess
import sys
import weakref
from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast, get_args

import pytest
import torch
from fairseq2.models.transformer_lm import StandardTransformerLMDecoder
from torch.nn.modules.module import register_module_forward_hook

from tests.fakes import SMALL, make_batch, make_waveforms, tiny_model
from wavellama import Wav2Vec2LlamaBeamSearchConfig, generate
from wavellama.decoding.engine_view import find_engine
from wavellama.decoding.step_decoder import (
    ModuleStepDecoder,
    create_step_decoder,
    create_verifier,
)
from wavellama.engine import EngineStepDecoder, EngineVerifier, WeightForm
from wavellama.errors import ConfigError
from wavellama.options import declared

NATIVE = Wav2Vec2LlamaBeamSearchConfig(nbest=2, max_new_tokens=6)
INT8 = Wav2Vec2LlamaBeamSearchConfig(nbest=2, max_new_tokens=6, weights="int8")


class OwnDecoder(StandardTransformerLMDecoder):  # type: ignore[misc]  # final to type checkers only
    """Might compute anything."""


def own_decoder_model() -> Any:
    model = tiny_model(SMALL)
    model.llama_decoder.__class__ = OwnDecoder
    return model


def test_an_engine_is_built_once() -> None:
    model = tiny_model(SMALL)
    assert find_engine(model) is find_engine(model)
    assert find_engine(model) is not find_engine(tiny_model(SMALL))


def test_the_option_has_the_forms_of_the_engine() -> None:
    assert declared(Wav2Vec2LlamaBeamSearchConfig)["weights"].choices == get_args(WeightForm)


def test_engines_of_two_forms_live_side_by_side() -> None:
    model = tiny_model(SMALL, dtype=torch.float32)
    native, rounded = find_engine(model), find_engine(model, "int8")
    assert native is not rounded
    assert find_engine(model) is native
    assert find_engine(model, "int8") is rounded
    both = [weakref.ref(native or model), weakref.ref(rounded or model)]
    native = rounded = None
    with torch.no_grad():
        model.final_proj.weight.mul_(2.0)
    changed = find_engine(model)
    gc.collect()
    assert [engine() for engine in both] == [None, None], "of the old weights nothing is kept"
    assert find_engine(model) is changed


@pytest.mark.parametrize(
    "name", ["llama_decoder.layers.0.ffn.inner_proj.weight", "final_proj.weight"]
)
def test_a_changed_weight_is_seen(name: str) -> None:
    model = tiny_model(SMALL, dtype=torch.float32, sharpness=4.0)  # packed, so a copy
    waveforms = make_waveforms([3000], seed=3, dtype=torch.float32)
    before = generate(model, make_batch(waveforms))
    parameter = dict(model.named_parameters())[name]
    with torch.no_grad():
        parameter.mul_(-1.5)
    changed = generate(model, make_batch(waveforms))
    assert changed[0][0].score != before[0][0].score
    parameter.data = parameter.data / -1.5
    assert generate(model, make_batch(waveforms))[0][0].score == pytest.approx(before[0][0].score)


@pytest.mark.parametrize("form", get_args(WeightForm))
def test_a_write_that_nobody_counts_is_seen(form: WeightForm) -> None:
    """As a running mean of weights is written, say."""
    model = tiny_model(SMALL, dtype=torch.float32)
    engine = find_engine(model, form)
    for name in ("llama_decoder.layers.0.self_attn.q_proj.weight", "final_proj.weight"):
        assert find_engine(model, form) is engine
        weight = dict(model.named_parameters())[name]
        version = weight._version
        weight.data.mul_(0.99)
        assert weight._version == version
        assert find_engine(model, form) is not engine
        engine = find_engine(model, form)


def test_hooks_of_all_kinds_are_run() -> None:
    model, calls = tiny_model(SMALL), list[object]()
    for register in (
        model.final_proj.register_forward_hook,
        model.llama_decoder.register_forward_pre_hook,
        register_module_forward_hook,
    ):
        calls.clear()
        handle = register(lambda *args: calls.append(args[0]))
        assert find_engine(model) is None
        generate(model, make_batch(make_waveforms([3000])), NATIVE)
        handle.remove()
        assert calls
    assert find_engine(model) is not None


def test_hooks_on_attention_weights_are_not_passed_over() -> None:
    """fairseq2's modules then say themselves whether their attention can give weights."""
    model = tiny_model(SMALL)
    attention = cast("Any", model.llama_decoder).layers[0].self_attn
    handle = attention.register_attn_weight_hook(lambda module, seqs, weights: None)
    assert find_engine(model) is None
    handle.remove()
    assert find_engine(model) is not None


def test_an_engine_goes_with_its_model() -> None:
    model = tiny_model(SMALL, dtype=torch.float32, sharpness=4.0)
    engine = weakref.ref(find_engine(model) or model)
    del model
    gc.collect()
    assert engine() is None


def test_decoders_of_others_run_by_their_modules() -> None:
    model = own_decoder_model()
    prompt = torch.zeros(3, model.model_dim, dtype=torch.float64)
    assert isinstance(create_step_decoder(model, [prompt]), ModuleStepDecoder)
    assert isinstance(create_step_decoder(tiny_model(SMALL), [prompt]), EngineStepDecoder)
    assert create_verifier(model, [prompt]) is None
    assert isinstance(create_verifier(tiny_model(SMALL), [prompt]), EngineVerifier)


def test_int8_of_a_decoder_of_others_is_refused() -> None:
    batch = make_batch(make_waveforms([3000], seed=3))
    with pytest.raises(ConfigError, match="int8, but the decoder of this model is not a plain"):
        generate(own_decoder_model(), batch, INT8)


@pytest.mark.parametrize("create", [create_step_decoder, create_verifier])
def test_int8_on_another_device_is_refused_in_one_sentence(create: Callable[..., object]) -> None:
    with pytest.raises(ConfigError, match="CPU only, but the weights are on meta"):
        create(tiny_model(SMALL).to("meta"), [torch.zeros(3, 16)], "int8")


@pytest.mark.parametrize(("form", "most"), [("int8", 0.2), ("int4", 0.5)])
def test_integers_decode_nearly_the_same(form: WeightForm, most: float) -> None:
    model = tiny_model(SMALL, dtype=torch.float32, sharpness=4.0)
    batch = make_batch(make_waveforms([3000, 5000], seed=3, dtype=torch.float32))
    rounded = replace(NATIVE, weights=form)
    for row, expected in zip(
        generate(model, batch, rounded), generate(model, batch, NATIVE), strict=True
    ):
        assert row[0].score == pytest.approx(expected[0].score, abs=most)
        assert row[0].score != expected[0].score  # it did round


@pytest.mark.parametrize("form", get_args(WeightForm))
def test_bfloat16_reads_prompts_with_the_weights_of_the_model(form: WeightForm) -> None:
    """What steps read is a copy in the form that was asked for; here both are told apart."""
    model = tiny_model(SMALL, dtype=torch.bfloat16)
    prompt = torch.randn(3, model.model_dim, generator=torch.Generator().manual_seed(0))
    native, rounded = find_engine(model), find_engine(model, form)
    assert native is not None
    assert rounded is not None
    caches = [engine.prefill([prompt.bfloat16()])[0] for engine in (native, rounded)]
    for engine, cache in zip((native, rounded), caches, strict=True):
        place = torch.tensor([[4]])
        engine.extend_embedded(cache, prompt[None, :1], place, place)  # as a language is read
    assert torch.equal(caches[0].keys[-1], caches[1].keys[-1])
    assert caches[0].keys[-1][:, :, 4].any()
    token, place = torch.tensor([[3]]), torch.tensor([[5]])
    first, second = (
        engine.extend(cache, token, place, place)
        for engine, cache in zip((native, rounded), caches, strict=True)
    )
    assert torch.equal(first, second) == (form == "native")


def test_mixed_precision_around_it_changes_nothing() -> None:
    model = tiny_model(SMALL, dtype=torch.float32, sharpness=4.0)
    engine = find_engine(model)
    assert engine is not None
    prompt = torch.randn(3, model.model_dim)
    with torch.autocast("cpu", torch.bfloat16):
        _, inside = engine.prefill([prompt])
    assert torch.equal(inside, engine.prefill([prompt])[1])


def test_imports_without_fairseq2() -> None:
    code = (
        "import sys; sys.modules['fairseq2'] = None; import wavellama.engine;"
        " print(wavellama.engine.Engine.__name__)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "Engine\n", done.stderr
