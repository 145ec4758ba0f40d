"""Paths with tabs or ends of lines do not break the tables that name them."""

from __future__ import annotations

import pytest

from wavellama.transcript.writers import table_row


@pytest.mark.parametrize(
    ("path", "text", "row"),
    [
        ("a.wav", "one two", "a.wav\tone two\n"),
        ("a\tb\n.wav", "one", "a\\tb\\n.wav\tone\n"),
        ("a\u2028b", "one\u2028two  three", "a\\u2028b\tone two  three\n"),
        ("a b", "one\ttwo", "a b\tone two\n"),
    ],
)
def test_a_row_is_one_line_of_two_cells(path: str, text: str, row: str) -> None:
    assert table_row(path, text) == row
    assert len(row.splitlines()) == 1
    assert row.count("\t") == 1
