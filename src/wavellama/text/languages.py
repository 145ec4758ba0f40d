"""The languages that the models know: the packaged table, and lookups that understand people.

A model knows a language by a code such as ``eng_Latn``: an ISO 639-3 code and a script. Other
ways to say it (``eng``, ``en``, ``en-GB``) are understood where they mean one row of the table;
names (``english``) are not codes, but the error for one suggests the code.
"""

from __future__ import annotations

import csv
import re
import unicodedata
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property, lru_cache
from importlib.resources import files

from wavellama.errors import UnknownLanguageError


@dataclass(frozen=True, kw_only=True)
class Language:
    """A row of the packaged table."""

    table_index: int
    """The published index; the language's row of ``lang_embeddings`` is the next one."""

    code: str
    """Such as ``deu_Latn``; a few have a variety, too (``roh_Latn_surs1244``)."""

    supported: bool
    """Whether it is published as supported."""

    name: str
    """The reference name of ISO 639-3, in English."""

    script: str
    """The ISO 15924 code of the script."""

    script_name: str
    """The name of the script, in English."""

    two_letter: str
    """The ISO 639-1 code, or an empty string."""

    macrolanguage_codes: tuple[str, ...]
    """Codes of the macrolanguage that it belongs to: ``est`` and ``et`` for Standard Estonian."""

    @property
    def label(self) -> str:
        """The code and the name."""
        return f"{self.code} ({self.name})"


@lru_cache(maxsize=1)
def languages() -> Mapping[str, Language]:
    """Return the packaged table: code -> language, in the order of the published indices."""
    path = files("wavellama.assets") / "languages.tsv"
    with path.open(encoding="utf-8") as file:
        rows = [_parse(row) for row in csv.DictReader(file, delimiter="\t")]
    return {row.code: row for row in rows}


def _parse(row: Mapping[str, str]) -> Language:
    return Language(
        table_index=int(row["table_index"]),
        code=row["code"],
        supported=row["listed_as_supported"] == "1",
        name=row["name"],
        script=row["script"],
        script_name=row["script_name"],
        two_letter=row["two_letter"],
        macrolanguage_codes=tuple(row["macrolanguage_codes"].split()),
    )


class LanguageTable(Mapping[str, int]):
    """Maps a language code to its row in ``lang_embeddings``.

    Row 0 of the embedding means that no language is given, so a code at index ``i`` of the
    packaged table has row ``i + 1``. All lookups ignore case, and understand what ``resolve``
    does; iteration yields the table's own codes.
    """

    def __init__(self, rows: Mapping[str, int]) -> None:
        self._rows = dict(rows)
        self._by_lower = {code.lower(): code for code in rows}

    def __getitem__(self, code: str) -> int:
        return self._rows[self.resolve(code)]

    def __contains__(self, code: object) -> bool:
        return isinstance(code, str) and self.get(code) is not None

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    def get(self, code: str, default: int | None = None) -> int | None:  # type: ignore[override]
        """Return the row of ``code``, or ``default`` for one that is unknown or ambiguous."""
        found = self._find(code)
        return self._rows[found[0]] if len(found) == 1 else default

    def row(self, code: str | None) -> int:
        """Return the embedding row of ``code``, or 0 for None.

        :raises UnknownLanguageError: the code is unknown or ambiguous; the error names codes.
        """
        return 0 if code is None else self[code]

    def resolve(self, code: str) -> str:
        """Return the table's own code for ``code``.

        Codes of the table win. Else a language's ISO 639-3 or two-letter code, or that of its
        macrolanguage, is understood, with or without a script, a region or a variety after it
        (``deu``, ``de``, ``de-DE``, ``zh_Hans_CN``). A region chooses nothing.

        :raises UnknownLanguageError: nothing, or more than one code, is meant.
        """
        found = self._find(code)
        if len(found) == 1:
            return found[0]
        names = {code: languages()[code].name for code in _known(self._rows)}
        if found:
            raise UnknownLanguageError(code, found, names, ambiguous=True)
        raise UnknownLanguageError(code, nearest_languages(code, self._rows), names)

    def _find(self, code: str) -> list[str]:
        """Return the codes of the table that ``code`` can mean."""
        exact = self._by_lower.get(code.lower())
        if exact is not None:
            return [exact]
        language, *rest = re.split(r"[-_]", code.lower())
        script = [part for part in rest if re.fullmatch(r"[a-z]{4}", part)]
        variety = [part for part in rest if not re.fullmatch(r"[a-z]{4}|[a-z]{2}|\d{3}", part)]
        found = [
            own
            for own in self._by_alias.get(language, [])
            if script in ([], own.lower().split("_")[1:2])
            and variety in ([], own.lower().split("_")[2:])
        ]
        # What has no variety in its code is the language itself.
        return next(([own] for own in found if _begins_all(own, found)), found)

    @cached_property
    def _by_alias(self) -> Mapping[str, list[str]]:
        """Short code -> codes; that of a macrolanguage only where no language has it itself."""
        own: dict[str, list[str]] = {}
        macro: dict[str, list[str]] = {}
        for code in self._rows:
            known = languages().get(code)
            own.setdefault(code.lower().split("_")[0], []).append(code)
            if known is None:
                continue
            if known.two_letter:
                own.setdefault(known.two_letter, []).append(code)
            for alias in known.macrolanguage_codes:
                macro.setdefault(alias, []).append(code)
        return {**macro, **own}


def nearest_languages(text: str, codes: Collection[str], count: int = 3) -> list[str]:
    """Return codes by their names: those of that name, else those with it in their names.

    If there are none, return the codes that look, or whose names look, like ``text``, best first.
    """
    wanted = fold(text)
    own = {code: re.sub(r" \(.*\)", "", fold(languages()[code].name)) for code in _known(codes)}
    same = [code for code, name in own.items() if name == wanted]
    word = re.compile(rf"\b{re.escape(wanted)}\b")
    part = [code for code, name in own.items() if len(wanted) > 2 and word.search(name)]
    keys: dict[str, list[str]] = {fold(code): [code] for code in codes}
    for code, name in own.items():
        keys.setdefault(name, []).append(code)
    close = [code for key in get_close_matches(wanted, keys, count, 0.6) for code in keys[key]]
    return list(dict.fromkeys(same or part or close))[:count]


def _known(codes: Iterable[str]) -> list[str]:
    return [code for code in codes if code in languages()]


def fold(text: str) -> str:
    """Return ``text`` in lower case and without accents."""
    letters = unicodedata.normalize("NFKD", text.strip().lower())
    return "".join(letter for letter in letters if not unicodedata.combining(letter))


def _begins_all(code: str, codes: Iterable[str]) -> bool:
    return all(other == code or other.startswith(f"{code}_") for other in codes)


@lru_cache(maxsize=1)
def language_table() -> LanguageTable:
    """Return the table of the published models (1,693 codes)."""
    return LanguageTable({code: row.table_index + 1 for code, row in languages().items()})
