"""What language tags mean: ISO 639 and BCP 47, old codes and new ones, by way of langcodes.

Languages are named by their ISO 639-3 codes (``deu``) in here. This module is all of wavellama
that knows langcodes; of its tables it reads two, for which there are no functions.
"""

from __future__ import annotations

import re
from contextlib import suppress
from functools import cache
from typing import Final, NamedTuple

import langcodes
from langcodes.data_dicts import LANGUAGE_ALPHA3, MACROLANGUAGES

_THREE_LETTERS: Final = {short: code for short, code in LANGUAGE_ALPHA3.items() if len(short) == 2}
_WITHDRAWN: Final = ("in", "iw", "ji", "jw")
_TWO_LETTERS: Final = {
    code: short for short, code in _THREE_LETTERS.items() if short not in _WITHDRAWN
}

_SCRIPT_NAMES: Final = {
    "Beng": "Bengali",
    "Orya": "Oriya",
    "Cans": "Canadian Aboriginal",
    "Lisu": "Lisu",
    "Hans": "Han (simplified)",
    "Hant": "Han (traditional)",
    "Jpan": "Japanese (Han, Hiragana, Katakana)",
}
"""Scripts whose names in Unicode's locale data are unlike those of Unicode, or say too little."""


class Tag(NamedTuple):
    """A language tag taken apart."""

    language: str
    """As it stands there, by its ISO 639-3 code: ``zho``, or ``tgl`` for ``tl``."""

    meant: str
    """What stands for it today: ``deu`` for ``ger``, ``yue`` for ``zh-yue``, ``fil`` for ``tl``."""

    script: str | None
    """The ISO 15924 code that stands there."""

    likely_script: str | None
    """The script of the language in the region that stands there."""

    is_usual_script: bool
    """Whether ``script`` goes without saying."""

    varieties: frozenset[str]
    """Varieties, in lower case: ``cypr1249``."""


def parse_tag(text: str) -> Tag | None:
    """Return what a tag says, in any case and with any separators; None if it is not one.

    A codeset, as in ``de_DE.UTF-8``, and extensions say nothing about the language.
    """
    tag = fold_separators(text.split(".")[0])
    try:
        raw, today = langcodes.Language.get(tag, normalize=False), langcodes.Language.get(tag)
    except ValueError:
        return None
    if raw.language is None or today.language is None:
        return None
    if raw.extlangs:  # the macrolanguage goes before its language: zh-yue
        is_within = macrolanguage(raw.extlangs[0]) == _iso3(raw.language)
        return parse_tag(tag.split("-", 1)[1]) if is_within else None
    usual = today.simplify_script()
    return Tag(
        language=_iso3(raw.language),
        meant=_iso3(today.language),
        script=raw.script,
        likely_script=today.maximize().script if today.territory else None,
        is_usual_script=usual.script is None,
        varieties=frozenset(today.variants or ()),
    )


def fold_separators(text: str) -> str:
    """Return a tag in lower case, with hyphens between its parts."""
    return re.sub(r"[\s_‐-―-]+", "-", text.strip().lower())


def is_registered_variety(variety: str) -> bool:
    """Return whether BCP 47 has a variety, such as ``1996`` for German spelling."""
    return langcodes.Language.make(variants=[variety]).is_valid()


def two_letter_code(language: str) -> str:
    """Return the ISO 639-1 code of a language, or an empty string."""
    return _TWO_LETTERS.get(language, "")


def macrolanguage(language: str) -> str | None:
    """Return the macrolanguage that a language belongs to: ``zho`` for ``yue``."""
    found = MACROLANGUAGES.get(two_letter_code(language) or language)
    return None if found is None else _iso3(found)


@cache
def represented(language: str) -> str:
    """Return the macrolanguage whose code is used for a language: ``zho`` for ``cmn``.

    A language that is not the predominant one of a macrolanguage is returned as it is.
    """
    return _iso3(langcodes.Language.get(language).prefer_macrolanguage().language or language)


@cache
def speakers(language: str, script: str | None) -> tuple[int, int]:
    """Return about how many people speak a language, and how many write it in a script."""
    tag = langcodes.Language.get(represented(language))
    written = langcodes.Language.make(language=tag.language, script=script)
    return tag.speaking_population(), written.writing_population()


def spellings(text: str) -> frozenset[str]:
    """Return the codes of a language in ISO 639, of two letters and of three: de, deu, ger."""
    tag = parse_tag(text) or find_by_name(text)
    if tag is None:
        return frozenset()
    language = langcodes.Language.get(tag.meant)
    with suppress(LookupError):
        return frozenset({tag.meant, language.language or "", language.to_alpha3(variant="B")})
    return frozenset({tag.meant})


def language_name(language: str) -> str:
    """Return the English name of a language, or an empty string."""
    name = langcodes.Language.get(language).language_name()
    return "" if name.startswith("Unknown ") else name


def script_name(script: str) -> str:
    """Return the English name of a script."""
    return _SCRIPT_NAMES.get(script) or langcodes.Language.make(script=script).script_name()


def find_by_name(name: str) -> Tag | None:
    """Return the language of a name in any language, such as ``Farsi`` or ``Deutsch``."""
    try:
        return parse_tag(langcodes.find(name).to_tag())
    except (LookupError, UnicodeDecodeError):  # the latter of names with a NUL
        return None


def _iso3(language: str) -> str:
    return _THREE_LETTERS.get(language, language)
