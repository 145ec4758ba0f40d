"""Audio from files, bytes and arrays."""

from __future__ import annotations

import io
import math
import struct
import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import pytest
import soundfile
import torch
from torch import Tensor

from wavellama.audio.load import load_audio, normalize
from wavellama.errors import AudioError
from wavellama.units import SAMPLE_RATE

Array = npt.NDArray[np.float32]


def _tone(rate: int, seconds: float = 0.5, hertz: float = 440.0) -> Array:
    return (0.5 * np.sin(np.arange(round(rate * seconds)) * 2 * np.pi * hertz / rate)).astype("f4")


def _pitch(waveform: Tensor) -> float:
    """Return the strongest frequency in hertz."""
    spectrum = torch.fft.rfft(waveform).abs()
    return int(spectrum.argmax()) * SAMPLE_RATE / len(waveform)


def _as_dict(waveform: object, rate: object = SAMPLE_RATE) -> dict[str, object]:
    return {"waveform": waveform, "sample_rate": rate}


def _wav(waveform: npt.NDArray[Any], rate: int = SAMPLE_RATE, subtype: str = "PCM_16") -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, waveform, rate, format="WAV", subtype=subtype)
    return buffer.getvalue()


def _raw_wav(channels: int, rate: int = SAMPLE_RATE, frames: int = 2000) -> bytes:
    """Return a WAV file by hand; soundfile would refuse some of them."""
    data = np.zeros(channels * frames, "<i2").tobytes()
    fmt = struct.pack(
        "<IHHIIHH", 16, 1, channels, rate, rate * channels * 2 % 2**32, channels * 2 % 2**16, 16
    )
    size = struct.pack("<I", len(data))
    return b"RIFF" + struct.pack("<I", 36 + len(data)) + b"WAVEfmt " + fmt + b"data" + size + data


# Sources


@pytest.mark.parametrize("path_type", [str, Path])
def test_a_path(tmp_path: Path, path_type: Callable[[Path], object]) -> None:
    file = tmp_path / "tone.wav"
    file.write_bytes(_wav(_tone(SAMPLE_RATE)))
    waveform = load_audio(path_type(file))  # type: ignore[arg-type]
    assert waveform.dtype == torch.float32
    torch.testing.assert_close(waveform, torch.from_numpy(_tone(SAMPLE_RATE)), atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    "convert",
    [
        bytes,
        bytearray,
        lambda data: np.frombuffer(data, np.uint8),
        lambda data: np.frombuffer(data, np.int8),
    ],
    ids=["bytes", "bytearray", "uint8 array", "int8 array"],
)
def test_encoded_bytes(convert: Callable[[bytes], Any]) -> None:
    data = _wav(_tone(SAMPLE_RATE))
    assert torch.equal(load_audio(convert(data)), load_audio(data))


@pytest.mark.parametrize(
    "convert", [np.asarray, torch.from_numpy, lambda x: x.tolist(), lambda x: x.astype("f8")]
)
def test_a_mapping_with_a_waveform(convert: Callable[[Array], object]) -> None:
    tone = _tone(SAMPLE_RATE)
    waveform = load_audio(_as_dict(convert(tone)))
    assert waveform.dtype == torch.float32
    torch.testing.assert_close(waveform, torch.from_numpy(tone))


def test_the_callers_array_stays_as_it_is() -> None:
    tone = _tone(SAMPLE_RATE)
    before = tone.copy()
    load_audio(_as_dict(tone))
    load_audio(_as_dict(np.stack([tone, tone])))
    load_audio(_as_dict(tone, 8000))
    assert np.array_equal(tone, before)


@pytest.mark.parametrize(
    ("name", "tolerance"),
    [("a.wav", 0), ("a.flac", 0), ("a.ogg", 450), ("a.mp3", 2400), ("a.aiff", 0)],
)
def test_formats_of_libsndfile(tmp_path: Path, name: str, tolerance: int) -> None:
    soundfile.write(tmp_path / name, _tone(SAMPLE_RATE), SAMPLE_RATE)
    waveform = load_audio(tmp_path / name)
    assert abs(len(waveform) - 8000) <= tolerance
    assert _pitch(waveform) == pytest.approx(440, abs=8)
    assert waveform.abs().max() == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize(
    ("container", "codec", "rate"),
    [
        ("mp3", "libmp3lame", 44100),
        ("ogg", "libopus", 48000),
        ("flac", "flac", 22050),
        ("mp4", "aac", 44100),
        ("matroska", "aac", 16000),
        ("webm", "libopus", 48000),
    ],
)
@pytest.mark.parametrize("layout", ["mono", "stereo"])
def test_formats_of_ffmpeg(container: str, codec: str, rate: int, layout: str) -> None:
    if codec not in av.codecs_available:
        pytest.skip(f"this PyAV has no {codec}")
    waveform = load_audio(_encode(_tone(rate), rate, container, codec, layout))
    assert len(waveform) == pytest.approx(8000, abs=2000)
    assert _pitch(waveform) == pytest.approx(440, abs=8)


def _encode(tone: Array, rate: int, container: str, codec: str, layout: str) -> bytes:
    buffer = io.BytesIO()
    channels = 1 if layout == "mono" else 2
    frame = av.AudioFrame.from_ndarray(np.stack([tone] * channels), format="fltp", layout=layout)
    frame.sample_rate = rate
    with av.open(buffer, "w", format=container) as output:
        stream: Any = output.add_stream(codec, rate=rate)
        stream.layout = layout
        size = stream.codec_context.frame_size or 1024
        resampler = av.AudioResampler(format=stream.format, layout=layout, rate=rate)
        fifo = av.AudioFifo()
        for part in resampler.resample(frame):
            part.pts = None
            fifo.write(part)
        position = 0
        while fifo.samples:
            block = fifo.read(min(size, fifo.samples))
            assert isinstance(block, av.AudioFrame)
            block.pts, block.time_base = position, Fraction(1, rate)
            position += block.samples
            output.mux(stream.encode(block))
        output.mux(stream.encode(None))
    return buffer.getvalue()


# Rates and channels


@pytest.mark.parametrize("rate", [8000, 11025, 16000, 22050, 24000, 32000, 44100, 48000, 96000])
def test_any_rate_is_resampled(rate: int) -> None:
    from_array, from_file = (
        load_audio(_as_dict(_tone(rate), rate)),
        load_audio(_wav(_tone(rate), rate, "FLOAT")),
    )
    for waveform in (from_array, from_file):
        assert len(waveform) == pytest.approx(8000, abs=1)
        expected = torch.from_numpy(_tone(SAMPLE_RATE))[200:7800]
        torch.testing.assert_close(waveform[200:7800], expected, atol=0.02, rtol=0)


@pytest.mark.parametrize("channels", [1, 2, 3, 6])
def test_channels_are_averaged_whichever_axis_they_are_on(channels: int) -> None:
    rng = np.random.default_rng(0)
    audio = rng.standard_normal((channels, 3000)).astype("f4") * 0.1
    expected = torch.from_numpy(audio.mean(0))
    torch.testing.assert_close(load_audio(_as_dict(audio)), expected)
    torch.testing.assert_close(load_audio(_as_dict(audio.T)), expected)
    from_file = load_audio(_wav(audio.T, subtype="FLOAT"))
    torch.testing.assert_close(from_file, expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("channels", [8, 9, 16])
def test_files_of_many_channels(channels: int, tmp_path: Path) -> None:
    """In a process of its own, because a segmentation fault would take the tests along."""
    (tmp_path / "many.wav").write_bytes(_raw_wav(channels))
    code = "import sys; from wavellama.audio.load import load_audio; load_audio(sys.argv[1])"
    command = [sys.executable, "-c", code, str(tmp_path / "many.wav")]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0 or "AudioError" in result.stderr


# Sample types


@pytest.mark.parametrize(
    ("dtype", "scale"), [("i1", 2**7), ("i2", 2**15), ("i4", 2**31), ("i8", 2**63)]
)
def test_integers_are_scaled_to_one(dtype: str, scale: int) -> None:
    tone = _tone(SAMPLE_RATE).astype("f8")
    waveform = load_audio(_as_dict((tone * scale * 0.999).astype(dtype)))
    torch.testing.assert_close(waveform, torch.from_numpy(tone).float(), atol=0.01, rtol=0)


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"])
def test_sample_types_of_files_are_scaled_to_one(subtype: str) -> None:
    tone = _tone(SAMPLE_RATE)
    waveform = load_audio(_wav(tone, subtype=subtype))
    torch.testing.assert_close(waveform, torch.from_numpy(tone), atol=0.01, rtol=0)


# Bad inputs


def _error(source: Any) -> AudioError:
    with pytest.raises(AudioError) as caught:
        load_audio(source)
    assert caught.value.exit_code == 1
    return caught.value


@pytest.mark.parametrize("samples", [1, 399, 400])
def test_25_ms_or_less_is_too_short(samples: int) -> None:
    error = _error(_as_dict(np.zeros(samples, "f4")))
    assert "25 ms" in error.reason
    assert f"{samples / 16:.1f} ms" in error.reason
    assert len(load_audio(_as_dict(np.zeros(401, "f4")))) == 401


def test_too_short_is_measured_in_time_not_in_samples() -> None:
    _error(_as_dict(np.zeros(1200, "f4"), 48000))
    assert len(load_audio(_as_dict(np.zeros(201, "f4"), 8000))) == 402


@pytest.mark.parametrize("samples", [1, 400])
def test_too_short_a_file(tmp_path: Path, samples: int) -> None:
    file = tmp_path / "short.wav"
    file.write_bytes(_wav(np.zeros(samples, "f4")))
    error = _error(file)
    assert error.source == str(file)
    assert str(file) in str(error)


def test_empty_audio() -> None:
    _error(_as_dict(np.zeros(0, "f4")))
    _error(_wav(np.zeros(0, "f4")))
    _error(b"")


def test_empty_audio_at_another_rate() -> None:
    _error(_as_dict(np.zeros(0, "f4"), 8000))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_nan_and_infinity(bad: float) -> None:
    tone = _tone(SAMPLE_RATE)
    tone[100] = bad
    assert "NaN" in _error(_as_dict(tone)).reason
    assert "NaN" in _error(_wav(tone, subtype="FLOAT")).reason
    assert "NaN" in _error(_as_dict(np.stack([tone, tone]))).reason


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    error = _error(tmp_path / "nothing.wav")
    assert error.source == str(tmp_path / "nothing.wav")
    assert "no such file" in error.reason
    assert "is a folder" in _error(tmp_path).reason


@pytest.mark.parametrize("content", [b"", b"hello world" * 500, b"RIFF", bytes(5000)])
def test_what_is_not_audio(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "text.wav"
    file.write_bytes(content)
    assert _error(file).source == str(file)
    _error(content)


def test_a_file_without_an_audio_stream(tmp_path: Path) -> None:
    file = tmp_path / "subtitles.srt"
    file.write_text("1\n00:00:01,000 --> 00:00:02,000\nhello\n")
    assert "no audio stream" in _error(file).reason


def test_a_header_without_samples() -> None:
    assert "no audio samples" in _error(_wav(_tone(SAMPLE_RATE))[:44]).reason


def test_a_file_cut_off_gives_what_there_is() -> None:
    waveform = load_audio(_wav(_tone(SAMPLE_RATE))[:8044])
    assert 3900 <= len(waveform) <= 4000


@pytest.mark.parametrize(("channels", "rate"), [(0, 16000), (1, 0), (1, 4_000_000_000)])
def test_a_header_that_lies(channels: int, rate: int) -> None:
    data = _raw_wav(1)
    header = struct.pack("<HI", channels, rate)
    _error(data[:22] + header + data[28:])


@pytest.mark.parametrize(
    "shape", [(2, 3), (8, 8), (9, 400), (400, 9), (1, 1), (1, 2, 4000), (), (16, 16)], ids=str
)
def test_an_array_whose_layout_cannot_be_told(shape: tuple[int, ...]) -> None:
    assert str(shape) in _error(_as_dict(np.zeros(shape, "f4"))).reason


@pytest.mark.parametrize("rate", [0, -16000, 16000.5, "16000", None])
def test_a_sample_rate_that_is_none(rate: object) -> None:
    assert repr(rate) in _error(_as_dict(_tone(SAMPLE_RATE), rate)).reason


@pytest.mark.parametrize("mapping", [{}, {"waveform": [0.0]}, {"sample_rate": 16000, "audio": 1}])
def test_a_mapping_without_its_keys(mapping: dict[str, object]) -> None:
    error = _error(mapping)
    assert "`waveform`" in error.reason
    assert "`sample_rate`" in error.reason


def test_a_bare_array_of_samples_has_no_rate() -> None:
    assert "sample_rate" in _error(_tone(SAMPLE_RATE)).reason


def test_complex_numbers_are_no_audio() -> None:
    assert "complex" in _error(_as_dict(np.zeros(1000, "c8"))).reason


@pytest.mark.parametrize(
    "waveform",
    [
        None,
        "text",
        ["a", "b"],
        np.zeros(1000, bool),
        np.array([None] * 1000),
    ],
    ids=["None", "str", "list of str", "bool", "objects"],
)
def test_a_waveform_of_the_wrong_type(waveform: object) -> None:
    _error(_as_dict(waveform))


@pytest.mark.parametrize("convert", [lambda x: x[::-1], lambda x: x.astype(">f4")])
def test_reversed_and_big_endian_arrays(convert: Callable[[Array], Array]) -> None:
    tone = _tone(SAMPLE_RATE)
    expected = torch.from_numpy(np.ascontiguousarray(convert(tone), "<f4"))
    torch.testing.assert_close(load_audio(_as_dict(convert(tone))), expected)


@pytest.mark.parametrize("source", [None, 1.5, torch.zeros(16000), [0.1, 0.2]], ids=str)
def test_a_source_of_the_wrong_type(source: object) -> None:
    _error(source)


# Normalisation


def test_normalize_gives_zero_mean_and_unit_variance() -> None:
    waveform = normalize(torch.randn(5000) * 3 + 2)
    assert waveform.mean().item() == pytest.approx(0, abs=1e-4)
    assert waveform.var(correction=0).item() == pytest.approx(1, abs=1e-3)


def test_silence_normalizes_to_silence() -> None:
    assert not normalize(torch.zeros(500)).any()


def test_normalize_does_not_depend_on_the_scale() -> None:
    waveform = torch.randn(5000)
    torch.testing.assert_close(normalize(waveform), normalize(waveform * 50), atol=1e-3, rtol=0)
