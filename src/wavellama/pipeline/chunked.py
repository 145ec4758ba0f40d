"""Recognition of clips that the audio was cut into, with clips of all inputs in common batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from math import inf
from time import perf_counter
from typing import Final, final

from torch import Tensor

from wavellama.audio.chunks import Chunk
from wavellama.errors import AudioError, ContextTooLongError
from wavellama.pipeline.inputs import Input
from wavellama.pipeline.jobs import Clip, Job, read_blocks
from wavellama.pipeline.recogniser import Recogniser
from wavellama.pipeline.segments import SegmentBuilder
from wavellama.units import samples_to_seconds

WINDOW: Final = 4
"""How many batches of audio are read ahead, so that clips of similar length meet."""


@dataclass(frozen=True)
class Batching:
    """How much is recognised at a time."""

    max_secs: float = inf
    """The most audio, padding included."""

    max_rows: int = 1_000
    """The most clips."""

    def groups(self, clips: Sequence[Clip]) -> Iterator[list[Clip]]:
        """Yield clips of similar length together, the shortest first."""
        group: list[Clip] = []
        for clip in sorted(clips, key=lambda clip: clip.num_samples):
            secs = samples_to_seconds(clip.num_samples) * (len(group) + 1)
            if group and (secs > self.max_secs or len(group) == self.max_rows):
                yield group
                group = []
            group.append(clip)
        if group:
            yield group

    def is_window(self, clips: Sequence[Clip]) -> bool:
        """Return whether there are enough clips to sort."""
        secs = samples_to_seconds(sum(clip.num_samples for clip in clips))
        return secs >= WINDOW * self.max_secs or len(clips) >= WINDOW * self.max_rows


@final
class ChunkedRun:
    """Turns inputs into segments, clip by clip."""

    def __init__(
        self,
        cut: Callable[[Iterator[Tensor]], Iterator[Chunk]],
        recogniser: Recogniser,
        builder: SegmentBuilder,
        batching: Batching,
        on_progress: Callable[[float], None],
    ) -> None:
        """
        :param cut: from blocks of audio to chunks.
        :param on_progress: is told the seconds of audio that were recognised.
        """
        self._cut, self._recogniser, self._builder = cut, recogniser, builder
        self._batching, self._on_progress = batching, on_progress

    def run(self, inputs: Sequence[Input]) -> Iterator[Job]:
        """Yield the jobs of all inputs, each as soon as it is done."""
        open_jobs = [Job(input_) for input_ in inputs]
        for clips in self._windows(list(open_jobs)):
            for group in self._batching.groups(clips):
                self._recognise([clip for clip in group if clip.job.error is None])
                done = [job for job in open_jobs if job.is_done]
                open_jobs = [job for job in open_jobs if not job.is_done]
                yield from done
        yield from open_jobs

    def _windows(self, jobs: Sequence[Job]) -> Iterator[list[Clip]]:
        """Yield clips that are to be sorted into batches; audio is read as it is needed."""
        waiting: list[Clip] = []
        for job in jobs:
            for clip in self._clips(job):
                waiting.append(clip)
                if self._batching.is_window(waiting):
                    yield waiting
                    waiting = []
        yield waiting

    def _clips(self, job: Job) -> Iterator[Clip]:
        """Yield the clips of an input; an error of its audio ends it."""
        chunks = self._cut(read_blocks(job))
        for number in count():
            try:
                with job.timed("audio"):
                    chunk = next(chunks, None)
            except AudioError as ex:
                job.error = ex
                return
            if chunk is None:
                job.num_clips = number
                return
            yield Clip(job, number, chunk)

    def _recognise(self, clips: list[Clip]) -> None:
        """Recognise clips together; one that is too long ends its own input alone."""
        if not clips:
            return
        begin = perf_counter()
        try:
            recognitions = self._recogniser.recognise(clips)
        except ContextTooLongError as ex:
            if len(clips) == 1:
                clips[0].job.error = AudioError(clips[0].input.name, str(ex))
                return
            for clip in clips:
                self._recognise([clip])
            return
        total = sum(clip.num_samples for clip in clips)
        rate = (perf_counter() - begin) / total
        for clip, recognition in zip(clips, recognitions, strict=True):
            clip.job.add_secs("recognition", clip.num_samples * rate)
            clip.job.add(clip.number, self._builder.build(clip, recognition), clip.span)
        self._on_progress(samples_to_seconds(total))
