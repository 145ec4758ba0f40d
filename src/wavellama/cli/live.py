"""``live``: what is being said, from a pipe."""

from __future__ import annotations

import argparse
import os
import select
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Final, final

from wavellama.cli.pipeline_options import (
    Subparsers,
    add_language_options,
    add_machine_options,
    add_model_options,
    add_options,
    create_pipeline,
    read_examples,
    to_options,
)
from wavellama.units import SAMPLE_RATE

if TYPE_CHECKING:
    from wavellama.audio.sources import AudioInput
    from wavellama.pipeline.live import LiveUpdate


PIECE_SECS: Final = 0.1
"""How much audio is waited for before it is passed on."""

PIPE_BYTES: Final = 65_536
"""How much Linux holds of what one program tells another: two seconds of audio."""


def add_live_parser(subparsers: Subparsers) -> None:
    """Add the command ``live``."""
    parser = subparsers.add_parser(
        "live", help="write down what is being said, from standard input"
    )
    model = parser.add_argument_group("model")
    add_machine_options(model)
    add_model_options(model)
    add_options(parser.add_argument_group("audio"))
    add_language_options(parser)
    add_options(parser.add_argument_group("search"))
    group = parser.add_argument_group("live")
    group.add_argument(
        "--raw-rate",
        type=int,
        metavar="HZ",
        help="standard input is raw 16-bit mono audio of this rate"
        f" (default: {SAMPLE_RATE}, unless it begins like a file of some format)",
    )
    add_options(group)
    parser.set_defaults(run=run_live)


def run_live(args: argparse.Namespace) -> int:
    """Print each utterance when it has ended; in a terminal also what it seems to be before."""
    from wavellama.audio.stream import stream_audio
    from wavellama.pipeline.options import MAX_UPDATE_SECS

    options = to_options(args)
    if not sys.stdout.isatty():  # nobody would see what may still change
        options = replace(options, update_secs=MAX_UPDATE_SECS)
    pipeline = create_pipeline(args)
    fed = replace(options, audio_track=None, channel="mix")  # as `stream_audio` has chosen
    session = pipeline.live(fed, examples=read_examples(args.examples))
    num_lost = 0
    with noted_interrupt() as interrupt_fd:
        audio = _open(Microphone(interrupt_fd), args.raw_rate)
        for samples in stream_audio(audio, PIECE_SECS, options.selection):
            num_lost += sum(map(_show, session.feed(samples)))
    num_lost += _show(session.finish())
    return min(num_lost, 1)


def _open(microphone: Microphone, raw_rate: int | None) -> AudioInput:
    from wavellama.audio.sniff import raw_or_encoded
    from wavellama.audio.sources import RawPcm

    if raw_rate is None:
        return raw_or_encoded(microphone, SAMPLE_RATE)
    return RawPcm(microphone, raw_rate)


@contextmanager
def noted_interrupt() -> Iterator[int]:
    """Let Ctrl-C, the usual way to end it, lose nothing that was heard; a second one ends at once.

    Yields a file descriptor that can be read once there was a Ctrl-C.
    """
    reader, writer = os.pipe()

    def note(*_: object) -> None:
        signal.signal(signal.SIGINT, before)
        os.write(writer, b"!")

    before = signal.getsignal(signal.SIGINT)
    if before is signal.default_int_handler:  # not ignored, as by nohup
        signal.signal(signal.SIGINT, note)
    try:
        yield reader
    finally:
        signal.signal(signal.SIGINT, before)
        os.close(reader)
        os.close(writer)


@final
class Microphone:
    """Standard input, which ends with Ctrl-C."""

    name = "<stdin>"

    def __init__(self, interrupt_fd: int) -> None:
        self._input_fd, self._interrupt_fd = sys.stdin.fileno(), interrupt_fd
        self._has_heard = False
        self._left = PIPE_BYTES

    def read(self, size: int, /) -> bytes:
        """Wait until something was said, and return it; nothing at the end.

        After a Ctrl-C it is what the pipe held by then: while the last utterance was recognised,
        somebody went on speaking.

        :raises KeyboardInterrupt: there was a Ctrl-C before anything was said.
        """
        ready, _, _ = select.select([self._input_fd, self._interrupt_fd], [], [])
        if self._interrupt_fd in ready:
            size = min(size, self._left) if self._input_fd in ready else 0
            self._left -= size
        if size == 0 and not self._has_heard:
            raise KeyboardInterrupt
        self._has_heard = True
        return os.read(self._input_fd, size)


def _show(update: LiveUpdate) -> int:
    """Print what is stable as lines, and what is tentative in the place of the next line.

    :returns: how much could not be recognised, which is told on standard error.
    """
    is_terminal = sys.stdout.isatty()
    clear = "\r\x1b[K" if is_terminal else ""
    for segment in update.segments:
        print(f"{clear}{segment.text.strip()}", flush=True)
    for failure in update.failures:
        print(clear, end="", flush=True)
        print(f"error: {failure}", file=sys.stderr, flush=True)
    if is_terminal:
        print(f"{clear}{update.tentative.strip()}", end="", flush=True)
    return len(update.failures)
