"""The corpus that ships with the package: small, whole, licensed, and exact in time."""

from __future__ import annotations

from collections import defaultdict
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import soundfile

from wavellama.audio.load import load_audio
from wavellama.corpora.mini import sonnet_rows
from wavellama.corpora.opus import write_opus
from wavellama.corpora.publish import damaged_files
from wavellama.corpora.split import split_sentence
from wavellama.corpora.transcript import clean_transcript, comparison_key
from wavellama.data.manifest import read_manifest
from wavellama.data.utterance import Utterance
from wavellama.units import ms_to_samples, samples_to_seconds, seconds_to_samples

MINI = Path(str(files("wavellama.assets"))) / "corpora" / "mini"


@pytest.fixture(scope="module")
def utterances() -> list[Utterance]:
    content = read_manifest(MINI / "manifest.tsv")
    assert content.broken == []
    return content.utterances


def test_it_is_whole_and_small() -> None:
    assert damaged_files(MINI) == []
    assert sum(path.stat().st_size for path in MINI.rglob("*") if path.is_file()) < 7e6


def test_nothing_lies_in_it_unlisted(utterances: list[Utterance]) -> None:
    listed = {utterance.audio for utterance in utterances}
    assert {path for path in (MINI / "audio").rglob("*") if path.is_file()} == listed


def test_its_size_by_language_and_split(utterances: list[Utterance]) -> None:
    minutes: defaultdict[tuple[str | None, str | None], float] = defaultdict(float)
    for utterance in utterances:
        minutes[utterance.split, utterance.lang] += utterance.duration / 60
    assert {key: round(value, 1) for key, value in minutes.items()} == {
        ("train", "ita_Latn"): 11.9,
        ("train", "rus_Cyrl"): 12.8,
        ("dev", "ita_Latn"): 0.7,
        ("dev", "rus_Cyrl"): 0.7,
        ("test", "ita_Latn"): 0.7,
        ("test", "rus_Cyrl"): 0.8,
        ("test_unseen", "eng_Latn"): 0.7,
        ("sonnet", "eng_Latn"): 0.8,
    }


def test_every_speaker_has_a_licence(utterances: list[Utterance]) -> None:
    licences = (MINI / "LICENSES.txt").read_text("utf-8")
    for folder in {utterance.audio.parent.name for utterance in utterances} - {"audio"}:
        assert folder in licences or folder.startswith("pocketsphinx-")
    for name in ("Carlo Flora", "Maxim Topal", "Carnegie Mellon", "LibriVox"):
        assert name in licences
        assert name in (MINI.parents[1] / "LICENSES.md").read_text("utf-8")


def test_texts_follow_the_rule(utterances: list[Utterance]) -> None:
    for utterance in utterances:
        assert utterance.lang is not None
        assert clean_transcript(utterance.text, utterance.lang) == utterance.text


def test_no_text_of_dev_or_test_is_in_train(utterances: list[Utterance]) -> None:
    said = defaultdict(set)
    for utterance in utterances:
        said[utterance.split].add((utterance.lang, comparison_key(utterance.text)))
    assert not said["train"] & (said["dev"] | said["test"])


def test_speakers_of_test_unseen_are_unseen(utterances: list[Utterance]) -> None:
    speakers = defaultdict(set)
    for utterance in utterances:
        speakers[utterance.split].add(utterance.speaker)
    assert not speakers["test_unseen"] & (speakers["train"] | speakers["dev"] | speakers["test"])


def test_a_known_clip_is_where_its_hash_says(utterances: list[Utterance]) -> None:
    (thanks,) = (u for u in utterances if u.text == "grazie")
    assert thanks.split == split_sentence("asterisk/auth-thankyou")


@pytest.mark.parametrize("part", ["dev", "test_unseen"])
def test_durations_are_exact(utterances: list[Utterance], part: str) -> None:
    for utterance in (u for u in utterances if u.split == part):
        assert samples_to_seconds(len(load_audio(utterance.audio))) == utterance.duration


def test_the_sonnet_is_cut_into_its_lines(utterances: list[Utterance]) -> None:
    lines = [utterance for utterance in utterances if utterance.split == "sonnet"]
    assert len(lines) == 14
    assert lines[0].text == "from fairest creatures we desire increase"
    ends = [round((line.offset or 0) + line.duration, 3) for line in lines]
    assert ends[:-1] == [line.offset for line in lines[1:]]
    assert ends[-1] <= samples_to_seconds(len(load_audio(lines[0].audio)))


def test_rows_of_the_sonnet() -> None:
    lines = ['f000001,0.000,2.680,"1"', 'f000002,2.680,5.880,"Feed\'st thy, O"']
    (row,) = sonnet_rows(Path("a"), lines)
    assert (row.text, row.offset, row.duration) == ("feed'st thy o", 2.68, 3.2)


def _lag(heard: np.ndarray, written: np.ndarray) -> int:
    """Return by how many samples ``heard`` comes late, by cross-correlation."""
    size = 2 * len(written)
    spectrum = np.fft.rfft(heard, size) * np.fft.rfft(written, size).conj()
    lag = int(np.fft.irfft(spectrum).argmax())
    return lag if lag < len(written) else lag - size


@pytest.fixture(scope="module")
def long_opus(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, np.ndarray]:
    """A minute of noise bursts, as Ogg-Opus, and the samples that were written."""
    rng = np.random.default_rng(3)
    samples = rng.normal(0, 3000, seconds_to_samples(60)) * (rng.random(60) > 0.3).repeat(16_000)
    smooth = np.convolve(samples, np.ones(8) / 8, "same").astype(np.int16)
    path = tmp_path_factory.mktemp("opus") / "long.ogg"
    write_opus(path, smooth)
    return path, smooth


def test_opus_keeps_length_and_time(long_opus: tuple[Path, np.ndarray]) -> None:
    path, written = long_opus
    heard = load_audio(path).numpy()
    assert len(heard) == len(written)
    assert path.stat().st_size * 8 / 60 < 32_000
    for begin in range(0, 50 * 16_000, 80_000):
        piece = slice(begin, begin + 80_000)
        assert abs(_lag(heard[piece], written[piece].astype(float))) <= ms_to_samples(10)


@pytest.mark.parametrize("offset", [0.3125, 17.0, 33.333, 54.9])
def test_a_stretch_of_opus_is_found_by_its_offset(
    long_opus: tuple[Path, np.ndarray], offset: float
) -> None:
    path, written = long_opus
    begin, frames = seconds_to_samples(offset), seconds_to_samples(5)
    heard, rate = soundfile.read(path, start=begin, frames=frames)
    assert (len(heard), rate) == (frames, 16_000)
    assert abs(_lag(heard, written[begin : begin + frames].astype(float))) <= ms_to_samples(10)


def test_equal_samples_give_equal_files(tmp_path: Path) -> None:
    samples = np.arange(16_000, dtype=np.int16)
    for name in ("a.ogg", "b.ogg"):
        write_opus(tmp_path / name, samples)
    assert (tmp_path / "a.ogg").read_bytes() == (tmp_path / "b.ogg").read_bytes()
