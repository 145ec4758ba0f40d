"""The table of examples that a zero-shot model reads first."""

from __future__ import annotations

import os
from pathlib import Path

from wavellama.errors import DataError
from wavellama.files import read_lines
from wavellama.pipeline.inputs import ContextExample


def read_examples_tsv(path: Path) -> list[ContextExample]:
    """Return the examples of a table: an audio file, a tab and its text in each line.

    Audio files are looked for beside the table. A first line ``audio<TAB>text`` is a heading;
    empty lines mean nothing.

    :raises DataError: the table cannot be read, is empty, or a line is something else.
    """
    examples: list[ContextExample] = []
    for number, row in _read_rows(path):
        if len(row) != 2 or not all(row):
            raise DataError(f"{path}:{number}: needs an audio file, a tab, and its text.")
        examples.append(ContextExample(path.parent / os.path.expanduser(row[0]), row[1]))
    if not examples:
        raise DataError(f"{path} holds no example: each line is an audio file, a tab, its text.")
    return examples


def _read_rows(path: Path) -> list[tuple[int, list[str]]]:
    """Return the cells of all lines but the heading, with the numbers of the lines."""
    try:
        lines = read_lines(path)
    except (OSError, UnicodeDecodeError) as ex:
        raise DataError(f"{path} cannot be read ({ex}).") from ex
    cells = [[cell.strip() for cell in line.split("\t")] for line in lines]
    rows = [(number, row) for number, row in enumerate(cells, 1) if any(row)]
    has_heading = bool(rows) and [cell.lower() for cell in rows[0][1]] == ["audio", "text"]
    return rows[1:] if has_heading else rows
