"""From pieces of audio to segments: recognition, texts and times of words, with faults kept apart.

This is all of a transcription that needs the model, so that it can be done elsewhere than the rest:
pieces of many inputs by one thread, say. Shapes: T samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from time import perf_counter
from typing import NamedTuple, Protocol, TypeAlias, TypeVar, final

import torch
from torch import Tensor

from wavellama.decoding.streaming import StreamState
from wavellama.pipeline.attempts import Fault, attempt, attempt_all
from wavellama.pipeline.jobs import Clip
from wavellama.pipeline.recogniser import Recogniser, Recognition, StreamRecogniser
from wavellama.pipeline.segments import SegmentBuilder
from wavellama.transcript.types import Segment

Written: TypeAlias = "Segment | Fault"


class StreamRow(NamedTuple):
    """The next segment of a stream."""

    clip: Clip

    state: StreamState
    """What the stream has read so far; it is moved on."""

    audio: Tensor
    """Normalised. *Shape:* (T)."""

    is_last: bool


Row = TypeVar("Row")


class Scribe(Protocol[Row]):
    """Writes down pieces of audio; what it makes of one does not depend on the others."""

    def write(self, rows: list[Row]) -> list[Written]:
        """Return the segment of each piece, or why there is none."""
        ...


@final
class ClipScribe:
    """Writes down clips, each a whole to the model."""

    def __init__(self, recogniser: Recogniser, builder: SegmentBuilder) -> None:
        self._recogniser, self._builder = recogniser, builder

    def write(self, rows: list[Clip]) -> list[Written]:
        """Return the segment of each clip, or why there is none."""
        begin = perf_counter()
        results = attempt_all(self._recogniser.recognise, rows, self._recogniser.dtype)
        rate = (perf_counter() - begin) / sum(clip.num_samples for clip in rows)
        for clip in rows:
            clip.job.add_secs("recognition", clip.num_samples * rate)
        return _build_all(self._builder, rows, results, self._recogniser.dtype)


@final
class StreamScribe:
    """Writes down the segments of streams; their texts follow each other as they are."""

    def __init__(self, recogniser: StreamRecogniser, builder: SegmentBuilder) -> None:
        self._recogniser, self._builder = recogniser, builder

    def write(self, rows: list[StreamRow]) -> list[Written]:
        """Return the segment of each row, or why there is none, and move the streams on."""
        begin = perf_counter()
        results = attempt_all(self._decode, rows, self._recogniser.dtype)
        share = (perf_counter() - begin) / len(rows)
        clips = [row.clip for row in rows]
        for clip in clips:
            clip.job.add_secs("recognition", share)
        written = _build_all(self._builder, clips, results, self._recogniser.dtype)
        for row, segment in zip(rows, written, strict=True):
            if isinstance(segment, Segment) and not segment.tokens:
                row.state.forget_text()
        return written

    def _decode(self, rows: list[StreamRow]) -> list[Recognition]:
        results = self._recogniser.decode(
            [row.state for row in rows], [row.audio for row in rows], [row.is_last for row in rows]
        )
        return list(map(Recognition, results, [row.clip.input.lang for row in rows]))


def _build_all(
    builder: SegmentBuilder,
    clips: Sequence[Clip],
    results: Sequence[Recognition | Fault],
    dtype: torch.dtype,
) -> list[Written]:
    return [
        result
        if isinstance(result, Fault)
        else attempt(partial(builder.build, clip, result), dtype)
        for clip, result in zip(clips, results, strict=True)
    ]
