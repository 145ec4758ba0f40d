"""Faults in folders of results, one test each."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path, PurePath

import pytest

from wavellama.pipeline.results import JOURNAL, ResultFolder, merge_journals
from wavellama.pipeline.sources import SourceFile
from wavellama.transcript.types import Segment, Transcript
from wavellama.transcript.writers import WriterOptions, find_formats


@contextmanager
def open_folder(path: Path, rank: int | None = None) -> Iterator[ResultFolder]:
    formats = find_formats("txt,json")
    with closing(ResultFolder(path, formats, WriterOptions(), {}, rank)) as folder:
        yield folder


def audio(folder: Path, name: str, content: str = "x") -> SourceFile:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(content)
    return SourceFile(folder / name, PurePath(name))


def save_all(folder: ResultFolder, *files: SourceFile) -> list[SourceFile]:
    """Save the content of each remaining file as its transcript; return them."""
    remaining = folder.remaining(files)
    for file in remaining:
        segment = Segment(text=file.path.read_text(), start=0.0, end=1.0)
        folder.save(
            file, Transcript(source=str(file.path), index=0, segments=(segment,), duration=1.0)
        )
    return remaining


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (path / JOURNAL).read_text("utf-8").splitlines()]


@pytest.mark.parametrize("name", ["x" * 251 + ".wav", "я" * 120 + ".mp3", "x" * 250 + ".flac"])
def test_a_name_of_255_bytes_gets_a_shorter_result(name: str, tmp_path: Path) -> None:
    """The whole folder stopped, each time again."""
    files = [audio(tmp_path / "in", name), audio(tmp_path / "in", "a.wav")]
    twin = SourceFile(files[0].path.with_name("twin"), files[0].name)  # of another folder
    twin.path.write_text("twin")
    with open_folder(tmp_path / "out") as folder:
        assert save_all(folder, *files, twin) == [*files, twin]
    texts = sorted(path.read_text() for path in (tmp_path / "out").glob("*.txt"))
    assert texts == ["twin\n", "x\n", "x\n"]
    with open_folder(tmp_path / "out") as folder:
        assert folder.remaining([*files, twin]) == []


def test_a_recording_that_was_replaced_is_done_again(tmp_path: Path) -> None:
    """The text of the recording before stayed."""
    file, other = audio(tmp_path / "in", "a.wav", "one"), audio(tmp_path / "in", "b.wav")
    with open_folder(tmp_path / "out") as folder:
        save_all(folder, file, other)
    audio(tmp_path / "in", "a.wav", "two")
    with open_folder(tmp_path / "out") as folder:
        assert save_all(folder, file, other) == [file]
    assert (tmp_path / "out" / "a.txt").read_text() == "two\n"
    assert [line["stem"] for line in lines(tmp_path / "out")] == ["a", "b"]
    assert lines(tmp_path / "out")[0]["text"] == "two"


def test_a_recording_that_is_gone_keeps_its_result(tmp_path: Path) -> None:
    file = audio(tmp_path / "in", "a.wav")
    with open_folder(tmp_path / "out") as folder:
        save_all(folder, file)
    file.path.unlink()
    with open_folder(tmp_path / "out") as folder:
        assert folder.remaining([file]) == []


def test_a_result_that_was_deleted_is_made_again(tmp_path: Path) -> None:
    file = audio(tmp_path / "in", "a.wav")
    with open_folder(tmp_path / "out") as folder:
        save_all(folder, file)
    (tmp_path / "out" / "a.json").unlink()
    with open_folder(tmp_path / "out") as folder:
        assert save_all(folder, file) == [file]
    assert (tmp_path / "out" / "a.json").exists()
    assert len(lines(tmp_path / "out")) == 1


def test_several_processes_do_again_what_was_replaced(tmp_path: Path) -> None:
    files = [audio(tmp_path / "in", f"{i}.wav", "old") for i in range(4)]
    with open_folder(tmp_path / "out") as folder:
        save_all(folder, *files)
    for file in files:
        file.path.write_text("new one")
    for rank in (0, 1):
        with open_folder(tmp_path / "out", rank) as folder:
            assert save_all(folder, *files[rank::2]) == files[rank::2]
    merge_journals(tmp_path / "out", [str(file.path) for file in files])
    assert [line["text"] for line in lines(tmp_path / "out")] == ["new one"] * 4


def test_a_text_that_somebody_else_wrote_is_not_replaced(tmp_path: Path) -> None:
    """The notes ``talk.txt`` beside ``talk.wav`` were lost."""
    file = audio(tmp_path, "talk.wav", "said")
    (tmp_path / "talk.txt").write_text("my notes")
    for _ in range(2):
        with open_folder(tmp_path) as folder:
            save_all(folder, file)
        assert (tmp_path / "talk.txt").read_text() == "my notes"
        assert (tmp_path / "talk.wav.txt").read_text() == "said\n"


def test_what_a_killed_process_left_is_no_stranger(tmp_path: Path) -> None:
    file = audio(tmp_path / "in", "a.wav", "said")
    with open_folder(tmp_path / "out"):
        (tmp_path / "out" / "a.txt").write_text("half")  # and no line in the journal
    with open_folder(tmp_path / "out") as folder:
        save_all(folder, file)
    assert (tmp_path / "out" / "a.txt").read_text() == "said\n"
