"""``data align``: find when each word of a data set is spoken."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from wavellama.cli.pipeline_options import Subparsers

if TYPE_CHECKING:
    from wavellama.alignment.aligner import Aligner


def add_align_parser(commands: Subparsers) -> None:
    """Add the sub-command to those of ``data``."""
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
