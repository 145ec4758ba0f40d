"""From pieces of audio to segments: recognition, texts and times of words, with faults kept apart.

This is all of a transcription that needs the model, so that it can be done elsewhere than the rest:
pieces of many inputs by one thread, say.
"""

from __future__ import annotations

from functools import partial
from time import perf_counter
from typing import Any, Protocol, TypeAlias, TypeVar, final

from wavellama.pipeline.attempts import Fault, attempt, attempt_all
from wavellama.pipeline.jobs import Clip, StreamClip
from wavellama.pipeline.recogniser import Recogniser, Recognition
from wavellama.pipeline.segments import SegmentBuilder
from wavellama.transcript.types import Segment

Written: TypeAlias = "Segment | Fault"

ClipT = TypeVar("ClipT", bound=Clip)


class Scribe(Protocol[ClipT]):
    """Writes down pieces of audio; what it makes of one does not depend on the others."""

    def write(self, clips: list[ClipT]) -> list[Written]:
        """Return the segment of each clip, or why there is none; streams are moved on."""
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
        rate = (perf_counter() - begin) / sum(clip.num_samples for clip in clips)
        for clip in clips:
            clip.job.add_secs("recognition", clip.num_samples * rate)
        return list(map(self._build, clips, results))

    def _build(self, clip: Clip, result: Recognition | Fault) -> Written:
        if isinstance(result, Fault):
            return result
        written = attempt(partial(self._builder.build, clip, result), self._recogniser.dtype)
        is_empty = isinstance(written, Segment) and not written.tokens
        if isinstance(clip, StreamClip) and is_empty:
            clip.state.forget_text()
        return written
