"""The table of examples for zero-shot models."""

from __future__ import annotations

from pathlib import Path

import pytest

from wavellama.errors import DataError
from wavellama.pipeline.examples import read_examples_tsv


def write(folder: Path, text: str) -> Path:
    path = folder / "examples.tsv"
    path.write_text(text, "utf-8")
    return path


@pytest.mark.parametrize("heading", ["", "audio\ttext\n", "\ufeffAudio\tText\n\n"])
def test_rows_name_audio_beside_the_table(tmp_path: Path, heading: str) -> None:
    rows = read_examples_tsv(write(tmp_path, f"{heading}a.wav\tgood morning\n\nsub/b.mp3\tnight\n"))
    assert [(row.audio, row.text) for row in rows] == [
        (tmp_path / "a.wav", "good morning"),
        (tmp_path / "sub/b.mp3", "night"),
    ]


def test_absolute_paths_stay(tmp_path: Path) -> None:
    (row,) = read_examples_tsv(write(tmp_path, "/audio/a.wav\ttext"))
    assert row.audio == Path("/audio/a.wav")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a.wav\n", ":1: needs an audio file, a tab"),
        ("a.wav\tx\n\nb.wav\t \n", ":3: needs"),
        ("a.wav\tx\ty\n", ":1: needs"),
        ("audio\ttext\n", "holds no example"),
        ("", "holds no example"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(DataError, match=words):
        read_examples_tsv(write(tmp_path, text))


def test_a_missing_table(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        read_examples_tsv(tmp_path / "none.tsv")
