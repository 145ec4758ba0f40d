"""docs/architecture.md: the walks are of functions and types that there are."""

from __future__ import annotations

import re
from functools import reduce
from importlib import import_module
from pathlib import Path

import pytest

import wavellama

ARCHITECTURE = Path(__file__).parents[2] / "docs" / "architecture.md"


@pytest.mark.parametrize(
    ("heading", "count"),
    [("A model's name becomes a model:", 12), ("A key of a YAML file becomes a generator:", 8)],
)
def test_the_functions_of_a_walk_exist(heading: str, count: int) -> None:
    walk = ARCHITECTURE.read_text("utf-8").partition(heading)[2].split("```")[1]
    modules = r"(?:checkpoints|model|tasks|decoding)\.[a-z_]+|extension|yaml_files"
    names = re.findall(rf"\b({modules})\.(\w+(?:\.\w+)?)", walk)
    assert len(names) > count
    for module, name in names:
        assert callable(reduce(getattr, name.split("."), import_module(f"wavellama.{module}")))


def test_the_types_of_the_walks_are_counted_and_exist() -> None:
    text = " ".join(ARCHITECTURE.read_text("utf-8").split())
    walks = re.findall(r"Types on this way: ([^(]+) \((\d+)\)", text)
    assert len(walks) == 4
    package = Path(wavellama.__file__).parent
    classes = {
        name
        for file in package.rglob("*.py")
        for name in re.findall(r"^class (\w+)", file.read_text("utf-8"), re.MULTILINE)
    }
    for listed, count in walks:
        names = re.findall(r"`(\w+)`", listed)
        assert len(names) == len(set(names)) == int(count)
        assert set(names) - classes <= {"Seq2SeqBatch"}, "fairseq2's"
