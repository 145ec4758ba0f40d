"""The languages that a model knows.

A model knows a language by a code such as ``eng_Latn``: an ISO 639-3 code and a script. Other
ways to say it (``eng``, ``en``, ``en-GB``, ``zh-TW``) are understood where they mean one code of
the model; names (``english``) are not codes, but the error for one suggests the code.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Final

from wavellama.errors import ConfigError, UnknownLanguageError

if TYPE_CHECKING:
    from wavellama.text.lookup import Lookup

_CODE: Final = re.compile(
    r"[A-Za-z]{2,3}([-_][A-Za-z]{4}([-_][A-Za-z0-9]{4,8})*)?([-_]([A-Za-z]{2}|\d{3}))?"
    r"|x([-_][A-Za-z0-9]{1,8})+"
)
"""A language, perhaps with a script, varieties of it and a region; or a private code."""


@dataclass(frozen=True, kw_only=True)
class Language:
    """A row of the packaged table."""

    code: str
    """Such as ``deu_Latn``; a few have a variety, too (``roh_Latn_surs1244``)."""

    name: str
    """The reference name of ISO 639-3, in English; empty where it is not known."""

    supported: bool = True
    """Whether it is published as supported; so is every language of other models."""

    @property
    def script(self) -> str:
        """The ISO 15924 code of the script; empty where the code names none."""
        return next((part for part in re.split("[-_]", self.code)[1:] if len(part) == 4), "")

    @property
    def label(self) -> str:
        """The code and the name."""
        return f"{self.code} ({self.name})" if self.name else self.code


@lru_cache(maxsize=1)
def languages() -> Mapping[str, Language]:
    """Return the packaged table: code -> language, in the order of the published indices."""
    path = files("wavellama.assets") / "languages.tsv"
    with path.open(encoding="utf-8") as file:
        rows = sorted(csv.DictReader(file, delimiter="\t"), key=lambda row: int(row["table_index"]))
    return {
        row["code"]: Language(
            code=row["code"], name=row["name"], supported=row["listed_as_supported"] == "1"
        )
        for row in rows
    }


def is_code(text: str) -> bool:
    """Return whether a text has the form of a language code; such languages need not exist."""
    return _CODE.fullmatch(text.strip()) is not None


def check_code(text: str | None) -> None:
    """Refuse a language that is not given by a code, whichever models know it."""
    if text is not None and not is_code(text):
        language_table().resolve(text)


def read_codes(path: Path) -> list[str]:
    """Read the codes of a model's languages: one in each line, and after a blank what you like.

    Empty lines, and those that begin with ``#``, do not count.

    :raises ConfigError: the file cannot be read.
    """
    try:
        lines = path.expanduser().read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as ex:
        raise ConfigError(f"The languages of {path} cannot be read ({ex}).") from ex
    return [line.split()[0] for line in lines if line.strip() and not line.startswith("#")]


class LanguageTable(Mapping[str, int]):
    """Maps a language code to its row in ``lang_embeddings``.

    Row 0 of the embedding means that no language is given, so the code at index ``i`` has row
    ``i + 1``. All lookups ignore case, and understand what ``resolve`` does; iteration yields the
    table's own codes.
    """

    def __init__(self, rows: Mapping[str, int]) -> None:
        self._rows = dict(rows)

    @classmethod
    def of(cls, codes: Iterable[str]) -> LanguageTable:
        """Return the table of codes in the order of their rows."""
        return cls({code: row for row, code in enumerate(codes, start=1)})

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

        Codes of the table win. Else a language's code of ISO 639, past or present, is understood,
        or that of its macrolanguage, with or without a script, a region or a variety after it
        (``deu``, ``de``, ``de-DE``, ``ger``, ``zh_Hans_CN``). Where the languages that it can
        mean have several scripts, a region chooses the one that is usual there.

        :raises UnknownLanguageError: nothing, or more than one code, is meant.
        """
        found = self._find(code)
        if len(found) == 1:
            return found[0]
        labels = {
            code: self.lookup.describe(code).label for code in found or self.lookup.nearest(code)
        }
        raise UnknownLanguageError(code, labels, is_ambiguous=bool(found))

    @cached_property
    def lookup(self) -> Lookup:
        """What understands people."""
        from wavellama.text.lookup import Lookup  # tables of all languages: codes need none

        return Lookup(self._rows)

    def _find(self, code: str) -> list[str]:
        return [code] if code in self._rows else self.lookup.find(code)


@lru_cache(maxsize=1)
def language_table() -> LanguageTable:
    """Return the table of the published models."""
    return LanguageTable.of(languages())
