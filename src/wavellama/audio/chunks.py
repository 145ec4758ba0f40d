"""Audio of any length as chunks that a model can read at once, while it is being read.

Shapes: T samples.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, final

import torch
from torch import Tensor

from wavellama.audio.regions import WINDOW_SAMPLES, SpeechRegion, VadOptions, mean_probability
from wavellama.audio.vad import SpeechDetector
from wavellama.errors import ConfigError
from wavellama.units import seconds_to_samples

MARGIN_SAMPLES: Final = seconds_to_samples(0.2)
"""The most silence that is kept before the first and after the last region of a chunk."""

MAX_GAP_SAMPLES: Final = seconds_to_samples(2.0)
"""The longest silence between two regions of one chunk."""

BATCH_SAMPLES: Final = 256 * WINDOW_SAMPLES
"""How much audio is looked at in one call (8 s): the same whatever the sizes of the blocks."""


@dataclass(frozen=True, eq=False)
class Chunk:
    """A piece of audio to be recognised at once."""

    waveform: Tensor
    """Mono, 16 kHz, not normalised. *Shape:* (T)."""

    start: int
    """Where it begins in the audio, in samples."""

    regions: tuple[SpeechRegion, ...] = ()
    """Where somebody speaks in it, in samples of the audio; empty if nobody has looked."""

    speech_probability: float | None = None
    """The mean probability of speech in the regions; None if nobody has looked."""

    @property
    def end(self) -> int:
        """The sample after its last one in the audio."""
        return self.start + len(self.waveform)


def cut_at_silence(
    blocks: Iterable[Tensor], max_secs: float, options: VadOptions | None = None
) -> Iterator[Chunk]:
    """Cut audio in the middle of silences; long silences and audio without speech are left out.

    Neighbouring regions of speech are packed into one chunk as long as they fit and no silence
    between them is longer than 2 s. Speech that does not pause for ``max_secs`` is cut where it is
    least probable, within the last third of what fits. Chunks do not depend on the sizes of the
    blocks. At most twice ``max_secs`` and a few seconds of audio are held.

    :param blocks: mono 16 kHz audio, not normalised. *Shape of each:* (T).
    :param max_secs: the most that a chunk may hold; half a second at least.
    :raises ConfigError: ``max_secs`` is too small.
    """
    max_samples = seconds_to_samples(max_secs)
    detector = SpeechDetector(options, max_samples)
    packer = _Packer(max_samples)
    for batch in _rebatch(blocks, BATCH_SAMPLES):
        packer.hold(batch)
        yield from packer.pack(detector.feed(batch), detector.horizon)
    yield from packer.finish(detector.finish())


def cut_fixed(blocks: Iterable[Tensor], max_secs: float, overlap_secs: float) -> Iterator[Chunk]:
    """Cut audio into windows of ``max_secs`` that have ``overlap_secs`` in common.

    The last window begins earlier, and has more in common with the one before it, where it would
    be shorter than a third of a window. Audio that is not longer than a window is one chunk.

    :param blocks: mono 16 kHz audio, not normalised. *Shape of each:* (T).
    :raises ConfigError: windows would not advance.
    """
    window, overlap = seconds_to_samples(max_secs), seconds_to_samples(overlap_secs)
    if not 0 <= overlap < window:
        raise ConfigError(f"Windows of {max_secs:g} s cannot overlap by {overlap_secs:g} s.")
    held = _HeldAudio()
    start = 0
    for batch in _rebatch(blocks, BATCH_SAMPLES):
        held.append(batch)
        while held.end - start > window:
            yield Chunk(held.between(start, start + window), start)
            # Of the window before, so much as the last one may have to begin earlier.
            held.drop_before(min(start + window - overlap, held.end - window // 3))
            start += window - overlap
    if held.end:
        start = max(min(start, held.end - window // 3), 0)
        yield Chunk(held.between(start, held.end), start)


def _rebatch(blocks: Iterable[Tensor], size: int) -> Iterator[Tensor]:
    """Yield the samples of blocks in batches of ``size``, the last one maybe shorter."""
    held: list[Tensor] = []
    missing = size
    for block in blocks:
        while len(block) >= missing:
            yield torch.cat([*held, block[:missing]])
            held, block, missing = [], block[missing:], size
        held.append(block)
        missing -= len(block)
    if missing < size:
        yield torch.cat(held)


@final
class _HeldAudio:
    """The part of the audio that may still be asked for."""

    def __init__(self) -> None:
        self._samples = torch.empty(0)
        self._start = 0

    @property
    def end(self) -> int:
        """How much audio there was."""
        return self._start + len(self._samples)

    def append(self, samples: Tensor) -> None:
        """Hold more audio."""
        self._samples = torch.cat([self._samples, samples])

    def drop_before(self, start: int) -> None:
        """Forget what lies before ``start``."""
        if start > self._start:
            self._samples = self._samples[start - self._start :].clone()
            self._start = start

    def between(self, start: int, end: int) -> Tensor:
        """Return a copy of the audio from ``start`` to ``end``. (T)."""
        return self._samples[start - self._start : end - self._start].clone()


@final
class _Packer:
    """Packs regions into chunks."""

    def __init__(self, max_samples: int) -> None:
        self._max_samples = max_samples
        self._audio = _HeldAudio()
        self._group: list[SpeechRegion] = []
        self._group_start = 0
        self._last_end = 0  # of the last region, be it in the group or in the chunk before

    def hold(self, samples: Tensor) -> None:
        """Hold audio that regions may lie in."""
        self._audio.append(samples)

    def pack(self, regions: Iterable[SpeechRegion], horizon: int) -> Iterator[Chunk]:
        """Take the next regions; yields the chunks that no later one can be part of.

        :param horizon: no region that is still to come begins before this sample.
        """
        for region in regions:
            if self._group and not self._fits(region):
                yield self._close_group((region.start - self._last_end) // 2)
            self._add(region)
        if self._group and horizon - self._last_end > MAX_GAP_SAMPLES:
            yield self._close_group(MARGIN_SAMPLES)
        self._audio.drop_before(self._group_start if self._group else horizon - MARGIN_SAMPLES)

    def finish(self, regions: Iterable[SpeechRegion]) -> Iterator[Chunk]:
        """Take the last regions; yields the remaining chunks."""
        yield from self.pack(regions, self._audio.end)
        if self._group:
            yield self._close_group(self._audio.end - self._last_end)

    def _fits(self, region: SpeechRegion) -> bool:
        is_near = region.start - self._last_end <= MAX_GAP_SAMPLES
        return is_near and region.end - self._group_start <= self._max_samples

    def _add(self, region: SpeechRegion) -> None:
        if not self._group:
            silence = (region.start - self._last_end) // 2 if self._last_end else region.start
            room = self._max_samples - (region.end - region.start)
            self._group_start = region.start - min(MARGIN_SAMPLES, silence, room)
        self._group.append(region)
        self._last_end = region.end

    def _close_group(self, silence: int) -> Chunk:
        """Return the chunk of the group.

        :param silence: how much of the silence after it is its own.
        """
        room = self._group_start + self._max_samples - self._last_end
        end = self._last_end + min(MARGIN_SAMPLES, silence, room)
        regions, self._group = tuple(self._group), []
        waveform = self._audio.between(self._group_start, end)
        return Chunk(waveform, self._group_start, regions, mean_probability(regions))
