"""The names that the specification fixes."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path

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


def test_type_checkers_are_told_the_same_names() -> None:
    tree = ast.parse(Path(wavellama.__file__).read_text("utf-8"))
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    imports = [node for node in block.body if isinstance(node, ast.ImportFrom)]
    told = {alias.asname: node.module for node in imports for alias in node.names}
    for name in set(wavellama.__all__) - {"__version__"}:
        module = importlib.import_module(str(told.pop(name)))
        assert getattr(module, name) is getattr(wavellama, name)
    assert told == {}


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = wavellama.no_such_name


def test_importing_the_package_is_light() -> None:
    code = "import sys, wavellama; print('torch' in sys.modules or 'fairseq2' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.strip() == "False"


def test_a_model_is_found_without_importing_what_recipes_need() -> None:
    code = (
        "import sys; from wavellama.checkpoints.hub import find_model\n"
        "find_model('wavellama_small')\n"
        "print('fairseq2.recipe' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.strip() == "False", result.stderr


def test_the_three_kinds_of_model() -> None:
    assert [kind.name for kind in wavellama.ModelType] == ["LLM_ASR", "LLM_ASR_LID", "ZERO_SHOT"]
