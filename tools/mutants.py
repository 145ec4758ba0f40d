"""Changes one thing at a time in the source, and says which changes no test sees.

``python tools/mutants.py --number 100 --seed 1`` takes a copy of the working tree, draws mutants of
``src/wavellama`` (see ``OPERATORS``), and runs for each the test files that name its module, then,
where they pass, those of its folder and all properties, parity and known issues. What still passes
has survived: a test is missing, or the mutant means the same. ``--only`` tries some again.

Each mutant is one line of output: its number, killed, survived or timeout, and what was changed.
"""

from __future__ import annotations

import argparse
import ast
import copy
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any, Final

ROOT: Final = Path(__file__).parents[1]

OFTEN: Final = {"decoding", "search", "prompt", "data", "audio", "transcript", "alignment"} | {
    "metrics",
    "pipeline",
}
"""Folders of which each line is drawn three times as often as one of the others."""

NEVER: Final = {"server", "corpora"}

FLIPPED: Final[dict[type[ast.AST], Any]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq, ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.FloorDiv: ast.Mult,
    ast.And: ast.Or, ast.Or: ast.And,
}  # fmt: skip


# From a node to what may stand in its place


def flip(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the node with another operator."""
    changed = copy.deepcopy(node)
    if isinstance(changed, ast.Compare) and len(changed.ops) == 1:
        changed.ops = [FLIPPED[type(changed.ops[0])]()]
        yield changed
    elif isinstance(changed, ast.BinOp | ast.BoolOp) and type(changed.op) in FLIPPED:
        changed.op = FLIPPED[type(changed.op)]()
        yield changed


def shift(node: ast.AST) -> Iterator[ast.AST]:
    """Yield a number one higher and one lower."""
    value = node.value if isinstance(node, ast.Constant) else None
    if isinstance(value, bool):
        yield ast.Constant(not value)
    elif isinstance(value, int | float):
        yield from (ast.Constant(value + 1), ast.Constant(value - 1))


def negate(node: ast.AST) -> Iterator[ast.AST]:
    """Yield a branch with the opposite condition, or a negation without its `not`."""
    if isinstance(node, ast.If | ast.IfExp | ast.While):
        changed = copy.deepcopy(node)
        changed.test = ast.UnaryOp(ast.Not(), changed.test)
        yield changed
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        yield copy.deepcopy(node.operand)


def drop(node: ast.AST) -> Iterator[ast.AST]:
    """Yield nothing in the place of a call or of a change of something that stays."""
    calls = isinstance(node, ast.Expr) and isinstance(node.value, ast.Call | ast.YieldFrom)
    writes = isinstance(node, ast.Assign) and not isinstance(node.targets[0], ast.Name | ast.Tuple)
    if calls or writes or isinstance(node, ast.AugAssign | ast.Raise | ast.Continue):
        yield ast.Pass()


def swap(node: ast.AST) -> Iterator[ast.AST]:
    """Yield a call whose first two arguments have changed places."""
    if isinstance(node, ast.Call) and len(node.args) > 1:
        changed = copy.deepcopy(node)
        changed.args[:2] = changed.args[1::-1]
        if ast.dump(changed) != ast.dump(node):
            yield changed


OPERATORS: Final[tuple[Callable[[ast.AST], Iterator[ast.AST]], ...]] = (
    flip, shift, negate, drop, swap,
)  # fmt: skip


class Mutator(ast.NodeTransformer):
    """Counts the places of a module that can change, and changes one of them."""

    def __init__(self, chosen: int = -1) -> None:
        self.chosen, self.count, self.change = chosen, 0, ""

    def visit(self, node: ast.AST) -> ast.AST:
        """Return the node, or what stands in its place."""
        for operator in OPERATORS:
            for changed in operator(node):
                self.count += 1
                if self.count - 1 == self.chosen:
                    line = getattr(node, "lineno", 0)
                    self.change = f"{line}: {_first_line(node)}  ->  {_first_line(changed)}"
                    return ast.copy_location(changed, node)
        return self._visit_parts(node)

    def _visit_parts(self, node: ast.AST) -> ast.AST:
        """Visit what runs: no annotations, no asserts (nor `strict`), no f-strings, no types."""
        is_assert = isinstance(node, ast.keyword) and node.arg == "strict"
        if is_assert or isinstance(node, ast.Assert | ast.JoinedStr | ast.ImportFrom):
            return node
        skipped = {"annotation", "returns", "decorator_list", "bases"}
        for name, value in ast.iter_fields(node):
            if name in skipped:
                continue
            if isinstance(value, ast.AST):
                setattr(node, name, self.visit(value))
            elif isinstance(value, list):
                value[:] = [self.visit(v) if isinstance(v, ast.AST) else v for v in value]
        return node


def _first_line(node: ast.AST) -> str:
    return ast.unparse(ast.fix_missing_locations(node)).splitlines()[0][:120]


# Mutants


@dataclass(frozen=True)
class Mutant:
    """One change of one module."""

    path: Path
    """Relative to the root."""

    place: int

    def apply(self, source: str) -> tuple[str, str]:
        """Return the changed source, and what has changed in it."""
        mutator = Mutator(self.place)
        changed = mutator.visit(ast.parse(source))
        return ast.unparse(ast.fix_missing_locations(changed)), mutator.change


def draw_mutants(root: Path, number: int, seed: int) -> list[Mutant]:
    """Draw mutants, of often used folders more."""
    mutants, weights = list[Mutant](), list[float]()
    for path in sorted((root / "src/wavellama").rglob("*.py")):
        folder = path.relative_to(root / "src/wavellama").parts[0]
        mutator = Mutator()
        mutator.visit(ast.parse(path.read_text("utf-8")))
        if folder not in NEVER:
            mutants += [Mutant(path.relative_to(root), i) for i in range(mutator.count)]
            weights += [3.0 if folder in OFTEN else 1.0] * mutator.count
    draw = random.Random(seed)
    keys = [draw.random() ** (1 / weight) for weight in weights]  # without replacement
    ranked = sorted(range(len(mutants)), key=lambda i: -keys[i])
    return [mutants[i] for i in ranked[:number]]


def tests_of(root: Path, path: Path) -> tuple[list[str], list[str]]:
    """Return the test files that name a module, and those that may reach it, the nearest first."""
    parts = path.with_suffix("").parts[1:]
    name, own = ".".join(parts), f"test_{'_'.join(parts[1:])}.py"
    package, module = name.rpartition(".")[::2]
    imported = rf"from {re.escape(package)} import [\w, ]*\b{module}\b"
    pattern = re.compile(rf"\b{re.escape(name)}\b|{imported}")
    files = sorted((root / "tests").rglob("test_*.py"), key=lambda file: file.stat().st_size)
    files = [file for file in files if file.parent.name not in {"e2e", "browser"}]
    files.sort(key=lambda file: (file.name != own, file.parent.name != "unit"))
    near = [f for f in files if f.name == own or pattern.search(f.read_text("utf-8"))]
    wide = {"property", "known_issues", "parity"}
    far = [f for f in files if f.parent.name in wide or f.name.startswith(f"test_{parts[1]}_")]
    return (
        [str(file.relative_to(root)) for file in near],
        [str(file.relative_to(root)) for file in far if file not in near],
    )


# Running


def run_tests(tree: Path, files: Sequence[str], limit: float) -> str:
    """Return whether tests kill what is in ``tree``, in a fork of this process."""
    (tree / "log").write_text("")
    if not files:
        return "survived"
    child = os.fork()
    if child == 0:
        os.setsid()
        os.dup2(os.open(tree / "log", os.O_WRONLY), 1)
        os.dup2(1, 2)
        os.chdir(tree)
        sys.path[:0] = [str(tree / "src"), str(tree)]
        os.environ["PYTHONPATH"] = str(tree / "src")
        import pytest

        options = ["-x", "-q", "-p", "no:cacheprovider", "-m", "not slow"]
        os._exit(int(pytest.main([*options, *files])))
    deadline = monotonic() + limit
    try:
        while monotonic() < deadline:
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                child = 0
                return "survived" if os.waitstatus_to_exitcode(status) in {0, 5} else "killed"
            signal.sigtimedwait([], 0.2)
        return "timeout"
    finally:
        if child:
            os.killpg(child, signal.SIGKILL)
            os.waitpid(child, 0)


def try_mutant(tree: Path, mutant: Mutant, limit: float, few: int) -> tuple[str, str]:
    """Return what became of a mutant, and what it changes."""
    source = (tree / mutant.path).read_text("utf-8")
    changed, change = mutant.apply(source)
    near, far = tests_of(tree, mutant.path)
    (tree / mutant.path).write_text(changed, "utf-8")
    try:
        verdict = run_tests(tree, [*near, *far][:few] if few else near, limit)
        if verdict == "survived" and not few:
            verdict = run_tests(tree, far, limit)
    finally:
        (tree / mutant.path).write_text(source, "utf-8")
    return verdict, change


def unchanged(tree: Path, mutants: Sequence[Mutant], limit: float) -> str:
    """Return the test that fails without any mutant, if one does."""
    lists = [tests for mutant in mutants for tests in tests_of(tree, mutant.path)]
    files = sorted({file for tests in lists for file in tests})
    return "" if run_tests(tree, files, limit) == "survived" else killer(tree) or "  by time"


def killer(tree: Path) -> str:
    """Return the test that failed in the last run, if one did."""
    log = (tree / "log").read_text("utf-8", errors="replace")
    failed = re.findall(r"^(?:FAILED|ERROR) (\S+)", log, re.MULTILINE)
    return f"  by {failed[0]}" if failed else ""


def main() -> None:
    """Try the mutants that the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--number", type=int, default=100, metavar="N")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", type=int, nargs="+", metavar="N", help="these of them alone")
    parser.add_argument("--limit", type=float, default=600.0, help="seconds for the tests of one")
    few = "only the nearest files of tests"
    parser.add_argument("--few", type=int, default=0, metavar="N", help=few)
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by SIGTERM"))
    import fairseq2.recipe  # noqa: F401  once for all forks
    import hypothesis  # noqa: F401
    import pytest  # noqa: F401

    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder)
        listed = subprocess.check_output(
            ["git", "ls-files", "-z", "-co", "--exclude-standard"], cwd=ROOT
        )
        for name in filter(None, listed.decode().split("\0")):
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, tree / name)
        drawn = enumerate(draw_mutants(tree, args.number, args.seed))
        chosen = [(n, mutant) for n, mutant in drawn if args.only is None or n in args.only]
        if failed := unchanged(tree, [mutant for _, mutant in chosen], 3600.0):
            sys.exit(f"The unchanged source is already killed{failed}")
        for number, mutant in chosen:
            verdict, change = try_mutant(tree, mutant, args.limit, args.few)
            print(f"{number:3} {verdict:8} {mutant.path}:{change}{killer(tree)}", flush=True)


if __name__ == "__main__":
    main()
