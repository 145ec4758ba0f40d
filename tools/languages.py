#!/usr/bin/env python3
"""Build assets/languages.tsv: what ISO 639-3 and Unicode say about the published languages.

Index, code and flag are published and stay as they are in the file; all other columns are made
anew. Needs python-iso639 (Apache-2.0; the tables of SIL, the registration authority) and fontTools
(MIT; comes with matplotlib):

    .venv/bin/pip install python-iso639==2026.7.23
    .venv/bin/python tools/languages.py [OUT]
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from fontTools.unicodedata import script_name
from iso639 import Language, LanguageNotFoundError

TABLE: Final = Path(__file__).parents[1] / "assets" / "languages.tsv"

PUBLISHED: Final = ("table_index", "code", "listed_as_supported")
MADE: Final = ("name", "script", "script_name", "two_letter", "macrolanguage_codes")

COMBINED_SCRIPTS: Final = {
    "Hans": "Han (simplified)",
    "Hant": "Han (traditional)",
    "Jpan": "Japanese (Han, Hiragana, Katakana)",
}
"""Scripts of ISO 15924 that Unicode has no name for, because they are kinds or mixtures."""


def main(out: Path = TABLE) -> None:
    """Read the published columns of the table and write it with the others made anew."""
    with TABLE.open(encoding="utf-8", newline="") as file:
        rows = [describe(row) for row in csv.DictReader(file, delimiter="\t")]
    write(rows, out)


def describe(row: Mapping[str, str]) -> dict[str, str]:
    """Return the published columns of a row and what belongs to its code.

    :raises LanguageNotFoundError: ISO 639-3 has no such language.
    :raises KeyError: ISO 15924 has no such script.
    """
    code, script = row["code"].split("_")[:2]
    language = Language.from_part3(code)
    return {
        **{column: row[column] for column in PUBLISHED},
        "name": language.name,
        "script": script,
        "script_name": COMBINED_SCRIPTS.get(script) or script_name(script),
        "two_letter": language.part1 or "",
        "macrolanguage_codes": " ".join(codes_of(language.macrolanguage)),
    }


def codes_of(macrolanguage: str | None) -> list[str]:
    """Return the codes of a macrolanguage, such as est and et."""
    if macrolanguage is None:
        return []
    try:
        two_letter = Language.from_part3(macrolanguage).part1
    except LanguageNotFoundError:  # retired: nobody can mean it any more
        return []
    return [macrolanguage, two_letter] if two_letter else [macrolanguage]


def write(rows: Iterable[Mapping[str, str]], out: Path) -> None:
    """Write the table."""
    with out.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, PUBLISHED + MADE, delimiter="\t", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:2]))
