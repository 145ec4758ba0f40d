"""How far a transcription is, on standard error."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from time import perf_counter
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

if TYPE_CHECKING:
    from wavellama.audio.load import AudioInput


class SpeedColumn(ProgressColumn):
    """How much faster than the audio lasts: 2.0x is two seconds of audio per second."""

    def render(self, task: Task) -> Text:
        """Return the speed since the beginning."""
        elapsed = task.elapsed or 0.0
        return Text(f"{task.completed / elapsed:.1f}x" if elapsed and task.completed else "-")


@contextmanager
def audio_progress(audio: Sequence[AudioInput]) -> Iterator[Callable[[float], None]]:
    """Show a bar of the audio that is done, with its speed, while in a terminal.

    :returns: what is to be told the seconds of audio that have been recognised.
    """
    from wavellama.audio.stream import probe_duration

    console = Console(stderr=True)
    # Opening each of many files takes a while, for which nobody should wait who sees no bar.
    durations = [probe_duration(source) for source in audio] if console.is_terminal else []
    known = [secs for secs in durations if secs is not None]
    columns = (
        *(SpinnerColumn(), TextColumn("transcribing"), BarColumn(), SpeedColumn()),
        *(TextColumn("{task.completed:.0f} of {task.total:.0f} s"), TimeRemainingColumn()),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=sum(known))
        begin, done = perf_counter(), 0.0

        def advance(secs: float) -> None:
            nonlocal done
            done += secs
            progress.update(task, advance=secs)

        yield advance
    if done:
        elapsed = perf_counter() - begin
        console.print(
            f"{done:.0f} s of audio in {elapsed:.0f} s: {done / elapsed:.1f} times real time.",
            highlight=False,
        )
