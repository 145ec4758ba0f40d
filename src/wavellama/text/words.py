"""What a word is, in scripts with and without spaces between words."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

import regex

UNSPACED_SCRIPTS: Final = ("Hans", "Hant", "Jpan", "Thai", "Laoo", "Khmr", "Mymr", "Tibt")
"""Scripts that are written without spaces between words, as language codes name them."""

_OPENING: Final = r"[\p{Ps}\p{Pi}]"
_LETTER: Final = (
    r"(?!\p{P})[\p{scx=Hani}\p{scx=Hira}\p{scx=Kana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]"
)
_SYLLABLE: Final = r"(?:(?!\p{P})\p{Tibetan})+"

_UNIT: Final = regex.compile(
    rf"\p{{P}}*(?:(?={_LETTER})\p{{LOE}}*\X\p{{M}}*"  # LOE: Thai and Lao vowels written first
    rf"|{_SYLLABLE}"
    rf"|(?:(?!{_OPENING}*(?:{_LETTER}|{_SYLLABLE}))\X)+)"
    rf"(?:(?!{_OPENING})\p{{P}})*"
    r"|\p{P}+"
)
"""A character with its marks, a Tibetan syllable, or a stretch of other scripts; each with the
punctuation around it."""


class TextWord(NamedTuple):
    """A word as it stands in a text."""

    text: str
    spaced: bool
    """Whether white space stands between it and the word before it."""


_SPACE: Final = regex.compile(r"[\s\x1c-\x1f\u200b]+")
"""White space; the zero width space counts, which separates words in Khmer, Thai and Burmese."""

_UNSPACED: Final = regex.compile(rf"{_LETTER}|(?!\p{{P}})\p{{Tibetan}}")


def split_at_space(text: str) -> list[str]:
    """Return the stretches of ``text`` between white space, which may be of no width."""
    return [stretch for stretch in _SPACE.split(text) if stretch]


def join_texts(texts: Iterable[str]) -> str:
    """Return texts that follow each other as one, with spaces where their scripts have them."""
    joined = ""
    for text in texts:
        joined += f" {text}" if needs_space(joined, text) else text
    return joined


def needs_space(before: str, after: str) -> bool:
    """Return whether a space stands between two texts that follow each other.

    There is none between two letters of scripts without spaces, whatever punctuation lies between.
    """
    last = regex.search(r"\p{L}\p{M}*[^\p{L}]*$", before)
    first = regex.search(r"\p{L}", after)
    if not before or not after or last is None or first is None:
        return bool(before and after)
    return not (_UNSPACED.match(last[0][:1]) and _UNSPACED.match(first[0]))


def split_words(text: str, lang: str | None = None) -> list[TextWord]:
    """Return the words of ``text``, punctuation included.

    This is what a word is everywhere: in error rates, confidence, times, joins. Words end at white
    space. In scripts without spaces between words each character, with its
    marks, is one (in Tibetan each syllable); which words are meant would take a dictionary.

    :param lang: the language code. If it names a script with spaces, white space alone separates
        words, even around foreign characters; if it names none, every character goes by its own.
    """
    script = _script(lang)
    by_character = script is None or script in UNSPACED_SCRIPTS
    words: list[TextWord] = []
    for chunk in split_at_space(text):
        units = _UNIT.findall(chunk) if by_character else [chunk]
        words += [TextWord(unit, i == 0 and bool(words)) for i, unit in enumerate(units)]
    return words


def _script(lang: str | None) -> str | None:
    """Return the script that a language code names, such as ``zh-Hans-CN``; None if none."""
    parts = regex.split("[-_]", lang or "")[1:]
    scripts = (part.capitalize() for part in parts if regex.fullmatch("[A-Za-z]{4}", part))
    return next(scripts, None)
