"""Folders of results: complete files, one line per file that is done, and nothing twice."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path, PurePath
from typing import Any

import pytest

from wavellama.errors import ConfigError
from wavellama.pipeline.results import (
    JOURNAL,
    SETTINGS,
    ResultFolder,
    merge_journals,
    write_atomic,
)
from wavellama.pipeline.sources import SourceFile
from wavellama.transcript.types import Segment, Transcript
from wavellama.transcript.writers import WriterOptions, find_formats


def source(name: str) -> SourceFile:
    return SourceFile(Path(name), PurePath(name))


def save(folder: ResultFolder, *names: str) -> None:
    """Save a transcript of each file that has none; it says which file it is of."""
    for file in folder.remaining(map(source, names)):
        folder.save(file, transcript(str(file.path), f"said in {file.path}"))


def transcript(name: str, text: str = "hello") -> Transcript:
    segment = Segment(text=text, start=0.0, end=1.0)
    return Transcript(source=name, index=0, segments=(segment,), duration=1.0)


@contextmanager
def open_folder(path: Path, rank: int | None = None, **settings: Any) -> Iterator[ResultFolder]:
    with closing(
        ResultFolder(path, find_formats("txt,srt"), WriterOptions(), settings, rank)
    ) as folder:
        yield folder


def sources(path: Path) -> list[str]:
    lines = (path / JOURNAL).read_text("utf-8", "surrogateescape").splitlines()
    return [json.loads(line)["source"] for line in lines]


def test_results_and_their_journal(tmp_path: Path) -> None:
    with open_folder(tmp_path / "out") as folder:
        save(folder, "sub/a.wav")
    assert (tmp_path / "out/sub/a.txt").read_text() == "said in sub/a.wav\n"
    assert "00:00:00,000 --> 00:00:01,000" in (tmp_path / "out/sub/a.srt").read_text()
    assert sources(tmp_path / "out") == ["sub/a.wav"]


def test_what_is_done_is_not_done_again(tmp_path: Path) -> None:
    files = [source(name) for name in ("a.wav", "b.wav", "c.wav")]
    with open_folder(tmp_path) as folder:
        save(folder, "b.wav")
    with open_folder(tmp_path) as again:
        assert again.remaining(files) == [files[0], files[2]]
        save(again, "a.wav")
        assert again.remaining(files) == [files[2]]


@pytest.mark.parametrize("tail", [b"", b"\0\0\0", b"\0\0\0\n"], ids=["killed", "power", "block"])
def test_a_torn_line_is_cut_off_and_its_file_done_again(tmp_path: Path, tail: bytes) -> None:
    files = [source("a.wav"), source("b.wav")]
    with open_folder(tmp_path) as folder:
        save(folder, "a.wav", "b.wav")
    journal = tmp_path / JOURNAL
    journal.write_bytes(journal.read_bytes()[:-7] + tail)
    with open_folder(tmp_path) as again:
        assert again.remaining(files) == [files[1]]
        save(again, "b.wav")
    assert sources(tmp_path) == ["a.wav", "b.wav"]


@pytest.mark.parametrize("line", ['{"audio": "a.wav", "hypothesis": "hi"}', "[]", "hello"])
def test_what_is_no_journal_is_refused_and_left_alone(tmp_path: Path, line: str) -> None:
    """The recipe writes a file of that name for a data set."""
    (tmp_path / JOURNAL).write_text(f"{line}\n{line}\n")
    with pytest.raises(ConfigError, match=r"Line 1 of .* is no transcript of a file"):
        open_and_close(tmp_path)
    assert (tmp_path / JOURNAL).read_text() == f"{line}\n{line}\n"


def open_and_close(path: Path, **settings: Any) -> None:
    with open_folder(path, **settings):
        pass


@pytest.mark.parametrize("others", [["a.mp3"], ["b/a.wav"], ["a.mp3", "b/a.wav", "a.flac"]])
def test_what_is_done_keeps_its_results_when_files_of_its_name_come(
    tmp_path: Path, others: list[str]
) -> None:
    """The text of ``talk.mp3`` was once replaced by that of ``talk.m4a``, which came later."""
    names = ["a.wav", *others]
    with open_folder(tmp_path) as folder:
        save(folder, "a.wav")
    with open_folder(tmp_path) as folder:
        files = folder.remaining(SourceFile(Path(n), PurePath(Path(n).name)) for n in names[::-1])
        for file in files:
            folder.save(file, transcript(str(file.path), f"said in {file.path}"))
    assert (tmp_path / "a.txt").read_text() == "said in a.wav\n"
    rows = [json.loads(line) for line in (tmp_path / JOURNAL).read_text().splitlines()]
    texts = {row["source"]: (tmp_path / f"{row['stem']}.txt").read_text() for row in rows}
    assert texts == {name: f"said in {name}\n" for name in names}


def test_what_comes_through_a_pipe_is_something_else_each_time(tmp_path: Path) -> None:
    """A shell gives its pipes the same names again and again."""
    os.mkfifo(tmp_path / "63")
    for _ in range(2):
        with open_folder(tmp_path / "out") as folder:
            save(folder, str(tmp_path / "63"))
    merge_journals(tmp_path / "out", [str(tmp_path / "63")])
    assert len(sources(tmp_path / "out")) == 2
    assert len(list(tmp_path.glob("63*.txt"))) == 2


def test_a_project_that_was_moved_goes_on(tmp_path: Path) -> None:
    (tmp_path / "before/audio").mkdir(parents=True)
    file = SourceFile(tmp_path / "before/audio/a.wav", PurePath("a.wav"))
    with open_folder(tmp_path / "before/out") as folder:
        assert folder.remaining([file]) == [file]
        folder.save(file, transcript("a.wav"))
    (tmp_path / "before").rename(tmp_path / "after")
    with open_folder(tmp_path / "after/out") as folder:
        moved = SourceFile(tmp_path / "after/audio/a.wav", PurePath("a.wav"))
        assert folder.remaining([moved]) == []


def test_the_same_name_in_another_folder_is_another_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files were once known by their paths as they were typed: day 2 counted as done."""
    for day in ("day1", "day2"):
        (tmp_path / day).mkdir()
        monkeypatch.chdir(tmp_path / day)
        with open_folder(tmp_path / "out") as folder:
            save(folder, "a.wav", "-")
        with open_folder(tmp_path / "out") as folder:
            assert folder.remaining([source("a.wav")]) == []
            assert folder.remaining([source("-")]) == [source("-")], "standard input is never done"
    assert len(list((tmp_path / "out").glob("*.txt"))) == 4


def test_other_settings_are_refused(tmp_path: Path) -> None:
    with open_folder(tmp_path, model="a", search={"beams": 1}) as folder:
        save(folder, "a.wav")
    open_and_close(tmp_path, model="a", search={"beams": 1})
    for settings, words in (
        ({"model": "b"}, "holds results with model = 'a', but now it is 'b'"),
        ({"model": "a", "search": {"beams": 2}}, "holds results with search = "),
        ({"model": "a", "search": None}, "holds results with search = "),
    ):
        with pytest.raises(ConfigError, match=words):
            open_and_close(tmp_path, **settings)


def test_options_that_only_one_version_has_are_no_hindrance(tmp_path: Path) -> None:
    with open_folder(tmp_path, model="a", dropped=True, search={"beams": 1}) as folder:
        save(folder, "a.wav")
    open_and_close(tmp_path, model="a", added="x", search={"beams": 1, "added": 2})
    with pytest.raises(ConfigError, match="added = 'x', but now it is 'y'"):
        open_and_close(tmp_path, added="y")
    with pytest.raises(ConfigError, match="dropped = True, but now it is False"):
        open_and_close(tmp_path, dropped=False)


def test_a_command_that_came_to_no_result_leaves_the_folder_to_another(tmp_path: Path) -> None:
    open_and_close(tmp_path, model="omniASR_LLM_30M")
    with open_folder(tmp_path, model="omniASR_LLM_300M") as folder:
        save(folder, "a.wav")
    with pytest.raises(ConfigError, match="model = 'omniASR_LLM_300M'"):
        open_and_close(tmp_path, model="omniASR_LLM_30M")


def test_damaged_settings_are_one_sentence(tmp_path: Path) -> None:
    with open_folder(tmp_path) as folder:
        save(folder, "a.wav")
    (tmp_path / SETTINGS).write_bytes(b"\0\0")
    with pytest.raises(ConfigError, match=r"\.settings\.json is damaged"):
        open_and_close(tmp_path)


@pytest.mark.parametrize(
    ("folder", "reason"), [("taken", "File exists"), ("taken/out", "Not a directory")]
)
def test_a_folder_that_cannot_be_is_one_sentence(tmp_path: Path, folder: str, reason: str) -> None:
    (tmp_path / "taken").touch()
    with pytest.raises(ConfigError, match=rf"{folder} cannot be written \({reason}\)"):
        open_and_close(tmp_path / folder)


def test_a_full_disk_is_one_sentence_and_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with open_folder(tmp_path) as folder:
        files = folder.remaining([source("a.wav")])
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", fail)
            with pytest.raises(ConfigError, match=r"a\.txt cannot be written \(No space left"):
                folder.save(files[0], transcript("a.wav"))
        assert {path.name for path in tmp_path.iterdir()} == {JOURNAL, SETTINGS}
        assert folder.remaining(files) == files


def test_the_longest_names_can_be_written(tmp_path: Path) -> None:
    path = tmp_path / f"{'語' * 83}.json"
    assert len(path.name.encode()) == 254
    write_atomic(path, "{}")
    assert [one.name for one in tmp_path.iterdir()] == [path.name]


def test_results_are_on_the_disk_before_their_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A power cut once could leave the line without the results."""
    synced: list[str] = []

    def note(descriptor: int) -> None:
        synced.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)

    with open_folder(tmp_path / "out") as folder:
        (file,) = folder.remaining([source("a.wav")])
        monkeypatch.setattr(os, "fsync", note)
        folder.save(file, transcript("a.wav"))
    assert len(synced) == 4
    assert synced[2:] == ["out", JOURNAL], "after txt and srt their names, then the line"


@pytest.mark.parametrize("rank", [None, 1])
def test_a_second_writer_is_refused_and_harms_nothing(tmp_path: Path, rank: int | None) -> None:
    """Two commands with one output folder once wrote one journal."""
    with open_folder(tmp_path, rank) as folder:
        save(folder, "a.wav")
        with (
            pytest.raises(ConfigError, match="Another process is writing into"),
            open_folder(tmp_path, rank),
        ):
            pass
        save(folder, "b.wav")
    with open_folder(tmp_path, rank) as again:
        assert again.remaining([source(name) for name in ("a.wav", "b.wav", "c.wav")]) == [
            source("c.wav")
        ]


def test_the_line_that_another_process_is_writing_is_left_alone(tmp_path: Path) -> None:
    other = tmp_path / f".1.{JOURNAL}"
    done = {"source": "a.wav", "stem": "a", "path": os.path.relpath("a.wav", tmp_path)}
    other.write_text(f'{json.dumps(done)}\n{{"source": "b.w')
    for name in ("a.txt", "a.srt"):
        (tmp_path / name).touch()
    with open_folder(tmp_path, 0) as folder:
        assert folder.remaining([source("a.wav"), source("b.wav")]) == [source("b.wav")]
    assert other.read_text().endswith('{"source": "b.w')


def test_names_that_are_not_text_survive(tmp_path: Path) -> None:
    name = b"caf\xe9.wav".decode("utf-8", "surrogateescape")
    with open_folder(tmp_path) as folder:
        for file in folder.remaining([source(name)]):
            folder.save(file, transcript(name))
    with open_folder(tmp_path) as again:
        assert again.remaining([source(name)]) == []


def test_journals_of_several_processes_become_one(tmp_path: Path) -> None:
    names = [f"{i}.wav" for i in range(5)]
    with open_folder(tmp_path) as folder:
        save(folder, names[3])
    for rank in (0, 1):
        with open_folder(tmp_path, rank) as folder:
            save(folder, *names[rank::2])
    merge_journals(tmp_path, names)
    assert sources(tmp_path) == names
    assert [path.name for path in tmp_path.glob(f".*{JOURNAL}")] == []
    with open_folder(tmp_path) as again:
        assert again.remaining([source(name) for name in names]) == []
