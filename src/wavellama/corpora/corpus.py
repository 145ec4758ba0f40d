"""A corpus: what it is made from, and the way from the packages to the finished folder."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from wavellama.corpora.clean import clean
from wavellama.corpora.clip import RawClip
from wavellama.corpora.convert import convert_all
from wavellama.corpora.packages import copyright_file, download, find_packages, unpack_all
from wavellama.corpora.publish import (
    CHECKSUMS,
    collect_licences,
    damaged_files,
    export_clips,
    finish,
    link_or_copy,
    statistics,
)
from wavellama.corpora.split import split_clips

WORK: Final = ".work"
"""Folder inside the corpus for packages and what is not finished; removed at the end."""


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """What a corpus is made from."""

    packages: tuple[str, ...]
    """Debian packages by their names, and those of npm as ``name@version``."""

    clips: Callable[[Path], Iterable[RawClip]]
    """Yields all clips from the unpacked packages below a folder, which it may add files to."""

    licences: str
    """Whose recordings these are; the packages' own copyright files follow it."""

    notices: tuple[str, ...] = ()
    """Other files that must stay with the recordings, below the folder of all packages."""


def fetch_corpus(
    corpus: Corpus, out: Path, packages: Path | None = None, *, keep_work: bool = False
) -> bool:
    """Make a corpus in ``out``; an interrupted or damaged one is completed.

    ``packages`` is a folder with the packages' files to use instead of downloading them. Returns
    False if there was nothing to do, because all files have their checksums.

    :raises DataError: packages are missing and cannot be downloaded, or damaged.
    """
    damaged = damaged_files(out)
    if damaged != []:
        for path in (*(damaged or ()), out / CHECKSUMS):
            path.unlink(missing_ok=True)
        _build(corpus, out, packages)
    if not keep_work:
        shutil.rmtree(out / WORK, ignore_errors=True)
    return damaged != []


def _build(corpus: Corpus, out: Path, packages: Path | None) -> None:
    work = out / WORK
    files = _find_or_download(corpus.packages, packages, work / "packages")
    root = work / "unpacked"
    unpack_all(files, root)
    raw = list(corpus.clips(root))
    cleaned = clean(raw, convert_all(raw, work / "flac"))
    parts = split_clips(cleaned.clips)
    rows = export_clips(parts, out, ".flac", link_or_copy)
    notices = {name: copyright_file(name, root) for name in corpus.packages}
    notices |= {name: root / name for name in corpus.notices}
    licences = collect_licences(notices, corpus.licences)
    finish(out, rows, licences, statistics(parts, cleaned, files))


def _find_or_download(
    names: tuple[str, ...], packages: Path | None, cache: Path
) -> dict[str, Path]:
    if packages is None:
        cache.mkdir(parents=True, exist_ok=True)
        download(names, cache)
    return find_packages(names, packages or cache)
