"""Scripts: their codes (ISO 15924), and whether a text is written in one."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Final

import regex

from wavellama.errors import ConfigError, nearest, suggestion
from wavellama.text.languages import languages

_COMPOSITES: Final = {
    "Hans": ("Hani",),
    "Hant": ("Hani",),
    "Jpan": ("Hani", "Hira", "Kana"),
    "Kore": ("Hang", "Hani"),
}
"""Codes that stand for several of Unicode's scripts, or for a way to write one."""

_PARTS: Final = {"Hani": "Han", "Hang": "Hangul", "Hira": "Hiragana", "Kana": "Katakana"}

_SINGLE_CHARACTERS: Final = ("Hani", "Hira", "Kana", "Thai", "Laoo", "Khmr", "Mymr")
"""Scripts in which a character may be a word. (Tibetan marks the ends of its syllables.)"""


@cache
def script_names() -> Mapping[str, str]:
    """Return the scripts of all languages, and those that they are made of: code -> name."""
    from wavellama.text.tags import script_name  # tables of all scripts: most runs need none

    own = {code: script_name(code) for code in sorted({row.script for row in languages().values()})}
    return {**_PARTS, "Kore": "Korean (Hangul, Han)", **own}


def check_script(code: str) -> None:
    """Check that a code, in lower or upper case, is that of a script.

    :raises ConfigError: it is not; the error names codes that look like it, or whose names do.
    """
    names = script_names()
    if code.capitalize() in names:
        return
    codes = {name: script for script, name in names.items()} | {script: script for script in names}
    near = dict.fromkeys(codes[key] for key in nearest(code, codes))
    raise ConfigError(
        f"{code!r} is not a known script.{suggestion([f'{key} ({names[key]})' for key in near])}"
        " Scripts are ISO 15924 codes such as Latn."
    )


def is_written_in(text: str, script: str) -> bool:
    """Return whether all letters and marks of ``text`` belong to a script.

    A letter or mark belongs to each script that Unicode says it is used with (its script
    extensions). All else, digits and punctuation, belongs to every script.

    :param script: a code such as ``Latn``; ``Jpan`` and ``Kore`` are all scripts of Japanese and
        Korean, ``Hans`` and ``Hant`` are Han, whose two ways of writing share most characters.
    :raises ConfigError: the script is not known.
    """
    return _foreign(script).search(text) is None


def is_word_by_itself(char: str) -> bool:
    """Return whether ``char`` is a letter or mark of a script that has no spaces between words."""
    return _single_characters().fullmatch(char) is not None


@cache
def _foreign(script: str) -> regex.Pattern[str]:
    """Return what matches a letter or mark that does not belong to a script."""
    check_script(script)
    code = script.capitalize()
    parts = (*_COMPOSITES.get(code, (code,)), "Zyyy", "Zinh")  # common and inherited
    belonging = "".join(rf"--\p{{scx={part}}}" for part in parts)
    return regex.compile(rf"[\p{{L}}\p{{M}}{belonging}]", regex.V1)


@cache
def _single_characters() -> regex.Pattern[str]:
    scripts = "".join(rf"\p{{scx={script}}}" for script in _SINGLE_CHARACTERS)
    return regex.compile(rf"[[\p{{L}}\p{{M}}]&&[{scripts}]--\p{{scx=Latn}}]", regex.V1)
