"""Bodies of requests: read as they come, on the disk where they are large, never beyond a limit."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from starlette.datastructures import FormData
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import Message

from wavellama.server.errors import ApiError, too_large

MB: Final = 1_000_000

MAX_FIELDS: Final = 500
MAX_FIELD_BYTES: Final = 4 * MB
"""Limits on what is no file, which is held in memory."""


@asynccontextmanager
async def read_upload(request: Request, max_mb: float) -> AsyncIterator[FormData]:
    """Yield the form in the body of a request; its file is gone afterwards.

    :raises ApiError: the body is too large, or no form.
    :raises ClientDisconnect: the client left before its end.
    """
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
    """Counts the bytes of a body."""

    def __init__(self, request: Request, max_mb: float) -> None:
        """:raises ApiError: the client says that it will be too large."""
        self._request, self._max_mb, self._left = request, max_mb, max_mb * MB
        said = request.headers.get("content-length", "0")
        if said.isdecimal() and int(said) > self._left:
            raise too_large(max_mb)

    async def receive(self) -> Message:
        """Return the next message, unless it is too much.

        :raises ApiError: it is.
        """
        message = await self._request.receive()
        self._left -= len(message.get("body", b""))
        if self._left < 0:
            raise too_large(self._max_mb)
        return message
