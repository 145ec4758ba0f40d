"""docs/architecture.md: the walks are of functions and types that there are."""

from __future__ import annotations

import re
from functools import reduce
from importlib import import_module
from pathlib import Path

import pytest

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
