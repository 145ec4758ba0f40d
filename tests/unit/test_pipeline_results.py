"""Folders of results: complete files, one line per file that is done, and nothing twice."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing, contextmanager
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


@contextmanager
def open_folder(path: Path, rank: int | None = None, **settings: Any) -> Iterator[ResultFolder]:
    with closing(ResultFolder(path, ["txt", "srt"], WriterOptions(), settings, rank)) as folder:
        yield folder


def sources(path: Path) -> list[str]:
    lines = (path / JOURNAL).read_text("utf-8", "surrogateescape").splitlines()
    return [json.loads(line)["source"] for line in lines]


def test_results_and_their_journal(tmp_path: Path) -> None:
    with open_folder(tmp_path / "out") as folder:
        folder.save(source("sub/a.wav"), transcript("sub/a.wav"))
    assert (tmp_path / "out/sub/a.txt").read_text() == "hello\n"
    assert "00:00:00,000 --> 00:00:01,000" in (tmp_path / "out/sub/a.srt").read_text()
    assert sources(tmp_path / "out") == ["sub/a.wav"]


def test_what_is_done_is_not_done_again(tmp_path: Path) -> None:
    files = [source(name) for name in ("a.wav", "b.wav", "c.wav")]
    with open_folder(tmp_path) as folder:
        folder.save(files[1], transcript("b.wav"))
    with open_folder(tmp_path) as again:
        assert again.remaining(files) == [files[0], files[2]]
        again.save(files[0], transcript("a.wav"))
        assert again.remaining(files) == [files[2]]


def test_a_torn_line_is_cut_off_and_its_file_done_again(tmp_path: Path) -> None:
    files = [source("a.wav"), source("b.wav")]
    with open_folder(tmp_path) as folder:
        for file in files:
            folder.save(file, transcript(str(file.path)))
    journal = tmp_path / JOURNAL
    journal.write_bytes(journal.read_bytes()[:-7])
    with open_folder(tmp_path) as again:
        assert again.remaining(files) == [files[1]]
        again.save(files[1], transcript("b.wav"))
    assert sources(tmp_path) == ["a.wav", "b.wav"]


def test_other_settings_are_refused(tmp_path: Path) -> None:
    for _ in range(2):
        with open_folder(tmp_path, model="a", lang=None):
            pass
    with (
        pytest.raises(ConfigError, match="holds results with model = 'a', but now it is 'b'"),
        open_folder(tmp_path, model="b", lang=None),
    ):
        pass


@pytest.mark.parametrize("rank", [None, 1])
def test_a_second_writer_is_refused_and_harms_nothing(tmp_path: Path, rank: int | None) -> None:
    """Two commands with one output folder once wrote one journal."""
    with open_folder(tmp_path, rank) as folder:
        folder.save(source("a.wav"), transcript("a.wav"))
        with (
            pytest.raises(ConfigError, match="Another process is writing into"),
            open_folder(tmp_path, rank),
        ):
            pass
        folder.save(source("b.wav"), transcript("b.wav"))
    with open_folder(tmp_path, rank) as again:
        assert again.remaining([source(name) for name in ("a.wav", "b.wav", "c.wav")]) == [
            source("c.wav")
        ]


def test_the_line_that_another_process_is_writing_is_left_alone(tmp_path: Path) -> None:
    other = tmp_path / f".1.{JOURNAL}"
    other.write_text('{"source": "a.wav"}\n{"source": "b.w')
    with open_folder(tmp_path, 0) as folder:
        assert folder.remaining([source("a.wav"), source("b.wav")]) == [source("b.wav")]
    assert other.read_text().endswith('{"source": "b.w')


def test_names_that_are_not_text_survive(tmp_path: Path) -> None:
    name = b"caf\xe9.wav".decode("utf-8", "surrogateescape")
    with open_folder(tmp_path) as folder:
        folder.save(source(name), transcript(name))
    with open_folder(tmp_path) as again:
        assert again.remaining([source(name)]) == []


def test_journals_of_several_processes_become_one(tmp_path: Path) -> None:
    names = [f"{i}.wav" for i in range(5)]
    with open_folder(tmp_path) as folder:
        folder.save(source(names[3]), transcript(names[3]))
    for rank in (0, 1):
        with open_folder(tmp_path, rank) as folder:
            for name in names[rank::2]:
                if folder.remaining([source(name)]):
                    folder.save(source(name), transcript(name))
    merge_journals(tmp_path, names)
    assert sources(tmp_path) == names
    assert [path.name for path in tmp_path.glob(f".*{JOURNAL}")] == []
    with open_folder(tmp_path) as again:
        assert again.remaining([source(name) for name in names]) == []
