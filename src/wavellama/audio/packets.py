"""From the packets of a media file to mono samples; silence stands in for what is damaged.

Shapes: T samples.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from math import inf
from typing import Final

import av
import numpy as np

from wavellama.audio.channels import Mixer
from wavellama.audio.clock import Clock, Piece, Samples
from wavellama.audio.tracks import Selection, Track, choose_track, warn_of_silence
from wavellama.errors import AudioError

NO_TIMESTAMPS: Final = 0x80
TS_DISCONT: Final = 0x200
"""Flags of FFmpeg's formats: packets without a clock; a clock that may be set anew."""

MAX_DAMAGE: Final = 0.1
"""The largest share of the packets of a file that may be damaged."""

MAX_LEVEL: Final = 8.0
"""What lossy codecs give beyond this (full scale is 1) is damage that the decoder has not noticed;
lossless codecs may hold samples of any scale."""

SILENT_LEVEL: Final = 1e-4
"""Sound that stays below this (-80 dB) is silence."""

BARE_FORMATS: Final = frozenset({"mp3", "aac", "amr", "amrnb", "amrwb", "loas"})
"""Formats of packets without a header that tells how many there are, beside those that FFmpeg calls
formats without time stamps."""

MIN_DROPPED_SECS: Final = 0.5
"""How much sound may be left out without a word."""

_log = logging.getLogger(__name__)


def decode_audio(
    container: av.container.InputContainer, name: str, selection: Selection
) -> Iterator[Piece]:
    """Yield the samples of an audio track, where they lie on the clock of a player (see ``Clock``).

    Rate and channels may change on the way. A packet that cannot be decoded leaves a hole, which is
    silent, except at the end of the file. What is damaged is logged once.

    :raises AudioError: there is no such track or channel, nothing can be decoded, or more than
        ``MAX_DAMAGE`` of the packets cannot, which shows at the end. The last packet may be
        incomplete, as where a file was cut off.
    """
    track = choose_track(container, name, selection)
    clock = Clock(*_clock_of(container, track))
    converter = _Converter(track, Mixer(selection.channel, name))
    damage, is_empty = _Damage(), True
    for packet in _demux(container, track, name):
        for samples, rate, time in _decode_packet(packet, converter, damage):
            if damage.is_new:
                clock.expect_hole()
            damage.is_new, is_empty = False, False
            yield from clock.place(samples, rate, time)
    damage.report(name, is_empty)
    if clock.dropped_secs > MIN_DROPPED_SECS:
        _log.warning(
            "%s: time goes back; %.1f s of sound are left out, at whose times there was some"
            " already.",
            name,
            clock.dropped_secs,
        )
    if converter.peak < SILENT_LEVEL:
        warn_of_silence(container, name, track)


def _clock_of(container: av.container.InputContainer, track: Track) -> tuple[float, bool]:
    """Return where the player begins (with the picture, if that is first), and ``is_broadcast``."""
    is_broadcast = bool(container.format.flags & TS_DISCONT)
    return start_secs(container, track), is_broadcast


def start_secs(container: av.container.InputContainer, track: Track) -> float:
    """Return the time stamp that is zero for players, in seconds."""
    if container.start_time is not None:
        return container.start_time / av.time_base
    return _seconds(track.start_time, track)


def _seconds(ticks: int | None, track: Track) -> float:
    return float((ticks or 0) * (track.time_base or 0))


def end_secs(container: av.container.InputContainer, track: Track) -> float:
    """Return where the last sound of a track ends, in seconds of the player; nothing is decoded.

    :raises FFmpegError: the packets of a file without an index cannot be read.
    """
    start = start_secs(container, track)
    if _is_estimated(container):
        return _last_end(container, track) - start
    if track.duration is not None:
        return _seconds(track.start_time, track) + _seconds(track.duration, track) - start
    if container.duration:  # that of all tracks: the end of this one lies near it, or before
        with suppress(av.error.FFmpegError):
            container.seek((container.start_time or 0) + container.duration)
            if end := _last_end(container, track):
                return end - start
    container.seek(container.start_time or 0)
    return _last_end(container, track) - start


def _is_estimated(container: av.container.InputContainer) -> bool:
    """Say whether FFmpeg guesses the duration by the first packets, or whether it is told."""
    is_bare = container.format.flags & NO_TIMESTAMPS
    has_index = container.format.name == "mp3" and bool(container.start_time)
    return not has_index and (bool(is_bare) or container.format.name in BARE_FORMATS)


def _last_end(container: av.container.InputContainer, track: Track) -> float:
    """Return the latest end of the packets that follow, in seconds; 0: there are none."""
    ends = (p.pts + (p.duration or 0) for p in container.demux(track) if p.pts is not None)
    return _seconds(max(ends, default=0), track)


def _demux(
    container: av.container.InputContainer, track: Track, name: str
) -> Iterator[av.Packet[av.AudioStream]]:
    """Yield the packets of a track; of Ogg files that were strung together those that are alike.

    :raises FFmpegError: they cannot be read.
    """
    is_first = True
    try:
        for packet in container.demux(track):
            yield packet
            is_first = False
    except IndexError:  # PyAV's, at the very end, for streams that began on the way
        return
    except av.error.FFmpegError as ex:
        if is_first or container.format.name != "ogg":
            raise
        _log.warning(
            "%s: it goes on with a recording of another kind, such as of another sample rate, which"
            " is left out (%s); only what comes before is read.",
            name,
            ex.strerror,
        )


def _decode_packet(
    packet: av.Packet[av.AudioStream], converter: _Converter, damage: _Damage
) -> list[tuple[Samples, int, float | None]]:
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

    def __init__(self, track: Track, mixer: Mixer) -> None:
        self._mixer = mixer
        self._max_level = inf if track.codec_context.codec.lossless else MAX_LEVEL
        self._kind: object = None
        self._resampler = av.AudioResampler()
        self.peak = 0.0
        """The highest level so far, of all channels."""

    def convert(self, frame: av.AudioFrame) -> Iterator[tuple[Samples, int, float | None]]:
        """Yield the samples of a frame (T), their rate, and the time stamp of the first one.

        :raises ValueError: they are noise.
        """
        kind = (frame.format.name, frame.layout.name, frame.sample_rate)
        if kind != self._kind:
            # Packed, since PyAV crashes on planar frames of eight channels or more.
            self._kind, self._resampler = kind, av.AudioResampler(format="flt")
        time = frame.time
        for packed in self._resampler.resample(frame):
            samples = packed.to_ndarray().reshape(-1, packed.layout.nb_channels)
            level = float(np.abs(samples).max(initial=0))
            if self._max_level < inf and not level <= self._max_level:
                raise ValueError("samples beyond all measure")
            self.peak = max(self.peak, level)
            yield self._mixer(samples), frame.sample_rate, time


@dataclass
class _Damage:
    """What could not be decoded so far."""

    num_packets: int = 0

    num_bad: int = 0

    is_last_bad: bool = False

    is_new: bool = False
    """Whether nothing good has come since the last bad packet."""

    error: Exception | None = None
    """Why the last bad packet could not be decoded."""

    def add(self, packet: av.Packet[av.AudioStream], error: Exception) -> None:
        """Note a packet that cannot be decoded."""
        self.error = error
        if packet.size:
            self.num_bad += 1
            self.is_last_bad = self.is_new = True

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
