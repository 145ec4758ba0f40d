"""Recognition by streaming models, which read audio of any length segment by segment.

Shapes: T samples.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from time import perf_counter
from typing import NamedTuple, final

import torch
from torch import Tensor

from wavellama.audio.causal import CausalNormalizer, Normalizer, clip_normalizer
from wavellama.audio.chunks import Chunk
from wavellama.audio.stream import can_be_read_again, stream_audio
from wavellama.decoding.streaming import StreamState
from wavellama.errors import AudioError
from wavellama.pipeline.attempts import Fault, attempt, attempt_all
from wavellama.pipeline.inputs import Input
from wavellama.pipeline.jobs import Clip, Job, read_blocks
from wavellama.pipeline.recogniser import Recognition, StreamRecogniser
from wavellama.pipeline.segments import SegmentBuilder
from wavellama.prompt.segments import SegmentCutter
from wavellama.transcript.types import Segment
from wavellama.units import samples_to_seconds


class StreamSegment(NamedTuple):
    """A segment of audio, not normalised."""

    samples: Tensor
    """*Shape:* (T)."""

    is_last: bool


def read_segments(blocks: Iterable[Tensor], cutter: SegmentCutter) -> Iterator[StreamSegment]:
    """Cut audio into segments while it is being read; which one is the last shows in time."""
    waiting = torch.zeros(0)
    for block in blocks:
        waiting = torch.cat([waiting, block])
        while cutter.is_complete(len(waiting)):
            yield StreamSegment(waiting[: cutter.segment_len], is_last=False)
            waiting = waiting[cutter.segment_len :]
    yield StreamSegment(waiting[: cutter.last_len(len(waiting))], is_last=True)


@dataclass
class _Stream:
    """An input that is being read."""

    job: Job
    state: StreamState
    segments: Iterator[StreamSegment]
    begin: int = 0
    tokens: tuple[int, ...] = ()

    def next_row(self) -> _Row | None:
        """Return the next segment as it is decoded; None if there is none."""
        segment = self.next_segment()
        if segment is None:
            return None
        return _Row(self, segment, self.state.normalize(segment.samples))

    def next_segment(self) -> StreamSegment | None:
        """Return the next segment; None if the audio turns out to be bad."""
        try:
            with self.job.timed("audio"):
                return next(self.segments)
        except AudioError as ex:
            self.job.error = ex
            return None


class _Row(NamedTuple):
    """A segment that is to be decoded."""

    stream: _Stream
    segment: StreamSegment

    audio: Tensor
    """Normalised. *Shape:* (T)."""


def _normalizer_of_all(input_: Input) -> Normalizer:
    """Return the normaliser of the whole audio of an input.

    :raises AudioError: it cannot be read, or not twice.
    """
    if not can_be_read_again(input_.audio):
        raise AudioError(
            input_.name,
            "it can be read once only, but to normalise it as a whole it must be read twice; choose"
            " causal normalisation.",
        )
    return clip_normalizer(stream_audio(input_.audio, selection=input_.selection))


@final
class StreamedRun:
    """Turns inputs into segments; several inputs are read side by side."""

    def __init__(
        self,
        recogniser: StreamRecogniser,
        builder: SegmentBuilder,
        batch_secs: float,
        on_progress: Callable[[float], None],
    ) -> None:
        """Read ``batch_secs`` at a time; ``on_progress`` is told the seconds that are done."""
        self._recogniser, self._builder, self._on_progress = recogniser, builder, on_progress
        self._max_rows = max(1, int(batch_secs / recogniser.config.segment_secs))

    def run(self, inputs: Sequence[Input]) -> Iterator[Job]:
        """Yield the jobs of all inputs, each as soon as it is done."""
        waiting = deque(inputs)
        active: list[_Stream] = []
        while waiting or active:
            while waiting and len(active) < self._max_rows:
                active.append(self._open(Job(waiting.popleft(), is_continuous=True)))
            self._advance(active)
            yield from (stream.job for stream in active if stream.job.is_done)
            active = [stream for stream in active if not stream.job.is_done]

    def _open(self, job: Job) -> _Stream:
        """Begin a stream; to normalise its audio as a whole, it is read twice."""
        normalize: Callable[[Tensor], Tensor] = CausalNormalizer()
        if self._recogniser.normalization == "clip":
            try:
                with job.timed("audio"):
                    normalize = _normalizer_of_all(job.input)
            except AudioError as ex:
                job.error = ex
        state = self._recogniser.start(job.input.lang, normalize)
        return _Stream(job, state, read_segments(read_blocks(job), self._recogniser.config.cutter))

    def _advance(self, streams: Sequence[_Stream]) -> None:
        read = [stream.next_row() for stream in streams if not stream.job.is_done]
        rows = [row for row in read if row is not None]
        if not rows:
            return
        begin = perf_counter()
        results = attempt_all(self._decode, rows, self._recogniser.dtype)
        share = (perf_counter() - begin) / len(rows)
        for row, result in zip(rows, results, strict=True):
            row.stream.job.add_secs("recognition", share)
            self._keep(row.stream, row.segment, result)

    def _decode(self, rows: list[_Row]) -> list[Recognition]:
        results = self._recogniser.decode(
            [row.stream.state for row in rows],
            [row.audio for row in rows],
            [row.segment.is_last for row in rows],
        )
        langs = [row.stream.job.input.lang for row in rows]
        return list(map(Recognition, results, langs))

    def _keep(self, stream: _Stream, segment: StreamSegment, result: Recognition | Fault) -> None:
        """Make a segment of what was recognised; what cannot be recognised ends its own input."""
        job, number = stream.job, len(stream.job.segments)
        clip = Clip(job, number, Chunk(segment.samples, stream.begin, (), None))
        built = result if isinstance(result, Fault) else self._build(clip, result)
        if isinstance(built, Fault):
            job.fail(built.reason)
            return
        text = self._builder.continue_text(stream.tokens, built.tokens)
        job.add(number, replace(built, text=text), clip.span)
        job.num_clips = number + 1 if segment.is_last else None
        stream.tokens = built.tokens or stream.tokens
        end = stream.begin + clip.num_samples
        done = job.num_samples if segment.is_last else end  # a short rest is not recognised
        self._on_progress(samples_to_seconds(done - stream.begin))
        stream.begin = end

    def _build(self, clip: Clip, recognition: Recognition) -> Segment | Fault:
        return attempt(partial(self._builder.build, clip, recognition), self._recogniser.dtype)
