"""What audio is transcribed with, as a model and some options say.

The scribe of a plan is all that needs the model. ``dataclasses.replace`` puts another one in its
place, which shares the model with others, say. Shapes: T samples.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any, Final, TypeAlias, final

import torch
from torch import Tensor

from wavellama.audio.chunks import Chunk, cut_at_silence, cut_fixed
from wavellama.audio.vad import detect_speech
from wavellama.pipeline.chunked import Batching, ChunkedRun
from wavellama.pipeline.inputs import Input
from wavellama.pipeline.jobs import Job, OnProgress
from wavellama.pipeline.live import LiveSession, LiveTexts, SegmentListener, UtteranceListener
from wavellama.pipeline.options import TranscribeOptions
from wavellama.pipeline.recogniser import StreamRecogniser
from wavellama.pipeline.scribes import Scribe
from wavellama.pipeline.segments import SegmentBuilder
from wavellama.pipeline.streaming_models import StreamedRun
from wavellama.units import seconds_to_samples

OVERLAP_SECS: Final = 2.0
"""What windows without voice detection have in common, at most a quarter of a window."""


@final
@dataclass(frozen=True)
class ClipPlan:
    """Audio is cut into clips, each a whole to the model."""

    options: TranscribeOptions
    builder: SegmentBuilder
    scribe: Scribe[Any]
    batching: Batching
    piece_secs: float
    """The longest clip that long audio is cut into."""

    whole_secs: float
    """The longest audio that stays whole."""

    def run(self, inputs: Sequence[Input], on_progress: OnProgress) -> Iterator[Job]:
        """Yield the jobs of all inputs, each as soon as it is done."""
        cutter = partial(
            cut,
            chunk_secs=self.options.chunk_secs or self.piece_secs,
            whole_secs=self.options.chunk_secs or self.whole_secs,
            vad=self.options.vad,
        )
        return ChunkedRun(cutter, self.scribe, self.batching, on_progress).run(inputs)

    def listen(self, input_: Input) -> LiveSession:
        """Return what turns live audio into segments."""
        texts = LiveTexts(self.builder, input_)
        max_secs = self.options.chunk_secs or self.piece_secs
        return LiveSession(UtteranceListener(self.scribe, texts, self.options, max_secs))


@final
@dataclass(frozen=True)
class StreamPlan:
    """The model reads audio of any length, segment by segment."""

    options: TranscribeOptions
    builder: SegmentBuilder
    scribe: Scribe[Any]
    recogniser: StreamRecogniser

    def run(self, inputs: Sequence[Input], on_progress: OnProgress) -> Iterator[Job]:
        """Yield the jobs of all inputs, each as soon as it is done."""
        secs = self.options.batch_secs
        run = StreamedRun(self.recogniser, self.scribe, self.builder, secs, on_progress)
        return run.run(inputs)

    def listen(self, input_: Input) -> LiveSession:
        """Return what turns live audio into segments."""
        texts = LiveTexts(self.builder, input_)
        return LiveSession(SegmentListener(self.recogniser, self.scribe, texts, self.options))


Plan: TypeAlias = ClipPlan | StreamPlan


def cut(
    blocks: Iterable[Tensor], chunk_secs: float, whole_secs: float, vad: bool | None
) -> Iterator[Chunk]:
    """Cut audio into chunks of at most ``chunk_secs``, while it is being read.

    :param blocks: mono 16 kHz audio, piece by piece. *Shape of each:* (T).
    :param whole_secs: what audio may not exceed to be kept whole, unless ``vad`` is True.
    :param vad: True: cut in silences, and leave long ones out; None: do so where the audio is
        longer than ``whole_secs``; False: cut windows that overlap.
    """
    if vad:
        yield from cut_at_silence(blocks, chunk_secs)
        return
    source = iter(blocks)
    head = _take(source, seconds_to_samples(whole_secs))
    if sum(map(len, head)) > seconds_to_samples(whole_secs):
        rest = chain(head, source)
        if vad is None:
            yield from cut_at_silence(rest, chunk_secs)
        else:
            yield from cut_fixed(rest, chunk_secs, min(OVERLAP_SECS, chunk_secs / 4))
    elif head:
        whole = torch.cat(head)
        yield Chunk(whole, 0, *(detect_speech(whole) if vad is None else ()))


def _take(blocks: Iterator[Tensor], num_samples: int) -> list[Tensor]:
    """Take blocks until there are more than ``num_samples``, or no more."""
    taken: list[Tensor] = []
    while sum(map(len, taken)) <= num_samples:
        block = next(blocks, None)
        if block is None:
            break
        taken.append(block)
    return taken
