"""``live``: what is being said, from a pipe."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Final, TypeAlias

from wavellama.cli.pipeline_options import (
    add_language_options,
    add_model_options,
    add_search_options,
    create_pipeline,
    read_examples,
    to_options,
)

if TYPE_CHECKING:
    from wavellama.pipeline.live import LiveUpdate

    Subparsers: TypeAlias = argparse._SubParsersAction[argparse.ArgumentParser]

PIECE_SECS: Final = 0.1
"""How much audio is waited for before it is passed on."""


def add_live_parser(subparsers: Subparsers) -> None:
    """Add the command ``live``."""
    parser = subparsers.add_parser(
        "live", help="write down what is being said, from standard input"
    )
    add_model_options(parser)
    add_language_options(parser)
    add_search_options(parser)
    group = parser.add_argument_group("live")
    group.add_argument(
        "--raw-rate",
        type=int,
        default=16_000,
        metavar="HZ",
        help="the rate of standard input, raw 16-bit mono audio (%(default)s)",
    )
    group.add_argument(
        "--update-seconds", dest="update_secs", type=float, metavar="S", help="between guesses (1)"
    )
    group.add_argument(
        "--endpoint-seconds",
        dest="endpoint_secs",
        type=float,
        metavar="S",
        help="the silence that ends an utterance (0.6)",
    )
    parser.set_defaults(run=run_live, normalization="causal")


def run_live(args: argparse.Namespace) -> int:
    """Print each utterance when it has ended; in a terminal also what it seems to be before."""
    from wavellama.audio.sources import RawPcm
    from wavellama.audio.stream import stream_audio

    options = to_options(args)
    pipeline = create_pipeline(args)
    session = pipeline.live(options, examples=read_examples(args.examples))
    audio = stream_audio(RawPcm(sys.stdin.buffer, args.raw_rate), PIECE_SECS)
    try:
        for samples in audio:
            for update in session.feed(samples):
                _show(update)
    except KeyboardInterrupt:  # the usual way to end it: what was said last is not lost
        pass
    _show(session.finish())
    return 0


def _show(update: LiveUpdate) -> None:
    """Print what is stable as lines, and what is tentative in the place of the next line."""
    is_terminal = sys.stdout.isatty()
    clear = "\r\x1b[K" if is_terminal else ""
    for segment in update.segments:
        print(f"{clear}{segment.text.strip()}", flush=True)
    if is_terminal:
        print(f"{clear}{update.tentative.strip()}", end="", flush=True)
