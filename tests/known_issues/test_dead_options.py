"""Options of the published implementation that did nothing, or broke, one test each."""

from __future__ import annotations

import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from tests.fakes import SMALL, arch_config, make_batch, make_waveforms, merge, tiny_model
from wavellama import Wav2Vec2LlamaBeamSearchConfig, Wav2Vec2LlamaConfig, generate
from wavellama.model import factory

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("nbest", [1, 2, 3])
def test_b16_the_configured_search_is_used(nbest: int) -> None:
    """`beam_search_config` was never passed on: 3 configured, 5 used."""
    model = tiny_model(merge(SMALL, {"beam_search_config": {"nbest": nbest, "max_new_tokens": 2}}))
    assert [len(row) for row in generate(model, make_batch(make_waveforms([900])))] == [nbest]


@pytest.mark.parametrize("name", ["frozen_encoder", "boh_idx", "eoh_idx", "audio_encoder_calls"])
def test_b17_fields_without_effect_do_not_exist(name: str) -> None:
    """They were declared and read nowhere."""
    assert name not in {field.name for field in fields(Wav2Vec2LlamaConfig)}


@pytest.mark.parametrize(
    "config", [Wav2Vec2LlamaConfig, Wav2Vec2LlamaBeamSearchConfig], ids=lambda kls: kls.__name__
)
def test_b17_every_field_is_read_somewhere(config: type[Any]) -> None:
    source = (
        "\n".join(
            path.read_text("utf-8")
            for path in (ROOT / "src" / "wavellama").rglob("*.py")
            if path.name != "config.py" or path.parent.name != "model"
        )
        + Path(sys.modules[config.__module__].__file__ or "")
        .read_text("utf-8")
        .split("def validate")[-1]
    )
    unread = {field.name for field in fields(config) if f".{field.name}" not in source}
    assert not unread


def test_b21_no_dependency_is_dead_weight() -> None:
    """kenlm and numba were required and imported nowhere."""
    declared = (ROOT / "pyproject.toml").read_text("utf-8")
    required, _, rest = declared.partition("[project.optional-dependencies]")
    assert "kenlm" not in required
    assert "numba" not in declared
    assert 'lm = ["kenlm"]' in rest
    assert 'import_module("kenlm")' in (ROOT / "src/wavellama/decoding/lm_bias.py").read_text()


def test_b22_building_a_network_loads_no_tokenizer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Creating a model loaded a tokenizer from the network."""
    import fairseq2.data.tokenizers as tokenizers

    def fail(*_: object, **__: object) -> None:
        raise AssertionError("a tokenizer was loaded")

    monkeypatch.setattr(tokenizers, "load_tokenizer", fail)
    config = arch_config("tiny", {"streaming_config": {"text_tokenizer": "no_such_card"}})
    assert factory.create_wav2vec2_llama_model(config) is not None
