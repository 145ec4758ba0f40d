"""Files that are complete or not there, and locks."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from wavellama.files import file_digest, lock, replacing, write_text


def break_off(part: Path) -> None:
    """Fail when half is written."""
    part.parent.mkdir(exist_ok=True)
    part.write_text("half")
    part.with_name("missing").read_text()


def test_a_file_is_complete_or_absent(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "file"
    with pytest.raises(OSError, match="No such"), replacing(target) as part:
        break_off(part)
    assert not list(target.parent.iterdir())
    for text in ("whole", "another"):
        with replacing(target) as part:
            part.write_text(text)
        assert target.read_text() == text
    assert [path.name for path in target.parent.iterdir()] == ["file"]


def test_a_folder_is_complete_or_absent(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such"), replacing(tmp_path / "folder") as part:
        break_off(part / "file")
    assert not list(tmp_path.iterdir())
    with replacing(tmp_path / "folder") as part:
        part.mkdir()
        (part / "file").touch()
    assert [path.name for path in tmp_path.rglob("*")] == ["folder", "file"]


def test_who_is_killed_leaves_what_was_there(tmp_path: Path) -> None:
    target = tmp_path / "file"
    write_text(target, "before")
    program = (
        "import os, pathlib, signal, sys; from wavellama.files import replacing\n"
        "with replacing(pathlib.Path(sys.argv[1])) as part:\n"
        "    part.write_text('half'); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    ended = subprocess.run([sys.executable, "-c", program, str(target)], check=False)
    assert ended.returncode == -9
    assert target.read_text() == "before"
    write_text(target, "after")
    assert target.read_text() == "after"


def test_texts_are_written_as_they_are(tmp_path: Path) -> None:
    text = "a\r\nb\u2028c \udcff\n"
    write_text(tmp_path / "file", text)
    assert (tmp_path / "file").read_bytes() == b"a\r\nb\xe2\x80\xa8c \xff\n"
    expected = hashlib.sha256((tmp_path / "file").read_bytes()).hexdigest()
    assert file_digest(tmp_path / "file") == expected


def test_a_lock_is_held_until_the_file_is_closed(tmp_path: Path) -> None:
    with (tmp_path / "file").open("a") as first, (tmp_path / "file").open("a") as second:
        lock(first)
        with pytest.raises(BlockingIOError):
            lock(second)
        first.close()
        lock(second, wait=True)


def test_a_file_system_without_locks_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*args: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with caplog.at_level(logging.WARNING), (tmp_path / "file").open("a") as file:
        lock(file)
    assert f"{tmp_path / 'file'} cannot be locked" in caplog.text


def test_an_error_of_a_full_disk_says_what_it_had_no_room_for(tmp_path: Path) -> None:
    full = pytest.raises(OSError, match=r"No space left on device: '.*/part\.jsonl'")
    with full, replacing(tmp_path / "part.jsonl") as part, part.open("x"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    assert not [*tmp_path.iterdir()]
