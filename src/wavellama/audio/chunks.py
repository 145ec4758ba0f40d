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

MARGIN_SAMPLES: Final = seconds_to_samples(0.05)
"""The most silence that is kept before the first and after the last region of a chunk, beside the
padding that regions have. More of it costs accuracy, live too (measured on development speech)."""

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
    held = HeldAudio()
    start = 0
    for batch in _rebatch(blocks, BATCH_SAMPLES):
        held.append(batch)
        while held.end - start > window:
            yield Chunk(held.between(start, start + window), start)
            # The last window may begin earlier, so the end of the window before is kept.
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
class HeldAudio:
    """The part of audio that is still needed, while the audio is being read."""

    def __init__(self) -> None:
        self._samples = torch.empty(0)
        self.start = 0
        """The first sample that is held."""

    @property
    def end(self) -> int:
        """How much audio there was."""
        return self.start + len(self._samples)

    def append(self, samples: Tensor) -> None:
        """Hold more audio."""
        self._samples = torch.cat([self._samples, samples])

    def drop_before(self, start: int) -> None:
        """Forget what lies before ``start``."""
        if start > self.start:
            self._samples = self._samples[start - self.start :].clone()
            self.start = start

    def between(self, start: int, end: int) -> Tensor:
        """Return a copy of the audio from ``start`` to ``end``. (T)."""
        return self._samples[start - self.start : end - self.start].clone()

    def with_margin(
        self, start: int, end: int, next_start: int | None, max_samples: int
    ) -> tuple[int, int]:
        """Return where a piece begins and ends that is speech with some silence around it.

        Pieces have nothing in common: before the speech all silence is free that is still held,
        after it one half of that before the next speech, and all if nothing follows.

        :param next_start: no other speech begins before this sample; None: the audio ends.
        :param max_samples: the most that the piece may hold; the speech is not longer.
        """
        free_end = self.end if next_start is None else (end + next_start) // 2
        begin = start - min(MARGIN_SAMPLES, start - self.start, max_samples - (end - start))
        return begin, end + min(MARGIN_SAMPLES, free_end - end, max_samples - (end - begin))

    def take(
        self, regions: tuple[SpeechRegion, ...], next_start: int | None, max_samples: int
    ) -> Chunk:
        """Return regions as a chunk (see ``with_margin``), and forget the audio up to its end."""
        start, end = self.with_margin(regions[0].start, regions[-1].end, next_start, max_samples)
        chunk = Chunk(self.between(start, end), start, regions, mean_probability(regions))
        self.drop_before(end)
        return chunk


@final
class _Packer:
    """Packs regions into chunks."""

    def __init__(self, max_samples: int) -> None:
        self._max_samples = max_samples
        self._audio = HeldAudio()
        self._group: list[SpeechRegion] = []

    def hold(self, samples: Tensor) -> None:
        """Hold audio that regions may lie in."""
        self._audio.append(samples)

    def pack(self, regions: Iterable[SpeechRegion], horizon: int) -> Iterator[Chunk]:
        """Take the next regions; yields the chunks that no later one can be part of.

        :param horizon: no region that is still to come begins before this sample.
        """
        for region in regions:
            if self._group and not self._fits(region):
                yield self._close_group(region.start)
            self._group.append(region)
        if self._group and horizon - self._group[-1].end > MAX_GAP_SAMPLES:
            yield self._close_group(horizon)
        needed = self._group[0].start if self._group else horizon
        self._audio.drop_before(needed - MARGIN_SAMPLES)

    def finish(self, regions: Iterable[SpeechRegion]) -> Iterator[Chunk]:
        """Take the last regions; yields the remaining chunks."""
        yield from self.pack(regions, self._audio.end)
        if self._group:
            yield self._close_group(None)

    def _fits(self, region: SpeechRegion) -> bool:
        is_near = region.start - self._group[-1].end <= MAX_GAP_SAMPLES
        num_samples = region.end - self._group[0].start + 2 * MARGIN_SAMPLES
        return is_near and num_samples <= self._max_samples

    def _close_group(self, next_start: int | None) -> Chunk:
        regions, self._group = tuple(self._group), []
        return self._audio.take(regions, next_start, self._max_samples)
