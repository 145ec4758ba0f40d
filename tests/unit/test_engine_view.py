"""Which models the engine runs, and that it runs their present weights."""

from __future__ import annotations

import gc
import subprocess
import sys
import weakref
from typing import Any

import pytest
import torch
from fairseq2.models.transformer_lm import StandardTransformerLMDecoder

from tests.fakes import SMALL, make_batch, make_waveforms, tiny_model
from wavellama import Wav2Vec2LlamaBeamSearchConfig, generate
from wavellama.decoding.engine_view import find_engine
from wavellama.decoding.step_decoder import ModuleStepDecoder, create_step_decoder
from wavellama.engine import EngineStepDecoder
from wavellama.errors import ConfigError

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


def test_int8_of_a_decoder_of_others_is_refused() -> None:
    batch = make_batch(make_waveforms([3000], seed=3))
    with pytest.raises(ConfigError, match="int8, but the decoder of this model is not a plain"):
        generate(own_decoder_model(), batch, INT8)


def test_int8_decodes_nearly_the_same() -> None:
    model = tiny_model(SMALL, dtype=torch.float32, sharpness=4.0)
    batch = make_batch(make_waveforms([3000, 5000], seed=3, dtype=torch.float32))
    native = Wav2Vec2LlamaBeamSearchConfig(nbest=2, max_new_tokens=6)
    for row, expected in zip(
        generate(model, batch, INT8), generate(model, batch, native), strict=True
    ):
        assert row[0].score == pytest.approx(expected[0].score, abs=0.2)
        assert row[0].score != expected[0].score  # it did round


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
