"""An input on its way to a transcript.

Shapes: T samples.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import perf_counter
from typing import Literal, TypeAlias

from torch import Tensor
from torch.nn import Module

from wavellama.audio.causal import Normalizer
from wavellama.audio.chunks import Chunk
from wavellama.audio.load import normalize
from wavellama.audio.stream import stream_audio
from wavellama.batch import AsrBatch
from wavellama.decoding.streaming import StreamState
from wavellama.errors import AudioError
from wavellama.model.inputs import pad
from wavellama.pipeline.inputs import Input
from wavellama.transcript.types import Segment
from wavellama.units import samples_to_seconds

Work = Literal["audio", "recognition", "alignment"]


@dataclass
class Job:
    """What is known of an input so far."""

    input: Input
    segments: dict[int, Segment] = field(default_factory=dict)
    """What was recognised, by the number of the clip."""

    spans: dict[int, tuple[float, float]] = field(default_factory=dict)
    """Begin and end of the audio of each clip, in seconds."""

    is_continuous: bool = False
    """Whether the texts of the clips follow each other as they are, spaces included."""

    num_clips: int | None = None
    """How many clips there are; None until the audio has been read to its end."""

    num_samples: int = 0
    """The length of what was read."""

    num_told: int = 0
    """How many of these samples have been reported as done."""

    error: AudioError | None = None
    """Why there will be no transcript."""

    secs: dict[Work, float] = field(default_factory=dict)
    """Where the time went."""

    @property
    def is_done(self) -> bool:
        """Whether nothing more will come."""
        return self.error is not None or len(self.segments) == self.num_clips

    def add(self, number: int, segment: Segment, span: tuple[float, float]) -> None:
        """Keep what was recognised in a clip that covers ``span``."""
        self.segments[number], self.spans[number] = segment, span

    def fail(self, reason: str) -> None:
        """Keep why there will be no transcript; of several reasons the first one."""
        self.error = self.error or AudioError(self.input.name, reason)

    @contextmanager
    def timed(self, work: Work) -> Iterator[None]:
        """Count the time that passes within as ``work``."""
        begin = perf_counter()
        try:
            yield
        finally:
            self.add_secs(work, perf_counter() - begin)

    def add_secs(self, work: Work, secs: float) -> None:
        """Count time as ``work``."""
        self.secs[work] = self.secs.get(work, 0.0) + secs


OnProgress: TypeAlias = Callable[[Job, float], None]
"""Is told how many more seconds of a job's audio are done, silences included."""


@dataclass(frozen=True)
class Clip:
    """A piece of an input, which is recognised at once."""

    job: Job
    number: int
    chunk: Chunk
    """Its audio, not normalised, and where it lies."""

    normalizer: Normalizer | None = None
    """What makes of the audio what the encoder reads; None: it is normalised by itself."""

    num_new: int = 0
    """How many samples of the input lie between the end of the clip before and its own end."""

    @property
    def input(self) -> Input:
        """What it is a piece of."""
        return self.job.input

    @property
    def num_samples(self) -> int:
        """The length of the audio."""
        return len(self.chunk.waveform)

    @property
    def span(self) -> tuple[float, float]:
        """Begin and end of the audio, in seconds of the input."""
        begin = self.chunk.start
        return samples_to_seconds(begin), samples_to_seconds(begin + self.num_samples)

    def normalized(self) -> Tensor:
        """Return the audio as the encoder reads it. (T)."""
        waveform = self.chunk.waveform
        return normalize(waveform) if self.normalizer is None else self.normalizer(waveform)


@dataclass(frozen=True, kw_only=True)
class StreamClip(Clip):
    """The next segment of a stream, which goes on from what the stream has read."""

    state: StreamState
    """What the stream has read so far; it is moved on."""

    audio: Tensor
    """Normalised, which moves the state on, too. *Shape:* (T)."""

    is_last: bool

    def normalized(self) -> Tensor:
        """Return the audio as the encoder reads it. (T)."""
        return self.audio


def read_blocks(job: Job) -> Iterator[Tensor]:
    """Read the audio of a job, and keep account of it. Yields (T)."""
    for block in stream_audio(job.input.audio, selection=job.input.selection):
        job.num_samples += len(block)
        yield block


def in_order(jobs: Iterable[Job]) -> Iterator[Job]:
    """Yield finished jobs in the order of their inputs."""
    waiting: dict[int, Job] = {}
    place = 0
    for job in jobs:
        waiting[job.input.index] = job
        while place in waiting:
            yield waiting.pop(place)
            place += 1


def to_batch(clips: Sequence[Clip], model: Module) -> AsrBatch:
    """Return the clips as a batch on the model's device."""
    audio, lens = pad_clips(clips, model)
    examples = [clip.input.examples for clip in clips]
    given = [list(row) for row in examples if row is not None]
    langs = [clip.input.lang for clip in clips]
    return AsrBatch(audio, lens, [], langs, given if len(given) == len(clips) else None)


def pad_clips(clips: Sequence[Clip], model: Module) -> tuple[Tensor, list[int]]:
    """Return the normalised audio (N, T) on the model's device, and its lengths."""
    audio, lens = pad([clip.normalized() for clip in clips])
    return audio.to(next(model.parameters()).device), lens
