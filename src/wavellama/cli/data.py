"""The command ``data``: fetch, merge and check data sets, make a tokenizer, find word times."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from wavellama.cli.pipeline_options import Subparsers
from wavellama.corpora.command import add_corpora_parsers
from wavellama.units import SAMPLE_RATE

if TYPE_CHECKING:
    from wavellama.alignment.aligner import Aligner
    from wavellama.data.check import CheckResult, LanguageStats
    from wavellama.data.manifest import BrokenRow
    from wavellama.data.utterance import Utterance


def add_data_parser(subparsers: Subparsers) -> None:
    """Add the command with its sub-commands."""
    parser = subparsers.add_parser("data", help="fetch, check and tokenize speech data")
    commands = parser.add_subparsers(dest="data_command", required=True, metavar="COMMAND")
    add_corpora_parsers(commands)
    _add_check(commands)
    _add_pack(commands)
    _add_tokenizer(commands)
    _add_align(commands)


def _add_check(commands: Subparsers) -> None:
    check = commands.add_parser("check", help="statistics, a picture, and every broken row")
    check.add_argument("dir", type=Path, metavar="DIR", help="data set: folder or manifest")
    check.add_argument(
        "--plot", type=Path, metavar="PNG", help="the picture (default: DIR/check.png)"
    )
    check.add_argument(
        "--model", metavar="CARD|DIR", help="check that this model knows the languages, too"
    )
    check.add_argument(
        "--tokenizer", metavar="CARD", help="also count the characters that it cannot write"
    )
    check.set_defaults(run=_run_check)


def _add_pack(commands: Subparsers) -> None:
    pack = commands.add_parser("pack", help="parquet files of a data set, with the audio in them")
    pack.add_argument("dir", type=Path, metavar="DIR", help="data set: folder or manifest")
    pack.add_argument("--out", type=Path, required=True, metavar="DIR", help="a new folder")
    pack.add_argument("--corpus", metavar="NAME", help="of rows without one (default: of --out)")
    pack.set_defaults(run=_run_pack)


def _add_tokenizer(commands: Subparsers) -> None:
    tokenizer = commands.add_parser("tokenizer", help="a tokenizer of the texts' characters")
    tokenizer.add_argument("dir", type=Path, metavar="DIR", help="data set: folder or manifest")
    tokenizer.add_argument("--out", type=Path, required=True, metavar="DIR")
    tokenizer.add_argument("--name", default="char_tokenizer", help="its name (%(default)s)")
    tokenizer.set_defaults(run=_run_tokenizer)


def _add_align(commands: Subparsers) -> None:
    align = commands.add_parser("align", help="add word times to a manifest, with a CTC model")
    align.add_argument("dir", type=Path, metavar="DIR", help="data set: folder or manifest")
    align.add_argument(
        "--model",
        required=True,
        metavar="CARD|RUN_DIR",
        help="a CTC model, or a model with a CTC head: its card or its training run",
    )
    align.add_argument(
        "--tokenizer", metavar="CARD", help="its tokenizer (default: the one its card or run names)"
    )
    align.add_argument(
        "--out", type=Path, required=True, metavar="MANIFEST", help="what to write: .jsonl or .tsv"
    )
    align.set_defaults(run=_run_align)


def _run_check(args: argparse.Namespace) -> int:
    from fairseq2.data.tokenizers import load_tokenizer

    from wavellama.data.check import check_dataset, find_repeats, language_statistics
    from wavellama.data.coverage import measure_coverage

    tokenizer = load_tokenizer(args.tokenizer) if args.tokenizer else None
    result = check_dataset(args.dir)
    if result.utterances:
        _print_table(language_statistics(result.utterances))
    status = _print_broken(result) | _print_unknown(result.utterances, args.model)
    for line in find_repeats(result.utterances):
        print(line)
    if tokenizer is not None:
        texts = [utterance.text for utterance in result.utterances]
        print(f"{args.tokenizer}: {measure_coverage(texts, tokenizer)}")
    return status | _draw(result.utterances, args)


def _print_unknown(utterances: Sequence[Utterance], model: str | None) -> int:
    """Name the languages that a model, which is an error, or else the published ones do not know.

    :returns: the exit code.
    """
    from wavellama.text.languages import language_table

    table, whose = language_table(), "the published models"
    if model is not None:
        from wavellama.checkpoints.hub import find_model

        table, whose = find_model(model).languages, model
    given = {utterance.lang for utterance in utterances if utterance.lang is not None}
    unknown = sorted(code for code in given if table and code not in table)
    if unknown:
        print(f"Not among the languages of {whose}: {', '.join(unknown)}.", file=sys.stderr)
    return int(bool(unknown) and model is not None)


def _draw(utterances: Sequence[Utterance], args: argparse.Namespace) -> int:
    """Draw the picture, if there is anything to see; return the exit code."""
    from wavellama.data.plot import plot_dataset

    folder: Path = args.dir if args.dir.is_dir() else args.dir.parent
    picture: Path = args.plot or folder / "check.png"
    if not utterances:
        return 0
    try:
        plot_dataset(utterances, picture)
    except OSError as ex:
        print(f"warning: no picture: {ex}; say where to put it: --plot PNG", file=sys.stderr)
        return 1 if args.plot else 0
    print(f"Picture: {picture}")
    return 0


def _run_pack(args: argparse.Namespace) -> int:
    from wavellama.data.parquet.files import need_pyarrow

    need_pyarrow()
    from wavellama.data.parquet.pack import pack

    packed = pack(args.dir, args.out, args.corpus or args.out.name)
    hours = sum(packed.num_samples.values()) / SAMPLE_RATE / 3600
    print(f"{args.out}: {packed.num_rows} utterances, {hours:.2f} hours.")
    return _print_rows(packed.broken)


def _run_tokenizer(args: argparse.Namespace) -> int:
    from wavellama.data.check import read_rows
    from wavellama.data.tokenizer import train_tokenizer

    broken: list[BrokenRow] = []
    texts = [utterance.text for _, _, utterance in read_rows(args.dir, broken)]
    size = train_tokenizer(texts, args.out, args.name)
    print(f"{args.out / args.name}.model: {size} tokens; its card is {args.name}.yaml.")
    if broken:
        print(f"{len(broken)} broken rows were left out; see `data check`.", file=sys.stderr)
    return 0


def _run_align(args: argparse.Namespace) -> int:
    from wavellama.alignment.dataset import align_dataset, check_out
    from wavellama.data.manifest import write_manifest
    from wavellama.data.progress import track

    check_out(args.dir, args.out)
    aligner = _create_aligner(args.model, args.tokenizer)
    aligned = align_dataset(aligner, args.dir, lambda rows: track(rows, "aligning", len(rows)))
    write_manifest(args.out, aligned.utterances)
    for row in aligned.broken:
        print(f"{row.path}:{row.line}: {row.reason}", file=sys.stderr)
    total = len(aligned.utterances) + len(aligned.broken)
    print(f"{args.out}: {len(aligned.utterances)} of {total} rows, with the times of their words.")
    return 1 if aligned.broken else 0


def _create_aligner(model: str, tokenizer: str | None) -> Aligner:
    from fairseq2.data.tokenizers import load_tokenizer

    from wavellama.alignment.aligner import Aligner
    from wavellama.checkpoints.hub import check_recognises, find_model
    from wavellama.pipeline.devices import default_device

    source = find_model(model)
    check_recognises(source.family.kls)
    return Aligner(
        source.load(device=default_device()),
        load_tokenizer(tokenizer) if tokenizer else source.load_tokenizer(),
    )


def _print_table(stats: Sequence[LanguageStats]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("language", "splits")
    for heading in ("utterances", "minutes", "mean s", "longest s", "characters", "speakers"):
        table.add_column(heading, justify="right")
    for row in stats:
        table.add_row(
            row.lang,
            " ".join(f"{name}:{count}" for name, count in sorted(row.splits.items())),
            f"{row.utterances:,}",
            f"{row.seconds / 60:.1f}",
            f"{row.mean:.2f}",
            f"{row.longest:.2f}",
            f"{row.characters:,}",
            str(len(row.speakers)),
        )
    Console(width=None if sys.stdout.isatty() else 120).print(table)


def _print_broken(result: CheckResult) -> int:
    """Report the broken rows; return the exit code."""
    code = _print_rows(result.broken)
    total = len(result.utterances) + len(result.broken)
    print(f"{len(result.utterances)} of {total} rows are good, {len(result.broken)} are broken.")
    return code


def _print_rows(broken: Sequence[BrokenRow]) -> int:
    for row in broken:
        print(f"{row.path}:{row.line}: {row.reason}")
    return int(bool(broken))
