"""What the repository promises: nothing of one machine in it, complete packages, import rules."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]

MAPPED: Final = {"src/wavellama": "wavellama", "assets": "wavellama.assets"} | {
    "recipes": "wavellama.recipes"
}
"""The folders that are installed, and as which packages."""


def _run(*command: str, cwd: Path = ROOT, **env: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **env}
    return subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )


@cache
def _git_files(*options: str) -> tuple[str, ...]:
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    listed = _run("git", "ls-files", "-z", *options)
    assert listed.returncode == 0, listed.stderr
    return tuple(name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file())


def _working_tree() -> tuple[str, ...]:
    return _git_files("--cached", "--others", "--exclude-standard")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of the working tree, to build or to spoil."""
    for name in _working_tree():
        target = tmp_path / "tree" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, target)
    return tmp_path / "tree"


# Nothing of the machine it was written on. (Each pattern is written so that it misses itself.)

FORBIDDEN: Final = re.compile(
    rb"\.\./shared"
    rb"|(?<![\w.-])/(?:wor[k]|roo[t])/"
    rb"|\b(?:pypi|test\.pypi)\.org\b"
    rb"|\bpythonhosted\.org\b"
    rb"|\b(?:npmjs|yarnpkg)\.(?:org|com)\b"
    rb"|\b(?:deb|security|snapshot)\.debian\.org\b"
    rb"|\bproxy\.golang\.org\b"
)


def forbidden_in(content: bytes) -> Iterator[str]:
    """Yield each forbidden mention with its line number."""
    for match in FORBIDDEN.finditer(content):
        line = content.count(b"\n", 0, match.start()) + 1
        yield f"{line}: {match.group().decode()}"


def test_nothing_names_a_machine_or_a_registry() -> None:
    found = [
        f"{name}:{mention}"
        for name in _git_files("--cached")
        for mention in forbidden_in((ROOT / name).read_bytes())
    ]
    assert found == []


@pytest.mark.parametrize(
    "parts",
    [
        ("see ..", "/shared/spec.md"),
        ("open('", "/work", "/main/x')"),
        ("/root", "/.cache"),
        ("https://pypi", ".org/simple"),
        ("https://files.python", "hosted.org/x.whl"),
        ("https://registry.npm", "js.org"),
        ("http://deb.de", "bian.org/debian"),
    ],
)
def test_a_mention_is_found(parts: tuple[str, ...]) -> None:
    content = "first line\n\0" + "".join(parts)
    assert [mention[:3] for mention in forbidden_in(content.encode())] == ["2: "]


@pytest.mark.parametrize("text", ["out/work/x", "a network/root/b", "mypypi_org", "shared/x"])
def test_an_innocent_text_passes(text: str) -> None:
    assert list(forbidden_in(text.encode())) == []


# Packages: pyproject.toml lists them one by one.


def declared_packages(pyproject: str) -> set[str]:
    """Return the packages that pyproject.toml lists."""
    match = re.search(r"^packages = (\[.*?^\])", pyproject, re.MULTILINE | re.DOTALL)
    assert match is not None
    return set(ast.literal_eval(match.group(1)))


def package_folders(root: Path, mapped: Mapping[str, str]) -> set[str]:
    """Return the packages that the folders make: all those that hold Python."""
    return {
        ".".join([package, *path.parent.relative_to(root / folder).parts])
        for folder, package in mapped.items()
        for path in (root / folder).rglob("*.py")
    }


def test_every_package_is_declared() -> None:
    declared = declared_packages((ROOT / "pyproject.toml").read_text("utf-8"))
    folders = package_folders(ROOT, MAPPED)
    assert sorted(folders - declared) == []
    assert sorted(declared - folders) == []


def test_a_package_that_is_not_declared_is_found(tmp_path: Path) -> None:
    for name in ("src/wavellama/a/x.py", "assets/b/__init__.py", "assets/b/c/card.yaml"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = package_folders(tmp_path, MAPPED)
    assert found == {"wavellama.a", "wavellama.assets.b"}
    assert declared_packages('packages = [\n  "wavellama.a", # why\n]\n') == {"wavellama.a"}


def test_every_package_has_an_init() -> None:
    """Without one, a mapped folder cannot be imported from an editable install."""
    bare = {
        path.parent.relative_to(ROOT).as_posix()
        for folder in MAPPED
        for path in (ROOT / folder).rglob("*.py")
        if not (path.parent / "__init__.py").exists()
    }
    assert bare == set()


# The wheel.


def build_wheel(tree: Path) -> set[str]:
    """Build a wheel of a copy of the repository; return the names of the files in it."""
    out = tree.parent / "dist"
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", str(out)]
    built = _run(sys.executable, "-m", "pip", "wheel", ".", *options, cwd=tree)
    assert built.returncode == 0, built.stderr
    (wheel,) = out.glob("wavellama-*.whl")
    return set(zipfile.ZipFile(wheel).namelist())


def installed_files(names: Iterable[str]) -> set[str]:
    """Return where a wheel must have those files of the repository that are installed."""
    return {
        f"{package.replace('.', '/')}{name.removeprefix(folder)}"
        for name in names
        for folder, package in MAPPED.items()
        if name.startswith(f"{folder}/")
    }


@pytest.mark.slow
def test_the_wheel_is_complete(tree: Path) -> None:
    names = build_wheel(tree)
    metadata = {name for name in names if ".dist-info/" in name}
    expected = installed_files(_working_tree())
    assert sorted(expected - names) == []
    assert sorted(names - metadata - expected) == []
    ends = {name.partition(".dist-info/")[2] for name in metadata}
    assert {"METADATA", "entry_points.txt"} <= ends
    assert any(name.endswith("LICENSE") for name in ends)


@pytest.mark.slow
def test_a_file_left_out_of_the_wheel_is_found(tree: Path) -> None:
    pyproject = tree / "pyproject.toml"
    text = pyproject.read_text("utf-8")
    pyproject.write_text(re.sub(r'"\*\.tsv",? ?', "", text), "utf-8")
    missing = installed_files(_working_tree()) - build_wheel(tree)
    assert "wavellama/assets/languages.tsv" in missing


# Import rules.


def lint_imports(root: Path) -> subprocess.CompletedProcess[str]:
    """Check the contracts of pyproject.toml on a repository's own src."""
    command = Path(sys.executable).with_name("lint-imports")
    return _run(str(command), "--no-cache", cwd=root, PYTHONPATH=str(root / "src"))


def test_the_import_contracts_hold() -> None:
    checked = lint_imports(ROOT)
    if checked.returncode:
        pytest.fail(checked.stdout + checked.stderr, pytrace=False)
    assert ", 0 broken" in checked.stdout


@pytest.mark.parametrize(
    ("module", "bad_import", "contract"),
    [
        ("units.py", "import torch", "Stdlib only"),
        ("search/beam.py", "import wavellama.audio", "Search stays narrow"),
        ("model/model.py", "import wavellama.data", "The network never sees datasets"),
        ("batch.py", "import wavellama.pipeline", "Data flows one way"),
        ("text/languages.py", "import fairseq2", "Pure parts know no fairseq2"),
    ],
)
def test_a_broken_contract_is_found(
    tree: Path, module: str, bad_import: str, contract: str
) -> None:
    with (tree / "src/wavellama" / module).open("a", encoding="utf-8") as file:
        file.write(f"\n{bad_import}\n")
    checked = lint_imports(tree)
    assert checked.returncode == 1, checked.stderr
    assert f"{contract} BROKEN" in checked.stdout


# The tools.

PIN: Final = re.compile(r"[a-z0-9-]+==[a-z0-9.]+( ; .+)?")
"""One exact version; a local one, such as ``+cpu``, is in no registry."""


def not_pinned(constraints: str) -> list[str]:
    """Return the lines of a constraints file that do not name one exact, public version."""
    lines = [line for line in constraints.splitlines() if line and not line.startswith("#")]
    return [line for line in lines if not PIN.fullmatch(line)]


def test_constraints_are_exact() -> None:
    constraints = (ROOT / "constraints.txt").read_text("utf-8")
    assert not_pinned(constraints) == []
    assert {"torch==2.9.1", "torchaudio==2.9.1", "fairseq2==0.8.1"} <= set(constraints.split("\n"))


@pytest.mark.parametrize("line", ["torch>=2", "torch==2.9.1+cpu", "torch", "x @ file:x", "--pre"])
def test_a_constraint_that_is_not_exact_is_found(line: str) -> None:
    assert not_pinned(f"# comment\nnumpy==2.2.6 ; python_full_version < '3.11'\n{line}\n") == [line]


def test_every_direct_dependency_is_constrained() -> None:
    pyproject = (ROOT / "pyproject.toml").read_text("utf-8")
    names = "dependencies|server|dev"
    lists = re.findall(rf"^(?:{names}) = (\[.*?^\])", pyproject, re.MULTILINE | re.DOTALL)
    assert len(lists) == 3
    wanted = {
        re.sub(r"[-_.]+", "-", re.split(r"[^\w.-]", item)[0]).lower()
        for text in lists
        for item in ast.literal_eval(text)
    }
    constraints = (ROOT / "constraints.txt").read_text("utf-8")
    wanted.remove("wavellama")  # with its own extra
    assert wanted <= set(re.findall(r"^([a-z0-9-]+)==", constraints, re.MULTILINE))


def test_hooks_fetch_nothing() -> None:
    text = (ROOT / ".pre-commit-config.yaml").read_text("utf-8")
    assert set(re.findall(r"repo: *(\S+)", text)) == {"local"}
    assert set(re.findall(r"language: *(\S+)", text)) == {"system"}


@pytest.mark.parametrize("script", [".ci/run", "tools/setup.sh", "tools/constraints.sh"])
def test_scripts_can_be_run(script: str) -> None:
    assert os.access(ROOT / script, os.X_OK)
    assert _run("bash", "-n", script).returncode == 0


def _python_without(folder: Path, *modules: str) -> Path:
    """Write a Python that starts, but fails as ``-m`` one of ``modules``."""
    cases = "|".join(f'"-m {module}"' for module in modules)
    python = folder / "python"
    python.write_text(
        "#!/bin/sh\n"
        f'case "$1 $2" in {cases}) echo "No module named $2" >&2; exit 1;; esac\n'
        f'exec "{sys.executable}" "$@"\n'
    )
    python.chmod(0o755)
    return python


def _set_up(tree: Path, python: Path) -> list[str]:
    """Run a set-up that must fail; return what it says on stderr."""
    finished = _run("tools/setup.sh", cwd=tree, PYTHON=str(python), PATH="/usr/bin:/bin")
    assert finished.returncode == 1
    assert not (tree / ".venv").exists()
    return finished.stderr.splitlines()


def test_setup_names_a_python_that_does_not_run(tree: Path) -> None:
    (line,) = _set_up(tree, Path("/bin/false"))
    assert "PYTHON=/bin/false is not a Python 3.10, 3.11 or 3.12 that runs" in line


def test_setup_names_a_path_that_fairseq2_cannot_read_from(tree: Path) -> None:
    spaced = tree.rename(tree.with_name("my tree"))
    (line,) = _set_up(spaced, Path(sys.executable))
    assert "my tree: move this folder" in line


def test_setup_says_what_to_install_for_a_virtual_environment(tree: Path) -> None:
    if shutil.which("uv", path="/usr/bin:/bin") or shutil.which("virtualenv", path="/usr/bin:/bin"):
        pytest.skip("the system has uv or virtualenv")
    (line,) = _set_up(tree, _python_without(tree, "venv", "virtualenv"))
    assert line.endswith("-venv), or uv, or virtualenv")


WHOLE = {
    "architecture",
    "documentation",
    "public_api",
    "repository",
    "repository_mutants",
    "size_budget",
}
"""What unit tests are about, beside modules."""


def test_unit_tests_are_named_after_the_modules_that_they_test() -> None:
    source = ROOT / "src" / "wavellama"
    modules = ["_".join(p.relative_to(source).with_suffix("").parts) for p in source.rglob("*.py")]
    tests = {path.stem.removeprefix("test_") for path in Path(__file__).parent.glob("test_*.py")}
    assert sorted(tests - WHOLE - set(modules)) == []


def test_known_issues_are_listed() -> None:
    folder = ROOT / "tests" / "known_issues"
    listed = re.findall(r"`(test_\w+\.py)` \|", (folder / "README.md").read_text())
    assert sorted(listed) == sorted(path.name for path in folder.glob("test_*.py"))
