"""docs/architecture.md: the walk from a name to a model is one of functions that there are."""

from __future__ import annotations

import re
from functools import reduce
from importlib import import_module
from pathlib import Path

ARCHITECTURE = Path(__file__).parents[2] / "docs" / "architecture.md"


def test_the_walk_of_a_name_exists() -> None:
    text = ARCHITECTURE.read_text("utf-8").partition("A model's name becomes a model:")[2]
    walk = text.split("```")[1]
    names = re.findall(r"\b((?:checkpoints|model)\.[a-z_]+)\.(\w+(?:\.\w+)?)", walk)
    assert len(names) > 12
    for module, name in names:
        assert callable(reduce(getattr, name.split("."), import_module(f"wavellama.{module}")))
