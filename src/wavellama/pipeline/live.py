"""Live transcription: samples in, text that stays and text that may still change out.

What comes out depends on the audio alone, not on the pieces in which it arrives: everything happens
at multiples of ``STEP`` samples. Shapes: T samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Final, Protocol, final

import numpy as np
import torch
from torch import Tensor

from wavellama.audio.arrays import to_float
from wavellama.audio.causal import CausalNormalizer, Normalizer
from wavellama.audio.chunks import MARGIN_SAMPLES, Chunk, HeldAudio
from wavellama.audio.regions import SpeechRegion, VadOptions
from wavellama.audio.vad import SpeechDetector
from wavellama.decoding.streaming import StreamState
from wavellama.errors import AudioError
from wavellama.pipeline.attempts import Fault
from wavellama.pipeline.inputs import Input
from wavellama.pipeline.jobs import Clip, Job, StreamClip
from wavellama.pipeline.options import TranscribeOptions
from wavellama.pipeline.recogniser import StreamRecogniser
from wavellama.pipeline.scribes import Scribe, Written
from wavellama.pipeline.segments import SegmentBuilder
from wavellama.text.words import needs_space
from wavellama.transcript.types import Segment
from wavellama.units import MIN_SAMPLES, samples_to_seconds, seconds_to_samples

STEP: Final = 512
"""Samples between two looks at the audio (32 ms): a window of the voice detection."""


@dataclass(frozen=True)
class LiveUpdate:
    """What has become known."""

    time: float
    """Seconds of audio that were heard."""

    segments: tuple[Segment, ...]
    """What will not change any more, and was not told before."""

    tentative: str
    """What seems to follow; it replaces what was tentative before."""

    failures: tuple[AudioError, ...] = ()
    """What was said and could not be recognised: each names the seconds that are lost."""

    @property
    def stable(self) -> str:
        """The text of the segments."""
        return "".join(segment.text for segment in self.segments)

    def before(self, later: LiveUpdate) -> LiveUpdate:
        """Return what this one and a later one make known."""
        return replace(
            later,
            segments=self.segments + later.segments,
            failures=self.failures + later.failures,
        )


class Listener(Protocol):
    """Hears audio step by step."""

    def hear(self, samples: Tensor) -> LiveUpdate | None:
        """Take ``STEP`` samples, at the end fewer; return what became known. (T)."""
        ...

    def end(self) -> LiveUpdate:
        """Recognise what is left."""
        ...


@final
class LiveSession:
    """One stream of live audio (see ``ASRInferencePipeline.live``)."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._waiting = torch.zeros(0)
        self._segments: list[Segment] = []

    def feed(self, samples: Tensor | np.ndarray) -> list[LiveUpdate]:
        """Take mono 16 kHz audio; return what became known.

        :param samples: any number of them, floats or integers (which are scaled by their range).
            *Shape:* (T).
        :raises AudioError: the samples have another shape, or are not finite numbers.
        """
        self._waiting = torch.cat([self._waiting, _to_samples(samples)])
        updates: list[LiveUpdate] = []
        while len(self._waiting) >= STEP:
            step, self._waiting = self._waiting[:STEP], self._waiting[STEP:]
            update = self._listener.hear(step)
            updates += [] if update is None else [self._keep(update)]
        return updates

    def finish(self) -> LiveUpdate:
        """End the audio; return the last of what became known, in which nothing is tentative."""
        rest, self._waiting = self._waiting, self._waiting[:0]
        heard = self._listener.hear(rest) if len(rest) else None
        last = self._listener.end()
        return self._keep(last if heard is None else heard.before(last))

    @property
    def segments(self) -> Sequence[Segment]:
        """All that will not change any more."""
        return self._segments

    @property
    def text(self) -> str:
        """The text that will not change any more."""
        return "".join(segment.text for segment in self._segments).strip()

    def _keep(self, update: LiveUpdate) -> LiveUpdate:
        self._segments += update.segments
        return update


def _to_samples(samples: Tensor | np.ndarray) -> Tensor:
    """Return samples as floats. (T)."""
    if isinstance(samples, Tensor) and samples.is_floating_point():
        samples = samples.detach().float().cpu()  # numpy does not know all of torch's types
    array = np.asarray(samples)
    if array.ndim != 1 or array.dtype.kind not in "fiu":
        raise AudioError(
            "live audio", f"needs mono samples, but got {array.dtype} of the shape {array.shape}."
        )
    if array.dtype.kind in "iu" and array.dtype.itemsize == 8:
        raise AudioError("live audio", "has 64-bit integers, of no known scale: give int16, say.")
    converted = torch.from_numpy(to_float(array))
    if not bool(torch.isfinite(converted).all()):
        raise AudioError("live audio", "holds NaN or infinite samples.")
    return converted


class LiveTexts:
    """Makes stable and tentative texts of what was recognised."""

    def __init__(self, builder: SegmentBuilder, input_: Input) -> None:
        """:param input_: what goes with the audio."""
        self.job, self._builder, self._before = Job(input_), builder, ""

    def place(
        self, clip: Clip, written: Written, before: Sequence[int] | None = None
    ) -> Segment | AudioError:
        """Return a segment with a space in front where one belongs, or an error about its clip.

        :param before: the tokens that those of the segment go on from, if they do.
        """
        if isinstance(written, Fault):
            begin, end = clip.span
            return AudioError(f"live audio from {begin:.2f} to {end:.2f} s", written.reason)
        if before is not None:
            return replace(written, text=self._builder.continue_text(before, written.tokens))
        space = " " if needs_space(self._before, written.text) else ""
        return replace(written, text=f"{space}{written.text}")

    def keep(self, time: float, result: Segment | AudioError) -> LiveUpdate:
        """Return an update with a result that will not change any more."""
        if isinstance(result, AudioError):
            return LiveUpdate(time, (), "", (result,))
        self._before = result.text or self._before
        return LiveUpdate(time, (result,) if result.text else (), "")


def _tentative(time: float, result: Segment | AudioError) -> LiveUpdate:
    """Return an update with a guess; one that fails is no loss, since it is not the last."""
    return LiveUpdate(time, (), "" if isinstance(result, AudioError) else result.text)


@final
class UtteranceListener:
    """Recognises each utterance once a silence has followed it (models of whole utterances)."""

    def __init__(
        self,
        scribe: Scribe[Clip],
        texts: LiveTexts,
        options: TranscribeOptions,
        max_secs: float,
    ) -> None:
        """:param max_secs: where an utterance without silences is cut."""
        self._scribe, self._texts = scribe, texts
        silence_ms = round(1000 * options.endpoint_secs)
        self._max_samples = seconds_to_samples(max_secs)
        vad = VadOptions(min_silence_ms=silence_ms, hurry=True)
        self._detector = SpeechDetector(vad, self._max_samples)
        self._normalizer = Normalizer() if options.normalization == "causal" else None
        self._period = seconds_to_samples(options.update_secs)
        self._audio = HeldAudio()
        self._asked = 0  # when there was a tentative text for the last time

    def hear(self, samples: Tensor) -> LiveUpdate | None:
        """Take ``STEP`` samples; return what became known. (T)."""
        self._audio.append(samples)
        if self._normalizer is not None:
            self._normalizer.add(samples)
        ended = self._detector.feed(samples)
        if ended:
            return self._settle(ended, self._detector.horizon)
        self._audio.drop_before(self._detector.horizon - MARGIN_SAMPLES)
        start, now = self._detector.open_start, self._audio.end
        if start is None or now - max(self._asked, start) < self._period:
            return None
        self._asked = now
        return _tentative(samples_to_seconds(now), self._guess(start))

    def end(self) -> LiveUpdate:
        """Recognise what is left."""
        return self._settle(self._detector.finish(), None)

    def _settle(self, regions: Sequence[SpeechRegion], next_start: int | None) -> LiveUpdate:
        """Recognise utterances that have ended.

        :param next_start: no later one begins before this sample; None: the audio has ended.
        """
        self._asked = self._audio.end
        update = LiveUpdate(samples_to_seconds(self._asked), (), "")
        for idx, region in enumerate(regions, 1):
            following = regions[idx].start if idx < len(regions) else next_start
            chunk = self._audio.take((region,), following, self._max_samples)
            update = update.before(self._texts.keep(update.time, self._recognise(chunk)))
        return update

    def _guess(self, start: int) -> Segment | AudioError:
        """Recognise what was said since ``start``, as far as it fits into one piece."""
        end = min(self._audio.end, start + self._max_samples)
        begin, end = self._audio.with_margin(start, end, None, self._max_samples)
        return self._recognise(Chunk(self._audio.between(begin, end), begin))

    def _recognise(self, chunk: Chunk) -> Segment | AudioError:
        clip = Clip(self._texts.job, 0, chunk, self._normalizer)
        (written,) = self._scribe.write([clip])
        return self._texts.place(clip, written)


@final
class SegmentListener:
    """Recognises segment by segment (streaming models)."""

    def __init__(
        self,
        recogniser: StreamRecogniser,
        scribe: Scribe[StreamClip],
        texts: LiveTexts,
        options: TranscribeOptions,
    ) -> None:
        self._recogniser, self._scribe, self._texts = recogniser, scribe, texts
        self._state = recogniser.start(texts.job.input.lang, CausalNormalizer())
        self._period = seconds_to_samples(options.update_secs)
        self._waiting = torch.zeros(0)
        self._begin = 0  # where the waiting audio begins
        self._asked = 0  # when there was a text for the last time
        self._tokens: tuple[int, ...] = ()

    def hear(self, samples: Tensor) -> LiveUpdate | None:
        """Take ``STEP`` samples; return what became known. (T)."""
        self._waiting = torch.cat([self._waiting, samples])
        cutter = self._recogniser.config.cutter
        now = self._begin + len(self._waiting)
        if cutter.is_complete(len(self._waiting)):
            return self._settle(cutter.segment_len, is_last=False)
        if now - self._asked < self._period or len(self._waiting) <= MIN_SAMPLES:
            return None
        self._asked = now
        guess = self._recognise(deepcopy(self._state), len(self._waiting), is_last=True)
        return _tentative(samples_to_seconds(now), guess)

    def end(self) -> LiveUpdate:
        """Recognise what is left, if it is long enough for the encoder."""
        if len(self._waiting) < MIN_SAMPLES:
            return LiveUpdate(samples_to_seconds(self._begin + len(self._waiting)), (), "")
        cutter = self._recogniser.config.cutter
        return self._settle(cutter.last_len(len(self._waiting)), is_last=True)

    def _settle(self, length: int, is_last: bool) -> LiveUpdate:
        """Recognise the first ``length`` samples for good."""
        result = self._recognise(self._state, length, is_last)
        now = self._begin + len(self._waiting)
        if isinstance(result, Segment):
            self._tokens = result.tokens or self._tokens
        self._waiting = self._waiting[length:].clone()
        self._begin += length
        self._asked = now
        return self._texts.keep(samples_to_seconds(now), result)

    def _recognise(self, state: StreamState, length: int, is_last: bool) -> Segment | AudioError:
        samples = self._waiting[:length].clone()
        chunk, audio = Chunk(samples, self._begin), state.normalize(samples)
        clip = StreamClip(self._texts.job, 0, chunk, state=state, audio=audio, is_last=is_last)
        (written,) = self._scribe.write([clip])
        return self._texts.place(clip, written, self._tokens)
