"""The size budget of ``src/wavellama``, measured with :mod:`ast`.

* A function is every ``def``, methods and nested ones included. Its lines run from ``def`` to its
  last line, decorators excluded; its body is those lines minus the lines of its docstring.
* Complexity is 1 + branches (``if``, also a conditional expression's or a comprehension's,
  ``except``, ``case``) + loops (``for`` and ``while``; a comprehension as such is none) + each
  ``and`` and ``or`` + asserts. A nested function has its own and adds nothing to the outer one's.
* Parameters are all but ``self`` and ``cls``. The constructor that ``@dataclass`` generates has
  none here: its fields are documented one by one.
* A percentile is the nearest rank: the smallest value that at least so many percent do not exceed.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

import pytest

PACKAGE: Final = Path(__file__).parents[2] / "src" / "wavellama"

MANY_PARAMETERS_ALLOWED: Final = {"Wav2Vec2LlamaModel.__init__"}
"""Public constructors whose parameters, and the lines about them, the specification fixes."""

FunctionNode: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef

_SCOPES: Final = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)
_BRANCHES: Final = (ast.If, ast.IfExp, ast.ExceptHandler, ast.match_case)
_LOOPS: Final = (ast.For, ast.AsyncFor, ast.While)


@dataclass(frozen=True, kw_only=True)
class Function:
    """What the budget is about in one function."""

    where: str
    name: str
    lines: int
    body: int
    complexity: int
    parameters: int
    unannotated: tuple[str, ...]


@dataclass(frozen=True)
class Limit:
    """One figure and what it may be; a None has no limit."""

    median: int | None
    p95: int | None
    maximum: int | None


FUNCTION_LINES: Final = Limit(7, 21, 60)
FUNCTION_BODY: Final = Limit(None, None, 60)
FILE_LINES: Final = Limit(120, 300, 350)
COMPLEXITY: Final = Limit(None, None, 8)
PARAMETERS: Final = Limit(None, None, 6)


def functions_in(source: str, file: str) -> Iterator[Function]:
    """Measure each function of a source text."""
    yield from _functions_below(ast.parse(source), file, "")


def _functions_below(node: ast.AST, file: str, prefix: str) -> Iterator[Function]:
    for child in ast.iter_child_nodes(node):
        inner = prefix
        if isinstance(child, FunctionNode | ast.ClassDef):
            inner = f"{prefix}{child.name}."
        if isinstance(child, FunctionNode):
            yield _measure(child, file, prefix + child.name, isinstance(node, ast.ClassDef))
        yield from _functions_below(child, file, inner)


def _measure(node: FunctionNode, file: str, name: str, is_method: bool) -> Function:
    parameters = _parameters(node, is_method)
    bare = [parameter.arg for parameter in parameters if parameter.annotation is None]
    return Function(
        where=f"{file}:{node.lineno}",
        name=name,
        lines=_span(node),
        body=_span(node) - _docstring_lines(node),
        complexity=1 + sum(_decisions(child) for child in _own_nodes(node)),
        parameters=len(parameters),
        unannotated=tuple(bare + ([] if node.returns else ["return"])),
    )


def _span(node: ast.stmt) -> int:
    assert node.end_lineno is not None
    return node.end_lineno - node.lineno + 1


def _docstring_lines(node: FunctionNode) -> int:
    return 0 if ast.get_docstring(node) is None else _span(node.body[0])


def _parameters(node: FunctionNode, is_method: bool) -> list[ast.arg]:
    static = any(ast.unparse(item) == "staticmethod" for item in node.decorator_list)
    positional = [*node.args.posonlyargs, *node.args.args][int(is_method and not static) :]
    rest = [arg for arg in (node.args.vararg, node.args.kwarg) if arg is not None]
    return [*positional, *node.args.kwonlyargs, *rest]


def _own_nodes(node: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, _SCOPES):
            yield child
            yield from _own_nodes(child)


def _decisions(node: ast.AST) -> int:
    if isinstance(node, ast.BoolOp):
        return len(node.values) - 1
    if isinstance(node, ast.comprehension):
        return len(node.ifs)
    return int(isinstance(node, (*_BRANCHES, *_LOOPS, ast.Assert)))


def over_limit(figures: Sequence[tuple[int, str]], limit: Limit, what: str) -> list[str]:
    """Return what is wrong with figures, largest offenders first; empty if nothing is.

    :param figures: pairs of a figure and where it was measured.
    """
    ranked = sorted(figures, reverse=True)
    found = []
    if limit.maximum is not None:
        largest = limit.maximum
        found += [f"{where}: {what} {n} > {largest}" for n, where in ranked if n > largest]
    for percent, bound in ((50, limit.median), (95, limit.p95)):
        figure = percentile([n for n, _ in ranked], percent)
        if bound is not None and figure > bound:
            found.append(f"{what}: {percent}th percentile {figure} > {bound}; the largest are:")
            found += [f"  {where}: {n}" for n, where in ranked[:10]]
    return found


def percentile(values: Sequence[int], percent: int) -> int:
    """Return the smallest value that at least ``percent`` % of the values do not exceed."""
    return sorted(values)[max(math.ceil(len(values) * percent / 100) - 1, 0)]


def _no_offenders(found: Sequence[str]) -> None:
    if found:
        pytest.fail("over the size budget:\n" + "\n".join(found), pytrace=False)


# The budget itself.


@pytest.fixture(scope="module")
def functions() -> list[Function]:
    root = PACKAGE.parents[1]
    return [
        function
        for path in sorted(PACKAGE.rglob("*.py"))
        for function in functions_in(path.read_text("utf-8"), str(path.relative_to(root)))
    ]


def test_something_is_measured(functions: list[Function]) -> None:
    assert len(functions) > 100
    assert {function.name for function in functions} >= MANY_PARAMETERS_ALLOWED


def test_function_lines(functions: list[Function]) -> None:
    figures = [
        (item.lines, f"{item.where} {item.name}")
        for item in functions
        if item.name not in MANY_PARAMETERS_ALLOWED
    ]
    _no_offenders(over_limit(figures, FUNCTION_LINES, "function lines"))


def test_function_bodies(functions: list[Function]) -> None:
    figures = [(item.body, f"{item.where} {item.name}") for item in functions]
    _no_offenders(over_limit(figures, FUNCTION_BODY, "function body"))


def test_file_lines() -> None:
    root = PACKAGE.parents[1]
    figures = [
        (len(path.read_text("utf-8").splitlines()), f"{path.relative_to(root)}:1")
        for path in PACKAGE.rglob("*.py")
    ]
    _no_offenders(over_limit(figures, FILE_LINES, "file lines"))


def test_complexity(functions: list[Function]) -> None:
    figures = [(item.complexity, f"{item.where} {item.name}") for item in functions]
    _no_offenders(over_limit(figures, COMPLEXITY, "complexity"))


def test_parameters(functions: list[Function]) -> None:
    figures = [
        (item.parameters, f"{item.where} {item.name}")
        for item in functions
        if item.name not in MANY_PARAMETERS_ALLOWED
    ]
    _no_offenders(over_limit(figures, PARAMETERS, "parameters"))


def test_everything_is_annotated(functions: list[Function]) -> None:
    _no_offenders(
        [
            f"{item.where} {item.name}: not annotated: {', '.join(item.unannotated)}"
            for item in functions
            if item.unannotated
        ]
    )


# The measuring.


def _only(source: str) -> Function:
    (function,) = functions_in(source, "file.py")
    return function


def test_lines_and_body() -> None:
    function = _only('\n@cache\ndef f() -> int:\n    """One.\n\n    Two.\n    """\n    return 1\n')
    assert (function.where, function.lines, function.body) == ("file.py:3", 6, 2)
    assert _only("def f() -> int:\n    'One.'\n    return 1\n").body == 2
    assert _only("def f() -> int:\n    return 1\n").body == 2


@pytest.mark.parametrize(
    ("body", "complexity"),
    [
        ("pass", 1),
        ("if a: pass", 2),
        ("if a: pass\n  elif b: pass\n  else: pass", 3),
        ("return 1 if a else 2", 2),
        ("for _ in a: pass", 2),
        ("while a: pass", 2),
        ("async for _ in a: pass", 2),
        ("return [x for x in a for y in x if x if y]", 3),
        ("return a and b and c or d", 4),
        ("assert a", 2),
        ("try: pass\n  except A: pass\n  except B: pass\n  finally: pass", 3),
        ("match a:\n   case 1: pass\n   case _: pass", 3),
        ("with a: pass", 1),
        ("return lambda: 1 if a else 2", 1),
    ],
)
def test_complexity_of(body: str, complexity: int) -> None:
    assert _only(f"async def f():\n  {body}\n").complexity == complexity


def test_nested_functions_count_for_themselves() -> None:
    source = "class A:\n def f(self):\n  def g():\n   if a: pass\n  if b: pass\n  if c: pass\n"
    found = {item.name: item.complexity for item in functions_in(source, "file.py")}
    assert found == {"A.f": 3, "A.f.g": 2}


def test_functions_under_a_condition_are_found() -> None:
    source = "if a:\n def f(): pass\nelse:\n class B:\n  async def g(self): pass\n"
    assert [item.name for item in functions_in(source, "file.py")] == ["f", "B.g"]


@pytest.mark.parametrize(
    ("signature", "parameters"),
    [
        ("def f(): pass", 0),
        ("def f(a, /, b, *c, d, **e): pass", 5),
        ("class A:\n def f(self, a): pass", 1),
        ("class A:\n @classmethod\n def f(cls, a): pass", 1),
        ("class A:\n @staticmethod\n def f(a, b): pass", 2),
    ],
)
def test_number_of_parameters(signature: str, parameters: int) -> None:
    assert _only(signature).parameters == parameters


def test_unannotated() -> None:
    source = "class A:\n def f(self, a, b: int, *c, **d): pass"
    assert _only(source).unannotated == ("a", "c", "d", "return")
    assert _only("class A:\n def f(self, a: int) -> None: pass").unannotated == ()


@pytest.mark.parametrize(
    ("values", "percent", "expected"),
    [([3, 1, 2], 50, 2), ([1, 2, 3, 4], 50, 2), (list(range(1, 101)), 95, 95), ([7], 95, 7)],
)
def test_percentile(values: list[int], percent: int, expected: int) -> None:
    assert percentile(values, percent) == expected


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        (Limit(4, 30, 30), []),
        (Limit(None, None, 29), ["b.py:2 g: lines 30 > 29"]),
        (Limit(3, None, None), ["lines: 50th percentile 4 > 3"]),
        (Limit(None, 29, None), ["lines: 95th percentile 30 > 29"]),
    ],
)
def test_over_limit(limit: Limit, expected: list[str]) -> None:
    figures = [(4, "a.py:1 f"), (30, "b.py:2 g"), (1, "c.py:3 h")]
    found = over_limit(figures, limit, "lines")
    assert [line.partition(";")[0] for line in found if not line.startswith("  ")] == expected


def test_offenders_are_named() -> None:
    found = over_limit([(4, "a.py:1 f"), (30, "b.py:2 g")], Limit(None, 20, None), "lines")
    assert found[1:] == ["  b.py:2 g: 30", "  a.py:1 f: 4"]
    with pytest.raises(pytest.fail.Exception, match=r"over the size budget:\nfile.py:1: too long"):
        _no_offenders(["file.py:1: too long"])
