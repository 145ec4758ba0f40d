"""The whole way from packages to a corpus, on packages of a few kilobytes."""

from __future__ import annotations

import gzip
import io
import json
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile

from tests.unit.test_corpora_packages import make_deb
from wavellama.corpora import corpus as making
from wavellama.corpora.convert import read_recording
from wavellama.corpora.corpus import fetch_corpus
from wavellama.corpora.debian_speech import CORPUS
from wavellama.corpora.packages import DEBIAN_SPEECH
from wavellama.corpora.publish import link_or_copy
from wavellama.data.manifest import read_manifest
from wavellama.errors import AudioError

PROMPTS = {f"p-{i}": "word " + "x" * (i % 5 + 2) + f"{chr(97 + i)}" for i in range(20)}


def _noise(seed: int, secs: float = 0.5, rate: int = 16_000) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-0.3, 0.3, int(secs * rate))


def _g722(samples: np.ndarray) -> bytes:
    codec = av.CodecContext.create("g722", "w")
    codec.sample_rate, codec.layout, codec.format = 16_000, "mono", "s16"
    codec.time_base = Fraction(1, 16_000)
    data = (samples * 2**15).astype("<i2")[None, :]
    frame = av.AudioFrame.from_ndarray(data, format="s16", layout="mono")
    frame.sample_rate = 16_000
    packets = [*codec.encode(frame), *codec.encode(None)]
    return b"".join(map(bytes, packets))


def _sound(seed: int, form: str = "OGG", rate: int = 22_050) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, _noise(seed, rate=rate), rate, format=form)
    return file.getvalue()


def _package_files(name: str) -> dict[str, bytes]:
    if name.endswith("-g722"):
        sounds = "usr/share/asterisk/sounds/voice"
        return {f"{sounds}/{key}.g722": _g722(_noise(i)) for i, key in enumerate(PROMPTS)}
    if name.startswith("asterisk-core-sounds"):
        code = name[-2:]
        lines = [f"{key}: {_spell(text, code)}" for key, text in PROMPTS.items()]
        text = gzip.compress("\n".join(lines).encode(), mtime=0)
        return {f"usr/share/doc/{name}/core-sounds-{code}.txt.gz": text}
    if name.endswith("menardi-wav"):
        sounds = "usr/share/asterisk/sounds/voice"
        keys = list(PROMPTS)[:3]
        return {f"{sounds}/{k}.wav": _sound(i, "WAV", 8000) for i, k in enumerate(keys)}
    if name == "tuxpaint-stamps-default":
        stamps = "usr/share/tuxpaint/stamps/a"
        caption = {f"{stamps}/bird.txt": "A bird.\nro.utf8=O pasăre.\nru.utf8=Птица.\n".encode()}
        return caption | {f"{stamps}/bird_desc_{c}.ogg": _sound(9) for c in ("ro", "ru")}
    game, code = "usr/share/games/fillets-ng", name[-2:]
    line = 'dialogId("x-1", "font_big", "Hello")\ndialogStr("Ahoj tam")\n'
    if name == "fillets-ng-data":
        return {f"{game}/script/cave/dialogs_cs.lua": line.encode()}
    return {f"{game}/sound/cave/{code}/x-1.ogg": _sound(3)}


def _spell(text: str, code: str) -> str:
    """Return letters of the script that the language is written in."""
    return text.translate({97 + i: ord("а") + i for i in range(26)}) if code == "ru" else text


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("packages")
    for name in DEBIAN_SPEECH:
        licence = {f"usr/share/doc/{name}/copyright": f"Free, says {name[:8]}.\n".encode()}
        make_deb(folder / f"{name}_1.0_all.deb", _package_files(name) | licence)
    return folder


@pytest.fixture(scope="module")
def corpus(packages: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("corpus")
    assert fetch_corpus(CORPUS, out, packages)
    return out


def _contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_a_corpus_is_made(corpus: Path) -> None:
    content = read_manifest(corpus / "manifest.tsv")
    assert content.broken == []
    by_part = {(u.speaker, u.split) for u in content.utterances}
    assert ("asterisk-ru", "train") in by_part
    assert ("menardi", "test_unseen") in by_part
    assert ("tuxpaint-ru", "test_unseen") in by_part
    unseen = {speaker for speaker, part in by_part if part == "test_unseen"}
    assert unseen == {"menardi", "tuxpaint-ru"}
    assert not unseen & {speaker for speaker, part in by_part if part != "test_unseen"}
    for utterance in content.utterances:
        info = soundfile.info(utterance.audio)
        assert (info.format, info.samplerate, info.channels) == ("FLAC", 16_000, 1)
        assert info.frames / 16_000 == utterance.duration


def test_what_lies_beside_it(corpus: Path) -> None:
    names = {path.name for path in corpus.iterdir()}
    assert names == {"audio", "manifest.tsv", "LICENSES.txt", "stats.json", "SHA256SUMS"}
    licences = (corpus / "LICENSES.txt").read_text("utf-8")
    assert "CC-BY-SA-3.0-IT" in licences
    assert licences.count("Free, says") == 3  # equal files stand there once
    sums = (corpus / "SHA256SUMS").read_text().splitlines()
    assert {line[66:] for line in sums} == _contents(corpus).keys() - {"SHA256SUMS"}
    stats = json.loads((corpus / "stats.json").read_text("utf-8"))
    assert len(stats["packages"]) == len(DEBIAN_SPEECH)
    good = len(read_manifest(corpus / "manifest.tsv").utterances)
    in_parts = sum(stats["parts"][p]["all"]["utterances"] for p in SPLITS)
    assert in_parts == good


SPLITS = ("train", "dev", "test", "test_unseen")


def test_a_complete_corpus_is_left_alone(corpus: Path, tmp_path: Path) -> None:
    before = _contents(corpus)
    assert not fetch_corpus(CORPUS, corpus, tmp_path / "no packages needed")
    assert _contents(corpus) == before


def test_a_damaged_corpus_is_mended(corpus: Path, packages: Path) -> None:
    before = _contents(corpus)
    (corpus / "manifest.tsv").write_text("lost")
    next(corpus.rglob("*.flac")).write_bytes(b"lost")
    next(corpus.rglob("*_p-3.flac")).unlink()
    assert fetch_corpus(CORPUS, corpus, packages)
    assert _contents(corpus) == before


@pytest.mark.parametrize("stop", ["unpack_all", "convert_all", "split_clips", "finish"])
def test_an_interrupted_corpus_is_completed(
    corpus: Path, packages: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: str
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(making, stop, _interrupt)
        with pytest.raises(KeyboardInterrupt):
            fetch_corpus(CORPUS, tmp_path, packages)
    assert not (tmp_path / "SHA256SUMS").exists()
    assert fetch_corpus(CORPUS, tmp_path, packages)
    assert _contents(tmp_path) == _contents(corpus)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def test_a_file_system_without_links_gets_copies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError("no links here")

    (tmp_path / "a").write_text("x")
    monkeypatch.setattr("os.link", fail)
    link_or_copy(tmp_path / "a", tmp_path / "b" / "c")
    assert (tmp_path / "b" / "c").read_text() == "x"


def test_g722_has_no_header_and_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.g722").write_bytes(_g722(_noise(0, secs=1.0)))
    waveform = read_recording(tmp_path / "a.g722")
    assert abs(len(waveform) - 16_000) <= 32
    assert 0.1 < float(waveform.abs().max()) <= 1.0


def test_raw_samples_are_read(tmp_path: Path) -> None:
    np.array([0, 2**14, -(2**15)] * 400, "<i2").tofile(tmp_path / "a.raw")
    waveform = read_recording(tmp_path / "a.raw")
    assert waveform[:3].tolist() == [0.0, 0.5, -1.0]


@pytest.mark.parametrize("name", ["a.g722", "a.raw", "a.ogg"])
def test_audio_without_samples_is_an_error(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    with pytest.raises(AudioError):
        read_recording(tmp_path / name)
