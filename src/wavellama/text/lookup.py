"""Which of a model's languages people mean: by codes, old and new, tags and names."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from typing import Final

from wavellama.errors import FEW
from wavellama.text.languages import Language, languages
from wavellama.text.tags import (
    Tag,
    find_by_name,
    fold_separators,
    is_registered_variety,
    language_name,
    macrolanguage,
    parse_tag,
    represented,
    speakers,
)

LONGEST_NAME: Final = 80
"""How much of a text is compared with names."""


class Lookup:
    """Finds those of some codes that a text means."""

    def __init__(self, codes: Iterable[str]) -> None:
        self._by_folded = {fold_separators(code): code for code in codes}
        self._tags: dict[str, Tag] = {}
        self._groups: dict[tuple[str, str], list[str]] = {}
        for code in codes:
            tag = parse_tag(code)
            if tag is not None:
                self._tags[code] = tag
                self._add(code, tag)
        for group in self._groups.values():
            group.sort(key=self._speakers, reverse=True)

    def _add(self, code: str, tag: Tag) -> None:
        """Put a code into the groups of its language, of what it means, of its macrolanguage."""
        for key in (
            ("language", tag.language),
            ("meaning", tag.meant),
            ("macrolanguage", macrolanguage(tag.language) or ""),
        ):
            self._groups.setdefault(key, []).append(code)

    def _speakers(self, code: str) -> tuple[int, int]:
        tag = self._tags[code]
        return speakers(tag.meant, tag.script)

    def find(self, text: str) -> list[str]:
        """Return the codes that a code or a tag can mean, most spoken first."""
        exact = self._by_folded.get(fold_separators(text))
        if exact is not None:
            return [exact]
        tag = parse_tag(text)
        found = (self._narrow(group, tag) for group in self._candidates(tag)) if tag else ()
        return next(filter(None, found), [])

    def nearest(self, text: str) -> list[str]:
        """Return a few codes that a text may mean, best first.

        These are the codes of its language in other scripts, and those of the languages of that
        name; else those with it in their names; else those that look, or whose names look, like
        it.
        """
        text = text[:LONGEST_NAME].strip()
        wanted = _fold_name(text)
        names = {code: _fold_name(self.describe(code).name) for code in self._tags}
        same = [code for code, name in names.items() if name == wanted]
        same.sort(key=self._speakers, reverse=True)
        found = [*self._related(text), *same, *self._named(text)]
        word = re.compile(rf"\b{re.escape(wanted)}\b")
        part = [code for code, name in names.items() if len(wanted) > 2 and word.search(name)]
        near = (
            found or part or _look_like(wanted, dict.fromkeys(self._by_folded.values(), "") | names)
        )
        return list(dict.fromkeys(near))[:FEW]

    def describe(self, code: str) -> Language:
        """Return what is known of a code."""
        known = languages().get(code)
        tag = self._tags.get(code)
        return known or Language(code=code, name=language_name(tag.language) if tag else "")

    def _candidates(self, tag: Tag) -> Iterator[list[str]]:
        """Yield the codes that a tag can mean, script and variety aside, the closest first."""
        for key in (
            ("language", tag.language),
            ("macrolanguage", tag.language),
            ("meaning", tag.meant),
            ("macrolanguage", tag.meant),
            ("language", represented(tag.meant)),
        ):
            yield self._groups.get(key, [])

    def _related(self, text: str) -> list[str]:
        """Return the codes of a tag's language, or else those of its macrolanguage."""
        tag = parse_tag(text) or parse_tag(re.split(r"[-_\s]", text.strip())[0])
        if tag is None:
            return []
        siblings = self._groups.get(("macrolanguage", macrolanguage(tag.meant) or tag.meant), [])
        return next(filter(None, self._candidates(tag)), siblings)

    def _named(self, name: str) -> list[str]:
        """Return the codes of the languages of a name, in whatever language the name is."""
        tag = find_by_name(name) or find_by_name(fold(name)) if name else None
        return [] if tag is None else [code for group in self._candidates(tag) for code in group]

    def _narrow(self, codes: list[str], tag: Tag) -> list[str]:
        """Return those of a language's codes that have the script and the variety of a tag."""
        found = self._in_script(codes, tag)
        own = {code: self._tags[code].varieties for code in found}
        known = frozenset().union(*own.values())
        asked = {name for name in tag.varieties if name in known or not is_registered_variety(name)}
        found = [code for code in found if not asked or own[code] == asked]
        # What has no variety in its code is the language itself.
        return next(([code] for code in found if _begins_all(code, found)), found)

    def _in_script(self, codes: list[str], tag: Tag) -> list[str]:
        """Return the codes in the script of a tag, or in that of its region.

        Where a script chose, the code of a macrolanguage means its predominant language.
        """
        wanted = tag.script or tag.likely_script
        found = [code for code in codes if wanted in (None, self._tags[code].script)]
        if not found:
            return codes if tag.script is None or tag.is_usual_script else []
        return found if len(found) == len(codes) else self._predominant(found, tag)

    def _predominant(self, codes: list[str], tag: Tag) -> list[str]:
        """Return the codes of the language that stands for a tag, or else all."""
        return [c for c in codes if represented(self._tags[c].meant) == tag.meant] or codes


def _look_like(wanted: str, names: Mapping[str, str]) -> list[str]:
    keys: dict[str, list[str]] = {fold(code): [code] for code in names}
    for code, name in names.items():
        keys.setdefault(name, []).append(code)
    return [code for key in get_close_matches(wanted, keys, 3, 0.6) for code in keys[key]]


def _fold_name(name: str) -> str:
    return re.sub(r" \(.*\)", "", fold(name))


def fold(text: str) -> str:
    """Return ``text`` in lower case and without accents."""
    letters = unicodedata.normalize("NFKD", text.strip().lower())
    return "".join(letter for letter in letters if not unicodedata.combining(letter))


def _begins_all(code: str, codes: Iterable[str]) -> bool:
    return all(other == code or other.startswith(f"{code}_") for other in codes)
