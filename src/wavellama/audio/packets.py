"""From the packets of a media file to mono samples; silence stands in for what is damaged.

Shapes: T samples.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from math import inf
from typing import Final, TypeAlias

import av
import numpy as np

from wavellama.errors import AudioError

MAX_DAMAGE: Final = 0.1
"""The largest share of the packets of a file that may be damaged."""

MAX_HOLE_SECS: Final = 1.0
"""The most silence for one packet: what a damaged one says of its length may be wrong too."""

MAX_LEVEL: Final = 8.0
"""What lossy codecs give beyond this (full scale is 1) is damage that the decoder has not noticed;
lossless codecs may hold samples of any scale."""

SILENCE_SAMPLES: Final = 65_536
"""How much silence is made at a time."""

Samples: TypeAlias = "np.ndarray"

Piece: TypeAlias = "tuple[Samples, int]"
"""Mono samples (T) in float32, and their rate."""

_log = logging.getLogger(__name__)


def decode_audio(container: av.container.InputContainer, name: str) -> Iterator[Piece]:
    """Yield the samples of the first audio stream of a file, which must have one.

    Rate and channels may change on the way. A packet that cannot be decoded becomes silence of its
    length, so that times hold, except at the end of the file. What is damaged is logged once.

    :raises AudioError: nothing can be decoded, or more than ``MAX_DAMAGE`` of the packets cannot,
        which shows at the end. The last packet may be incomplete, as where a file was cut off.
    """
    context = container.streams.audio[0].codec_context
    if context is None:
        raise AudioError(name, "the codec of its audio is not known.")
    converter = _Converter(inf if context.codec.lossless else MAX_LEVEL)
    damage, is_empty = _Damage(), True
    for packet in container.demux(audio=0):
        for samples, rate in _decode_packet(packet, converter, damage):
            yield from damage.fill_hole(rate)
            yield samples, rate
            is_empty = False
    damage.report(name, is_empty)


def _decode_packet(
    packet: av.Packet[av.AudioStream], converter: _Converter, damage: _Damage
) -> list[Piece]:
    """Return what a packet holds; nothing if it is damaged."""
    damage.num_packets += packet.size > 0  # an empty packet marks the end
    try:
        pieces = [piece for frame in packet.decode() for piece in converter.convert(frame)]
    except (av.error.FFmpegError, ValueError) as ex:
        damage.add(packet, ex)
        return []
    damage.is_last_bad = damage.is_last_bad and not packet.size
    return pieces


class _Converter:
    """Converts frames to mono; the filter behind it takes frames of one kind only."""

    def __init__(self, max_level: float) -> None:
        self._max_level = max_level
        self._kind: object = None
        self._resampler = av.AudioResampler()

    def convert(self, frame: av.AudioFrame) -> Iterator[Piece]:
        """Yield the samples of a frame.

        :raises ValueError: they are noise.
        """
        kind = (frame.format.name, frame.layout.name, frame.sample_rate)
        if kind != self._kind:
            # Packed, since PyAV crashes on planar frames of eight channels or more.
            self._kind, self._resampler = kind, av.AudioResampler(format="flt")
        for packed in self._resampler.resample(frame):
            samples = packed.to_ndarray().reshape(-1, packed.layout.nb_channels)
            if self._max_level < inf and not np.abs(samples).max(initial=0) <= self._max_level:
                raise ValueError("samples beyond all measure")
            yield samples.mean(1), frame.sample_rate


@dataclass
class _Damage:
    """What could not be decoded so far."""

    num_packets: int = 0

    num_bad: int = 0

    is_last_bad: bool = False

    hole_secs: float = 0.0
    """The length of the bad packets since the last good one."""

    error: Exception | None = None
    """Why the last bad packet could not be decoded."""

    def add(self, packet: av.Packet[av.AudioStream], error: Exception) -> None:
        """Note a packet that cannot be decoded."""
        self.error = error
        if packet.size:
            self.num_bad += 1
            self.is_last_bad = True
            secs = float((packet.duration or 0) * (packet.time_base or 0))
            self.hole_secs += min(max(secs, 0.0), MAX_HOLE_SECS)

    def fill_hole(self, rate: int) -> Iterator[Piece]:
        """Yield silence for the bad packets since the last good one."""
        num_samples, self.hole_secs = round(self.hole_secs * rate), 0.0
        for begin in range(0, num_samples, SILENCE_SAMPLES):
            yield np.zeros(min(num_samples - begin, SILENCE_SAMPLES), np.float32), rate

    def report(self, name: str, is_empty: bool) -> None:
        """Log what is damaged.

        :raises AudioError: it is too much.
        """
        if is_empty and self.error is None:
            raise AudioError(name, "the file holds no audio samples.")
        reason = getattr(self.error, "strerror", None) or self.error
        bad = f"{self.num_bad} of {self.num_packets} packets cannot be decoded ({reason})"
        if is_empty or self.num_bad - self.is_last_bad > MAX_DAMAGE * self.num_packets:
            raise AudioError(name, f"{bad}.")
        if self.num_bad:
            _log.warning("%s: %s; they are silent, or left out at the end.", name, bad)
