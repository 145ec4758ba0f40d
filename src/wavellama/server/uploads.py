"""Bodies of requests: read as they come, on the disk where they are large, never beyond a limit."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import monotonic
from typing import Final

from python_multipart.multipart import parse_options_header
from starlette.datastructures import FormData
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import Message

from wavellama.server.errors import ApiError, missing, too_large, too_slow

MB: Final = 1_000_000

MAX_FIELDS: Final = 500
MAX_FIELD_BYTES: Final = 4 * MB
"""Limits on what is no file, which is held in memory."""

PATIENCE_SECS: Final = 30.0
MIN_BYTES_PER_SEC: Final = 1_000
"""A body may take so long, and a second more for each so many bytes of it that have come."""

CHARSETS: Final = (b"utf-8", b"utf8", b"us-ascii")
"""What a form may say that it is written in; others of Python's take ages, or fail."""


@asynccontextmanager
async def read_upload(request: Request, max_mb: float) -> AsyncIterator[FormData]:
    """Yield the form in the body of a request; its file is gone afterwards.

    :raises ApiError: the body is too large, or too slow, or no form with a file.
    :raises ClientDisconnect: the client left before its end.
    """
    kind, options = parse_options_header(request.headers.get("content-type"))
    if kind != b"multipart/form-data":
        raise missing("file", "The body must be a form of type multipart/form-data.")
    if options.get(b"charset", CHARSETS[0]).lower() not in CHARSETS:
        raise ApiError(400, "invalid_form", "The form must be in UTF-8.")
    counted = _Counted(request, max_mb)
    whole = Request(request.scope, counted.receive)
    limits = {"max_files": 1, "max_fields": MAX_FIELDS, "max_part_size": MAX_FIELD_BYTES}
    try:
        form = await whole.form(**limits)
    except HTTPException as ex:
        raise ApiError(ex.status_code, "invalid_form", str(ex.detail)) from ex
    try:
        yield form
    finally:
        await form.close()


class _Counted:
    """Counts the bytes of a body, and how long they take."""

    def __init__(self, request: Request, max_mb: float) -> None:
        """:raises ApiError: the client says that it will be too large."""
        self._request, self._max_mb, self._left = request, max_mb, max_mb * MB
        self._deadline = monotonic() + PATIENCE_SECS
        said = request.headers.get("content-length", "0")
        if said.isdecimal() and int(said) > self._left:
            raise too_large(max_mb)

    async def receive(self) -> Message:
        """Return the next message, unless it is too much, or too late.

        :raises ApiError: it is.
        """
        try:
            message = await asyncio.wait_for(self._request.receive(), self._deadline - monotonic())
        except asyncio.TimeoutError:
            raise too_slow() from None
        num_bytes = len(message.get("body", b""))
        self._deadline += num_bytes / MIN_BYTES_PER_SEC
        self._left -= num_bytes
        if self._left < 0:
            raise too_large(self._max_mb)
        return message
