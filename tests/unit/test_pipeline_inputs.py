"""One input or many."""

from __future__ import annotations

import io
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from wavellama.audio.sources import RawPcm
from wavellama.errors import DataError
from wavellama.pipeline.inputs import as_list, read_examples_tsv


@pytest.mark.parametrize(
    "source",
    [
        *("a.wav", Path("a.wav"), b"RIFF", bytearray(b"RIFF"), memoryview(b"RIFF")),
        *(io.BytesIO(b"RIFF"), RawPcm(io.BytesIO(), 16_000), np.zeros(4, np.uint8)),
        *({"waveform": [0.0], "sample_rate": 16_000}, torch.zeros(9), None, 1.5),
    ],
    ids=lambda source: type(source).__name__,
)
def test_a_single_input(source: Any) -> None:
    (only,) = as_list(source)
    assert only is source


@pytest.mark.parametrize(
    "convert", [list, tuple, iter, deque, lambda names: (name for name in names)]
)
def test_inputs_of_any_iterable(convert: Callable[[list[str]], Iterable[Any]]) -> None:
    names = ["b.wav", "a.wav"]
    assert as_list(convert(names)) == names


def test_what_a_folder_holds(tmp_path: Path) -> None:
    paths = {tmp_path / name for name in ("a.wav", "b.wav")}
    for path in paths:
        path.touch()
    assert set(as_list(tmp_path.glob("*.wav"))) == paths


# The table of examples for zero-shot models


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
