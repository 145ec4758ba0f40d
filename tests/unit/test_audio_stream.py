"""Audio in blocks: the same samples as at once, from every kind of source."""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import soundfile
import torch
import torchaudio
from hypothesis import given
from hypothesis import strategies as st

from wavellama.audio.load import describe, load_audio
from wavellama.audio.sources import RawPcm
from wavellama.audio.stream import probe_duration, stream_audio
from wavellama.errors import AudioError, ConfigError
from wavellama.units import SAMPLE_RATE

Array = npt.NDArray[np.float32]

SONNET = Path(str(files("wavellama.assets"))) / "corpora" / "mini" / "audio" / "sonnet.ogg"

RATES = [8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 88200, 96000, 176400, 192000]


def _noise(length: int, channels: int | None = None) -> Array:
    shape = length if channels is None else (length, channels)
    return (0.1 * np.random.default_rng(length).standard_normal(shape)).astype("f4")


def _as_dict(waveform: object, rate: int) -> dict[str, object]:
    return {"waveform": waveform, "sample_rate": rate}


def _wav(waveform: npt.NDArray[Any], rate: int = SAMPLE_RATE, subtype: str = "FLOAT") -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, waveform, rate, format="WAV", subtype=subtype)
    return buffer.getvalue()


def _streamed(source: Any, block_secs: float) -> torch.Tensor:
    return torch.cat(list(stream_audio(source, block_secs)))


# Blocks


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("block_secs", [0.0101, 0.1, 0.333, 10.0])
def test_blocks_are_what_is_resampled_at_once(rate: int, block_secs: float) -> None:
    samples = _noise(round(1.03 * rate))
    at_once = torchaudio.transforms.Resample(rate, SAMPLE_RATE)(torch.from_numpy(samples))
    for source in (_as_dict(samples, rate), _wav(samples, rate)):
        streamed = _streamed(source, block_secs)
        torch.testing.assert_close(streamed, at_once, atol=1e-5, rtol=0)
        torch.testing.assert_close(load_audio(source), streamed, atol=1e-5, rtol=0)


@given(
    rate=st.sampled_from(RATES) | st.integers(4_000, 200_000),
    length=st.integers(1, 30_000),
    block_secs=st.floats(1e-4, 0.5),
)
def test_the_sizes_of_blocks_do_not_matter(rate: int, length: int, block_secs: float) -> None:
    length += rate // 20
    streamed = _streamed(_as_dict(_noise(length), rate), block_secs)
    at_once = load_audio(_as_dict(_noise(length), rate))
    torch.testing.assert_close(streamed, at_once, atol=1e-5, rtol=0)


@pytest.mark.parametrize("rate", [16000, 44100])
def test_blocks_are_about_as_long_as_asked_for(rate: int) -> None:
    blocks = list(stream_audio(_wav(_noise(5 * rate), rate), 1.0))
    assert len(blocks) in (5, 6)
    assert all(abs(len(block) - SAMPLE_RATE) < 2000 for block in blocks[:4])
    assert all(block.dtype == torch.float32 for block in blocks)


def test_nothing_is_read_before_the_first_block_is_asked_for() -> None:
    blocks = stream_audio("/nowhere.wav")
    with pytest.raises(AudioError, match="no such file"):
        next(blocks)


def test_no_block_is_empty() -> None:
    assert all(map(len, stream_audio(_as_dict(_noise(48_000), 48_000), 1e-4)))


# Errors come where the damage is


def test_a_bad_sample_late_in_the_audio() -> None:
    samples = _noise(5 * SAMPLE_RATE)
    samples[-1] = np.nan
    blocks = stream_audio(_wav(samples), 1.0)
    assert len(next(blocks)) >= SAMPLE_RATE
    with pytest.raises(AudioError, match="NaN"):
        list(blocks)


def test_too_short_is_known_at_the_end() -> None:
    blocks = stream_audio(_as_dict(_noise(399), SAMPLE_RATE), 0.01)
    assert len(next(blocks)) == 399  # arrays come in pieces of their own
    with pytest.raises(AudioError, match=r"^audio given as an array: .* 24\.9 ms long"):
        next(blocks)
    with pytest.raises(AudioError, match=r"25\.0 ms long"):
        _streamed(_as_dict(_noise(400), SAMPLE_RATE), 0.01)
    assert len(_streamed(_as_dict(_noise(401), SAMPLE_RATE), 0.01)) == 401


# File objects


class _ReadOnly:
    """A file that can only be read, as a socket's."""

    def __init__(self, data: bytes) -> None:
        self._file = io.BytesIO(data)

    def read(self, size: int) -> bytes:
        return self._file.read(size)


@pytest.mark.parametrize("form", ["wav", "flac", "mp3", "ogg"])
def test_binary_files(form: str, tmp_path: Path) -> None:
    path = tmp_path / f"noise.{form}"
    soundfile.write(path, _noise(20_000), SAMPLE_RATE)
    expected = load_audio(path)
    with path.open("rb") as file:
        assert torch.equal(load_audio(file), expected)
        assert torch.equal(load_audio(file), expected)  # from the beginning again
        assert describe(file) == str(path)
    assert torch.equal(load_audio(io.BytesIO(path.read_bytes())), expected)
    from_pipe = load_audio(_ReadOnly(path.read_bytes()))
    known = len(expected) - 2400 * (form == "mp3")  # how much its last frames hold is not told
    assert torch.equal(from_pipe[:known], expected[:known])


def test_a_pipe() -> None:
    data = _wav(_noise(200_000))
    reading, writing = os.pipe()

    def write() -> None:
        with os.fdopen(writing, "wb") as file:
            file.write(data)

    writer = threading.Thread(target=write)
    writer.start()
    with os.fdopen(reading, "rb") as file:
        assert torch.equal(load_audio(file), load_audio(data))
    writer.join()


def test_a_file_in_text_mode(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(_wav(_noise(1000)))
    with (tmp_path / "a.wav").open(encoding="latin-1") as file, pytest.raises(AudioError) as caught:
        load_audio(file)  # type: ignore[arg-type]
    assert "binary mode" in str(caught.value)
    assert caught.value.source == str(tmp_path / "a.wav")


def test_a_closed_file() -> None:
    file = io.BytesIO(_wav(_noise(1000)))
    file.close()
    with pytest.raises(AudioError, match=r"given as a file object.*closed"):
        load_audio(file)
    assert probe_duration(file) is None


def test_a_file_that_fails_while_it_is_read() -> None:
    class Failing(_ReadOnly):
        def read(self, size: int) -> bytes:
            if self._file.tell() > 100_000:
                raise OSError("the line is dead")
            return super().read(size)

    data = _wav(_noise(200_000))
    with pytest.raises(AudioError, match="line is dead"):
        load_audio(RawPcm(Failing(data), SAMPLE_RATE))
    with pytest.raises(AudioError, match="line is dead"):
        load_audio(Failing(data))


# Raw PCM


@pytest.mark.parametrize("channels", [1, 2])
def test_raw_pcm_is_scaled(channels: int) -> None:
    samples = _noise(3000, channels).clip(-0.99, 0.99)
    file = io.BytesIO((samples * 2**15).round().astype("<i2").tobytes())
    waveform = load_audio(RawPcm(file, SAMPLE_RATE, channels))
    expected = torch.from_numpy(samples.mean(1))
    torch.testing.assert_close(waveform, expected, atol=2e-5, rtol=0)


def test_raw_pcm_is_what_a_wav_file_holds() -> None:
    wav = _wav(_noise(90_000, 2), 44_100, "PCM_16")
    pcm = RawPcm(io.BytesIO(wav[wav.index(b"data") + 8 :]), 44_100, 2)
    torch.testing.assert_close(load_audio(pcm), load_audio(wav), atol=1e-6, rtol=0)


class _Trickling(_ReadOnly):
    """Gives an odd number of bytes at a time, as pipes may."""

    def read(self, size: int) -> bytes:
        return self._file.read(min(size, 333))


def test_raw_pcm_that_trickles_in() -> None:
    data = (_noise(10_000, 2) * 2**15).astype("<i2").tobytes() + b"abc"  # less than a frame
    whole = load_audio(RawPcm(io.BytesIO(data), 8_000, num_channels=2))
    pcm = RawPcm(_Trickling(data), 8_000, num_channels=2)
    blocks = list(stream_audio(pcm, 0.1))
    assert len(blocks) > 10
    torch.testing.assert_close(torch.cat(blocks), whole, atol=1e-6, rtol=0)


def test_raw_pcm_is_passed_on_as_soon_as_a_block_is_there() -> None:
    file = io.BytesIO(bytes(320_000))
    blocks = stream_audio(RawPcm(file, SAMPLE_RATE), 0.02)
    next(blocks)
    assert file.tell() == 2 * 320


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ((10, 1), "`sample_rate`"),
        ((16_000, 0), "`num_channels`"),
    ],
)
def test_raw_pcm_that_cannot_be(values: tuple[int, int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        RawPcm(io.BytesIO(), *values)


# The promised duration


@pytest.mark.parametrize("form", ["wav", "flac", "ogg", "mp3"])
def test_the_duration_that_a_header_promises(form: str, tmp_path: Path) -> None:
    path = tmp_path / f"noise.{form}"
    soundfile.write(path, _noise(50_000), SAMPLE_RATE)
    assert probe_duration(path) == pytest.approx(3.125, abs=0.15)
    with path.open("rb") as file:
        assert probe_duration(file) == pytest.approx(3.125, abs=0.15)
        assert len(load_audio(file)) == len(load_audio(path))


@pytest.mark.parametrize("shape", [(8000,), (8000, 2), (2, 8000)])
def test_the_duration_of_an_array(shape: tuple[int, ...]) -> None:
    assert probe_duration(_as_dict(np.zeros(shape), 16_000)) == 0.5


def _sources_without_a_duration() -> Iterator[Any]:
    yield from ("/nowhere.wav", b"", b"hello world" * 500, {}, None, 1.5, torch.zeros(9))
    yield RawPcm(io.BytesIO(bytes(32_000)), SAMPLE_RATE)
    yield _ReadOnly(_wav(_noise(1000)))
    yield b"1\n00:00:01,000 --> 00:00:02,000\nhello\n"


@pytest.mark.parametrize("source", list(_sources_without_a_duration()))
def test_what_promises_no_duration(source: Any) -> None:
    assert probe_duration(source) is None


def test_a_file_that_cannot_be_read_again_is_not_touched() -> None:
    file = _ReadOnly(_wav(_noise(1000)))
    probe_duration(file)
    assert len(load_audio(file)) == 1000


def test_real_speech() -> None:
    assert probe_duration(SONNET) == pytest.approx(53.27, abs=0.01)
    torch.testing.assert_close(_streamed(SONNET, 0.77), load_audio(SONNET), atol=1e-6, rtol=0)
