"""Which files a user means: paths as they are, and the audio files of folders."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Final

from wavellama.errors import ConfigError

MEDIA_SUFFIXES: Final = frozenset(
    {
        *(".3gp", ".aac", ".ac3", ".aif", ".aiff", ".amr", ".au", ".avi", ".caf", ".flac", ".flv"),
        *(".m4a", ".m4b", ".m4v", ".mka", ".mkv", ".mov", ".mp2", ".mp3", ".mp4", ".mpeg", ".mpg"),
        *(".oga", ".ogg", ".ogv", ".opus", ".spx", ".ts", ".wav", ".webm", ".wma", ".wmv"),
    }
)
"""The names of audio and video files that are looked for in folders."""


@dataclass(frozen=True)
class SourceFile:
    """A file to transcribe."""

    path: Path

    stem: PurePath
    """What the files of its results are called, without suffix, below the output folder."""


def find_files(paths: Sequence[Path]) -> list[SourceFile]:
    """Return the files that ``paths`` mean, each once, in order.

    A folder means all audio and video files in it and below; their results lie in folders as they
    do. A path that is no folder is taken as it is, whether it exists or not.

    :raises ConfigError: a folder holds no such file.
    """
    stems: dict[Path, PurePath] = {}
    for path in paths:
        if path.is_dir():
            stems |= {file: file.relative_to(path) for file in _media_files(path)}
        else:
            stems[path] = PurePath(path.name)
    return [
        SourceFile(path, stem) for path, stem in zip(stems, _distinct(stems.values()), strict=True)
    ]


def _media_files(folder: Path) -> list[Path]:
    files = sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in MEDIA_SUFFIXES and path.is_file()
    )
    if not files:
        raise ConfigError(
            f"{folder} holds no audio or video file (one that ends with .wav, .mp3, .mp4, ...)."
        )
    return files


def _distinct(names: Iterable[PurePath]) -> Iterator[PurePath]:
    """Yield names without suffix; where two are alike, the later one keeps it, or has a number."""
    taken: set[PurePath] = set()
    for name in names:
        candidates = [name.with_suffix(""), name]
        candidates += [name.with_name(f"{name.name}-{i}") for i in range(2, len(taken) + 3)]
        stem = next(candidate for candidate in candidates if candidate not in taken)
        taken.add(stem)
        yield stem
