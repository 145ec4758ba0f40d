"""Which track and which channel of a file is read."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from tests.containers import Sound, onsets, write_container
from wavellama.audio.load import load_audio
from wavellama.audio.sources import RawPcm
from wavellama.audio.stream import probe_duration
from wavellama.audio.tracks import Selection
from wavellama.data.check import check_dataset, find_repeats
from wavellama.data.failures import Failures
from wavellama.data.manifest import read_manifest, write_manifest
from wavellama.data.manifest_dataset import ManifestDataset, ManifestDatasetConfig
from wavellama.errors import AudioError, ConfigError, DataError
from wavellama.pipeline.options import TranscribeOptions
from wavellama.units import SAMPLE_RATE

ITALIAN = Sound(codec="flac", onsets=(0.5,), secs=2.0, language="ita")
ENGLISH = Sound(codec="flac", onsets=(1.5,), secs=3.0, language="eng", is_default=True)
SILENT = Sound(codec="flac", onsets=(), secs=2.0)


@pytest.fixture
def two_tracks(tmp_path: Path) -> Path:
    return write_container(tmp_path / "two.mkv", ITALIAN, ENGLISH)


# Tracks


@pytest.mark.parametrize(
    ("track", "onset"),
    [(None, 1.5), (1, 0.5), (2, 1.5), ("2", 1.5), ("ita", 0.5), ("ENG", 1.5), ("ita_Latn", 0.5)],
)
def test_the_track_that_is_read(track: Any, onset: float, two_tracks: Path) -> None:
    selection = Selection(track)
    assert onsets(load_audio(two_tracks, selection)) == pytest.approx([onset], abs=0.02)
    assert probe_duration(two_tracks, selection) == pytest.approx(onset + 1.5, abs=0.01)


def test_the_first_track_is_read_where_none_is_the_default(tmp_path: Path) -> None:
    path = write_container(tmp_path / "a.mkv", ITALIAN, Sound(codec="flac", onsets=(1.5,)))
    assert onsets(load_audio(path)) == pytest.approx([0.5], abs=0.02)


@pytest.mark.parametrize("language", ["ger", "deu", "de", "de-AT"])
@pytest.mark.parametrize("track", ["de", "deu", "ger", "deu_Latn", "German", "de-DE"])
def test_a_language_has_several_spellings(track: str, language: str, tmp_path: Path) -> None:
    german = Sound(codec="flac", onsets=(0.5,), secs=2.0, language=language)
    path = write_container(tmp_path / "a.mkv", ENGLISH, german)
    selection = TranscribeOptions(audio_track=track).selection
    assert onsets(load_audio(path, selection)) == pytest.approx([0.5], abs=0.02)


@pytest.mark.parametrize("track", [3, "deu"])
def test_a_track_that_is_not_there(track: Any, two_tracks: Path) -> None:
    with pytest.raises(AudioError, match=rf"no audio track {track}: 2 .*1 \(ita\), 2 \(eng\)"):
        load_audio(two_tracks, Selection(track))
    assert probe_duration(two_tracks, Selection(track)) is None


def test_several_tracks_are_mentioned_once(
    two_tracks: Path, caplog: pytest.LogCaptureFixture
) -> None:
    load_audio(two_tracks)
    load_audio(two_tracks)
    (record,) = caplog.records
    assert record.getMessage().endswith("2 audio tracks: 1 (ita), 2 (eng); 2 is read.")
    caplog.clear()
    load_audio(two_tracks, Selection(1))
    assert not caplog.records


def test_a_silent_track_is_named_beside_the_others(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_container(tmp_path / "a.mkv", SILENT, ITALIAN)
    assert not load_audio(path).any()
    assert "audio track 1 holds only silence; --audio-track chooses another" in caplog.text
    assert "1, 2 (ita)" in caplog.text
    assert load_audio(path, Selection("ita")).any()


@pytest.mark.parametrize("track", [2, "eng"])
def test_arrays_have_a_single_track(track: Any) -> None:
    audio = {"waveform": np.ones(1000), "sample_rate": SAMPLE_RATE}
    assert len(load_audio(audio, Selection(1))) == 1000
    with pytest.raises(AudioError, match="a single one"):
        load_audio(audio, Selection(track))


# Channels


def _sources(samples: np.ndarray, tmp_path: Path) -> list[Any]:
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, SAMPLE_RATE, format="WAV", subtype="FLOAT")
    soundfile.write(tmp_path / "a.flac", samples, SAMPLE_RATE)
    pcm = RawPcm(
        io.BytesIO((samples * 2**15).round().astype("<i2").tobytes()), SAMPLE_RATE, samples.shape[1]
    )
    array = {"waveform": samples, "sample_rate": SAMPLE_RATE}
    return [buffer.getvalue(), tmp_path / "a.flac", pcm, array]


def _noise(seed: int) -> np.ndarray:
    noise = 0.1 * np.random.default_rng(seed).standard_normal(20_000)
    rounded: np.ndarray = (noise * 32768).round() / 32768
    return rounded


@pytest.mark.parametrize("gains", [(1, -1), (-1, 1), (1, -0.9), (1, -1, 0.02), (1, 1, -1, -1)])
def test_opposite_phases_do_not_cancel(
    gains: tuple[float, ...], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    samples = _noise(0)[:, None] * np.array(gains)
    loudest = int(np.abs(gains).argmax())
    for source in _sources(samples, tmp_path):
        caplog.clear()
        waveform = load_audio(source).numpy()
        assert np.allclose(waveform, samples[:, loudest], atol=1e-4)
        (record,) = caplog.records
        assert f"opposite phases); channel {loudest + 1} is read alone" in record.getMessage()


@pytest.mark.parametrize("channels", [1, 2, 3, 6, 8])
def test_channels_that_do_not_cancel_are_averaged(
    channels: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    samples = np.stack([_noise(seed) for seed in range(channels)], 1)
    alone = np.zeros_like(samples)
    alone[:, 0] = samples[:, 0]
    for several in (samples, alone):
        for source in _sources(several, tmp_path):
            assert np.allclose(load_audio(source).numpy(), several.mean(1), atol=1e-4)
    assert not caplog.records


@pytest.mark.parametrize("channel", [1, 2, "2"])
def test_a_channel_alone(channel: Any, tmp_path: Path) -> None:
    samples = np.stack([_noise(1), _noise(2)], 1)
    for source in _sources(samples, tmp_path):
        waveform = load_audio(source, Selection(channel=channel)).numpy()
        assert np.allclose(waveform, samples[:, int(channel) - 1], atol=1e-4)


def test_a_channel_that_is_not_there(tmp_path: Path) -> None:
    for source in _sources(_noise(1)[:, None], tmp_path):
        with pytest.raises(AudioError, match="no channel 2; the audio has 1"):
            load_audio(source, Selection(channel=2))


@pytest.mark.parametrize(
    ("track", "channel"),
    [
        *((track, "mix") for track in (0, -1, "-1", "", True, 1.5)),
        *((1, channel) for channel in ("left", 0, None, "", 2.0)),
    ],
)
def test_what_is_no_track_or_channel(track: Any, channel: Any) -> None:
    with pytest.raises(ConfigError, match="from 1 on"):
        Selection(track, channel)


def test_silence_is_not_taken_for_opposite_phases() -> None:
    audio = {"waveform": torch.zeros(2, 1000), "sample_rate": SAMPLE_RATE}
    assert not load_audio(audio).any()


# Rows of manifests


def _data_set(folder: Path, *rows: Mapping[str, object]) -> Path:
    """A recording of two speakers, each on a channel, and a film in two languages."""
    halves = np.zeros((2 * SAMPLE_RATE, 2))
    halves[:SAMPLE_RATE, 0], halves[SAMPLE_RATE:, 1] = 0.25, 0.5
    soundfile.write(folder / "call.wav", halves, SAMPLE_RATE)
    write_container(folder / "film.mkv", ITALIAN, ENGLISH)
    lines = [json.dumps({"text": "a", "split": "train", **row}) for row in rows]
    (folder / "manifest.jsonl").write_text("\n".join(lines))
    return folder


def _waveforms(folder: Path) -> list[torch.Tensor]:
    dataset = ManifestDataset(ManifestDatasetConfig(path=folder))
    return [dataset.read_audio(utterance) for utterance in dataset.utterances("train")]


@pytest.mark.parametrize("suffix", [".jsonl", ".tsv"])
def test_a_row_chooses_its_channel(suffix: str, tmp_path: Path) -> None:
    rows = [{"audio": "call.wav", "duration": 2, "channel": channel} for channel in (1, "2", "mix")]
    read = read_manifest(_data_set(tmp_path, *rows) / "manifest.jsonl").utterances
    assert [u.selection for u in read] == [Selection(channel=1), Selection(channel=2), Selection()]
    (tmp_path / "manifest.jsonl").unlink()
    write_manifest(tmp_path / f"manifest{suffix}", read)
    first, second, mean = _waveforms(tmp_path)
    assert torch.equal(first + second, 2 * mean)
    assert torch.equal(first, torch.tensor([0.25, 0.0]).repeat_interleave(SAMPLE_RATE))
    assert len(check_dataset(tmp_path).utterances) == 3


@pytest.mark.parametrize("suffix", [".jsonl", ".tsv"])
def test_a_row_chooses_its_track(suffix: str, tmp_path: Path) -> None:
    rows = [
        {"audio": "film.mkv", "duration": 2.0, "audio_track": "Italian"},
        {"audio": "film.mkv", "duration": 3.0, "audio_track": 2},
        {"audio": "film.mkv", "duration": 3.0},
    ]
    read = read_manifest(_data_set(tmp_path, *rows) / "manifest.jsonl").utterances
    (tmp_path / "manifest.jsonl").unlink()
    write_manifest(tmp_path / f"manifest{suffix}", read)
    onset = [onsets(waveform) for waveform in _waveforms(tmp_path)]
    assert onset == [pytest.approx([start], abs=0.02) for start in (0.5, 1.5, 1.5)]
    assert len(check_dataset(tmp_path).utterances) == 3


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"channel": 0}, "`channel` must be a number from 1 on or 'mix', not 0"),
        ({"channel": "left"}, "`channel` must be a number from 1 on or 'mix', not 'left'"),
        ({"channel": True}, "has the channel True"),
        ({"channel": 1.0}, "has the channel 1.0"),
        ({"channel": 3}, "no channel 3; the audio has 2"),
        ({"audio_track": "-1"}, "`audio_track` must be a number from 1 on or a language"),
        ({"audio_track": ["ita"]}, "has the audio_track ['ita']"),
        ({"audio_track": 4}, "no audio track 4"),
    ],
)
def test_a_row_that_chooses_what_is_not_there(
    row: dict[str, object], reason: str, tmp_path: Path
) -> None:
    name, secs = ("call.wav", 2.0) if "channel" in row else ("film.mkv", 3.0)
    folder = _data_set(tmp_path, {"audio": name, "duration": secs, **row})
    (broken,) = check_dataset(folder).broken
    assert reason in broken.reason


def test_two_channels_of_a_file_are_two_recordings(tmp_path: Path) -> None:
    one, other = ({"audio": "call.wav", "duration": 2, "channel": number} for number in (1, 2))
    rows = read_manifest(_data_set(tmp_path, one, {**other, "split": "dev"}) / "manifest.jsonl")
    assert find_repeats(rows.utterances) == []
    assert find_repeats([rows.utterances[0]] * 2) != []
    failures = Failures(tmp_path / "bad.jsonl", 10, max_share=0.1)
    failures.add(rows.utterances[0], "it is broken.")
    with pytest.raises(DataError, match="2 of 10"):
        failures.add(rows.utterances[1], "it is broken.")
