"""Files that are either complete or not there, their checksums, and who may write them."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import IO, Any, Final
from uuid import uuid4

ODD_NAMES: Final = "surrogateescape"
"""How names of files that are not UTF-8 are kept as they are."""

_CANNOT_SYNC: Final = frozenset({errno.EINVAL, errno.ENOTSUP})
"""The errors of file systems that know no such thing as a folder to be written."""

_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""The errors of a full disk, which name no file."""

_END: Final = 1 << 16
"""Bytes at each end of a file that its fingerprint is made of."""

_log = logging.getLogger(__name__)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary path beside ``path`` that takes its place when the block succeeds.

    It may become a file or a folder. What a failed block has written is removed; an error says
    which path the full disk had no room for.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # A name of its own on all machines that share the folder, and short: names have a limit.
    part = path.with_name(f".wavellama-{uuid4().hex}.part")
    try:
        yield part
        part.replace(path)
    except OSError as ex:
        if ex.errno in _FULL and ex.filename is None:
            ex.filename = str(path)
        raise
    finally:
        if part.is_dir():
            shutil.rmtree(part)
        part.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file that is complete or not there, also after a power cut."""
    with (
        replacing(path) as part,
        part.open("x", encoding="utf-8", errors=ODD_NAMES, newline="\n") as file,
    ):
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def sync_names(folder: Path) -> None:
    """Have the names of a folder's files written to the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as ex:
        if ex.errno not in _CANNOT_SYNC:
            raise
    finally:
        os.close(descriptor)


def lock(file: IO[Any], *, wait: bool = False) -> None:
    """Lock an open file against all others, in this process too, until it is closed.

    Where the file system knows no locks, a warning is logged.

    :param wait: whether to wait until nobody else has it.
    :raises BlockingIOError: somebody else has it.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError as ex:  # some network file systems
        _log.warning("%s cannot be locked (%s): start one command at a time.", file.name, ex)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Let one thread of one process at a time into the block; ``path`` is the lock, and stays."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        lock(file, wait=True)
        yield


def read_lines(path: Path, errors: str = "strict") -> list[str]:
    """Return the lines of a UTF-8 text file, which may begin with a byte-order mark.

    Only line feeds and carriage returns end a line: ``str.splitlines`` also splits at characters
    that may stand within a text, such as U+2028.

    :param errors: what becomes of other bytes, such as ``ODD_NAMES``.
    :raises UnicodeDecodeError: it is not UTF-8.
    """
    lines = path.read_text("utf-8-sig", errors).split("\n")
    return lines if lines[-1] else lines[:-1]


def fingerprint(path: Path) -> str:
    """Return the size of a file and a digest of its two ends, which tell it from most others."""
    size = path.stat().st_size
    with path.open("rb") as file:
        ends = file.read(_END)
        file.seek(max(size - _END, 0))
        ends += file.read(_END)
    return f"{size}-{sha256(ends).hexdigest()[:16]}"


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal digits."""
    digest = sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
