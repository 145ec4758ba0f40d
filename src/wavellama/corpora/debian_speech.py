"""The corpus debian-speech: six hours of 13 languages from five families of Debian packages."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from wavellama.corpora.asterisk import asterisk_clips, menardi_clips
from wavellama.corpora.clean import clean
from wavellama.corpora.clip import RawClip
from wavellama.corpora.convert import convert_all
from wavellama.corpora.fillets import fillets_clips
from wavellama.corpora.packages import DEBIAN_SPEECH, download, find_packages, unpack_all
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
from wavellama.corpora.tuxpaint import tuxpaint_clips

WORK: Final = ".work"
"""Folder inside the corpus for packages and what is not finished; removed at the end."""

LICENCES: Final = """\
Licences of the recordings in this folder
=========================================

Speaker             Work and people                                          Licence
asterisk-{en,es}    Core Asterisk Sounds. Allison Smith                      CC-BY-SA-3.0
asterisk-fr         Core Asterisk Sounds. June Wallack                       CC-BY-SA-3.0
asterisk-it         Core Asterisk Sounds. Carlo Flora                        CC-BY-3.0
asterisk-ru         Core Asterisk Sounds. Maxim Topal, www.ivrvoice.ru       CC-BY-3.0
menardi             Marco Menardi and Paola Dal Zot, www.voip.ammdomus.it    CC-BY-SA-3.0-IT
tuxpaint-*          Tux Paint stamps. Its contributors                       GPL-2+
fillets-*           Fish Fillets - Next Generation. Its contributors         GPL-2

The Italian sound files of the speaker menardi were made by Marco Menardi and his wife; they and
new voices are to be had at http://www.voip.ammdomus.it (to be told to every end user).

Changes: the recordings were converted to 16 kHz mono FLAC and a part of them selected; the
transcripts were turned into lower case without punctuation.

The copyright files of the packages follow.
"""


def fetch_debian_speech(
    out: Path, packages: Path | None = None, *, keep_work: bool = False
) -> bool:
    """Make the corpus in ``out``; an interrupted or damaged one is completed.

    ``packages`` is a folder with ``.deb`` files to use instead of downloading them. Returns False
    if there was nothing to do, because all files have their checksums.

    :raises DataError: packages are missing and cannot be downloaded, or damaged.
    """
    damaged = damaged_files(out)
    if damaged != []:
        for path in (*(damaged or ()), out / CHECKSUMS):
            path.unlink(missing_ok=True)
        _build(out, packages)
    if not keep_work:
        shutil.rmtree(out / WORK, ignore_errors=True)
    return damaged != []


def debian_clips(root: Path) -> Iterator[RawClip]:
    """Yield all clips from the unpacked packages below ``root``."""
    yield from asterisk_clips(root)
    yield from menardi_clips(root)
    yield from tuxpaint_clips(root)
    yield from fillets_clips(root)


def _build(out: Path, packages: Path | None) -> None:
    work = out / WORK
    debs = _find_or_download(packages, work / "packages")
    root = work / "unpacked"
    unpack_all(debs, root)
    raw = list(debian_clips(root))
    cleaned = clean(raw, convert_all(raw, work / "flac"))
    parts = split_clips(cleaned.clips)
    rows = export_clips(parts, out, ".flac", link_or_copy)
    licences = collect_licences(DEBIAN_SPEECH, root, LICENCES)
    finish(out, rows, licences, statistics(parts, cleaned, debs))


def _find_or_download(packages: Path | None, cache: Path) -> dict[str, Path]:
    if packages is None:
        cache.mkdir(parents=True, exist_ok=True)
        download(DEBIAN_SPEECH, cache)
    return find_packages(DEBIAN_SPEECH, packages or cache)
