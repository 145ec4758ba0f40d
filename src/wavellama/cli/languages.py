"""The command ``languages``: the codes that the published models, or one model, know."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from wavellama.cli.pipeline_options import Subparsers
from wavellama.errors import ConfigError, suggestion

if TYPE_CHECKING:
    from wavellama.text.languages import Language, LanguageTable


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
    parser.add_argument(
        "--model", metavar="CARD|DIR", help="those of one model (default: of the published ones)"
    )
    parser.set_defaults(run=list_languages)


def list_languages(args: argparse.Namespace) -> int:
    """Print code, two-letter code, name, script and flag of each language that matches.

    What the pattern means as a code or a tag, such as ``no`` or ``en-GB``, comes first.
    """
    from wavellama.text.lookup import fold

    table, wanted = _table(args.model), fold(args.pattern)
    meant = [_cells(table.lookup.describe(code)) for code in table.lookup.find(args.pattern)]
    rows = [_cells(table.lookup.describe(code)) for code in table]
    matching = [cells for cells in rows if any(wanted in fold(cell) for cell in cells[:-1])]
    found = [*meant, *(cells for cells in matching if cells not in meant)]
    if found:
        _print_rows(found)
        return 0
    near = [table.lookup.describe(code).label for code in table.lookup.nearest(args.pattern)]
    print(
        f"error: no language has {args.pattern!r} in its code, name or script.{suggestion(near)}",
        file=sys.stderr,
    )
    return 1


def _table(model: str | None) -> LanguageTable:
    if model is None:
        from wavellama.text.languages import language_table

        return language_table()
    from wavellama.checkpoints.hub import find_model

    table = find_model(model).languages
    if not table:
        raise ConfigError(f"The model {model} takes no language.")
    return table


def _cells(row: Language) -> Sequence[str]:
    from wavellama.text.tags import script_name, two_letter_code

    script = f"{script_name(row.script)} ({row.script})" if row.script else ""
    flag = "supported" if row.supported else "not supported"
    return row.code, two_letter_code(row.code.split("_")[0]), row.name, script, flag


def _print_rows(rows: Sequence[Sequence[str]]) -> None:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for *cells, flag in rows:
        padded = [text.ljust(width) for text, width in zip(cells, widths, strict=False)]
        print(*padded, flag, sep="  ")
