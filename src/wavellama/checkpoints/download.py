"""Downloads that go on where they stopped: fairseq2's own start again from the first byte."""

from __future__ import annotations

import re
from email.message import Message
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import IO, Final, NamedTuple, NoReturn
from urllib.error import HTTPError
from urllib.parse import unquote, urlparse
from urllib.request import Request, urlopen

from fairseq2.utils.progress import ProgressReporter

from wavellama.errors import CheckpointError
from wavellama.files import locked

_TIMEOUT_SECS: Final = 60.0
_BLOCK_BYTES: Final = 1 << 18
_RANGE_NOT_SATISFIABLE: Final = 416


def download(url: str, folder: Path, progress: ProgressReporter) -> None:
    """Download a file into a folder of its own, which appears only when the file is complete.

    What an interrupted download left is kept beside the folder. It is used if the server has the
    same file still and can send a part of it.

    :raises CheckpointError: the server does not answer, has no such file, or stops sending.
    """
    part, staging = (folder.with_name(folder.name + suffix) for suffix in (".part", ".staging"))
    with locked(folder.with_name(f"{folder.name}.lock")):
        if folder.exists():  # another process was faster
            return
        name = _Transfer(url, part).run(progress)
        staging.mkdir(exist_ok=True)
        part.replace(staging / name)
        staging.rename(folder)


class _Answer(NamedTuple):
    """What a server says before it sends the file."""

    start: int
    """The position in the file of the first byte to come."""

    total: int | None
    """The size of the whole file in bytes, if the server says it."""

    name: str


class _Transfer:
    """The transfer of one file, in as many requests as it takes."""

    def __init__(self, url: str, part: Path) -> None:
        self._url, self._part = url, part
        self._mark = part.with_name(f"{part.name}.version")
        """The server's mark of the version of the file that ``part`` is of."""

    def run(self, progress: ProgressReporter) -> str:
        """Transfer the file and return its name; give up when a request brings nothing new."""
        while True:
            before = self._size()
            reason = "the server stops sending"
            try:
                answer = self._request(before, progress)
                if answer.total in (None, self._size()):
                    self._mark.unlink(missing_ok=True)
                    return answer.name
            except HTTPError as ex:
                self._fail(f"the server answers {ex.code} {ex.reason}")
            except (OSError, HTTPException) as ex:
                reason = str(getattr(ex, "reason", ex)) or type(ex).__name__
            if self._size() <= before:
                self._fail(reason)

    def _size(self) -> int:
        return self._part.stat().st_size if self._part.exists() else 0

    def _request(self, position: int, progress: ProgressReporter) -> _Answer:
        """Ask for the bytes from a position on, and append them to the part."""
        request = Request(self._url, headers=self._headers(position))
        try:
            response: HTTPResponse = urlopen(request, timeout=_TIMEOUT_SECS)
        except HTTPError as ex:
            if ex.code != _RANGE_NOT_SATISFIABLE:
                raise
            answer = _read_answer(ex.headers, ex.url)
            if answer.total == position:  # nothing is left to send
                return answer
            self._part.unlink()
            return self._request(0, progress)
        with response:
            answer = _read_answer(response.headers, response.url)
            self._mark.write_text(_version(response.headers), "utf-8")
            with self._part.open("r+b" if answer.start else "wb") as stream:
                stream.seek(answer.start)
                _copy(response, stream, answer, progress)
        return answer

    def _headers(self, position: int) -> dict[str, str]:
        headers = {"User-Agent": "wavellama"}
        mark = self._mark.read_text("utf-8") if self._mark.exists() else ""
        if position and mark:
            headers |= {"Range": f"bytes={position}-", "If-Range": mark}
        return headers

    def _fail(self, reason: str) -> NoReturn:
        size = self._size()
        kept = f"; {size:,} bytes are kept, and the next try goes on from there" if size else ""
        raise CheckpointError(f"{self._url} cannot be downloaded: {reason}{kept}.") from None


def _read_answer(headers: Message, url: str) -> _Answer:
    name = headers.get_filename() or unquote(urlparse(url).path)
    name = Path(name).name or "asset"
    match = re.fullmatch(r"bytes (?:(\d+)-\d+|\*)/(\d+|\*)", headers.get("Content-Range", ""))
    if match is None:
        length = headers.get("Content-Length")
        return _Answer(0, None if length is None else int(length), name)
    start, total = match.groups()
    return _Answer(int(start or 0), None if total == "*" else int(total), name)


def _version(headers: Message) -> str:
    """Return what tells versions of a file apart; a weak tag does not, byte for byte."""
    tag = headers.get("ETag", "")
    return tag if tag and not tag.startswith("W/") else headers.get("Last-Modified", "")


def _copy(
    response: HTTPResponse, stream: IO[bytes], answer: _Answer, progress: ProgressReporter
) -> None:
    with progress, progress.create_task("download", answer.total, answer.start) as task:
        while block := response.read(_BLOCK_BYTES):
            stream.write(block)
            task.step(len(block))
