"""Which packages an install takes on which platform: resolved, not installed."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

pytestmark = pytest.mark.slow

ROOT: Final = Path(__file__).parents[2]
OVERRIDES: Final = re.findall(r'echo "(.*)" >', (ROOT / "docs/platforms.md").read_text("utf-8"))


def _resolve(platform: str, python: str, *options: str | Path) -> dict[str, str]:
    """Return the versions of the packages, all of them in wheels, that an install would take."""
    where = ("--python-platform", platform, "--python-version", python)
    command = [
        sys.executable,
        "-m",
        "uv",
        "pip",
        "compile",
        "--quiet",
        "--no-annotate",
        "--no-header",
    ]
    words = (ROOT / "pyproject.toml", "--only-binary", ":all:", "--extra", "server", *options)
    ended = subprocess.run(
        [*command, *where, *map(str, words)], capture_output=True, text=True, check=False
    )
    if "Failed to fetch" in ended.stderr:
        pytest.skip("There is no package index here.")
    assert ended.returncode == 0, ended.stderr
    return dict(line.split("==") for line in ended.stdout.splitlines())


@pytest.mark.parametrize(
    ("platform", "python"),
    [
        ("aarch64-unknown-linux-gnu", "3.11"),
        ("aarch64-unknown-linux-gnu", "3.13"),
        ("x86_64-unknown-linux-gnu", "3.13"),
        ("aarch64-apple-darwin", "3.13"),
    ],
)
def test_what_fairseq2_requires_comes_without_it(platform: str, python: str) -> None:
    taken = _resolve(platform, python)
    assert not {"fairseq2", "fairseq2n", "editdistance"} & set(taken)
    assert {"torch", "torchaudio", "torcheval", "wandb"} <= set(taken)
    assert "2.10" < taken["torch"] < "2.15"  # with the CUDA that torchaudio is built for


def test_the_native_package_is_taken_where_it_exists() -> None:
    taken = _resolve("x86_64-unknown-linux-gnu", "3.12")
    assert taken["fairseq2"] == taken["fairseq2n"] == "0.8.1"
    assert taken["torch"] == taken["torchaudio"] == "2.9.1"


def test_the_documented_overrides_leave_it_out_there(tmp_path: Path) -> None:
    assert len(OVERRIDES) == 2
    (tmp_path / "overrides.txt").write_text("\n".join(OVERRIDES))
    options = ("--overrides", tmp_path / "overrides.txt")
    taken = _resolve("x86_64-unknown-linux-gnu", "3.12", *options)
    assert "fairseq2n" not in taken
    assert taken["fairseq2"] == "0.8.1"
    assert taken["torch"] != "2.9.1"
