"""The commands ``data fetch`` and ``data merge``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

if TYPE_CHECKING:
    from wavellama.corpora.corpus import Corpus

    Subparsers: TypeAlias = argparse._SubParsersAction[argparse.ArgumentParser]

CORPORA: Final = {
    "amazon-queen": "English dialogue of a game, by many roles: 35 MB to download",
    "debian-speech": "people speaking 13 languages: 377 MB to download",
    "spoken-texts": "texts in 13 languages, spoken by the synthesisers that are installed",
}
"""What ``data fetch`` makes."""


def add_corpora_parsers(commands: Subparsers) -> None:
    """Add the two commands."""
    fetch = commands.add_parser(
        "fetch", help="make a speech corpus from packages, without installing them"
    )
    names = fetch.add_subparsers(dest="corpus", required=True, metavar="CORPUS")
    for name, what in CORPORA.items():
        _add_corpus(names, name, what)
    spoken = names.choices["spoken-texts"]
    spoken.add_argument(
        "--utterances", type=_count, default=200, metavar="N", help="of each voice (%(default)s)"
    )
    spoken.add_argument(
        "--seed", type=int, default=0, help="which texts, voices and speeds (%(default)s)"
    )
    merge = commands.add_parser("merge", help="one manifest of several data sets")
    merge.add_argument("dirs", type=Path, nargs="+", metavar="DIR", help="folder or manifest")
    merge.add_argument(
        "--out", type=Path, required=True, metavar="FILE", help="the manifest: .tsv or .jsonl"
    )
    merge.set_defaults(run=_run_merge)


def _add_corpus(names: Subparsers, name: str, what: str) -> None:
    corpus = names.add_parser(name, help=what, description=f"{name}: {what}.")
    corpus.add_argument("--out", type=Path, required=True, metavar="DIR", help="its folder")
    corpus.add_argument(
        "--packages", type=Path, metavar="DIR", help="use the packages there, download nothing"
    )
    corpus.add_argument("--keep-work", action="store_true", help="keep packages and raw audio")
    corpus.set_defaults(run=_run_fetch)


def _count(text: str) -> int:
    """Parse a number of at least 1."""
    if (count := int(text)) < 1:
        raise ValueError(text)
    return count


def _run_fetch(args: argparse.Namespace) -> int:
    from wavellama.corpora.corpus import fetch_corpus

    made = fetch_corpus(_corpus(args), args.out, args.packages, keep_work=args.keep_work)
    print(f"{args.out}: {'complete' if made else 'was complete; all checksums are right'}.")
    print(f"Its licences stand in {args.out / 'LICENSES.txt'}, its sizes in stats.json.")
    return 0


def _corpus(args: argparse.Namespace) -> Corpus:
    """Return the corpus that the command names."""
    from wavellama.corpora import amazon_queen, debian_speech
    from wavellama.corpora.spoken_texts import spoken_texts

    if args.corpus == "spoken-texts":
        return spoken_texts(args.utterances, args.seed)
    corpora = {"amazon-queen": amazon_queen.CORPUS, "debian-speech": debian_speech.CORPUS}
    return corpora[args.corpus]


def _run_merge(args: argparse.Namespace) -> int:
    from wavellama.corpora.merge import merge_datasets

    merged = merge_datasets(args.dirs, args.out)
    print(f"{args.out}: {merged.utterances:,} utterances.")
    if merged.left_out:
        print(f"Left out of train: {merged.left_out:,} whose words another data set tests.")
    return 0
