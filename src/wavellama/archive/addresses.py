"""Recordings at addresses, such as ``s3://`` or ``hf://``, which fsspec lists and reads."""

from __future__ import annotations

import re
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import IO, Final, cast, final

from fsspec.core import url_to_fs

from wavellama.errors import ConfigError
from wavellama.pipeline.sources import MEDIA_SUFFIXES

_ADDRESS: Final = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)

_BLOCK_BYTES: Final = 1 << 20
"""How much of a recording is asked for at a time."""


@final
class RemoteFile:
    """A recording at an address, opened when it is read."""

    def __init__(self, name: str) -> None:
        self.name = name
        """The address."""

    @cached_property
    def _file(self) -> IO[bytes]:
        fs, path = url_to_fs(self.name)
        return cast(IO[bytes], fs.open(path, "rb", block_size=_BLOCK_BYTES))

    def read(self, size: int = -1, /) -> bytes:
        """Return at most ``size`` bytes; none at the end."""
        return self._file.read(size)

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Go on at another place."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """Return the place that is read next."""
        return self._file.tell()


def is_address(path: str) -> bool:
    """Tell addresses from paths."""
    return _ADDRESS.match(path) is not None


def as_source(path: str) -> Path | RemoteFile:
    """Return what the recording at a path or an address is read from."""
    return RemoteFile(path) if is_address(path) else Path(path)


def list_recordings(address: str) -> list[str]:
    """Return the addresses of the recording at an address, or of all audio and video files below.

    :raises ConfigError: there are none, or a package is missing that reads such addresses.
    """
    try:
        fs, root = url_to_fs(address)
        found = [root] if fs.isfile(root) else filter(_is_recording, fs.find(root))
    except (ImportError, OSError, ValueError) as ex:
        raise ConfigError(f"{address} cannot be listed: {ex}") from ex
    addresses = [str(fs.unstrip_protocol(name)) for name in sorted(found)]
    if not addresses:
        raise ConfigError(f"{address} holds no audio or video file.")
    return addresses


def _is_recording(name: str) -> bool:
    path = PurePosixPath(name)
    return path.suffix.lower() in MEDIA_SUFFIXES and not path.name.startswith(".")
