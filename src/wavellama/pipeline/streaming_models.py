"""Recognition by streaming models, which read audio of any length segment by segment.

Shapes: T samples.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import final

import torch
from torch import Tensor

from wavellama.audio.causal import CausalNormalizer, Normalizer, clip_normalizer
from wavellama.audio.chunks import Chunk
from wavellama.audio.stream import can_be_read_again, stream_audio
from wavellama.decoding.streaming import StreamState
from wavellama.errors import AudioError
from wavellama.pipeline.attempts import Fault
from wavellama.pipeline.inputs import Input
from wavellama.pipeline.jobs import Job, OnProgress, StreamClip, read_blocks
from wavellama.pipeline.recogniser import StreamRecogniser
from wavellama.pipeline.scribes import Scribe, Written
from wavellama.pipeline.segments import SegmentBuilder
from wavellama.prompt.segments import SegmentCutter
from wavellama.units import samples_to_seconds


def read_segments(blocks: Iterable[Tensor], cutter: SegmentCutter) -> Iterator[tuple[Tensor, bool]]:
    """Cut audio (T) into segments while it is being read; yield also which one is the last."""
    waiting = torch.zeros(0)
    for block in blocks:
        waiting = torch.cat([waiting, block])
        while cutter.is_complete(len(waiting)):
            yield waiting[: cutter.segment_len], False
            waiting = waiting[cutter.segment_len :]
    yield waiting[: cutter.last_len(len(waiting))], True


@dataclass
class _Stream:
    """An input that is being read."""

    job: Job
    state: StreamState
    segments: Iterator[tuple[Tensor, bool]]
    begin: int = 0
    tokens: tuple[int, ...] = ()

    def next_clip(self) -> StreamClip | None:
        """Return the next segment; None if the audio turns out to be bad."""
        try:
            with self.job.timed("audio"):
                samples, is_last = next(self.segments)
        except AudioError as ex:
            self.job.error = ex
            return None
        chunk, audio = Chunk(samples, self.begin), self.state.normalize(samples)
        place = self.job, len(self.job.segments), chunk
        return StreamClip(*place, state=self.state, audio=audio, is_last=is_last)


def _normalizer_of_all(input_: Input) -> Normalizer:
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
        scribe: Scribe[StreamClip],
        builder: SegmentBuilder,
        batch_secs: float,
        on_progress: OnProgress,
    ) -> None:
        """Read ``batch_secs`` at a time."""
        self._recogniser, self._scribe = recogniser, scribe
        self._builder, self._on_progress = builder, on_progress
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
        read = [(stream, stream.next_clip()) for stream in streams if not stream.job.is_done]
        found = [(stream, clip) for stream, clip in read if clip is not None]
        if not found:
            return
        written = self._scribe.write([clip for _, clip in found])
        for (stream, clip), result in zip(found, written, strict=True):
            self._keep(stream, clip, result)

    def _keep(self, stream: _Stream, clip: StreamClip, written: Written) -> None:
        """Keep a segment; what cannot be recognised ends its own input."""
        job = clip.job
        if isinstance(written, Fault):
            job.fail(written.reason)
            return
        text = self._builder.continue_text(stream.tokens, written.tokens)
        job.add(clip.number, replace(written, text=text), clip.span)
        job.num_clips = clip.number + 1 if clip.is_last else None
        stream.tokens = written.tokens or stream.tokens
        end = stream.begin + clip.num_samples
        done = job.num_samples if clip.is_last else end  # a short rest is not recognised
        self._on_progress(job, samples_to_seconds(done - stream.begin))
        stream.begin = end
