"""From pieces of audio to segments: recognition, texts and times of words, with faults kept apart.

This is all of a transcription that needs the model, so that it can be done elsewhere than the rest:
pieces of many inputs by one thread, say.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from time import perf_counter
from typing import Any, Protocol, TypeAlias, TypeVar, final, runtime_checkable

from typing_extensions import Self

from wavellama.pipeline.attempts import Fault, attempt, attempt_all
from wavellama.pipeline.jobs import Clip, StreamClip
from wavellama.pipeline.recogniser import LlamaRecogniser, Recogniser, Recognition, RecognitionRun
from wavellama.pipeline.segments import SegmentBuilder
from wavellama.transcript.types import Segment

Written: TypeAlias = "Segment | Fault"

ClipT = TypeVar("ClipT", bound=Clip)


class Scribe(Protocol[ClipT]):
    """Writes down pieces of audio; what it makes of one does not depend on the others."""

    def write(self, clips: list[ClipT]) -> list[Written]:
        """Return the segment of each clip, or why there is none; streams are moved on."""
        ...


class Writing(Protocol[ClipT]):
    """Pieces that are being written down; between two steps others may join, and any leave."""

    @property
    def clips(self) -> list[ClipT]:
        """The pieces that are not done yet."""
        ...

    def step(self) -> list[tuple[ClipT, Written]]:
        """Go on by a step; return those pieces that are done, with their segments."""
        ...

    def join(self, other: Self) -> None:
        """Take over the pieces of another one, of a scribe with the same model and options."""
        ...

    def leave(self, clips: Sequence[ClipT]) -> None:
        """Forget pieces before they are done."""
        ...


@runtime_checkable
class JoinedScribe(Scribe[ClipT], Protocol[ClipT]):
    """A scribe that can write down pieces step by step, so that others may join them."""

    def start(self, clips: list[ClipT]) -> Writing[ClipT] | None:
        """Begin with pieces; None: there is ``write`` alone for them."""
        ...


@final
class ClipScribe:
    """Writes down clips with a recogniser."""

    def __init__(self, recogniser: Recogniser[Any], builder: SegmentBuilder) -> None:
        self._recogniser, self._builder = recogniser, builder

    def write(self, clips: list[Any]) -> list[Written]:
        """Return the segment of each clip, or why there is none; streams are moved on."""
        begin = perf_counter()
        results = attempt_all(self._recogniser.recognise, clips, self._recogniser.dtype)
        _share(perf_counter() - begin, clips)
        return list(map(self._build, clips, results))

    def start(self, clips: list[Any]) -> ClipWriting | None:
        """Begin with clips that others may join; None: there is ``write`` alone for them, since
        the recogniser takes no steps, or one of the clips cannot be recognised.
        """
        recogniser, begin = self._recogniser, perf_counter()
        if not isinstance(recogniser, LlamaRecogniser):
            return None
        run = attempt(partial(recogniser.start, clips), recogniser.dtype)
        _share(perf_counter() - begin, clips)
        return ClipWriting(self, run) if isinstance(run, RecognitionRun) else None

    def step(self, run: RecognitionRun) -> list[tuple[Clip, Written]]:
        """Let clips be recognised by a step; where that fails, write down each as far as it goes.

        :returns: those that are done.
        """
        begin, clips = perf_counter(), run.clips
        found = attempt(run.step, self._recogniser.dtype)
        _share(perf_counter() - begin, clips)
        if isinstance(found, Fault):
            return list(zip(clips, self.write(run.give_up()), strict=True))
        return [(clip, self._build(clip, one)) for clip, one in found]

    def _build(self, clip: Clip, result: Recognition | Fault) -> Written:
        if isinstance(result, Fault):
            return result
        written = attempt(partial(self._builder.build, clip, result), self._recogniser.dtype)
        is_empty = isinstance(written, Segment) and not written.tokens
        if isinstance(clip, StreamClip) and is_empty:
            clip.state.forget_text()
        return written


@final
class ClipWriting:
    """Clips that are being written down (a ``Writing``)."""

    def __init__(self, scribe: ClipScribe, run: RecognitionRun) -> None:
        self._scribe, self._run = scribe, run

    @property
    def clips(self) -> list[Clip]:
        """The clips that are not done yet."""
        return self._run.clips

    def step(self) -> list[tuple[Clip, Written]]:
        """Go on by a step; return those clips that are done, with their segments."""
        return self._scribe.step(self._run)

    def join(self, other: ClipWriting) -> None:
        """Take over the clips of another one, of a scribe with the same model and options."""
        self._run.join(other._run)

    def leave(self, clips: Sequence[Clip]) -> None:
        """Forget clips before they are done."""
        self._run.leave(clips)


def _share(secs: float, clips: Sequence[Clip]) -> None:
    """Count time of recognition, to each clip as much as it is long."""
    rate = secs / sum(clip.num_samples for clip in clips)
    for clip in clips:
        clip.job.add_secs("recognition", clip.num_samples * rate)
