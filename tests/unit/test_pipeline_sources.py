"""Which files paths and folders mean."""

from __future__ import annotations

from pathlib import Path, PurePath

import pytest

from wavellama.errors import ConfigError
from wavellama.pipeline.sources import find_files


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
    assert [file.stem for file in files] == [
        PurePath("b"),
        PurePath("sub/a"),
        PurePath("sub/deep/c"),
    ]


def test_paths_are_taken_as_they_are_and_once(tmp_path: Path) -> None:
    missing, odd = tmp_path / "missing.wav", tmp_path / "speech.bin"
    assert [file.path for file in find_files([odd, missing, odd])] == [odd, missing]


def test_a_file_of_a_folder_that_is_named_too_is_done_once(tmp_path: Path) -> None:
    (path,) = make(tmp_path, "a.wav")
    assert [file.path for file in find_files([tmp_path, path])] == [path]


def test_results_of_files_with_one_name_do_not_meet(tmp_path: Path) -> None:
    paths = make(tmp_path, "x/a.wav", "y/a.wav", "z/a.wav", "x/a.mp3")
    stems = [file.stem for file in find_files(paths)]
    assert stems == [PurePath("a"), PurePath("a.wav"), PurePath("a.wav-2"), PurePath("a.mp3")]


def test_an_empty_folder_is_an_error(tmp_path: Path) -> None:
    make(tmp_path, "notes.txt")
    with pytest.raises(ConfigError, match="holds no audio or video file"):
        find_files([tmp_path])
