"""What audio is transcribed with, as a model and some options say.

The scribe of a plan is all that needs the model. ``dataclasses.replace`` puts another one in its
place, which shares the model with others, say.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias, final

from wavellama.pipeline.chunked import Batching, ChunkedRun
from wavellama.pipeline.cutting import cut
from wavellama.pipeline.inputs import Input
from wavellama.pipeline.jobs import OnProgress
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

    def run(self, on_progress: OnProgress) -> ChunkedRun:
        """Return what turns files into segments."""
        cutter = partial(
            cut,
            chunk_secs=self.options.chunk_secs or self.piece_secs,
            whole_secs=self.options.chunk_secs or self.whole_secs,
            vad=self.options.vad,
        )
        return ChunkedRun(cutter, self.scribe, self.batching, on_progress)

    def listen(self, input_: Input) -> LiveSession:
        """Return what turns live audio into segments."""
        texts = LiveTexts(self.builder, input_)
        max_secs = self.options.chunk_secs or self.whole_secs
        return LiveSession(UtteranceListener(self.scribe, texts, self.options, max_secs))


@final
@dataclass(frozen=True)
class StreamPlan:
    """The model reads audio of any length, segment by segment."""

    options: TranscribeOptions
    builder: SegmentBuilder
    scribe: Scribe[Any]
    recogniser: StreamRecogniser

    def run(self, on_progress: OnProgress) -> StreamedRun:
        """Return what turns files into segments; their lengths are those of the model."""
        secs = self.options.batch_secs
        return StreamedRun(self.recogniser, self.scribe, self.builder, secs, on_progress)

    def listen(self, input_: Input) -> LiveSession:
        """Return what turns live audio into segments."""
        texts = LiveTexts(self.builder, input_)
        return LiveSession(SegmentListener(self.recogniser, self.scribe, texts, self.options))


Plan: TypeAlias = ClipPlan | StreamPlan
