"""The languages that the models know: a typed view of the packaged table."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from functools import lru_cache
from importlib.resources import files

from wavellama.errors import UnknownLanguageError, nearest


class LanguageTable(Mapping[str, int]):
    """Maps a language code to its row in ``lang_embeddings``; lookups ignore case.

    Row 0 of the embedding means that no language is given, so a code at index ``i`` of the table
    has row ``i + 1``. Codes are an ISO 639-3 code and a script, such as ``eng_Latn``.
    """

    def __init__(self, rows: Mapping[str, int]) -> None:
        self._rows = dict(rows)
        self._by_lower = {code.lower(): row for code, row in rows.items()}

    def __getitem__(self, code: str) -> int:
        try:
            return self._by_lower[code.lower()]
        except KeyError:
            raise UnknownLanguageError(code, nearest(code, self._rows)) from None

    def __contains__(self, code: object) -> bool:
        return isinstance(code, str) and code.lower() in self._by_lower

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    def get(self, code: str, default: int | None = None) -> int | None:  # type: ignore[override]
        """Return the row of ``code``, or ``default`` for an unknown one."""
        return self._by_lower.get(code.lower(), default)

    def row(self, code: str | None) -> int:
        """Return the embedding row of ``code``, or 0 for None.

        :raises UnknownLanguageError: the code is not in the table; the error names near ones.
        """
        return 0 if code is None else self[code]


@lru_cache(maxsize=1)
def language_table() -> LanguageTable:
    """Return the table of the published models (1,693 codes)."""
    path = files("wavellama.assets") / "languages.tsv"
    with path.open(encoding="utf-8") as file:
        rows = csv.DictReader(file, delimiter="\t")
        return LanguageTable({row["code"]: int(row["table_index"]) + 1 for row in rows})
