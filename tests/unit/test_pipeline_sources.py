"""Which files paths and folders mean."""

from __future__ import annotations

from pathlib import Path, PurePath

import pytest

from wavellama.errors import ConfigError
from wavellama.pipeline.sources import find_files, free_stem


def make(folder: Path, *names: str) -> list[Path]:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return [folder / name for name in names]


def test_folders_mean_their_audio_files_in_order(tmp_path: Path) -> None:
    b, a, video, _ = make(tmp_path, "b.wav", "sub/a.MP3", "sub/deep/c.mkv", "notes.txt")
    files = find_files([tmp_path])
    assert [file.path for file in files] == [b, a, video]
    assert [str(file.name) for file in files] == ["b.wav", "sub/a.MP3", "sub/deep/c.mkv"]


def test_hidden_files_are_only_what_is_named(tmp_path: Path) -> None:
    """macOS leaves a ``._a.wav`` beside each ``a.wav`` that it copies."""
    hidden, seen, *_ = make(tmp_path / ".audio", "._a.wav", "a.wav", ".trash/b.wav")
    assert [file.path for file in find_files([tmp_path / ".audio"])] == [seen]
    assert [file.path for file in find_files([hidden])] == [hidden]


def test_paths_are_taken_as_they_are_and_once(tmp_path: Path) -> None:
    missing, odd = tmp_path / "missing.wav", tmp_path / "speech.bin"
    assert [file.path for file in find_files([odd, missing, odd])] == [odd, missing]


def test_a_file_of_a_folder_that_is_named_too_is_done_once(tmp_path: Path) -> None:
    (path,) = make(tmp_path, "a.wav")
    assert [file.path for file in find_files([tmp_path, path])] == [path]


def test_a_file_in_two_spellings_is_done_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two processes once wrote one result at the same time."""
    (path,) = make(tmp_path, "sub/a.wav")
    monkeypatch.chdir(tmp_path)
    files = find_files([Path("sub/a.wav"), path, Path("sub/../sub/a.wav"), tmp_path])
    assert [file.path for file in files] == [Path("sub/a.wav")]


def test_results_of_files_with_one_name_do_not_meet() -> None:
    taken: list[PurePath] = []
    for name in ("x/a.wav", "x/a.wav", "x/a.wav", "x/a.mp3", "y/a.wav"):
        taken.append(free_stem(PurePath(name), taken))
    assert list(map(str, taken)) == ["x/a", "x/a.wav", "x/a.wav-2", "x/a.mp3", "y/a"]


def test_a_name_that_is_too_long_is_a_missing_file() -> None:
    assert [file.path for file in find_files([Path("x" * 300)])] == [Path("x" * 300)]


def test_an_empty_folder_is_an_error(tmp_path: Path) -> None:
    make(tmp_path, "notes.txt")
    with pytest.raises(ConfigError, match="holds no audio or video file"):
        find_files([tmp_path])
