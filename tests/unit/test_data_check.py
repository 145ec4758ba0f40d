"""``data check`` and ``data tokenizer``: figures, faults, the picture, the vocabulary."""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile
from sentencepiece import SentencePieceProcessor

from wavellama.cli.data import add_data_parser
from wavellama.corpora.command import CORPORA
from wavellama.corpora.corpus import Corpus
from wavellama.data.check import find_fault, language_statistics
from wavellama.data.tokenizer import train_tokenizer
from wavellama.data.utterance import Utterance
from wavellama.errors import DataError


def _run(*argv: str) -> int:
    parser = argparse.ArgumentParser()
    add_data_parser(parser.add_subparsers())
    args = parser.parse_args(["data", *argv])
    return int(args.run(args))


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """Three files of one second, one file of noise bytes, and a good and a bad split."""
    for name in ("a.flac", "b.flac", "c.flac"):
        soundfile.write(tmp_path / name, np.full(16_000, 0.1), 16_000)
    (tmp_path / "noise.flac").write_bytes(b"no audio at all")
    header = "audio\toffset\tduration\ttext\tlang\tspeaker\n"
    (tmp_path / "train.tsv").write_text(
        f"{header}a.flac\t\t1.0\tuno\tita_Latn\tx\nb.flac\t0.5\t0.5\tdue\tita_Latn\ty\n"
    )
    bad = "b.flac\t\t1.2\ttwo\teng_Latn\t\nnoise.flac\t\t1\tthree\teng_Latn\t\n"
    bad += "c.flac\t0.6\t0.6\tfour\teng_Latn\t\nc.flac\t\t1\tfive\teng_Lat\t\n"
    bad += "missing.flac\t\t1\tsix\t\t\nc.flac\t\t1.05\tseven\t\t\n"
    (tmp_path / "dev.tsv").write_text(header + bad)
    return tmp_path


def test_check_reports_all(dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run("check", str(dataset)) == 1
    out = capsys.readouterr().out
    lines = {line for line in out.splitlines() if line.startswith(str(dataset))}
    reasons = {line.split(": ", 1)[0].rsplit(":", 1)[1]: line for line in lines}
    assert reasons.keys() == {"2", "3", "4", "5", "6"}
    assert "lasts 1.20 s, but the audio 1.00 s" in reasons["2"]
    assert "holds no audio samples" in reasons["3"]
    assert "ends at 1.20 s, but the audio at 1.00 s" in reasons["4"]
    assert "eng_Lat" in reasons["5"]
    assert "no such file" in reasons["6"]
    assert "3 of 8 rows are good, 5 are broken." in out
    assert "ita_Latn" in out
    assert "train:2" in out
    assert (dataset / "check.png").read_bytes().startswith(b"\x89PNG")


def test_check_of_good_rows_succeeds(dataset: Path, tmp_path: Path) -> None:
    picture = tmp_path / "elsewhere" / "p.png"
    assert _run("check", str(dataset / "train.tsv"), "--plot", str(picture)) == 0
    assert picture.exists()
    assert not (dataset / "check.png").exists()


def test_check_of_broken_rows_only(dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (dataset / "manifest.tsv").write_text("audio\tduration\ttext\na\tx\ty\n")
    assert _run("check", str(dataset)) == 1
    assert "0 of 1 rows are good" in capsys.readouterr().out


def test_a_picture_that_was_asked_for_and_cannot_be_written_is_an_error(
    dataset: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = dataset / "a.flac" / "p.png"
    assert _run("check", str(dataset / "train.tsv"), "--plot", str(picture)) == 1
    assert "--plot PNG" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("offset", "duration", "fault"),
    [
        (None, 1.09, False),
        (None, 0.91, False),
        (None, 1.11, True),
        (None, 0.89, True),
        (0.0, 0.5, False),
        (0.5, 0.59, False),
        (0.5, 0.61, True),
    ],
)
def test_tolerance(offset: float | None, duration: float, fault: bool) -> None:
    utterance = Utterance(Path("a"), "x", duration, offset=offset)
    assert (find_fault(utterance, 1.0) is not None) is fault


def test_statistics() -> None:
    utterances = [
        Utterance(Path("a"), "abc", 1.0, "ita_Latn", speaker="x", split="train"),
        Utterance(Path("b"), "abcd", 3.0, "ita_Latn", speaker="x", split="dev"),
        Utterance(Path("c"), "ab", 5.0),
    ]
    none, italian = language_statistics(utterances)
    assert (none.lang, none.speakers, none.splits) == ("-", set(), Counter({"-": 1}))
    figures = (italian.utterances, italian.seconds, italian.mean, italian.longest)
    assert figures == (2, 4.0, 2.0, 3.0)
    assert (italian.characters, italian.speakers) == (7, {"x"})
    assert italian.splits == {"train": 1, "dev": 1}


def _load(path: Path) -> SentencePieceProcessor:
    return SentencePieceProcessor(model_file=str(path))


def test_tokenizer_has_the_ids_of_the_family(tmp_path: Path) -> None:
    size = train_tokenizer(["città l'eau", "ẛ̣ ﬁ ½  x", "я"], tmp_path, "tiny")
    model = _load(tmp_path / "tiny.model")
    assert (model.bos_id(), model.pad_id(), model.eos_id(), model.unk_id()) == (0, 1, 2, 3)
    assert size == model.vocab_size()
    for text in ("città", "l'eau", "ẛ̣ ﬁ ½", "x  x", "я я"):
        ids = model.encode(text)
        assert len(ids) == len(text)  # a token for each character, none for a beginning
        assert min(ids) > 3
        assert model.decode(ids) == text
    assert model.encode("я") == [model.piece_to_id("я")]
    assert 3 in model.encode("z")


def test_tokenizer_knows_every_character(tmp_path: Path) -> None:
    texts = [f"{chr(0x4E00 + i)}{'a' * 50}" for i in range(3000)] + ["b" * 9000]
    size = train_tokenizer(texts, tmp_path, "wide")
    model = _load(tmp_path / "wide.model")
    assert all(3 not in model.encode(text[0]) for text in texts)
    assert size in (3002 + 4, 3002 + 5)  # with or without a token for the space


def test_tokenizer_command(dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run("tokenizer", str(dataset), "--out", str(dataset / "t"), "--name", "toy") == 0
    captured = capsys.readouterr()
    card = (dataset / "t" / "toy.yaml").read_text()
    assert "name: toy\ntokenizer_family: char_tokenizer\ntokenizer: toy.model\n" in card
    size = _load(dataset / "t" / "toy.model").vocab_size()
    assert f"toy.model: {size} tokens" in captured.out
    assert "1 broken rows were left out" in captured.err


def test_tokenizer_of_nothing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="needs text"):
        train_tokenizer([" "], tmp_path, "none")


@pytest.mark.parametrize("name", list(CORPORA))
def test_fetch_says_what_it_did(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls: list[tuple[object, ...]] = []

    def fetch(corpus: Corpus, out: Path, packages: Path | None, *, keep_work: bool) -> bool:
        calls.append((len(corpus.packages) > 0, out, packages, keep_work))
        return True

    monkeypatch.setattr("wavellama.corpora.corpus.fetch_corpus", fetch)
    assert _run("fetch", name, "--out", str(tmp_path)) == 0
    assert calls == [(True, tmp_path, None, False)]
    assert "complete" in capsys.readouterr().out


def test_fetch_lists_the_corpora(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        _run("fetch", "--help")
    shown = capsys.readouterr().out
    assert all(name in shown for name in ("amazon-queen", "debian-speech", "spoken-texts"))


def test_options_of_a_corpus_belong_to_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments in (("debian-speech", "--seed", "1"), ("spoken-texts", "--utterances", "0")):
        with pytest.raises(SystemExit):
            _run("fetch", *arguments, "--out", str(tmp_path))
    assert "--utterances" in capsys.readouterr().err
