"""Packages of others, as installed: modules and the metadata that names their entry points."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from tests.pages import code_blocks

PAGES: Final = ("CONTRIBUTING.md", "docs/recipes.md")
"""Where the extensions of another package are described."""


def install(folder: Path, modules: Mapping[str, str], entry_points: str) -> Path:
    """Install the package ``theirs`` into a folder, which belongs on ``PYTHONPATH``.

    :param modules: file name -> source.
    :param entry_points: as ``entry_points.txt`` has them.
    """
    for file, source in modules.items():
        (folder / file).write_text(source)
    info = folder / "theirs-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(entry_points)
    return folder


def documented_files() -> dict[str, str]:
    """Return the files of the package that the documentation writes: name -> source."""
    blocks = [block for page in PAGES for block in code_blocks(page)]
    return {block.name: block.text for block in blocks if block.name is not None}


def documented_entry_points() -> str:
    """Return its entry points, which ``pyproject.toml`` spells in its own way."""
    (toml,) = (b.text for page in PAGES for b in code_blocks(page) if b.language == "toml")
    headers = re.sub(r'\[project\.entry-points\."(.*)"\]', r"[\1]", toml)
    return re.sub(r'"(.*)"', r"\1", headers)
