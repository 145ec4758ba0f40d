"""Media files with bursts of tones at known times, made with PyAV."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from torch import Tensor

from wavellama.units import SAMPLE_RATE

BURST_SECS = 0.15


@dataclass(frozen=True, kw_only=True)
class Sound:
    """An audio track."""

    codec: str
    onsets: Sequence[float] = (0.6, 1.9, 3.4)
    """When bursts begin, in seconds of the track."""
    secs: float = 4.5
    rate: int = 16_000
    gains: tuple[float, ...] = (1.0,)
    """The level of each channel."""
    start: float = 0.0
    """When the track begins, on the clock of the file."""
    holes: tuple[tuple[float, float], ...] = ()
    """From when to when packets were lost, in seconds of the track."""
    shifts: tuple[tuple[float, float], ...] = ()
    """From when on time stamps are that much later, in seconds of the track."""
    jitter: float = 0.0
    """How far time stamps tremble, in seconds."""
    language: str | None = None
    is_default: bool = False

    def samples(self) -> np.ndarray:
        """Return what is heard. (T, C)."""
        mono = np.zeros(round(self.secs * self.rate), np.float32)
        length = round(BURST_SECS * self.rate)
        for onset in self.onsets:
            begin = round(onset * self.rate)
            mono[begin : begin + length] = 0.5 * np.sin(np.arange(length) * 3000 / self.rate)
        return mono[:, None] * np.array(self.gains, np.float32)


def write_container(path: Path, *sounds: Sound, picture_secs: float = 0.0) -> Path:
    """Write tracks, beside a picture that begins at zero if it is to last; returns the path."""
    with av.open(str(path), "w") as output:
        codec = {".webm": "libvpx", ".ts": "mpeg2video", ".avi": "mpeg4"}.get(path.suffix, "mpeg4")
        packets = [_show(output.add_stream(codec, rate=25), picture_secs)] if picture_secs else []
        streams = [add_stream(output, sound) for sound in sounds]
        packets += [encode_sound(*pair) for pair in zip(streams, sounds, strict=True)]
        flat = [packet for track in packets for packet in track]
        for packet in sorted(flat, key=lambda p: float((p.dts or 0) * p.time_base)):
            output.mux(packet)
    return path


def _show(stream: Any, secs: float) -> list[Any]:
    stream.width = stream.height = 32
    stream.pix_fmt = "yuv420p"
    packets: list[Any] = []
    for idx in range(round(secs * 25)):
        frame = av.VideoFrame(32, 32, "yuv420p")
        for plane in frame.planes:
            plane.update(bytes([idx % 200]) * plane.buffer_size)
        frame.pts, frame.time_base = idx, Fraction(1, 25)
        packets += stream.encode(frame)
    return [*packets, *stream.encode(None)]


def add_stream(output: Any, sound: Sound) -> Any:
    layout = {1: "mono", 2: "stereo", 6: "5.1"}[len(sound.gains)]
    stream = output.add_stream(sound.codec, rate=sound.rate, layout=layout)
    if sound.language:
        stream.metadata["language"] = sound.language
    stream.disposition = av.stream.Disposition.default if sound.is_default else 0
    return stream


def encode_sound(stream: Any, sound: Sound) -> list[Any]:
    """Return the packets that were not lost, with their time stamps."""
    frame = av.AudioFrame.from_ndarray(
        np.ascontiguousarray(sound.samples().reshape(1, -1)), "flt", stream.layout.name
    )
    frame.sample_rate, frame.time_base, frame.pts = sound.rate, Fraction(1, sound.rate), 0
    size = 0 if stream.codec_context.frame_size else 1024
    resampler = av.AudioResampler(
        stream.format, stream.layout.name, sound.rate, stream.codec_context.frame_size or size
    )
    frames = [*resampler.resample(frame), *resampler.resample(None)]
    packets = [packet for part in frames for packet in stream.encode(part)]
    packets += stream.encode(None)
    return list(_lose(packets, sound))


def _lose(packets: Iterable[Any], sound: Sound) -> Iterable[Any]:
    draw = np.random.default_rng(0)
    for packet in packets:
        if packet.pts is None:
            continue
        time = float(packet.pts * packet.time_base)
        if any(begin <= time < end for begin, end in sound.holes):
            continue
        later = sound.start + sum(by for begin, by in sound.shifts if begin <= time)
        later += draw.uniform(-sound.jitter, sound.jitter)
        packet.pts = packet.dts = packet.pts + round(later / packet.time_base)
        yield packet


def onsets(waveform: Tensor) -> list[float]:
    """Return when bursts begin in a waveform of 16 kHz, in seconds."""
    loud = (waveform.abs() > 0.1).nonzero()[:, 0].tolist()
    gap = SAMPLE_RATE // 10
    begins = [at for i, at in enumerate(loud) if i == 0 or at - loud[i - 1] > gap]
    return [at / SAMPLE_RATE for at in begins]
