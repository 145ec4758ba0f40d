"""The command ``languages``: the codes that the published models know."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, TypeAlias

from wavellama.errors import suggestion

if TYPE_CHECKING:
    from wavellama.text.languages import Language

Subparsers: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def add_languages_parser(subparsers: Subparsers) -> None:
    """Add the command ``languages``."""
    parser = subparsers.add_parser("languages", help="list the languages that the models know")
    parser.add_argument(
        "pattern",
        nargs="?",
        default="",
        metavar="PATTERN",
        help="part of a code, a name or a script, in any case: deu, german, cyrillic",
    )
    parser.set_defaults(run=list_languages)


def list_languages(args: argparse.Namespace) -> int:
    """Print code, two-letter code, name, script and flag of each language that matches."""
    from wavellama.text.languages import languages, nearest_languages

    found = [row for row in languages().values() if _matches(row, args.pattern)]
    if found:
        _print_rows(found)
        return 0
    near = [languages()[code].label for code in nearest_languages(args.pattern, [*languages()])]
    print(
        f"error: no language has {args.pattern!r} in its code, name or script.{suggestion(near)}",
        file=sys.stderr,
    )
    return 1


def _matches(row: Language, pattern: str) -> bool:
    from wavellama.text.languages import fold

    wanted = fold(pattern)
    fields = (row.code, row.two_letter, row.name, row.script, row.script_name)
    return any(wanted in fold(field) for field in fields)


def _print_rows(rows: Iterable[Language]) -> None:
    cells = [
        (row.code, row.two_letter, row.name, f"{row.script_name} ({row.script})") for row in rows
    ]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for row, texts in zip(rows, cells, strict=True):
        padded = [text.ljust(width) for text, width in zip(texts, widths, strict=True)]
        print(*padded, "supported" if row.supported else "not supported", sep="  ")
