"""What audio can be read from, beside files, bytes and floats: pipes, odd names, lists."""

from __future__ import annotations

import io
import os
import socket
import subprocess
import time
from array import array
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from wavellama.audio.load import load_audio
from wavellama.audio.sources import PIECE_SAMPLES
from wavellama.audio.stream import can_be_read_again, probe_duration, stream_audio
from wavellama.errors import AudioError
from wavellama.units import SAMPLE_RATE

NOISE = (0.1 * np.random.default_rng(0).standard_normal(20_000)).astype("f4")


@pytest.fixture(scope="module")
def wav() -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, NOISE, SAMPLE_RATE, format="WAV", subtype="FLOAT")
    return buffer.getvalue()


def _load(waveform: object, rate: object = SAMPLE_RATE) -> torch.Tensor:
    return load_audio({"waveform": waveform, "sample_rate": rate})


# Files and bytes


@pytest.mark.parametrize("name", ["2024-05-01T10:30:00.wav", "file:a.wav", "pipe:0", "%d?.wav"])
def test_file_names_are_no_addresses(
    name: str, wav: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(name).write_bytes(wav)
    assert len(load_audio(name)) == len(load_audio(Path(name))) == len(NOISE)


PLAYLISTS = {
    "x.m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{}\n#EXT-X-ENDLIST\n",
    "x.ffconcat": "ffconcat version 1.0\nfile {}\n",
}


class _Upload(io.BytesIO):
    name = ""


@pytest.mark.parametrize("name", PLAYLISTS)
def test_bytes_that_name_other_files_or_addresses_get_none_of_them(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    soundfile.write(tmp_path / "other.mp3", NOISE, SAMPLE_RATE)
    (tmp_path / name).write_text(PLAYLISTS[name].format("other.mp3"))
    assert len(load_audio(tmp_path / name)) >= len(NOISE), "a playlist on the disk is one"
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.1)
        address = f"http://127.0.0.1:{listener.getsockname()[1]}/other.mp3"
        for named in ("other.mp3", str(tmp_path / "other.mp3"), address):
            upload = _Upload(PLAYLISTS[name].format(named).encode())
            upload.name = name
            with pytest.raises(AudioError):
                load_audio(upload)
        (tmp_path / name).write_text(PLAYLISTS[name].format(address))
        with pytest.raises(AudioError):
            load_audio(tmp_path / name)
        with pytest.raises(TimeoutError):
            listener.accept()


def test_a_description_of_a_session_opens_no_port() -> None:
    text = "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio {} RTP/AVP 0\n"
    with socket.socket(type=socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1] & ~1
    begin = time.monotonic()
    with pytest.raises(AudioError):
        load_audio(text.format(port).encode())
    assert time.monotonic() - begin < 5, "it listened for what never came"


def test_a_view_of_memory_holds_encoded_bytes(wav: bytes) -> None:
    assert torch.equal(load_audio(memoryview(wav)), load_audio(wav))


def test_the_path_of_a_pipe(wav: bytes, tmp_path: Path) -> None:
    """As a shell gives it for ``<(command)``: another process writes, here slower than is read."""
    (tmp_path / "a.wav").write_bytes(wav)
    command = "head -c 1000 a.wav; sleep 0.2; tail -c +1001 a.wav"
    pipe = subprocess.PIPE
    with subprocess.Popen(["sh", "-c", command], stdout=pipe, cwd=tmp_path) as process:
        assert process.stdout is not None
        path = f"/dev/fd/{process.stdout.fileno()}"
        assert not can_be_read_again(path)
        assert probe_duration(path) is None
        assert torch.equal(load_audio(path), load_audio(wav))
    assert can_be_read_again(tmp_path / "a.wav")


def test_a_pipe_that_nobody_writes_into(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(AudioError, match="nothing is written"):
        load_audio(tmp_path / "pipe")


# Arrays


@pytest.mark.parametrize("scale", [2**15, 2**31, 2**63])
def test_integers_of_64_bits_are_scaled_by_what_they_need(scale: int) -> None:
    """The first piece is as quiet as that of 16 bits would be; it is scaled as the rest."""
    samples = np.zeros(PIECE_SAMPLES + 1000, np.int64)
    samples[:1000], samples[-1] = 1000, -scale
    expected = torch.from_numpy(samples / scale).float()
    torch.testing.assert_close(_load(samples), expected)
    torch.testing.assert_close(_load(samples.tolist()), expected)
    blocks = list(stream_audio({"waveform": samples, "sample_rate": SAMPLE_RATE}, 0.1))
    torch.testing.assert_close(torch.cat(blocks), expected)
    torch.testing.assert_close(_load(-1 - samples), -expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("rate", [8000.0, np.float32(8000), np.int64(8000)])
def test_whole_numbers_of_any_type_are_sample_rates(rate: object) -> None:
    assert torch.equal(_load(NOISE, rate), _load(NOISE, 8000))


@pytest.mark.parametrize(
    "rate", [22050.5, float("nan"), float("inf"), 10**400, True, np.float64(999)], ids=repr
)
def test_a_sample_rate_that_is_not_whole_or_out_of_range(rate: object) -> None:
    with pytest.raises(AudioError, match="whole number") as caught:
        _load(NOISE, rate)
    assert repr(rate) in caught.value.reason


def test_the_keys_of_hugging_face() -> None:
    audio = {"array": NOISE, "sampling_rate": 8000, "path": "a.wav"}
    assert torch.equal(load_audio(audio), _load(NOISE, 8000))
    assert probe_duration(audio) == 2.5
    with pytest.raises(AudioError, match=r"`array`.*`sampling_rate`.*\['array', 'path'\]"):
        load_audio({"array": NOISE, "path": "a.wav"})


@pytest.mark.parametrize(
    "waveform",
    [[[0.1] * 1000, [0.1] * 999], torch.zeros(1000).to_sparse(), torch.zeros(1000, device="meta")],
    ids=["ragged", "sparse", "meta"],
)
def test_what_numpy_makes_no_array_of(waveform: Any) -> None:
    with pytest.raises(AudioError, match=r"cannot be read as an array \(.+\)"):
        _load(waveform)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float8_e4m3fn, torch.float64])
def test_floats_that_numpy_may_not_know(dtype: torch.dtype) -> None:
    waveform = torch.full((1000,), 0.5, dtype=dtype)
    assert torch.equal(_load(waveform), torch.full((1000,), 0.5))


def test_an_array_of_the_standard_library() -> None:
    assert torch.equal(_load(array("f", NOISE)), torch.from_numpy(NOISE))
