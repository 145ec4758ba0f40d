"""Text normalisation for scoring."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wavellama.text.normalize import normalize_text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Hello, World!", "hello world"),
        ("  two\n words ", "two words"),
        ("l’homme qu'il", "l'homme qu'il"),
        ("'quoted' words'", "quoted words"),
        ("STRASSE Straße", "strasse strasse"),
        ("¿Cómo estás?", "cómo estás"),
        ("Cómo", "cómo"),
        ("ｆｕｌｌ", "full"),
        ("well-known", "well known"),
        ("हिन्दी।", "हिन्दी"),
        ("", ""),
    ],
)
def test_examples(text: str, expected: str) -> None:
    assert normalize_text(text) == expected


@given(st.text())
def test_it_is_idempotent(text: str) -> None:
    once = normalize_text(text)
    assert normalize_text(once) == once
