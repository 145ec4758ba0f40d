"""What a session hears: where speech begins, goes on and ends.

Shapes: T samples.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple, TypeAlias, final

import torch
from torch import Tensor

from wavellama.audio.chunks import HeldAudio
from wavellama.audio.vad import SpeechDetector
from wavellama.pipeline.live import STEP
from wavellama.server.errors import ApiError
from wavellama.server.realtime.audio import Decoder
from wavellama.server.realtime.settings import Settings
from wavellama.units import seconds_to_samples

MAX_HELD_SECS: Final = 300.0
"""The most audio that waits for a client to commit it."""

NOTICE_SECS: Final = 1.0
"""Speech is noticed this long after it has begun, at most."""


class Started(NamedTuple):
    """Somebody has begun to speak."""

    start: int
    """The first sample, the silence before the speech included."""

    samples: Tensor
    """All since then. *Shape:* (T)."""


class More(NamedTuple):
    """The speech goes on."""

    samples: Tensor
    """*Shape:* (T)."""


class Stopped(NamedTuple):
    """The speech has ended."""

    end: int


Heard: TypeAlias = Started | More | Stopped


@final
class Ear:
    """Hears the messages of a session from one moment on."""

    def __init__(self, settings: Settings, begin: int) -> None:
        """:param begin: the samples of the session before this moment."""
        self._begin, self._decoder = begin, Decoder(settings.encoding, settings.rate)
        turns = settings.turns
        self._detector = None if turns is None else SpeechDetector(turns.vad_options)
        self._num_padding = 0 if turns is None else seconds_to_samples(turns.prefix_ms / 1000)
        self._rest, self._held = torch.empty(0), HeldAudio()
        self._is_speech, self._free = False, 0

    @property
    def time(self) -> int:
        """How many samples of the session were heard."""
        return self._begin + self._held.end

    @property
    def secs(self) -> float:
        """How much audio has come."""
        return self._decoder.secs

    @property
    def finds_turns(self) -> bool:
        """Whether it looks for speech; else all is held until it is taken."""
        return self._detector is not None

    def hear(self, message: str) -> Iterator[Heard]:
        """Take audio; yield what there is to hear.

        :raises ApiError: it is no audio, or too much of it is held.
        """
        samples = self._decoder.feed(message)
        if self._detector is None:
            self._hold(samples)
            return
        self._rest = torch.cat([self._rest, samples])
        while len(self._rest) >= STEP:
            step, self._rest = self._rest[:STEP], self._rest[STEP:]
            yield from self._step(step, self._detector)

    def take(self) -> Tensor:
        """Return all that is held, at the end of this ear. (T)."""
        self._held.append(self._decoder.finish())
        return self._held.between(0, self._held.end)

    def _hold(self, samples: Tensor) -> None:
        if self._held.end + len(samples) > seconds_to_samples(MAX_HELD_SECS):
            message = f"More than {MAX_HELD_SECS:g} s of audio wait to be committed."
            raise ApiError(400, "input_audio_buffer_full", message)
        self._held.append(samples)

    def _step(self, step: Tensor, detector: SpeechDetector) -> Iterator[Heard]:
        self._held.append(step)
        ended = detector.feed(step)
        if self._is_speech:
            yield More(step)
        elif detector.open_start is not None:
            yield self._start(detector.open_start)
        for region in ended:
            if not self._is_speech:
                yield self._start(region.start)
            self._is_speech, self._free = False, self._held.end
            yield Stopped(self._begin + region.end)
        kept = 0 if self._is_speech else self._num_padding + seconds_to_samples(NOTICE_SECS)
        self._held.drop_before(max(self._held.end - kept, self._free))

    def _start(self, start: int) -> Started:
        first = max(start - self._num_padding, self._held.start)
        self._is_speech = True
        return Started(self._begin + first, self._held.between(first, self._held.end))
