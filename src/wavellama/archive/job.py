"""A job: a folder that says what is to be transcribed and how, and holds what was.

``job.json`` has the settings and the list of shards, ``shards/NAME.jsonl`` the files of a shard,
one to a line. A shard is done when there is ``parts/NAME.jsonl``, with a line for each transcript;
``failed/NAME.jsonl`` names its files that have none, and why. All these appear complete or not at
all. What a shard holds never changes; files that are tried again get shards of their own, behind
the others in ``job.json``.
"""

from __future__ import annotations

import heapq
import json
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from functools import cached_property
from math import ceil
from pathlib import Path
from typing import Any, Final, final

from wavellama.archive.addresses import as_source
from wavellama.archive.leases import Leases
from wavellama.audio.stream import probe_duration
from wavellama.errors import AudioError, ConfigError
from wavellama.files import ODD_NAMES, locked, replacing, write_text

_UNKNOWN_SECS: Final = 1.0
"""What a file counts whose length its header does not tell."""

_PROBES: Final = 16
"""Files whose headers are read at a time: on a shared disk that is waiting, not work."""

_KEYS: Final = {"settings", "lease_secs", "num_files", "shards"}
"""What ``job.json`` has."""


@dataclass(frozen=True, order=True)
class Entry:
    """A file of the job."""

    index: int
    """Its place among all files."""

    path: str
    """Its path, or its address."""


@dataclass(frozen=True)
class Shard:
    """Files that one worker transcribes in one go."""

    name: str

    num_files: int

    secs: float
    """How much audio they hold."""


@dataclass(frozen=True)
class Pace:
    """How a job is dealt out."""

    shard_secs: float
    """How much audio a shard is to have."""

    lease_secs: float
    """After how long a worker is gone that was not heard of."""


@final
class ArchiveJob:
    """The folder of a job."""

    def __init__(self, folder: Path) -> None:
        """:raises ConfigError: the folder holds no job."""
        self.folder = folder
        self._content = self._read_content()

    @property
    def _path(self) -> Path:
        return self.folder / "job.json"

    def _read_content(self) -> dict[str, Any]:
        try:
            content = json.loads(self._path.read_text("utf-8"))
        except FileNotFoundError:
            raise ConfigError(
                f"{self.folder} holds no job; `wavellama archive create {self.folder} PATH...`"
                " makes one."
            ) from None
        except ValueError as ex:
            raise ConfigError(f"{self._path} is damaged: {ex}") from None
        if not isinstance(content, dict) or not content.keys() >= _KEYS:
            raise ConfigError(f"{self._path} is not the job of an archive.")
        return content

    @property
    def settings(self) -> Mapping[str, Any]:
        """How the files are to be transcribed, as it was given to ``create_job``."""
        return dict(self._content["settings"])

    @property
    def num_files(self) -> int:
        """How many files there are."""
        return int(self._content["num_files"])

    @cached_property
    def leases(self) -> Leases:
        """Who works on which shard."""
        return Leases(self.folder / "leases", float(self._content["lease_secs"]))

    @property
    def shards(self) -> list[Shard]:
        """All shards, in the order in which they are to be done."""
        return [Shard(**shard) for shard in self._content["shards"]]

    def read(self, shard: Shard) -> list[Entry]:
        """Return the files of a shard."""
        return [Entry(**row) for row in _read_rows(self._file("shards", shard.name))]

    def is_done(self, shard: Shard) -> bool:
        """Tell whether a shard has its part."""
        return self._file("parts", shard.name).exists()

    def finish(
        self, shard: Shard, lines: Mapping[int, str], failures: Mapping[int, AudioError]
    ) -> None:
        """Write what became of a shard.

        :param lines: the JSON object of each transcript, by the index of its file.
        :param failures: why other files have none; what was noted before of the shard is gone.
        :raises OSError: it cannot be written.
        """
        failed = self._file("failed", shard.name)
        if failures:
            rows = [
                {"index": index, "path": failure.source, "error": failure.reason}
                for index, failure in sorted(failures.items())
            ]
            _write_rows(failed, rows)
        else:
            failed.unlink(missing_ok=True)
        texts = (f'{{"index": {index}, {lines[index][1:].rstrip()}\n' for index in sorted(lines))
        self._file("parts", shard.name).parent.mkdir(exist_ok=True)
        write_text(self._file("parts", shard.name), "".join(texts))

    def failures(self) -> Iterator[tuple[Entry, str]]:
        """Yield the files that could not be transcribed, and why."""
        for path in self._failed_files():
            yield from _read_failures(path)

    def _failed_files(self) -> list[Path]:
        return sorted((self.folder / "failed").glob("*.jsonl"))

    def retry_failed(self) -> int:
        """Put each file that could not be transcribed into a shard of its own.

        :returns: how many there are.
        """
        with _changing(self.folder):
            self._content = self._read_content()
            files = self._failed_files()  # workers may add others meanwhile
            entries = sorted({entry for path in files for entry, _ in _read_failures(path)})
            first = len(self.shards)
            shards = [Shard(_name(first + i), 1, _UNKNOWN_SECS) for i in range(len(entries))]
            for shard, entry in zip(shards, entries, strict=True):
                _write_rows(self._file("shards", shard.name), [asdict(entry)])
            self._content["shards"] += map(asdict, shards)
            _write_json(self._path, self._content)
            for path in files:
                path.unlink()
        return len(entries)

    def merge(self, out: Path) -> int:
        """Write all transcripts into one file, a line for each, in the order of the inputs.

        Only their places are held in memory.

        :returns: how many there are.
        :raises OSError: ``out`` cannot be written.
        """
        parts = [self._file("parts", shard.name) for shard in self.shards if self.is_done(shard)]
        part_of, place_of = (array("q", [-1]) * self.num_files for _ in range(2))
        for number, path in enumerate(parts):
            place = 0
            with path.open("rb") as file:
                for line in file:
                    index = int(line[line.index(b":") + 1 : line.index(b",")])
                    part_of[index], place_of[index] = number, place
                    place += len(line)
        count = 0
        with replacing(out) as whole, whole.open("xb") as file:
            for part, place in zip(part_of, place_of, strict=True):
                if part >= 0:
                    file.write(_line_at(parts[part], place))
                    count += 1
        return count

    def _file(self, kind: str, name: str) -> Path:
        return self.folder / kind / f"{name}.jsonl"


def create_job(
    folder: Path, paths: Sequence[str], settings: Mapping[str, Any], pace: Pace
) -> ArchiveJob:
    """Make a job: read how long the files are, and deal them out.

    Shards hold about the same amount of audio, so that no worker is busy for long after the others,
    and each has its longest files first.

    :param settings: how the files are to be transcribed, for the workers.
    :raises ConfigError: there is a job in the folder, or there are no files.
    :raises OSError: the folder cannot be written.
    """
    _check_free(folder)
    if not paths:
        raise ConfigError("There are no files to transcribe.")
    with ThreadPoolExecutor(_PROBES) as pool:
        secs = [known or _UNKNOWN_SECS for known in pool.map(probe_duration, map(as_source, paths))]
    dealt = _deal(secs, ceil(sum(secs) / pace.shard_secs))
    shards = [
        Shard(_name(number), len(indices), round(sum(secs[i] for i in indices), 1))
        for number, indices in enumerate(dealt)
    ]
    content = {
        "settings": dict(settings),
        "lease_secs": pace.lease_secs,
        "num_files": len(paths),
        "shards": list(map(asdict, shards)),
    }
    with _changing(folder):
        _check_free(folder)
        for shard, indices in zip(shards, dealt, strict=True):
            rows = (asdict(Entry(i, paths[i])) for i in indices)
            _write_rows(folder / "shards" / f"{shard.name}.jsonl", rows)
        _write_json(folder / "job.json", content)
    return ArchiveJob(folder)


def _changing(folder: Path) -> AbstractContextManager[None]:
    """Let one command at a time change the list of shards."""
    return locked(folder / ".lock")


def _check_free(folder: Path) -> None:
    if (folder / "job.json").exists():
        raise ConfigError(f"{folder} holds a job already; choose another folder, or remove it.")


def _deal(secs: Sequence[float], count: int) -> list[list[int]]:
    """Give each file, longest first, to the shard that has least; return their indices."""
    shards: list[list[int]] = [[] for _ in range(min(count, len(secs)))]
    loads = [(0.0, number) for number in range(len(shards))]
    for index in sorted(range(len(secs)), key=lambda i: (-secs[i], i)):
        load, number = heapq.heappop(loads)
        shards[number].append(index)
        heapq.heappush(loads, (load + secs[index], number))
    return shards


def _name(number: int) -> str:
    return f"{number:06d}"


def _line_at(path: Path, place: int) -> bytes:
    with path.open("rb") as file:
        file.seek(place)
        return file.readline()


def _read_rows(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8", errors=ODD_NAMES) as file:
        yield from map(json.loads, file)


def _read_failures(path: Path) -> Iterator[tuple[Entry, str]]:
    for row in _read_rows(path):
        yield Entry(row["index"], row["path"]), row["error"]


def _write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    write_text(path, "".join(f"{json.dumps(row)}\n" for row in rows))


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    write_text(path, json.dumps(content, indent=1))
