"""The packages of the corpora, and how to get them.

They are Debian's, by their names, and a few of npm, as ``name@version``.
"""

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
    "Fetch the .deb files of Debian 12 (bookworm) from a Debian mirror on any machine{npm}, put"
    " them into one folder, and pass it as --packages FOLDER. They are: {names}."
)

_NO_LISTS: Final = (
    " If apt has no lists yet, an administrator must run `apt-get update`; the packages are those"
    " of Debian 12 (bookworm)."
)


def download(names: Sequence[str], folder: Path) -> None:
    """Download into ``folder`` the packages that are not there yet, one after the other.

    :raises DataError: there is no apt or npm, or it does not find a package.
    """
    missing = [name for name in names if find_package(name, folder) is None]
    for name in missing:
        program = _command(name)[0]
        if shutil.which(program) is None:
            raise DataError(
                f"This machine has no {program} to download packages with. {_otherwise(missing)}"
            )
    for name in track(missing, "downloading", len(missing)):
        _download_one(name, folder)


def find_package(name: str, folder: Path) -> Path | None:
    """Return the newest file of a package in ``folder``, or None."""
    pattern = f"{name.replace('@', '-')}.tgz" if is_npm(name) else f"{name}_*.deb"
    return max(folder.glob(pattern), default=None)


def find_packages(names: Sequence[str], folder: Path) -> dict[str, Path]:
    """Return the file of each package.

    :raises DataError: some are not in ``folder``; the error names them.
    """
    found = {name: find_package(name, folder) for name in names}
    missing = [name for name, path in found.items() if path is None]
    if missing:
        raise DataError(f"{folder} lacks packages. {_otherwise(missing)}")
    return {name: path for name, path in found.items() if path is not None}


def is_npm(name: str) -> bool:
    """Tell whether a package is one of npm."""
    return "@" in name


def copyright_file(name: str, root: Path) -> Path:
    """Return the licence of a package that is unpacked below ``root``."""
    if is_npm(name):
        return next(iter(sorted((root / name / "package").glob("[Ll][Ii][Cc][Ee][Nn][Ss][Ee]"))))
    return root / name / "usr/share/doc" / name / "copyright"


def unpack_all(packages: dict[str, Path], folder: Path) -> None:
    """Extract each package below ``folder``, unless it is there."""
    for name, path in track(packages.items(), "unpacking", len(packages)):
        if not (folder / name).exists():
            unpack(path, folder / name)


def _download_one(name: str, folder: Path) -> None:
    """Let apt or npm download and verify a package beside ``folder``, then move it in."""
    part = folder / ".part"
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    command = _command(name)
    process = subprocess.run(command, cwd=part, capture_output=True, text=True, check=False)
    files = [*part.glob("*.deb"), *part.glob("*.tgz")]
    if process.returncode or not files:
        hint = "" if is_npm(name) else _NO_LISTS
        raise DataError(
            f"{command[0]} could not download {name}: {_errors(process.stderr)}{hint}"
            f" {_otherwise([name])}"
        )
    files[0].replace(folder / files[0].name)
    part.rmdir()


def _command(name: str) -> list[str]:
    """Return what downloads a package into the folder in which it is run."""
    if is_npm(name):
        return ["npm", "pack", "--loglevel=error", name]
    return ["apt-get", "download", "--quiet", name]


def _otherwise(names: Sequence[str]) -> str:
    """Say how the packages come here without the program that downloads them."""
    npm = [f"`npm pack {name}`" for name in names if is_npm(name)]
    also = f", and what {' and '.join(npm)} writes" if npm else ""
    return _OTHERWISE.format(names=" ".join(names), npm=also)


def _errors(stderr: str) -> str:
    return " ".join(line for line in stderr.splitlines() if line.startswith("E: ")) or stderr
