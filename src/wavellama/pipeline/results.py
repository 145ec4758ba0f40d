"""A folder of results: complete files, a journal of what is done, and nothing lost when it stops.

``transcripts.jsonl`` holds one line per file that is done, and is the journal, too: the other files
of a result are written before its line.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final, TextIO, final

from wavellama.errors import ConfigError
from wavellama.pipeline.sources import SourceFile
from wavellama.transcript.types import Transcript
from wavellama.transcript.writers import WRITERS, WriterOptions

JOURNAL: Final = "transcripts.jsonl"

ODD_NAMES: Final = "surrogateescape"
"""How names of files that are not UTF-8 are kept as they are."""

SETTINGS: Final = ".settings.json"
"""How the results of a folder were made."""

_log = logging.getLogger(__name__)


@final
class ResultFolder:
    """Writes transcripts into a folder; one that was begun before is completed."""

    def __init__(
        self,
        folder: Path,
        formats: Sequence[str],
        options: WriterOptions,
        settings: Mapping[str, object],
        rank: int | None = None,
    ) -> None:
        """
        :param formats: names of ``WRITERS``; the journal is always written.
        :param settings: what the results depend on.
        :param rank: the number of this process, where several share the folder: each has a journal
            of its own, until ``merge_journals`` makes them one.
        :raises ConfigError: the folder holds results that were made with other settings, or another
            process is writing into it.
        """
        self.path, self._options = folder, options
        self._formats = [name for name in formats if name != "jsonl"]
        folder.mkdir(parents=True, exist_ok=True)
        self._check_settings(json.loads(json.dumps(settings, default=str)))
        self._journal = _open_journal(folder / (JOURNAL if rank is None else f".{rank}.{JOURNAL}"))
        self._done = {source for path in _journals(folder) for source in _read_journal(path)}

    def remaining(self, files: Iterable[SourceFile]) -> list[SourceFile]:
        """Return the files that have no result yet."""
        return [file for file in files if str(file.path) not in self._done]

    def save(self, file: SourceFile, transcript: Transcript) -> None:
        """Write the results of one file."""
        for name in self._formats:
            path = self.path / file.stem.with_name(f"{file.stem.name}.{name}")
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(path, WRITERS[name](transcript, self._options))
        self._journal.write(WRITERS["jsonl"](transcript, self._options))
        self._journal.flush()
        self._done.add(str(file.path))

    def close(self) -> None:
        """Let others write into the folder."""
        self._journal.close()

    def _check_settings(self, settings: Mapping[str, object]) -> None:
        path = self.path / SETTINGS
        if not path.is_file():
            write_atomic(path, json.dumps(settings, indent=1))
            return
        before = json.loads(path.read_text("utf-8"))
        for key in sorted(before.keys() | settings.keys()):
            if before.get(key) != settings.get(key):
                raise ConfigError(
                    f"{self.path} holds results with {key} = {before.get(key)!r}, but now it is"
                    f" {settings.get(key)!r}; choose another output folder, or remove this one."
                )


def merge_journals(folder: Path, order: Sequence[str]) -> None:
    """Make one journal of those of all processes, which have ended.

    :param order: the sources in the order that the journal is to have.
    """
    lines = {
        source: line for path in _journals(folder) for source, line in _read_journal(path).items()
    }
    known = [source for source in order if source in lines]
    rest = sorted(lines.keys() - set(known))
    write_atomic(folder / JOURNAL, "".join(f"{lines[source]}\n" for source in [*known, *rest]))
    for path in folder.glob(f".*.{JOURNAL}"):
        path.unlink()


def _journals(folder: Path) -> list[Path]:
    """Return the journals there are, that of all processes first."""
    return [
        path for path in (folder / JOURNAL, *sorted(folder.glob(f".*.{JOURNAL}"))) if path.is_file()
    ]


def _open_journal(path: Path) -> TextIO:
    """Open a journal to append to, which nobody else may do meanwhile; a torn line is cut off.

    :raises ConfigError: another process has opened it.
    """
    journal = path.open("a", encoding="utf-8", errors=ODD_NAMES)
    try:
        fcntl.flock(journal, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        journal.close()
        raise ConfigError(
            f"Another process is writing into {path.parent}; wait until it has ended, or choose"
            " another output folder."
        ) from None
    except OSError as ex:  # some network file systems
        _log.warning("%s cannot be locked (%s): start one command at a time.", path, ex)
    os.truncate(path, len(_whole_lines(path)))
    return journal


def _read_journal(path: Path) -> dict[str, str]:
    """Return the lines of a journal by their source."""
    lines = _whole_lines(path).decode("utf-8", ODD_NAMES).split("\n")[:-1]
    return {str(json.loads(line)["source"]): line for line in lines}


def _whole_lines(path: Path) -> bytes:
    """Return a journal without a torn line at its end."""
    data = path.read_bytes()
    return data[: data.rfind(b"\n") + 1]


def write_atomic(path: Path, text: str) -> None:
    """Write a file that is either complete or not there, whatever happens meanwhile."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text, "utf-8", errors=ODD_NAMES)
    temporary.replace(path)
