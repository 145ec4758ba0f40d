"""Unpack packages in pure Python: no dpkg, no npm, no root, nothing installed."""

from __future__ import annotations

import lzma
import tarfile
import zlib
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import IO, Final

from wavellama.errors import DataError
from wavellama.files import replacing

WANTED: Final = (".g722", ".wav", ".ogg", ".raw", ".txt", ".txt.gz", ".lua", ".1c", ".html", ".bin")
"""Suffixes of the files that a corpus needs."""

WANTED_NAMES: Final = frozenset(
    ["copyright", "license", "transcription", "cards.transcription"]
    + [f"data.{kind}" for kind in ("adj", "adv", "noun", "verb")]
)
"""Names of files that a corpus needs, too."""

_MAGIC: Final = b"!<arch>\n"
_HEADER: Final = 60


def unpack(package: Path, folder: Path) -> None:
    """Extract what a corpus needs from a package; ``folder`` appears when all is there.

    A ``.deb`` file is Debian's, a ``.tgz`` file npm's.

    :raises DataError: the file is not a package, damaged, or compressed in an unknown way.
    """
    with replacing(folder) as part:
        part.mkdir()
        try:
            data = package.open("rb") if package.suffix == ".tgz" else _data_member(package)
            with data:
                _extract(data, part)
        except (tarfile.TarError, lzma.LZMAError, zlib.error, EOFError, ValueError) as ex:
            raise DataError(
                f"{package} is not a whole package ({ex}). Delete it and fetch it again."
            ) from ex


def ar_members(file: IO[bytes]) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of each file in an ``ar`` archive.

    :raises ValueError: it is no such archive, or it ends too early.
    """
    if file.read(len(_MAGIC)) != _MAGIC:
        raise ValueError("not an ar archive")
    while header := file.read(_HEADER):
        size = int(header[48:58])
        content = file.read(size + size % 2)[:size]
        if len(content) < size:
            raise ValueError("the archive ends too early")
        yield header[:16].decode("ascii").strip().rstrip("/"), content


def _data_member(package: Path) -> BytesIO:
    with package.open("rb") as file:
        for name, content in ar_members(file):
            if name.startswith("data.tar"):
                return BytesIO(content)
    raise ValueError("it holds no data.tar")


def _extract(data: IO[bytes], folder: Path) -> None:
    with tarfile.open(fileobj=data, mode="r|*") as archive:
        for member in archive:
            name = PurePosixPath(member.name)
            content = archive.extractfile(member) if member.isreg() and _wanted(name) else None
            if content is not None:
                target = folder / name
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(content.read())


def _wanted(name: PurePosixPath) -> bool:
    """Tell whether a file is needed; never one that would land outside the folder."""
    if name.is_absolute() or ".." in name.parts:
        return False
    return name.name.endswith(WANTED) or name.name.lower() in WANTED_NAMES
