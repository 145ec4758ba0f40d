"""The clock of a player: time stamps decide where sound lies.

Shapes: T samples.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil
from typing import Final, TypeAlias, final

import numpy as np

from wavellama.units import SAMPLE_RATE, samples_to_seconds, seconds_to_samples

TOLERANCE_SECS: Final = 0.1
"""How far time stamps may be from where samples end up: programs that record let them tremble, and
sound that follows on without a gap has no click."""

EXACT_SECS: Final = 0.001
"""The same at the beginning and after damage, where nothing has to follow on."""

MAX_HOLE_SECS: Final = 30 * 3600.0
"""A larger step, either way, is no time at which something was recorded."""

MAX_BROADCAST_HOLE_SECS: Final = 10.0
"""The same in formats whose clock may be set anew at any time, as in broadcasts (MPEG-TS, Ogg)."""

SILENCE_SAMPLES: Final = 65_536
"""How much silence is made at a time."""

Samples: TypeAlias = "np.ndarray"

Piece: TypeAlias = "tuple[Samples, int]"
"""Mono samples (T) in float32, and their rate."""


@final
class Clock:
    """Puts samples where their time stamps say, from zero on.

    * What lies before zero is left out.
    * A hole becomes silence of 16 kHz, which is made piece by piece.
    * Of samples that overlap, or whose time jumps back, those win that came first.
    * Steps beyond all measure set the clock anew: samples follow on.
    """

    def __init__(self, zero: float, is_broadcast: bool) -> None:
        """:param zero: the time stamp at which the player begins, in seconds.
        :param is_broadcast: the format's clock may be set anew: a step back, or one of more than
            ``MAX_BROADCAST_HOLE_SECS`` forward, is no hole.
        """
        self._zero = zero
        self._is_broadcast = is_broadcast
        self._next = 0.0  # where the samples that come next belong
        self._tolerance = EXACT_SECS
        self._steps = (-MAX_HOLE_SECS, MAX_HOLE_SECS)
        self.position = 0.0
        """Where what was yielded ends, in seconds."""
        self.dropped_secs = 0.0
        """How much sound was left out since its time was taken."""

    def expect_hole(self) -> None:
        """Say that samples were lost: the next time stamp counts exactly."""
        self._tolerance = EXACT_SECS

    def place(self, samples: Samples, rate: int, time: float | None) -> Iterator[Piece]:
        """Yield the silence before samples, and those of them whose time is still free.

        :param samples: *Shape:* (T).
        :param time: the time stamp of the first one, in seconds; None: they follow on.
        """
        if time is not None:
            self._set(time)
        yield from self._fill()
        taken = min(max(round((self.position - self._next) * rate), 0), len(samples))
        if self.position > 0:  # not what lies before zero
            self.dropped_secs += taken / rate
        if taken < len(samples):
            yield samples[taken:], rate
        self._next += len(samples) / rate
        self.position = max(self.position, self._next)

    def _set(self, time: float) -> None:
        """Note where the samples that come next belong, if that is not where they are expected."""
        step = time - self._zero - self._next
        if abs(step) > self._tolerance:
            smallest, largest = self._steps
            if smallest <= step <= largest:
                self._next += step
            else:
                self._zero += step
        self._tolerance = TOLERANCE_SECS
        if self._is_broadcast:
            self._steps = (-TOLERANCE_SECS, MAX_BROADCAST_HOLE_SECS)

    def _fill(self) -> Iterator[Piece]:
        """Yield silence up to where samples belong; what is before it ends at a whole sample."""
        begin = ceil(self.position * SAMPLE_RATE - 1e-3)
        num_samples = seconds_to_samples(self._next) - begin
        if num_samples <= 0 or self._next == self.position:
            return
        for done in range(0, num_samples, SILENCE_SAMPLES):
            yield np.zeros(min(num_samples - done, SILENCE_SAMPLES), np.float32), SAMPLE_RATE
        self.position = self._next = samples_to_seconds(begin + num_samples)
