"""Damaged packets, and files whose rate or channels change on the way."""

from __future__ import annotations

import io
import logging
import random
from collections.abc import Collection
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor

from wavellama.audio.load import load_audio
from wavellama.audio.packets import decode_audio
from wavellama.audio.stream import stream_audio
from wavellama.audio.tracks import EVERYTHING
from wavellama.errors import AudioError
from wavellama.units import SAMPLE_RATE

PACKET: int = 1024
"""Samples of each packet of AAC."""


def _tone(rate: int, seconds: float) -> np.ndarray:
    tone: np.ndarray = 0.5 * np.sin(np.arange(round(rate * seconds)) * 2 * np.pi * 440 / rate)
    return tone.astype("f4")


@pytest.fixture(scope="module")
def m4a(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Return two seconds of a tone in 33 packets of AAC; their index lies before them."""
    path = tmp_path_factory.mktemp("aac") / "tone.m4a"
    tone = _tone(SAMPLE_RATE, 2)
    with av.open(str(path), "w", options={"movflags": "faststart"}) as output:
        stream: Any = output.add_stream("aac", rate=SAMPLE_RATE, layout="mono")
        frame = av.AudioFrame.from_ndarray(tone[None], format="fltp", layout="mono")
        frame.sample_rate, frame.time_base = SAMPLE_RATE, Fraction(1, SAMPLE_RATE)
        resampler = av.AudioResampler(stream.format, "mono", SAMPLE_RATE, frame_size=PACKET)
        for part in [*resampler.resample(frame), *resampler.resample(None)]:
            output.mux(stream.encode(part))
        output.mux(stream.encode(None))
    return path.read_bytes()


def _places(data: bytes) -> list[tuple[int, int]]:
    """Return where the packets of a file lie, and their sizes."""
    with av.open(io.BytesIO(data)) as container:
        packets = [packet for packet in container.demux(audio=0) if packet.size]
    return [(packet.pos or 0, packet.size) for packet in packets]


def _spoil(data: bytes, packets: Collection[int]) -> bytes:
    """Overwrite packets with what no decoder understands."""
    spoilt, places = bytearray(data), _places(data)
    for idx in packets:
        begin, size = places[idx]
        spoilt[begin : begin + size] = random.Random(1).randbytes(size)
    return bytes(spoilt)


def _streamed(source: Any, block_secs: float) -> Tensor:
    return torch.cat(list(stream_audio(source, block_secs)))


# Damaged packets


@pytest.mark.parametrize("bad", [{0}, {15}, {14, 15, 20}], ids=str)
def test_silence_stands_in_for_damaged_packets(
    m4a: bytes, bad: set[int], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "bad.m4a"
    path.write_bytes(_spoil(m4a, bad))
    expected, spoilt = load_audio(m4a), load_audio(path)
    assert len(spoilt) == pytest.approx(len(expected), abs=1)
    begin, end = min(bad) * PACKET, (max(bad) + 3) * PACKET
    untouched = torch.cat([torch.arange(begin), torch.arange(end, 30 * PACKET)])
    torch.testing.assert_close(spoilt[untouched], expected[untouched], atol=0.02, rtol=0)
    assert int((spoilt == 0).sum()) >= PACKET * len(bad)
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert f"{path}: {len(bad)} of 33 packets" in record.getMessage()
    torch.testing.assert_close(_streamed(path, 0.1), spoilt, atol=1e-6, rtol=0)


def test_a_file_that_is_damaged_in_many_places(m4a: bytes) -> None:
    blocks = stream_audio(_spoil(m4a, [10, 15, 20, 25]), 0.5)
    assert len(next(blocks)) >= SAMPLE_RATE / 2
    with pytest.raises(AudioError, match="4 of 33 packets cannot be decoded"):
        list(blocks)


def test_a_file_without_a_good_packet(m4a: bytes) -> None:
    with pytest.raises(AudioError, match="33 of 33 packets cannot be decoded"):
        load_audio(_spoil(m4a, range(33)))


@pytest.mark.parametrize("num_packets", [3, 20])
def test_a_file_that_was_cut_off_within_a_packet(m4a: bytes, num_packets: int) -> None:
    begin, _ = _places(m4a)[num_packets]
    waveform = load_audio(m4a[: begin + 10])
    torch.testing.assert_close(waveform, load_audio(m4a)[: len(waveform)])
    assert len(waveform) == pytest.approx(num_packets * PACKET, abs=PACKET)


@dataclass
class _Packet:
    """A packet of a tenth of a second."""

    number: int

    level: float | None
    """Of its samples; None: it cannot be decoded."""

    size: int = 9
    pts: int | None = None
    duration: int | None = None

    def decode(self) -> list[av.AudioFrame]:
        if self.level is None:
            raise av.error.InvalidDataError(1, "damaged")
        samples = np.full((1, 1600), self.level, "f4")
        frame = av.AudioFrame.from_ndarray(samples, "flt", "mono")
        frame.sample_rate, frame.time_base = SAMPLE_RATE, Fraction(1, 10)
        frame.pts = self.number
        return [frame]


def _decode(codec: str, levels: list[float | None]) -> np.ndarray:
    """Decode packets of a tenth of a second."""
    context = av.codec.CodecContext.create(codec, "r")
    track = SimpleNamespace(codec_context=context, disposition=0)
    container = SimpleNamespace(
        streams=SimpleNamespace(audio=[track]),
        demux=lambda track: (_Packet(*pair) for pair in enumerate(levels)),
        start_time=0,
        format=SimpleNamespace(flags=0),
    )
    pieces = list(decode_audio(container, "file", EVERYTHING))  # type: ignore[arg-type]
    assert {rate for _, rate in pieces} == {SAMPLE_RATE}
    return np.concatenate([samples for samples, _ in pieces])


@pytest.mark.parametrize("level", [None, 100.0, float("nan")])
def test_a_damaged_packet_is_as_long_as_the_time_stamps_leave_room(level: float | None) -> None:
    samples = _decode("mp3", [0.5] * 10 + [level] + [0.5] * 10)
    assert np.array_equal(samples, np.repeat([0.5, 0, 0.5], [16_000, 1_600, 16_000]))


def test_lossless_samples_may_have_any_scale() -> None:
    assert _decode("pcm_f32le", [0.5, 100.0]).max() == 100


def test_a_codec_that_is_not_known() -> None:
    buffer = io.BytesIO()
    soundfile.write(buffer, _tone(SAMPLE_RATE, 1), SAMPLE_RATE, format="WAV")
    data = bytearray(buffer.getvalue())
    data[20:22] = b"\x34\x12"
    with pytest.raises(AudioError, match="codec of its audio"):
        load_audio(bytes(data))


# Rates and channels that change


def _mp3(rate: int, channels: int) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, np.stack([_tone(rate, 1)] * channels, 1), rate, format="MP3")
    return buffer.getvalue()


@pytest.mark.parametrize(
    "kinds",
    [
        [(32_000, 1), (44_100, 1)],
        [(44_100, 1), (44_100, 2), (44_100, 1)],
        [(16_000, 2), (44_100, 1), (16_000, 1)],
    ],
    ids=str,
)
def test_rate_and_channels_may_change_within_the_file(kinds: list[tuple[int, int]]) -> None:
    data = b"".join(_mp3(*kind) for kind in kinds)
    waveform = load_audio(data)
    assert len(waveform) == pytest.approx(SAMPLE_RATE * len(kinds), abs=3000 * len(kinds))
    for second in range(len(kinds)):
        begin = round((second + 0.4) * SAMPLE_RATE)
        spectrum = torch.fft.rfft(waveform[begin : begin + 3200]).abs()
        assert int(spectrum.argmax()) * 5 == pytest.approx(440, abs=5)
    for block_secs in (0.05, 0.7):
        torch.testing.assert_close(_streamed(data, block_secs), waveform, atol=1e-5, rtol=0)
