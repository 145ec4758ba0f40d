"""The names that the specification fixes."""

from __future__ import annotations

import subprocess
import sys

import pytest

import wavellama

NAMES = [
    "Hypothesis",
    "ModelType",
    "Wav2Vec2LlamaBeamSearchConfig",
    "Wav2Vec2LlamaConfig",
    "Wav2Vec2LlamaModel",
    "Wav2Vec2LlamaStreamingConfig",
    "generate",
    "load_model",
]


@pytest.mark.parametrize("name", NAMES)
def test_a_public_name_imports_from_the_package(name: str) -> None:
    assert name in wavellama.__all__
    assert name in dir(wavellama)
    assert getattr(wavellama, name).__name__ == name


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = wavellama.no_such_name


def test_importing_the_package_is_light() -> None:
    code = "import sys, wavellama; print('torch' in sys.modules or 'fairseq2' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.strip() == "False"


def test_the_three_kinds_of_model() -> None:
    assert [kind.name for kind in wavellama.ModelType] == ["LLM_ASR", "LLM_ASR_LID", "ZERO_SHOT"]
