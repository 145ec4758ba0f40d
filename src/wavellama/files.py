"""Files that are either complete or not there, and their checksums."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary path beside ``path`` that takes its place when the block succeeds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    yield part
    part.replace(path)


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file at once or not at all."""
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8", newline="\n")


def read_lines(path: Path) -> list[str]:
    """Return the lines of a UTF-8 text file, which may begin with a byte-order mark.

    Only line feeds and carriage returns end a line: ``str.splitlines`` also splits at characters
    that may stand within a text, such as U+2028.

    :raises UnicodeDecodeError: it is not UTF-8.
    """
    lines = path.read_text("utf-8-sig").split("\n")
    return lines if lines[-1] else lines[:-1]


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal digits."""
    digest = sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
