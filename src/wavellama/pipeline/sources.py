"""Which files a user means, and what the results of each may be called."""

from __future__ import annotations

import os
from collections.abc import Container, Sequence
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path, PurePath
from typing import Final

from wavellama.errors import ConfigError

MEDIA_SUFFIXES: Final = frozenset(
    {
        *(".3g2", ".3gp", ".aac", ".ac3", ".aif", ".aifc", ".aiff", ".amr", ".ape", ".au", ".avi"),
        *(".awb", ".caf", ".dts", ".eac3", ".flac", ".flv", ".m2ts", ".m4a", ".m4b", ".m4v"),
        *(".mka", ".mkv", ".mov", ".mp2", ".mp3", ".mp4", ".mpeg", ".mpg", ".mts", ".mxf", ".oga"),
        *(".ogg", ".ogv", ".opus", ".snd", ".spx", ".tta", ".ts", ".vob", ".w64", ".wav"),
        *(".weba", ".webm", ".wma", ".wmv", ".wv"),
    }
)
"""The names of audio and video files that are looked for in folders."""


_MAX_STEM_BYTES: Final = 220
"""File systems hold 255 bytes; the rest is for a number and a suffix."""


@dataclass(frozen=True)
class SourceFile:
    """A file to transcribe."""

    path: Path
    name: PurePath
    """Its name, with the folders below the one that was named: what its results are named after."""


STANDARD_INPUT: Final = SourceFile(Path("-"), PurePath("-"))


def find_files(paths: Sequence[Path]) -> list[SourceFile]:
    """Return the files that ``paths`` mean, each once, in order.

    A folder means all audio and video files in it and below, but for hidden ones; their results lie
    in folders as they do. A path that is no folder is taken as it is, whether it exists or not; a
    ``~`` is the home folder.

    :raises ConfigError: a folder holds no such file.
    """
    found: dict[str, SourceFile] = {}  # by absolute paths: each may be spelled in several ways
    for path in (Path(os.path.expanduser(path)) for path in paths):
        is_folder = os.path.isdir(path)  # unlike Path.is_dir, never raises for odd names
        for file in _media_files(path) if is_folder else [path]:
            name = file.relative_to(path) if is_folder else PurePath(path.name)
            found.setdefault(os.path.abspath(file), SourceFile(file, name))
    return [*found.values()]


def free_stem(name: PurePath, taken: Container[PurePath]) -> PurePath:
    """Return what the results of a file are called: its name without suffix, if that is free.

    Otherwise they have the whole name, or that and a number. A name that leaves no room for a
    suffix is cut.

    :param taken: what those of others are called.
    """
    stem, whole = _cut_name(name.with_suffix("")), _cut_name(name)
    numbered = (whole.with_name(f"{whole.name}-{i}") for i in count(2))
    candidates = chain([stem, whole], numbered)
    return next(candidate for candidate in candidates if candidate not in taken)


def _cut_name(name: PurePath) -> PurePath:
    """Return a name of at most ``_MAX_STEM_BYTES``, cut between characters."""
    encoded = os.fsencode(name.name)
    if len(encoded) <= _MAX_STEM_BYTES:
        return name
    return name.with_name(encoded[:_MAX_STEM_BYTES].decode("utf-8", "ignore"))


def _media_files(folder: Path) -> list[Path]:
    files = sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in MEDIA_SUFFIXES
        # macOS leaves a hidden file beside each one (``._a.wav``)
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and path.is_file()
    )
    if not files:
        raise ConfigError(
            f"{folder} holds no audio or video file (one that ends with .wav, .mp3, .mp4, ...)."
        )
    return files
