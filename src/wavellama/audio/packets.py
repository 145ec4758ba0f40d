"""From the packets of a media file to mono samples; silence stands in for what is damaged.

Shapes: T samples.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from math import inf
from typing import Final

import av
import numpy as np

from wavellama.audio.channels import Mixer
from wavellama.audio.clock import Clock, Piece, Samples
from wavellama.audio.tracks import Selection, Track, choose_track, say_once, warn_of_silence
from wavellama.errors import AudioError
from wavellama.units import SAMPLE_RATE

TS_DISCONT: Final = 0x200
"""FFmpeg's flag of formats whose clock may be set anew."""

MAX_DAMAGE: Final = 0.1
"""The largest share of the packets of a file that may be damaged."""

MAX_LEVEL: Final = 8.0
"""What lossy codecs give beyond this (full scale is 1) is damage that the decoder has not noticed;
lossless codecs may hold samples of any scale."""

SILENT_LEVEL: Final = 1e-4
"""Sound that stays below this (-80 dB) is silence."""

EXACT_FORMATS: Final = frozenset(
    {"wav", "flac", "aiff", "caf", "au", "w64", "mov,mp4,m4a,3gp,3g2,mj2"}
)
"""Formats whose headers tell how much sound they hold."""

WALKED_FORMATS: Final = frozenset(
    {"mp3", "aac", "ac3", "eac3", "dts", "amr", "amrnb", "amrwb", "loas", "ogg"}
)
"""Formats without an index, which are walked through: of ogg, since files may be strung together.
Of all others the last packets are looked for."""

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


def end_secs(container: av.container.InputContainer, track: Track, name: str) -> float:
    """Return where the last sound of a track ends, in seconds of the player; nothing is decoded.

    :raises FFmpegError: the packets of a file without an index cannot be read.
    """
    # Of mp3 files, only a header that tells how much there is tells of a delay, too.
    has_index = container.format.name == "mp3" and bool(container.start_time)
    if container.format.name in EXACT_FORMATS or has_index:
        end = _seconds(track.start_time, track) + _seconds(track.duration, track)
        return end - start_secs(container, track)
    if container.format.name in WALKED_FORMATS:
        return _last_end(container, track, name)
    begin = container.start_time or 0
    with suppress(av.error.FFmpegError):
        container.seek(begin + (container.duration or 0))
        if end := _last_end(container, track, name):
            return end
    container.seek(begin)
    return _last_end(container, track, name)


def _last_end(container: av.container.InputContainer, track: Track, name: str) -> float:
    """Return where the packets that follow end, on the clock; 0: there are none."""
    clock, rate = Clock(*_clock_of(container, track)), track.rate or SAMPLE_RATE
    for packet in _demux(container, track, name):
        silence = np.zeros(round(_seconds(packet.duration, track) * rate), np.int8)
        if packet.pts is not None:
            for _ in clock.place(silence, rate, _seconds(packet.pts, track)):
                pass
    return clock.position


def _demux(
    container: av.container.InputContainer, track: Track, name: str
) -> Iterator[av.Packet[av.AudioStream]]:
    """Yield the packets of a track; of Ogg files that were strung together those that are alike."""
    is_first = True
    try:
        for packet in _mended(container.demux(track)):
            yield packet
            is_first = False
    except IndexError:  # PyAV's, at the very end, for streams that began on the way
        return
    except av.error.FFmpegError as ex:
        if is_first or container.format.name != "ogg":
            raise
        say_once(
            f"{name}: it goes on with a recording of another kind, such as of another sample rate,"
            f" which is left out ({ex.strerror}); only what comes before is read."
        )


def _mended(packets: Iterable[av.Packet[av.AudioStream]]) -> Iterator[av.Packet[av.AudioStream]]:
    """Yield packets; those of Ogg recordings that were strung together last as long as they do.

    Behind an Opus recording whose last packet is trimmed, libavformat says of each packet that it
    is such a last one: it lasts one tick, and the decoder is to leave out all of it. Of a second
    Vorbis recording, the last packet lasts less than nothing, in 32 bits without a sign.
    """
    end = longest = 0
    for packet in packets:
        duration = packet.duration or 0
        if duration == 1 and packet.has_sidedata("skip_samples"):
            _untrim(packet)
            packet.pts, packet.dts, packet.duration = end, end, longest
        elif duration >= 2**31:
            packet.duration = longest
        else:
            longest = max(longest, duration)
        end = (packet.pts or 0) + (packet.duration or 0)
        yield packet


def _untrim(packet: av.Packet[av.AudioStream]) -> None:
    """Let a packet have its end: how much to leave out is said of its begin, and of its end."""
    trims = packet.get_sidedata("skip_samples")
    trims.update(bytes(trims)[:4] + bytes(6))
    packet.set_sidedata(trims)


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
