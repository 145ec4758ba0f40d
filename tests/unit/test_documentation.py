"""The pages: what they link to exists, and what their Python imports does, too."""

from __future__ import annotations

import ast
import re

import pytest

from tests.pages import PAGES, ROOT, Block, code_blocks

PYTHON = [block for page in PAGES for block in code_blocks(page) if block.language == "python"]


def anchors_of(text: str) -> set[str]:
    """Return the names by which the sections of a page are linked to."""
    headings = re.findall(r"^#+ (.*)$", re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    text = (ROOT / page).read_text("utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"\w+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (ROOT / page).parent / path if path else ROOT / page
        assert file.exists(), target
        assert not anchor or anchor in anchors_of(file.read_text("utf-8")), target


@pytest.mark.parametrize("block", PYTHON, ids=lambda block: f"{block.page}-{block.text[:30]!r}")
def test_what_examples_import_exists(block: Block) -> None:
    tree = ast.parse(block.text)
    tree.body = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    exec(compile(tree, block.page, "exec"), {})
