"""From a caption to the words that are spoken: the one place that knows the rule."""

from __future__ import annotations

import re
import unicodedata
from typing import Final

from wavellama.corpora.errors import RejectedClipError

SCRIPTS: Final = {"Latn": "LATIN", "Cyrl": "CYRILLIC", "Grek": "GREEK"}
"""How Unicode names the letters of each script that the corpora use."""

MIN_LETTERS: Final = 2
"""A transcript with fewer letters tells nothing."""

_SPELLINGS: Final = str.maketrans(
    {"’": "'", "‘": "'", "ʼ": "'", "´": "'", "`": "'", "‐": "-", "‑": "-"}
    | {"ş": "ș", "ţ": "ț", "ŀ": "l·"}
)
_PAUSES: Final = str.maketrans(dict.fromkeys('.,;:!?…"“”„«»¿¡–—', " "))
_LONE_JOINER: Final = re.compile(r"(?<![^\W\d_])[-·]|[-·](?![^\W\d_])")
_ELIDED: Final = frozenset(
    [
        "'t",
        "'n",
        "'s",
        "'k",
        "'m",
        "'r",
        "'ns",
        "'em",
        "'cause",
        "po'",
        "mo'",
        "da'",
        "di'",
        "fa'",
        "va'",
    ]
)


def clean_transcript(raw: str, lang: str) -> str:
    """Return the words of a caption as training sees them.

    Lower case in composed form (NFC); punctuation becomes a space; hyphens (and the Catalan middle
    dot) stay between letters, apostrophes inside a word and in a few elided words such as ``'t``
    and ``po'``; typographic apostrophes and the Romanian cedilla get their usual spelling.
    Anything whose pronunciation the caption does not spell out rejects it: digits, symbols,
    brackets, letters of another script, and captions of fewer than two letters.

    :raises RejectedClipError: the caption does not spell out what is spoken.
    """
    text = unicodedata.normalize("NFC", raw).lower().translate(_SPELLINGS).translate(_PAUSES)
    text = _LONE_JOINER.sub(" ", text)
    text = " ".join(filter(None, map(_trim_apostrophes, text.split())))
    for character in text:
        _check_character(character, SCRIPTS[lang[-4:]])
    if count_letters(text) < MIN_LETTERS:
        raise RejectedClipError("transcript of fewer than two letters")
    return text


def count_letters(text: str) -> int:
    """Return how many letters ``text`` has."""
    return sum(character.isalpha() for character in text)


def comparison_key(text: str) -> str:
    """Return ``text`` without accents, hyphens and apostrophes: equal for what sounds alike."""
    decomposed = unicodedata.normalize("NFKD", text.replace("-", " "))
    kept = (c for c in decomposed if c.isalpha() or c.isspace())
    return " ".join("".join(kept).split())


def _trim_apostrophes(word: str) -> str:
    return word if word in _ELIDED else word.strip("'")


def _check_character(character: str, script: str) -> None:
    if character in " '-·":
        return
    if character.isdigit():
        raise RejectedClipError("transcript with a digit")
    if not character.isalpha():
        raise RejectedClipError("transcript with a symbol or bracket")
    if not unicodedata.name(character, "").startswith(script):
        raise RejectedClipError("transcript with letters of another script")
