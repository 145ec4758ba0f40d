"""What audio is transcribed with, as a model and some options say.

The scribe of a plan is all that needs the model. ``dataclasses.replace`` puts another one in its
place, which shares the model with others, say.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias, final

from wavellama.pipeline.chunked import Batching, ChunkedRun
from wavellama.pipeline.cutting import cut
from wavellama.pipeline.inputs import Input
from wavellama.pipeline.jobs import Job, OnProgress
from wavellama.pipeline.live import LiveSession, LiveTexts, SegmentListener, UtteranceListener
from wavellama.pipeline.options import TranscribeOptions
from wavellama.pipeline.recogniser import StreamRecogniser
from wavellama.pipeline.scribes import Scribe
from wavellama.pipeline.segments import SegmentBuilder
from wavellama.pipeline.streaming_models import StreamedRun


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
