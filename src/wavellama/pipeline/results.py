"""A folder of results: complete files, a journal of what is done, and nothing lost when it stops.

``transcripts.jsonl`` holds one line per file that is done, and is the journal, too: the other files
of a result are on the disk before its line. Beside the transcript a line has what these files are
called, without suffix (``stem``), which file it was (``path``, as seen from the folder), and what
tells it from another file of that name (``fingerprint``). Of two lines about one file the last one
holds.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePath
from typing import Any, Final, NamedTuple, TextIO, final

from wavellama.audio.sources import is_pipe
from wavellama.errors import ConfigError
from wavellama.files import ODD_NAMES, fingerprint, lock, sync_names, write_text
from wavellama.pipeline.sources import STANDARD_INPUT, SourceFile, free_stem
from wavellama.transcript.records import write_json
from wavellama.transcript.types import Transcript
from wavellama.transcript.writers import Formats, WriterOptions

JOURNAL: Final = "transcripts.jsonl"

SETTINGS: Final = ".settings.json"
"""How the results of a folder were made."""

_STRANGERS: Final = "not ours"
"""The setting that names what was in the folder before, without suffix."""


@final
class ResultFolder:
    """Writes transcripts into a folder; one that was begun before is completed."""

    def __init__(
        self,
        folder: Path,
        formats: Formats,
        options: WriterOptions,
        settings: Mapping[str, object],
        rank: int | None = None,
    ) -> None:
        """
        :param formats: what to write of each file; the journal is always written.
        :param settings: what the results depend on.
        :param rank: the number of this process, where several share the folder: each has a journal
            of its own, until ``merge_journals`` makes them one.
        :raises ConfigError: the folder holds results that were made with other settings, or other
            things, cannot be written, or another process is writing into it.
        """
        self.path, self._options = folder, options
        self._formats = {name: formats[name] for name in formats if name != "jsonl"}
        journal = folder / (JOURNAL if rank is None else f".{rank}.{JOURNAL}")
        with _writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            self._journal = _open_journal(journal)
            try:
                entries = list(_read_journals(folder))
                before = _read_settings(folder / SETTINGS, must_be_whole=bool(entries))
                strangers = before.get(_STRANGERS, self._find_strangers() if not before else [])
                _check_settings(folder, settings, before if entries else {}, strangers)
                os.truncate(journal, sum(len(line) + 1 for line in _whole_lines(journal)))
            except BaseException:
                self._journal.close()
                raise
        self._done = {entry.path: entry for entry in entries}
        self._has_old_lines = False
        self._taken = {entry.stem for entry in entries} | set(map(PurePath, strangers))
        self._stems: dict[Path, PurePath] = {}  # of the files that remain

    def remaining(self, files: Iterable[SourceFile]) -> list[SourceFile]:
        """Return the files that have no result yet, which ``save`` takes from now on.

        What came through a pipe before was another file. A file that was replaced since, or whose
        results are no longer there, is done again.

        What their results are called depends on ``files`` and on what was done before, so it is the
        same for all processes that share the folder, if all of them ask before any one saves.
        """
        todo = [file for file in files if not self._is_done(file)]
        for file in todo:
            entry = self._done.get(self._identity(file))
            if entry is not None and not _is_passing(file):
                self._stems[file.path] = entry.stem
            elif file.path not in self._stems:
                self._stems[file.path] = free_stem(file.name, self._taken)
                self._taken.add(self._stems[file.path])
        return todo

    def _is_done(self, file: SourceFile) -> bool:
        entry = self._done.get(self._identity(file))
        if entry is None or _is_passing(file):
            return False
        if not all(os.path.lexists(self._result(entry.stem, name)) for name in self._formats):
            return False
        # Another file may have the name now; one that is gone was not replaced.
        return entry.fingerprint is None or _fingerprint(file.path) in (None, entry.fingerprint)

    def _result(self, stem: PurePath, name: str) -> Path:
        return self.path / stem.with_name(f"{stem.name}.{name}")

    def _find_strangers(self) -> list[str]:
        """Return the names, without suffix, of files that look like results and are somebody's."""
        found = (path for name in self._formats for path in self.path.rglob(f"*.{name}"))
        return sorted({str(path.relative_to(self.path).with_suffix("")) for path in found})

    def save(self, file: SourceFile, transcript: Transcript) -> None:
        """Write the results of one of the ``remaining`` files.

        :raises ConfigError: they cannot be written; the disk is full, say.
        """
        stem = self._stems[file.path]
        if self._formats:
            self._write_files(stem, transcript)
        identity = self._identity(file)
        mark = None if _is_passing(file) else _fingerprint(file.path)
        entry = _Entry(identity, stem, _to_line(transcript, stem, identity, mark), mark)
        with _writing(Path(self._journal.name)):
            self._journal.write(f"{entry.line}\n")
            self._journal.flush()
            os.fsync(self._journal.fileno())
        self._has_old_lines |= identity in self._done and not _is_passing(file)
        self._done[identity] = entry

    def _identity(self, file: SourceFile) -> str:
        """Return what no other file has in common with this one, and what stays if both move."""
        return os.path.relpath(file.path, self.path)

    def _write_files(self, stem: PurePath, transcript: Transcript) -> None:
        """Write all but the line of the journal, and see to it that they outlive a power cut."""
        folder = self.path / stem.parent
        with _writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            for name, chosen in self._formats.items():
                text = chosen.write(transcript, self._options)
                write_atomic(self._result(stem, name), text)
            sync_names(folder)

    def close(self) -> None:
        """Let others write into the folder.

        :raises ConfigError: what could not be written before still cannot be.
        """
        with _writing(Path(self._journal.name)):
            if self._has_old_lines:
                path = Path(self._journal.name)
                lines = {(entry.path, entry.stem): entry.line for entry in _read_journal(path)}
                write_atomic(path, "".join(f"{line}\n" for line in lines.values()))
            self._journal.close()


def merge_journals(folder: Path, order: Sequence[str]) -> None:
    """Make one journal of those of all processes, which have ended.

    :param order: the files in the order that the journal is to have.
    :raises ConfigError: it cannot be written.
    """
    places = {os.path.relpath(path, folder): place for place, path in enumerate(order)}
    lines = {(entry.path, entry.stem): entry.line for entry in _read_journals(folder)}
    ordered = sorted(lines, key=lambda key: (places.get(key[0], len(places)), key))
    write_atomic(folder / JOURNAL, "".join(f"{lines[key]}\n" for key in ordered))
    with _writing(folder):
        sync_names(folder)
        for path in folder.glob(f".*.{JOURNAL}"):
            path.unlink()


def write_atomic(path: Path, text: str) -> None:
    """Write a file that is either complete or not there, whatever happens meanwhile.

    :raises ConfigError: it cannot be written; the disk is full, say.
    """
    with _writing(path):
        write_text(path, text)


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Tell in one sentence that something cannot be written."""
    try:
        yield
    except OSError as ex:
        raise ConfigError(
            f"{path} cannot be written ({ex.strerror or ex}); choose another folder, or mend that"
            " and start again."
        ) from ex


# Settings


def _check_settings(
    folder: Path,
    settings: Mapping[str, object],
    before: Mapping[str, object],
    strangers: Sequence[str],
) -> None:
    """Check that results were made as they are to be made now, and keep how that is.

    :param before: the settings of the results that are there.
    :param strangers: what is to be kept of files that are no results.
    :raises ConfigError: they were made otherwise.
    """
    settings = json.loads(json.dumps(settings, default=str))
    for key in sorted(before.keys() & settings.keys()):
        if not _agree(before[key], settings[key]):
            raise ConfigError(
                f"{folder} holds results with {key} = {before[key]!r}, but now it is"
                f" {settings[key]!r}; choose another output folder, or remove this one."
            )
    content = {**before, **settings, _STRANGERS: list(strangers)}
    write_atomic(folder / SETTINGS, json.dumps(content, indent=1))


def _read_settings(path: Path, must_be_whole: bool) -> dict[str, Any]:
    """Return the settings of a folder; none where they are missing."""
    if not path.is_file():
        return {}
    try:
        return dict(json.loads(path.read_bytes()))
    except (ValueError, TypeError) as ex:
        if not must_be_whole:
            return {}
        raise ConfigError(
            f"{path} is damaged ({ex}); remove it, if you are sure that the options are the same."
        ) from ex


def _agree(before: object, now: object) -> bool:
    """Compare settings as far as the versions that wrote and read them both have them."""
    if isinstance(before, dict) and isinstance(now, dict):
        return all(_agree(before[key], now[key]) for key in before.keys() & now.keys())
    return before == now


# Journals


class _Entry(NamedTuple):
    """A line of a journal."""

    path: str
    stem: PurePath
    line: str
    fingerprint: str | None


def _open_journal(path: Path) -> TextIO:
    journal = path.open("a", encoding="utf-8", errors=ODD_NAMES)
    try:
        lock(journal)
    except BlockingIOError:
        journal.close()
        raise ConfigError(
            f"Another process is writing into {path.parent}; wait until it has ended, or choose"
            " another output folder."
        ) from None
    return journal


def _read_journals(folder: Path) -> Iterator[_Entry]:
    """Yield what all journals of a folder say, that of all processes first."""
    if (folder / JOURNAL).is_file():
        yield from _read_journal(folder / JOURNAL)
    for path in sorted(folder.glob(f".*.{JOURNAL}")):
        yield from _read_journal(path)


def _read_journal(path: Path) -> Iterator[_Entry]:
    for number, data in enumerate(_whole_lines(path), 1):
        line = data.decode("utf-8", ODD_NAMES)
        try:
            record = json.loads(line)
            place = str(record["path"]), PurePath(record["stem"])
            entry = _Entry(*place, line, record.get("fingerprint"))  # which may be missing
        except (ValueError, TypeError, KeyError):
            raise ConfigError(
                f"Line {number} of {path} is no transcript of a file; choose another output folder,"
                " or remove that line."
            ) from None
        yield entry


def _whole_lines(path: Path) -> list[bytes]:
    """Return the lines of a journal without what is torn at its end, if anything is.

    A killed process leaves a line without its end, a power cut also one that was never filled in.
    """
    lines = path.read_bytes().split(b"\n")[:-1]
    return lines[:-1] if lines and not _is_json(lines[-1]) else lines


def _is_json(line: bytes) -> bool:
    try:
        json.loads(line.decode("utf-8", ODD_NAMES))
    except ValueError:
        return False
    return True


def _to_line(transcript: Transcript, stem: PurePath, path: str, mark: str | None) -> str:
    """Return a transcript as a line of the journal, which also says where everything lies."""
    record = write_json(transcript, WriterOptions()).removesuffix("}\n")
    place = {"stem": str(stem), "path": path, **({} if mark is None else {"fingerprint": mark})}
    return f"{record}, {json.dumps(place)[1:]}"


def _fingerprint(path: Path) -> str | None:
    """Return what tells a file from others; None if it is gone since it was read."""
    try:
        return fingerprint(path)
    except OSError:
        return None


def _is_passing(file: SourceFile) -> bool:
    """Tell standard input and pipes, in which there is something else each time."""
    return file == STANDARD_INPUT or is_pipe(file.path)
