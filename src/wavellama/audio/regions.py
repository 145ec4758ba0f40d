"""From probabilities of speech to regions of speech, as silero draws them."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import Final, final

from wavellama.errors import ConfigError, OptionError
from wavellama.options import find_faults, option, refuse
from wavellama.units import ms_to_samples

WINDOW_SAMPLES: Final = 512
"""The window (32 ms) that has one probability."""

MIN_THRESHOLD: Final = 0.01

MIN_MAX_SAMPLES: Final = 8_000
"""The shortest pieces (half a second) that regions may be cut into."""

MIN_SPEECH_MS: Final = 25
"""The shortest region that may be asked for: what the encoders make one frame of."""


@dataclass(frozen=True, kw_only=True)
class VadOptions:
    """What counts as speech; names and defaults are silero's, but for the last one."""

    threshold: float = option(0.5, low=MIN_THRESHOLD, high=1.0)
    """Speech begins at a window of at least this probability."""

    neg_threshold: float | None = option(None, low=0.0)
    """Silence begins at a window below this probability; None: 0.15 below ``threshold``."""

    min_speech_ms: int = option(250, low=MIN_SPEECH_MS, high=60_000)
    """Regions that are not longer than this are dropped."""

    min_silence_ms: int = option(100, low=0, high=60_000)
    """Silences that are shorter than this belong to the speech around them."""

    speech_pad_ms: int = option(30, low=0, high=60_000)
    """What regions are extended by on either side, at most to the middle between two."""

    hurry: bool = False
    """Whether a long region ends sooner, before it has to be cut: from a third of its longest on
    less silence ends it, and from two thirds on any does."""

    def __post_init__(self) -> None:
        """:raises OptionError: a value is out of range."""
        refuse(find_faults(self))
        if self.silence_threshold > self.threshold:
            raise OptionError(f"`neg_threshold` must be at most `threshold` ({self.threshold:g}).")

    @property
    def silence_threshold(self) -> float:
        """The probability below which silence begins."""
        default = max(self.threshold - 0.15, MIN_THRESHOLD)
        return default if self.neg_threshold is None else self.neg_threshold


@dataclass(frozen=True)
class SpeechRegion:
    """A stretch in which somebody speaks."""

    start: int
    """Its first sample."""

    end: int
    """The sample after its last one."""

    probability: float
    """The mean probability of speech of its windows."""


def mean_probability(regions: Sequence[SpeechRegion]) -> float:
    """Return the mean probability of speech in regions by their length; 0 if there are none."""
    num_samples = sum(region.end - region.start for region in regions)
    weighted = sum(region.probability * (region.end - region.start) for region in regions)
    return weighted / num_samples if num_samples else 0.0


@dataclass
class _OpenRegion:
    """A region that has begun."""

    begin: int
    """Where its first window begins, which its length is measured from."""

    start: int
    """Where it starts: with the padding, or where the last piece of it was cut off."""

    first_window: int
    """The number of the window that ``probabilities`` begin with."""

    probabilities: array[float]
    """Of the windows since then."""

    silence: int | None = None
    """Where the silence begins that it may have ended with."""

    is_certain: bool = False
    """Whether it is already long enough not to be dropped."""

    def mean_until(self, end_window: int) -> float:
        span = self.probabilities[: end_window - self.first_window]
        return sum(span) / len(span)


@final
class RegionFinder:
    """Draws regions while windows come in; each as soon as no later window can change it."""

    def __init__(self, options: VadOptions, max_samples: int | None = None) -> None:
        """
        :param max_samples: regions longer than this are cut at the least speech-like window of
            the last third of what fits.
        :raises ConfigError: ``max_samples`` is less than half a second, or than the padding.
        """
        self._max_samples = max_samples
        self._threshold, self._silence_threshold = options.threshold, options.silence_threshold
        self._min_speech = ms_to_samples(options.min_speech_ms)
        self._min_silence = ms_to_samples(options.min_silence_ms)
        self._longest = max_samples if options.hurry else None
        self._pad = ms_to_samples(options.speech_pad_ms)
        shortest = max(MIN_MAX_SAMPLES, 2 * self._pad)
        if max_samples is not None and max_samples < shortest:
            raise ConfigError(
                f"Speech cannot be cut every {max_samples} samples, but every {shortest} or more."
            )
        self._num_windows = 0
        self._open: _OpenRegion | None = None
        self._closed: SpeechRegion | None = None  # its end not padded yet

    @property
    def horizon(self) -> int:
        """No region that is still to come begins before this sample."""
        if self._closed is not None:
            return self._closed.start
        if self._open is not None:
            return self._open.start
        return max(self._num_windows * WINDOW_SAMPLES - self._pad, 0)

    @property
    def open_start(self) -> int | None:
        """Where the region begins that is surely one and has not ended yet, if there is one."""
        is_certain = self._open is not None and self._open.is_certain
        return self._open.start if self._open is not None and is_certain else None

    def feed(self, probability: float) -> list[SpeechRegion]:
        """Take the next window into account; returns the regions that are complete now."""
        begin = self._num_windows * WINDOW_SAMPLES
        self._num_windows += 1
        if self._open is None and probability >= self._threshold:
            start = max(begin - self._pad_between(begin), 0)
            self._open = _OpenRegion(begin, start, self._num_windows - 1, array("d"))
        found: list[SpeechRegion] = []
        if self._open is not None:
            found = self._extend(self._open, begin, probability)
        return found + self._release()

    def finish(self, num_samples: int) -> list[SpeechRegion]:
        """Return the remaining regions of audio that has ended after ``num_samples``."""
        found: list[SpeechRegion] = []
        if self._open is not None:
            found = self._close(self._open, num_samples, padding=0)
            self._open = None
        if self._closed is not None:
            found.append(self._pad_closed(min(self._pad, num_samples - self._closed.end)))
        return found

    def _extend(self, region: _OpenRegion, begin: int, probability: float) -> list[SpeechRegion]:
        """Add a window to the open region, and close it if the silence is long enough."""
        region.probabilities.append(probability)
        if probability >= self._threshold:
            region.silence = None
        elif probability < self._silence_threshold:
            region.silence = begin if region.silence is None else region.silence
            if begin - region.silence >= self._needed_silence(begin - region.start):
                self._open = None
                return self._close(region, region.silence, self._pad)
        if region.silence is None and begin + WINDOW_SAMPLES - region.begin > self._min_speech:
            region.is_certain = True
            return self._cut(region, begin + WINDOW_SAMPLES)
        return []

    def _needed_silence(self, length: int) -> float:
        """Return the samples of silence that end a region of this length."""
        share = length / self._longest if self._longest is not None else 0.0
        return self._min_silence * min(max(2 - 3 * share, 0.0), 1.0)

    def _close(self, region: _OpenRegion, end: int, padding: int) -> list[SpeechRegion]:
        """End the open region, or drop it; returns those that are complete now."""
        if end - region.begin <= self._min_speech:
            return []
        found = self._cut(region, end + min(padding, WINDOW_SAMPLES)) + self._confirm(region)
        mean = region.mean_until(ceil(end / WINDOW_SAMPLES))
        self._closed = SpeechRegion(region.start, end, mean)
        return found

    def _cut(self, region: _OpenRegion, end: int) -> list[SpeechRegion]:
        """Cut off as many pieces of the open region as it is too long for, if it ends there."""
        found = []
        while self._max_samples is not None and end - region.start > self._max_samples:
            found += self._confirm(region)
            window = self._least_probable(region, self._max_samples)
            middle = window * WINDOW_SAMPLES + WINDOW_SAMPLES // 2
            found.append(SpeechRegion(region.start, middle, region.mean_until(window)))
            region.probabilities = region.probabilities[window - region.first_window :]
            region.start, region.first_window = middle, window
        return found

    def _least_probable(self, region: _OpenRegion, max_samples: int) -> int:
        """Return the number of the window to cut in; it leaves more than a window of the region."""
        first = (region.start + max_samples * 2 // 3) // WINDOW_SAMPLES
        last = (region.start + max_samples) // WINDOW_SAMPLES - 2
        return min(
            range(last, first, -1),
            key=lambda window: region.probabilities[window - region.first_window],
        )

    def _confirm(self, region: _OpenRegion) -> list[SpeechRegion]:
        """Return the region before the open one, which is known to come."""
        if self._closed is None:
            return []
        return [self._pad_closed(self._pad_between(region.begin))]

    def _release(self) -> list[SpeechRegion]:
        """Return the closed region if no later one can be near enough to share the padding."""
        next_begin = self._num_windows * WINDOW_SAMPLES if self._open is None else self._open.begin
        if self._closed is None or next_begin - self._closed.end < 2 * self._pad:
            return []
        return [self._pad_closed(self._pad)]

    def _pad_closed(self, padding: int) -> SpeechRegion:
        assert self._closed is not None
        closed, self._closed = self._closed, None
        end = closed.end + padding
        if self._max_samples is not None:
            end = min(end, closed.start + self._max_samples)
        return SpeechRegion(closed.start, end, closed.probability)

    def _pad_between(self, begin: int) -> int:
        """Return the padding on either side of the silence before ``begin``."""
        if self._closed is None:
            return self._pad
        return min(self._pad, (begin - self._closed.end) // 2)
