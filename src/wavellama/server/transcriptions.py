"""``POST /v1/audio/transcriptions``: a file in, its text out, at once or as it becomes known."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, suppress
from time import perf_counter
from typing import Any, Final, final

from starlette.datastructures import FormData
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from wavellama.errors import WavellamaError
from wavellama.server.errors import ApiError, from_wavellama, internal, unsupported
from wavellama.server.forms import Asked, read_form
from wavellama.server.models import ServedModel, Transcription
from wavellama.server.replies import (
    CONTENT_TYPES,
    Json,
    delta_event,
    done_event,
    dump,
    to_body,
)
from wavellama.server.state import ServerState, state_of
from wavellama.server.uploads import read_upload
from wavellama.transcript.types import Segment, Transcript

_log = logging.getLogger(__name__)

CLIENT_LEFT: Final = 499
"""The status that nobody reads, but that is counted."""

STALLED_SECS: Final = 30.0
"""How long a client may not read before its stream ends."""

PING_SECS: Final = 15.0
"""How often a stream in which nothing happens says that it is there, for proxies' sake."""


async def transcribe(request: Request) -> Response:
    """Answer a request for a transcription."""
    state = state_of(request)
    async with AsyncExitStack() as stack:
        stack.enter_context(state.files.taken())
        try:
            form = await stack.enter_async_context(read_upload(request, state.config.max_upload_mb))
        except ClientDisconnect:
            return Response(status_code=CLIENT_LEFT)
        asked, model = _read(state, request, form)
        work = await stack.enter_async_context(_Work(state, model, asked))
        if not asked.is_stream:
            return await _whole(request, work)
        first = await anext(work.events)
        return _EventStream(work, first, stack.pop_all())


async def translate(request: Request) -> Response:
    """Refuse: nothing here translates."""
    raise unsupported(None, "This server does not translate; it writes down what is said.")


def _read(state: ServerState, request: Request, form: FormData) -> tuple[Asked, ServedModel]:
    asked = read_form(form)
    model = state.find_model(asked.model)
    request.state.model = model.name
    return asked, model


async def _whole(request: Request, work: _Work) -> Response:
    """Wait for a transcript, or until the client has left."""
    left = asyncio.create_task(_wait_until_left(request))
    try:
        either: list[asyncio.Future[Any]] = [work.result, left]
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
    finally:
        left.cancel()
    if not work.result.done():
        return Response(status_code=CLIENT_LEFT)
    asked, transcript = work.asked, work.transcript()
    body = to_body(transcript, asked.response_format, asked.granularities, work.token_texts)
    return Response(body, headers={"content-type": CONTENT_TYPES[asked.response_format]})


async def _wait_until_left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


@final
class _Work:
    """A transcription in a thread; given up when it is left."""

    def __init__(self, state: ServerState, model: ServedModel, asked: Asked) -> None:
        """:raises ApiError: the model cannot do what is asked for."""
        self.asked, self._state, self._model = asked, state, model
        self.token_texts = model.token_texts() if asked.wants_logprobs else None
        self._loop = asyncio.get_running_loop()
        self._changed, self._settled = asyncio.Event(), list[Segment]()
        self._begin = perf_counter()
        file, name = asked.file.file, asked.file.filename or ""
        try:
            self._work: Transcription = model.open(file, name, asked.options, self._tell)
        except WavellamaError as ex:
            raise from_wavellama(ex, asked.names) from ex
        self.events = self._read_events()

    async def __aenter__(self) -> _Work:
        self.result = self._loop.run_in_executor(self._state.pool, self._work.run)
        self.result.add_done_callback(lambda _: self._changed.set())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._work.give_up()
        with suppress(Exception):  # whoever waited has been told
            await asyncio.shield(self.result)  # the file must not be closed before

    def transcript(self) -> Transcript:
        """Return the result, which is there.

        :raises ApiError: it could not be made.
        """
        try:
            transcript = self.result.result()
        except WavellamaError as ex:
            raise from_wavellama(ex, self.asked.names) from ex
        secs = perf_counter() - self._begin
        self._state.metrics.on_transcript(self._model.name, transcript, secs)
        return transcript

    def _tell(self, segments: Sequence[Segment]) -> None:
        """Take what is settled, from the thread that works."""
        if self.asked.is_stream:
            self._loop.call_soon_threadsafe(self._take, list(segments))

    def _take(self, segments: list[Segment]) -> None:
        self._settled = segments
        self._changed.set()

    async def _read_events(self) -> AsyncIterator[Json | None]:
        """Yield the events of a stream; None where nothing has happened for a while.

        :raises ApiError: the transcription failed.
        """
        told = 0
        text = ""
        while not self.result.done():
            if not await self._has_changed():
                yield None
                continue
            settled = self._settled
            more = _text_of(settled)[len(text) :]
            if more and not self.result.done():
                self._note_first(text)
                yield delta_event(more, settled[told:], self.token_texts)
                text, told = text + more, len(settled)
        transcript = self.transcript()
        if more := transcript.text[len(text) :]:
            self._note_first(text)
            yield delta_event(more, transcript.segments[told:], self.token_texts)
        yield done_event(transcript, self.asked.granularities, self.token_texts)

    def _note_first(self, text: str) -> None:
        """Count how long it took until there was something behind an empty text."""
        if not text:
            self._state.metrics.first_text_secs.observe(perf_counter() - self._begin)

    async def _has_changed(self) -> bool:
        try:
            await asyncio.wait_for(self._changed.wait(), PING_SECS)
        except asyncio.TimeoutError:
            return False
        self._changed.clear()
        return True


def _text_of(segments: Sequence[Segment]) -> str:
    return "".join(segment.text for segment in segments).strip()


@final
class _EventStream(StreamingResponse):
    """Events as they come; however it ends, the work ends with it."""

    def __init__(self, work: _Work, first: Json | None, resources: AsyncExitStack) -> None:
        """:param resources: what is closed at the end."""
        self._resources = resources
        headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
        frames = _frames(first, work.events)
        super().__init__(frames, media_type="text/event-stream", headers=headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events, or stop when the client has left, or does not read any more."""

        async def send_soon(message: Message) -> None:
            await asyncio.wait_for(send(message), STALLED_SECS)

        try:
            with suppress(asyncio.TimeoutError, ClientDisconnect):
                await super().__call__(scope, receive, send_soon)
        finally:
            await self._resources.aclose()


async def _frames(first: Json | None, events: AsyncIterator[Json | None]) -> AsyncIterator[str]:
    """Yield events as they are sent; an error, which can have no status any more, is the last."""
    yield _frame(first)
    try:
        async for event in events:
            yield _frame(event)
    except ApiError as ex:
        yield _frame({"type": "error", **ex.record})
    except Exception:
        _log.exception("A stream ended by an unexpected error.")
        yield _frame({"type": "error", **internal().record})


def _frame(event: Json | None) -> str:
    """Return an event with its name, without which some clients leave it aside."""
    return ": waiting\n\n" if event is None else f"event: {event['type']}\ndata: {dump(event)}\n\n"
