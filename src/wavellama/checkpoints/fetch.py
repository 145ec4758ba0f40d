"""Where a card's checkpoint comes from: a file, or a download that resumes; and its checksum."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import unquote

from fairseq2.assets import (
    AssetCard,
    AssetCardError,
    AssetDirectoryAccessor,
    AssetDownloadManager,
)
from fairseq2.gang import Gangs
from fairseq2.runtime.dependency import DependencyResolver
from fairseq2.utils.progress import ProgressReporter
from fairseq2.utils.uri import Uri

from wavellama.checkpoints.download import download
from wavellama.errors import CheckpointError, ConfigError
from wavellama.files import file_digest, write_text

CHECKSUM_FIELD: Final = "checkpoint_sha256"
"""The optional field of a card with the SHA-256 of its checkpoint, in hexadecimal digits."""


@dataclass(frozen=True)
class CheckpointFetcher:
    """Brings the checkpoint of a card to this machine, where fairseq2 finds it."""

    cache_dir: Path
    """fairseq2's own cache of assets."""

    downloads: AssetDownloadManager
    """fairseq2's downloads: they find what is in the cache, and unpack archives."""

    progress: ProgressReporter

    @classmethod
    def create(cls, resolver: DependencyResolver) -> CheckpointFetcher:
        """Create the fetcher that belongs to a container."""
        return cls(
            resolver.resolve(AssetDirectoryAccessor).get_cache_dir(),
            resolver.resolve(AssetDownloadManager),
            resolver.resolve(ProgressReporter, key="download_reporter"),
        )

    def fetch(self, card: AssetCard, gangs: Gangs) -> Path:
        """Return where the card's checkpoint lies on this machine.

        The process of rank 0 downloads it, unless it is there, and verifies its checksum; the
        others wait.

        :raises ConfigError: the card names no checkpoint, or one that nothing can fetch.
        :raises CheckpointError: the file is missing, incomplete, or not the one that was meant.
        :raises AssetCardError: the card's ``checkpoint_path`` leads out of the checkpoint.
        """
        uri = _checkpoint_uri(card)
        if gangs.root.rank == 0:
            self._provide(card, uri)
        gangs.root.barrier()
        path = self._path(uri)
        field = card.maybe_get_field("checkpoint_path")
        if field is None:
            return path
        inner = (path / field.as_(str)).resolve()
        if not inner.is_relative_to(path.resolve()):
            raise AssetCardError(
                card.name, f"`checkpoint_path` of the card {card.name} leads out of its checkpoint."
            )
        return inner.parent if "shard_idx" in inner.name else inner  # the former form of shards

    def _provide(self, card: AssetCard, uri: Uri) -> None:
        if uri.scheme not in self.downloads.supported_schemes:
            raise ConfigError(
                f"The card {card.name} asks for {uri}, and checkpoints come by"
                f" {', '.join(sorted(self.downloads.supported_schemes))} only."
            )
        if uri.scheme == "file" and not local_path(uri).exists():
            raise CheckpointError(
                f"{local_path(uri)} is not found; the card {card.name} names it as its checkpoint."
            )
        if uri.scheme in ("http", "https"):
            self._download(uri)
        if uri.scheme != "file":
            self.downloads.download_model(uri)
        checksum = card.maybe_get_field(CHECKSUM_FIELD)
        if checksum is not None:
            verify_sha256(self._path(uri), checksum.as_(str), self.cache_dir / "verified")

    def _path(self, uri: Uri) -> Path:
        # fairseq2's own way back from a URI to a path leaves a blank as %20.
        is_file = uri.scheme == "file"
        return local_path(uri) if is_file else self.downloads.download_model(uri, local_only=True)

    def _download(self, uri: Uri) -> None:
        """Put the file where fairseq2's download would leave it before unpacking."""
        name = hashlib.sha1(str(uri).encode()).hexdigest()[:24]
        ready = [self.cache_dir / name, self.cache_dir / f"{name}.download"]
        if not any(path.exists() for path in ready):
            download(str(uri), ready[1], self.progress)


def local_path(uri: Uri) -> Path:
    """Return the path of a ``file`` URI."""
    return Path(unquote(uri.path))


def verify_sha256(path: Path, expected: str, memory: Path) -> None:
    """Compare the SHA-256 of a file with the one expected.

    :param memory: as in ``find_sha256``.
    :raises ConfigError: the path is a folder.
    :raises CheckpointError: the sums differ.
    """
    if path.is_dir():
        raise ConfigError(f"{path} is a folder, and `{CHECKSUM_FIELD}` is the sum of one file.")
    found = find_sha256(path, memory, expected.lower())
    if found != expected.lower():
        raise CheckpointError(
            f"{path} is damaged or another file: its SHA-256 is {found}, and the card expects"
            f" {expected.lower()}; delete it and fetch it again."
        )


def find_sha256(path: Path, memory: Path, expected: str | None = None) -> str:
    """Return the SHA-256 of a file; one that has not changed since is not read again.

    :param memory: a folder that remembers the sums of files, and their state then.
    :param expected: the only sum that is worth remembering; None: any.
    """
    state = path.stat()
    seal = f" {state.st_size} {state.st_mtime_ns}"
    note = memory / hashlib.sha1(str(path.resolve()).encode()).hexdigest()
    known = note.read_text("utf-8") if note.is_file() else ""
    if known.endswith(seal):
        return known.removesuffix(seal)
    found = file_digest(path)
    if expected in (None, found):
        write_text(note, found + seal)
    return found


def _checkpoint_uri(card: AssetCard) -> Uri:
    field = card.maybe_get_field("checkpoint")
    if field is None:
        raise ConfigError(
            f"The card {card.name} names no checkpoint, so there are no weights to load."
        )
    return field.as_uri()
