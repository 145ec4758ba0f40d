"""The documentation as the tests read it: its blocks of code."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from textwrap import dedent
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).parents[1]

PAGES: Final = (
    "README.md",
    "CONTRIBUTING.md",
    *sorted(f"docs/{p.name}" for p in ROOT.glob("docs/*.md")),
)


class Block(NamedTuple):
    """What stands between two fences."""

    page: str

    language: str
    """What the fence says; empty where it says nothing."""

    text: str

    before: str
    """The paragraph in front of it."""

    @property
    def name(self) -> str | None:
        """The file that its first line names: ``# name.py``."""
        match = re.match(r"# (\w+\.\w+)\n", self.text)
        return match[1] if match else None


def code_blocks(page: str) -> Sequence[Block]:
    """Return the blocks of a page, in order."""
    text = (ROOT / page).read_text("utf-8")
    fences = re.finditer(r"^( *)```(\w*)\n(.*?)^\1```$", text, re.MULTILINE | re.DOTALL)
    return [
        Block(
            page,
            match[2],
            dedent(match[3]),
            text[: match.start()].rstrip("\n").rpartition("\n\n")[2],
        )
        for match in fences
    ]
