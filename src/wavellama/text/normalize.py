"""Text normalisation for scoring: what counts as the same words."""

from __future__ import annotations

import unicodedata
from typing import Final

import regex

from wavellama.text.words import split_at_space

APOSTROPHES: Final = "'\u2019\u02bc\u02bb"
"""Signs that belong to a word when a letter stands on both sides; all become ``'``."""


_INVISIBLE: Final = regex.compile(r"(?!\u200b)\p{Default_Ignorable_Code_Point}")
"""Soft hyphens, joiners and the like; the zero width space is none of these: it ends a word."""


def normalize_text(text: str) -> str:
    """Return ``text`` as the normalised error rates compare it.

    Compatibility forms are composed (NFKC) and case is folded; characters that are not shown, such
    as joiners and soft hyphens, are left out; punctuation and symbols (Unicode categories P and S)
    become spaces, apostrophes within a word excepted; combining marks stay with their letters; runs
    of white space become one space.
    """
    text = _INVISIBLE.sub("", unicodedata.normalize("NFKC", text).casefold())
    kept = [_keep(text, i) for i in range(len(text))]
    return unicodedata.normalize("NFKC", " ".join(split_at_space("".join(kept))))


def _keep(text: str, i: int) -> str:
    char = text[i]
    if char in APOSTROPHES:
        inside = 0 < i < len(text) - 1 and text[i - 1].isalpha() and text[i + 1].isalpha()
        return "'" if inside else " "
    return " " if unicodedata.category(char)[0] in "PSZC" else char
