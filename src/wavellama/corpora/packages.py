"""The Debian packages of the corpora, and how to get them."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from wavellama.corpora.deb import unpack
from wavellama.data.progress import track
from wavellama.errors import DataError

ASTERISK: Final = tuple(
    f"asterisk-core-sounds-{code}{part}"
    for code in ("en", "es", "fr", "it", "ru")
    for part in ("", "-g722")
)
"""Telephone prompts; the packages without suffix hold the transcripts."""

DEBIAN_SPEECH: Final = (
    *ASTERISK,
    "asterisk-prompt-it-menardi-wav",
    "tuxpaint-stamps-default",
    "fillets-ng-data",
    "fillets-ng-data-cs",
    "fillets-ng-data-nl",
)
"""Packages of the corpus debian-speech: 377 MB."""

MINI: Final = (
    "asterisk-core-sounds-it",
    "asterisk-core-sounds-it-g722",
    "asterisk-core-sounds-ru",
    "asterisk-core-sounds-ru-g722",
    "pocketsphinx-testdata",
)
"""Packages of the corpus that ships with wavellama."""

_OTHERWISE: Final = (
    "Fetch the .deb files of Debian 12 (bookworm) from a Debian mirror on any machine, put them"
    " into one folder, and pass it as --packages FOLDER. They are: {names}."
)


def download(names: Sequence[str], folder: Path) -> None:
    """Download into ``folder`` the packages that are not there yet, one after the other.

    :raises DataError: there is no apt, or it does not find a package.
    """
    missing = [name for name in names if find_package(name, folder) is None]
    if missing and shutil.which("apt-get") is None:
        raise DataError(
            "This machine has no apt-get to download packages with. "
            + _OTHERWISE.format(names=" ".join(missing))
        )
    for name in track(missing, "downloading", len(missing)):
        _download_one(name, folder)


def find_package(name: str, folder: Path) -> Path | None:
    """Return the newest ``.deb`` file of a package in ``folder``, or None."""
    return max(folder.glob(f"{name}_*.deb"), default=None)


def find_packages(names: Sequence[str], folder: Path) -> dict[str, Path]:
    """Return the ``.deb`` file of each package.

    :raises DataError: some are not in ``folder``; the error names them.
    """
    found = {name: find_package(name, folder) for name in names}
    missing = [name for name, path in found.items() if path is None]
    if missing:
        raise DataError(f"{folder} lacks packages. " + _OTHERWISE.format(names=" ".join(missing)))
    return {name: path for name, path in found.items() if path is not None}


def unpack_all(packages: dict[str, Path], folder: Path) -> None:
    """Extract each package below ``folder``, unless it is there."""
    for name, path in track(packages.items(), "unpacking", len(packages)):
        if not (folder / name).exists():
            unpack(path, folder / name)


def _download_one(name: str, folder: Path) -> None:
    """Let apt download and verify a package beside ``folder``, then move it in."""
    part = folder / ".part"
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    command = ["apt-get", "download", "--quiet", name]
    process = subprocess.run(command, cwd=part, capture_output=True, text=True, check=False)
    files = list(part.glob("*.deb"))
    if process.returncode or not files:
        raise DataError(
            f"apt-get could not download {name}: {_apt_errors(process.stderr)} If apt has no lists"
            " yet, an administrator must run `apt-get update`; the packages are those of Debian 12"
            " (bookworm). " + _OTHERWISE.format(names=name)
        )
    files[0].replace(folder / files[0].name)
    part.rmdir()


def _apt_errors(stderr: str) -> str:
    return " ".join(line for line in stderr.splitlines() if line.startswith("E: ")) or stderr
