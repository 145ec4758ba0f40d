"""Paths of audio: empty, addresses, home folders, missing folders; what ``live`` is fed with."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest
import soundfile
import torch

from tests.containers import Sound, write_container
from tests.unit.test_pipeline_inference import create_pipeline
from wavellama import TranscribeOptions
from wavellama.audio.load import load_audio
from wavellama.audio.sniff import is_encoded, raw_or_encoded
from wavellama.audio.sources import RawPcm
from wavellama.cli.main import main
from wavellama.data.manifest import read_manifest
from wavellama.errors import AudioError
from wavellama.pipeline.inputs import read_examples_tsv
from wavellama.pipeline.sources import find_files
from wavellama.units import SAMPLE_RATE

NOISE = (0.1 * np.random.default_rng(0).standard_normal(24_000)).astype("f4")


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("", "the path is empty"),
        ("https://example.org/a.mp3", "URLs are not fetched"),
        (Path("https://example.org/a.mp3"), "URLs are not fetched"),
        ("RTSP://camera/1", "URLs are not fetched"),
        ("/nowhere/at/all/a.wav", "there is no folder /nowhere/at/all"),
        ("/nowhere", "no such file or folder"),
        ("a:b.wav", "there is no such file."),
        ("~/nothing.wav", "there is no such file."),
    ],
)
def test_what_is_wrong_with_a_path(path: str | Path, reason: str) -> None:
    with pytest.raises(AudioError, match=reason) as caught:
        load_audio(path)
    assert caught.value.source == str(path)


def test_a_tilde_is_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    soundfile.write(tmp_path / "a.wav", NOISE, SAMPLE_RATE)
    assert len(load_audio("~/a.wav")) == len(load_audio(Path("~/a.wav"))) == len(NOISE)
    assert [file.path for file in find_files([Path("~")])] == [tmp_path / "a.wav"]
    assert [file.path for file in find_files([Path("~/a.wav")])] == [tmp_path / "a.wav"]
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "train.tsv").write_text("audio\tduration\ttext\n~/a.wav\t1.5\tx\n")
    (utterance,) = read_manifest(folder / "train.tsv").utterances
    assert utterance.audio == tmp_path / "a.wav"
    (folder / "examples.tsv").write_text("~/a.wav\tx\n")
    (example,) = read_examples_tsv(folder / "examples.tsv")
    assert example.audio == tmp_path / "a.wav"
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(AudioError, match="nothing is written into the pipe"):
        load_audio("~/pipe")


@pytest.mark.parametrize(
    ("path", "code", "message"),
    [
        ("", 2, "a path is empty"),
        ("nothing/", 1, "no such file or folder"),
        ("nothing/a.wav", 1, "there is no folder nothing"),
        ("http://example.org/a.mp3", 1, "URLs are not fetched"),
    ],
)
def test_paths_that_are_typed(
    path: str,
    code: int,
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["wavellama", "transcribe", path, "--model", "x"])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == code
    assert message in capsys.readouterr().err


def test_the_pipeline_reads_the_track_and_the_channel(tmp_path: Path) -> None:
    sounds = [Sound(codec="flac", onsets=(), secs=secs) for secs in (0.5, 1.0)]
    path = write_container(tmp_path / "a.mkv", *sounds)
    pipeline = create_pipeline()
    for track, secs in ((1, 0.5), ("2", 1.0)):
        (transcript,) = pipeline.stream_results(path, TranscribeOptions(audio_track=track))
        assert transcript.duration == pytest.approx(secs, abs=0.01)


# What live is fed with

FIRST = {"movflags": "faststart"}


def _encoded(suffix: str, tmp_path: Path) -> bytes:
    codecs = {".mp3": "libmp3lame", ".aac": "aac", ".ac3": "ac3", ".ts": "mp2", ".mp4": "aac"}
    codecs |= {".mkv": "flac", ".webm": "libopus", ".ogg": "flac", ".flac": "flac", ".wav": ""}
    sound = Sound(codec=codecs[suffix] or "pcm_s16le", rate=48_000)
    path = write_container(tmp_path / f"a{suffix}", sound)
    if suffix != ".mp4":
        return path.read_bytes()
    movable = tmp_path / "b.mp4"  # its index lies before the sound, as a pipe needs it
    with av.open(str(path)) as source, av.open(str(movable), "w", options=FIRST) as output:
        stream = output.add_stream_from_template(source.streams.audio[0])
        for packet in source.demux(audio=0):
            packet.stream = stream
            if packet.size:
                output.mux(packet)
    return movable.read_bytes()


@pytest.mark.parametrize(
    "suffix", [".mp3", ".aac", ".ac3", ".ts", ".mp4", ".mkv", ".webm", ".ogg", ".flac", ".wav"]
)
def test_files_in_a_pipe_are_read_as_such(suffix: str, tmp_path: Path) -> None:
    data = _encoded(suffix, tmp_path)
    assert is_encoded(data[:8192])
    audio = raw_or_encoded(io.BytesIO(data), SAMPLE_RATE)
    assert not isinstance(audio, RawPcm)
    waveform = load_audio(audio)
    torch.testing.assert_close(waveform, load_audio(_OneWay(data)))


class _OneWay:
    def __init__(self, data: bytes) -> None:
        self._file = io.BytesIO(data)

    def read(self, size: int) -> bytes:
        return self._file.read(min(size, 1000))


def _tone(level: float) -> np.ndarray:
    tone: np.ndarray = level * np.sin(np.arange(8_000) / 9)
    return tone


@pytest.mark.parametrize(
    "make",
    [
        lambda draw: np.zeros(8_000),
        lambda draw: -np.ones(8_000),
        lambda draw: np.full(8_000, -1025),
        lambda draw: _tone(20_000) * draw.random(),
        *(lambda draw, std=std: std * draw.standard_normal(8_000) for std in (2, 300, 3000)),
    ],
)
def test_raw_audio_is_taken_for_no_file(make: Callable[[Any], np.ndarray]) -> None:
    for seed in range(200):
        samples = make(np.random.default_rng(seed)).astype("<i2")
        samples[0] = (-1025, -257, -3841, samples[0])[seed % 4]  # as frames of mp3 or AAC begin
        data = samples.tobytes()
        audio = raw_or_encoded(_OneWay(data), 8_000)
        assert isinstance(audio, RawPcm)
        assert audio.sample_rate == 8_000
        assert b"".join(iter(partial(audio.file.read, 777), b"")) == data


def test_live_reads_mp3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fed: list[torch.Tensor] = []

    def feed(samples: torch.Tensor) -> list[object]:
        fed.append(samples)
        return []

    last = SimpleNamespace(segments=(), tentative="", failures=())
    session = SimpleNamespace(feed=feed, finish=lambda: last)
    pipeline = SimpleNamespace(live=lambda options, examples: session)
    monkeypatch.setattr("wavellama.cli.live.create_pipeline", lambda args: pipeline)
    data = _encoded(".mp3", tmp_path)
    with (tmp_path / "a.mp3").open() as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        monkeypatch.setattr(sys, "argv", ["wavellama", "live", "--model", "x"])
        with pytest.raises(SystemExit) as caught:
            main()
    assert caught.value.code == 0
    torch.testing.assert_close(torch.cat(fed), load_audio(_OneWay(data)))
