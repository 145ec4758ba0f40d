"""Recognition of clips that the audio was cut into, with clips of all inputs in common batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from math import inf
from typing import NamedTuple, final

from torch import Tensor

from wavellama.audio.chunks import Chunk
from wavellama.errors import AudioError
from wavellama.pipeline.attempts import Fault
from wavellama.pipeline.inputs import Input
from wavellama.pipeline.jobs import Clip, Job, OnProgress, read_blocks
from wavellama.pipeline.scribes import Scribe, Written
from wavellama.units import samples_to_seconds


@dataclass(frozen=True)
class Batching:
    """How much is recognised at a time."""

    max_secs: float = inf
    """The most audio, padding included."""

    max_rows: int = 1_000
    window: int = 4
    """How many batches of audio are read ahead, so that clips of similar length meet."""

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
        return secs >= self.window * self.max_secs or len(clips) >= self.window * self.max_rows


class _Window(NamedTuple):
    """What was read since the window before."""

    clips: list[Clip]
    ended: list[Job]
    """The jobs whose audio has come to its end."""


@final
class ChunkedRun:
    """Turns inputs into segments, clip by clip."""

    def __init__(
        self,
        cut: Callable[[Iterator[Tensor]], Iterator[Chunk]],
        scribe: Scribe[Clip],
        batching: Batching,
        on_progress: OnProgress,
    ) -> None:
        """:param cut: from blocks of audio to chunks."""
        self._cut, self._scribe = cut, scribe
        self._batching, self._on_progress = batching, on_progress

    def run(self, inputs: Sequence[Input]) -> Iterator[Job]:
        """Yield the jobs of all inputs, each as soon as it is done; then it is forgotten."""
        is_open = [True] * len(inputs)
        for window in self._windows(inputs):
            yield from self._done(window.ended, is_open)
            for group in self._batching.groups(window.clips):
                self._write([clip for clip in group if clip.job.error is None])
                yield from self._done([clip.job for clip in group], is_open)

    def _done(self, jobs: Sequence[Job], is_open: list[bool]) -> Iterator[Job]:
        """Yield those jobs that are done, and have not been yielded yet.

        :param is_open: of which inputs the job has not been yielded.
        """
        for job in sorted(jobs, key=lambda job: job.input.index):
            if job.is_done and is_open[job.input.index]:
                is_open[job.input.index] = False
                if job.error is None:
                    self._tell(job, job.num_samples - job.num_told)  # the silence at its end
                yield job

    def _windows(self, inputs: Sequence[Input]) -> Iterator[_Window]:
        """Yield clips that are to be sorted into batches; audio is read as it is needed."""
        window = _Window([], [])
        for input_ in inputs:
            job = Job(input_)
            for clip in self._clips(job):
                window.clips.append(clip)
                if self._batching.is_window(window.clips):
                    yield window
                    window = _Window([], [])
            window.ended.append(job)
        yield window

    def _clips(self, job: Job) -> Iterator[Clip]:
        """Yield the clips of an input; an error, of its audio or of a clip before, ends it."""
        chunks = self._cut(read_blocks(job))
        end = 0
        for number in count():
            try:
                with job.timed("audio"):
                    chunk = None if job.error is not None else next(chunks, None)
            except AudioError as ex:
                job.error = ex
                return
            if chunk is None:
                job.num_clips = number
                return
            yield Clip(job, number, chunk, num_new=chunk.end - end)
            end = chunk.end

    def _write(self, clips: list[Clip]) -> None:
        """Write clips down together; one that cannot be recognised ends its own input alone."""
        if not clips:
            return
        for clip, written in zip(clips, self._scribe.write(clips), strict=True):
            self._keep(clip, written)

    def _keep(self, clip: Clip, written: Written) -> None:
        if isinstance(written, Fault):
            clip.job.fail(written.reason)
            return
        clip.job.add(clip.number, written, clip.span)
        self._tell(clip.job, clip.num_new)

    def _tell(self, job: Job, num_samples: int) -> None:
        job.num_told += num_samples
        self._on_progress(job, samples_to_seconds(num_samples))
