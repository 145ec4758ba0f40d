"""Audio of any length in constant memory: blocks of mono 16 kHz samples.

Shapes: T samples.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from fractions import Fraction
from functools import lru_cache
from itertools import groupby
from operator import itemgetter
from typing import Final

import numpy as np
import torch
from torch import Tensor
from torchaudio.transforms import Resample

from wavellama.audio.arrays import check_rate, read_array
from wavellama.audio.clock import Piece, Samples
from wavellama.audio.packets import end_secs
from wavellama.audio.sources import (
    DECODING_ERRORS,
    AudioInput,
    BinaryFile,
    RawPcm,
    describe,
    is_pipe,
    is_seekable,
    open_container,
    read_pieces,
)
from wavellama.audio.tracks import EVERYTHING, Selection, choose_track
from wavellama.errors import AudioError
from wavellama.units import MIN_SAMPLES, SAMPLE_RATE

__all__ = ["AudioInput", "RawPcm", "probe_duration", "stream_audio"]

BLOCK_SECS: Final = 10.0

MAX_RATIO: Final = 1_000
"""The largest number in the ratio of sample rates; resampling costs grow with it."""


def stream_audio(
    source: AudioInput, block_secs: float = BLOCK_SECS, selection: Selection = EVERYTHING
) -> Iterator[Tensor]:
    """Yield the audio of ``source`` as mono 16 kHz samples in float32, not normalised. (T) each.

    Any sample rate is resampled; channels are averaged, unless they cancel each other out; both may
    change on the way. Time stamps decide where sound lies; holes and packets that cannot be decoded
    are silent. Files that can be read again are read from their beginning. Nothing is read before
    the first block is asked for.

    :param block_secs: about how long the blocks are, and how much raw PCM is waited for.
    :param selection: the track and the channel to read.
    :raises AudioError: the source is missing, not audio, too short (25 ms or less), holds NaN or
        infinite samples, its layout cannot be told, it has no such track or channel, or more than a
        tenth of its packets cannot be decoded, which shows at the end. What comes before a damage
        has been yielded by then.
    """
    name = describe(source)
    num_samples = 0
    for block in _convert(read_pieces(source, block_secs, selection), block_secs, name):
        num_samples += len(block)
        if len(block):
            yield block
    if num_samples <= MIN_SAMPLES:
        ms = num_samples * 1000 / SAMPLE_RATE
        raise AudioError(name, f"the audio is {ms:.1f} ms long, but must be longer than 25 ms.")


def can_be_read_again(source: AudioInput) -> bool:
    """Say whether the same audio comes each time that ``source`` is read."""
    is_stream = isinstance(source, BinaryFile) and not is_seekable(source)
    return not (isinstance(source, RawPcm) or is_stream or is_pipe(source))


def probe_duration(source: AudioInput, selection: Selection = EVERYTHING) -> float | None:
    """Return how many seconds of audio ``source`` promises; None: it does not say.

    Nothing is decoded, and nothing is read of a source that cannot be read again. Files without an
    index are walked through.
    """
    try:
        return _probe(source, describe(source), selection)
    except (AudioError, *DECODING_ERRORS):
        return None  # stream_audio will say what is wrong


def _probe(source: AudioInput, name: str, selection: Selection) -> float | None:
    if isinstance(source, Mapping):
        samples, sample_rate = read_array(source, name)
        return len(samples) / sample_rate
    if not can_be_read_again(source):
        return None
    with open_container(source, name) as container:
        seconds = end_secs(container, choose_track(container, name, selection), name)
    return seconds if seconds > 0 else None


def _convert(pieces: Iterable[Piece], block_secs: float, name: str) -> Iterator[Tensor]:
    """Join pieces to blocks, check and resample them; each stretch of one rate by itself."""
    for sample_rate, stretch in groupby(pieces, key=itemgetter(1)):
        rate = check_rate(sample_rate, name)
        blocks = _gather((samples for samples, _ in stretch), block_secs * rate, name)
        yield from blocks if rate == SAMPLE_RATE else _resample(blocks, rate)


def _gather(pieces: Iterable[Samples], block_len: float, name: str) -> Iterator[Tensor]:
    """Yield pieces joined to blocks of at least ``block_len`` samples. (T) each."""
    parts: list[Samples] = []
    num_samples = 0
    for samples in pieces:
        parts.append(samples)
        num_samples += len(samples)
        if num_samples >= block_len:
            yield _join(parts, name)
            parts, num_samples = [], 0
    if parts:
        yield _join(parts, name)


def _join(parts: list[Samples], name: str) -> Tensor:
    block = torch.from_numpy(np.concatenate(parts)).float()
    if not bool(torch.isfinite(block).all()):
        raise AudioError(name, "the audio holds NaN or infinite samples.")
    return block


# Resampling


def _resample(blocks: Iterable[Tensor], rate: int) -> Iterator[Tensor]:
    """Resample to 16 kHz; an odd rate is rounded to a ratio of small numbers (within 0.01 %)."""
    resampler = BlockResampler(rate)
    for block in blocks:
        yield resampler.feed(block)
    yield resampler.finish()


class BlockResampler:
    """Resamples block by block what torchaudio resamples at once.

    Each ``down`` input samples become ``up`` output samples, which depend on at most ``_reach``
    samples before and after them. That much is kept of the samples already converted.
    """

    def __init__(self, rate: int) -> None:
        ratio = Fraction(SAMPLE_RATE, rate).limit_denominator(MAX_RATIO)
        self._down, self._up = ratio.denominator, ratio.numerator
        self._convert = _resampler(self._down, self._up)
        self._reach = self._down * (2 + self._convert.width // self._down)
        self._held = torch.empty(0)
        self._num_converted = 0  # of the samples held; a multiple of `down`, as is what is dropped

    def feed(self, block: Tensor) -> Tensor:
        """Take more samples; returns those that do not depend on what comes. (T) -> (T')."""
        self._held = torch.cat([self._held, block])
        end = (len(self._held) - self._reach) // self._down * self._down
        if end <= self._num_converted:
            return torch.empty(0)
        converted: Tensor = self._convert(self._held[: end + self._reach])
        converted = converted[self._position(self._num_converted) : self._position(end)]
        dropped = max(end - self._reach, 0)
        self._held, self._num_converted = self._held[dropped:].clone(), end - dropped
        return converted.clone()

    def finish(self) -> Tensor:
        """Return the rest. (T')."""
        rest: Tensor = self._convert(self._held)[self._position(self._num_converted) :]
        return rest.clone()

    def _position(self, num_samples: int) -> int:
        return num_samples // self._down * self._up


@lru_cache(maxsize=8)
def _resampler(down: int, up: int) -> Resample:
    """Return torchaudio's windowed-sinc resampler, whose kernel takes a while to compute."""
    return Resample(down, up)
