"""Folders of results: complete files, one line per file that is done, and nothing twice."""

from __future__ import annotations

import json
from pathlib import Path, PurePath
from typing import Any

import pytest

from wavellama.errors import ConfigError
from wavellama.pipeline.results import JOURNAL, ResultFolder, merge_journals
from wavellama.pipeline.sources import SourceFile
from wavellama.transcript.types import Segment, Transcript
from wavellama.transcript.writers import WriterOptions


def source(name: str) -> SourceFile:
    return SourceFile(Path(name), PurePath(name).with_suffix(""))


def transcript(name: str, text: str = "hello") -> Transcript:
    segment = Segment(text=text, start=0.0, end=1.0)
    return Transcript(source=name, index=0, segments=(segment,), duration=1.0)


def open_folder(path: Path, rank: int | None = None, **settings: Any) -> ResultFolder:
    return ResultFolder(path, ["txt", "srt"], WriterOptions(), settings, rank)


def sources(path: Path) -> list[str]:
    lines = (path / JOURNAL).read_text("utf-8", "surrogateescape").splitlines()
    return [json.loads(line)["source"] for line in lines]


def test_results_and_their_journal(tmp_path: Path) -> None:
    folder = open_folder(tmp_path / "out")
    folder.save(source("sub/a.wav"), transcript("sub/a.wav"))
    assert (tmp_path / "out/sub/a.txt").read_text() == "hello\n"
    assert "00:00:00,000 --> 00:00:01,000" in (tmp_path / "out/sub/a.srt").read_text()
    assert sources(tmp_path / "out") == ["sub/a.wav"]


def test_what_is_done_is_not_done_again(tmp_path: Path) -> None:
    files = [source(name) for name in ("a.wav", "b.wav", "c.wav")]
    open_folder(tmp_path).save(files[1], transcript("b.wav"))
    again = open_folder(tmp_path)
    assert again.remaining(files) == [files[0], files[2]]
    again.save(files[0], transcript("a.wav"))
    assert again.remaining(files) == [files[2]]


def test_a_torn_line_is_cut_off_and_its_file_done_again(tmp_path: Path) -> None:
    files = [source("a.wav"), source("b.wav")]
    folder = open_folder(tmp_path)
    for file in files:
        folder.save(file, transcript(str(file.path)))
    journal = tmp_path / JOURNAL
    journal.write_bytes(journal.read_bytes()[:-7])
    again = open_folder(tmp_path)
    assert again.remaining(files) == [files[1]]
    again.save(files[1], transcript("b.wav"))
    assert sources(tmp_path) == ["a.wav", "b.wav"]


def test_other_settings_are_refused(tmp_path: Path) -> None:
    open_folder(tmp_path, model="a", lang=None)
    open_folder(tmp_path, model="a", lang=None)
    with pytest.raises(ConfigError, match="holds results with model = 'a', but now it is 'b'"):
        open_folder(tmp_path, model="b", lang=None)


def test_names_that_are_not_text_survive(tmp_path: Path) -> None:
    name = b"caf\xe9.wav".decode("utf-8", "surrogateescape")
    folder = open_folder(tmp_path)
    folder.save(source(name), transcript(name))
    assert open_folder(tmp_path).remaining([source(name)]) == []


def test_journals_of_several_processes_become_one(tmp_path: Path) -> None:
    names = [f"{i}.wav" for i in range(5)]
    open_folder(tmp_path).save(source(names[3]), transcript(names[3]))
    for rank in (0, 1):
        folder = open_folder(tmp_path, rank)
        for name in names[rank::2]:
            if folder.remaining([source(name)]):
                folder.save(source(name), transcript(name))
    merge_journals(tmp_path, names)
    assert sources(tmp_path) == names
    assert [path.name for path in tmp_path.glob(f".*{JOURNAL}")] == []
    assert open_folder(tmp_path).remaining([source(name) for name in names]) == []
