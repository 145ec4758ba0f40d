"""``tools/mutants.py``: what it changes, and which tests it asks."""

from __future__ import annotations

import ast
from pathlib import Path
from runpy import run_path

TOOL = run_path(str(Path(__file__).parents[2] / "tools" / "mutants.py"))

SOURCE = """
def f(a: int, b: int = 2) -> bool:
    if a < b:
        log(a, b)
    return not a
"""

CHANGES = {
    "int=2": ["int=3", "int=1"],
    "if a < b": ["if not a < b", "if a <= b"],
    "log(a, b)": ["pass", "log(b, a)"],
    "not a": ["a"],
}


def _variants(source: str) -> list[str]:
    """Return a source with one thing changed, for each thing that can be."""
    counter = TOOL["Mutator"]()
    counter.visit(ast.parse(source))
    mutants = [TOOL["Mutant"](Path("f.py"), place) for place in range(counter.count)]
    return [mutant.apply(source)[0] for mutant in mutants]


def test_each_mutant_changes_one_thing() -> None:
    original = ast.unparse(ast.parse(SOURCE))
    expected = {original.replace(old, new) for old, many in CHANGES.items() for new in many}
    variants = _variants(SOURCE)
    assert len(variants) == len(set(variants))
    assert set(variants) == expected


def test_what_does_not_run_stays() -> None:
    assert _variants('def f(x: Literal[1]) -> None:\n    assert x > 2, f"{x + 1}"\n') == []


def test_the_same_seed_draws_the_same_mutants() -> None:
    root = TOOL["ROOT"]
    drawn = TOOL["draw_mutants"](root, 20, 3)
    assert drawn == TOOL["draw_mutants"](root, 20, 3)
    assert drawn != TOOL["draw_mutants"](root, 20, 4)
    assert not any("server" in mutant.path.parts for mutant in drawn)


def test_the_tests_of_a_module_are_asked_first() -> None:
    near, far = TOOL["tests_of"](TOOL["ROOT"], Path("src/wavellama/search/stopping.py"))
    assert near[0] == "tests/unit/test_search_stopping.py"
    assert "tests/unit/test_search_beam.py" in near
    assert "tests/unit/test_search_ngram.py" in far
    assert not set(near) & set(far)
