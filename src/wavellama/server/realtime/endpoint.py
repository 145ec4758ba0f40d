"""``/v1/realtime``: a websocket and its session."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from functools import partial
from time import perf_counter
from typing import Any, Final, NoReturn
from urllib.parse import urlsplit

from starlette.websockets import WebSocket, WebSocketDisconnect

from wavellama.audio.arrays import MAX_RATE
from wavellama.server.errors import ApiError, internal, invalid
from wavellama.server.realtime.audio import TELEPHONE_RATE
from wavellama.server.realtime.inbox import Inbox
from wavellama.server.realtime.session import Session, error_event
from wavellama.server.replies import Json, dump
from wavellama.server.state import ServerState, state_of

REFUSED: Final = 1008
BUG: Final = 1011
TRY_LATER: Final = 1013
"""Codes with which a websocket is closed."""

STALLED_SECS: Final = 30.0
"""How long a client may not read before its session ends."""

MAX_DIGITS: Final = 9
"""How long a number may be in an address."""

BETA_SUBPROTOCOL: Final = "openai-beta.realtime-v1"

_log = logging.getLogger(__name__)


async def realtime(websocket: WebSocket) -> None:
    """Hold a session as long as its client is there."""
    state = state_of(websocket)
    if not _may_ask(websocket, state.config.cors):
        await websocket.close(REFUSED, "this origin may not ask")
        return
    offered = websocket.scope.get("subprotocols", [])
    await websocket.accept("realtime" if "realtime" in offered else None)
    begin = perf_counter()
    state.metrics.sockets.inc()
    try:
        with state.sessions.taken():
            await _talk(websocket, state)
    except ApiError as ex:
        await _refuse(websocket, ex, TRY_LATER if ex.status == 429 else REFUSED)
    except WebSocketDisconnect:
        pass
    except Exception:
        _log.exception("A session ended by an unexpected error.")
        await _refuse(websocket, internal(), BUG)
    finally:
        state.metrics.socket_secs.observe(perf_counter() - begin)


async def _refuse(websocket: WebSocket, error: ApiError, code: int) -> None:
    """Tell what is wrong, and end the session."""
    with suppress(WebSocketDisconnect):
        await _send(websocket, error_event(error, {}))
        await websocket.close(code)


def _may_ask(websocket: WebSocket, origins: Collection[str]) -> bool:
    """Return whether the page that asks, if it is one, is ours or one that was named."""
    origin = websocket.headers.get("origin")
    if origin is None or "*" in origins or origin in origins:
        return True
    return urlsplit(origin).netloc == websocket.headers.get("host")


async def _talk(websocket: WebSocket, state: ServerState) -> None:
    """Answer event by event, until the client leaves, or does not read for a while.

    :raises ApiError: there is no such model.
    :raises WebSocketDisconnect: the client has left.
    """
    beta = websocket.headers.get("openai-beta", "") == "realtime=v1"
    beta = beta or BETA_SUBPROTOCOL in websocket.scope.get("subprotocols", [])
    model = websocket.query_params.get("model")
    session = Session(state.find_model, model, _read_rate(websocket, state), beta)
    inbox = Inbox(websocket)
    filling = asyncio.create_task(inbox.fill())
    filling.add_done_callback(lambda _: session.close())
    answer = partial(_answer, websocket, state, filling)
    try:
        await answer(session.begin())
        while True:
            event = _parse(await inbox.take())
            if isinstance(event, ApiError):
                await answer(iter([error_event(event, {})]))
            else:
                await answer(session.handle(event))
    finally:
        filling.cancel()
        session.close()


def _read_rate(websocket: WebSocket, state: ServerState) -> int:
    """Return the rate of PCM where the session does not say it.

    :raises ApiError: it is none.
    """
    text = websocket.query_params.get("rate", str(state.config.realtime_rate))
    is_number = text.isdecimal() and len(text) < MAX_DIGITS
    if not is_number or not TELEPHONE_RATE <= int(text) <= MAX_RATE:
        raise invalid("rate", f"`rate` must be a number of at least {TELEPHONE_RATE}.")
    return int(text)


def _parse(message: Mapping[str, Any]) -> Json | ApiError:
    """Return an event of the client, or what is wrong with it."""
    text = message.get("text") or ""
    try:
        event = json.loads(text, parse_constant=_refuse_constant)
        if "\\u" in text:
            dump(event).encode()  # fails for halves of surrogate pairs, which are no text
    except (ValueError, RecursionError):
        return invalid("event", "An event must be JSON, in a message of text.")
    if not isinstance(event, dict):
        return invalid("event", "An event must be an object.")
    return event


def _refuse_constant(name: str) -> NoReturn:
    """Refuse ``NaN`` and the like, which Python takes, and which are no JSON."""
    raise ValueError(name)


async def _answer(
    websocket: WebSocket,
    state: ServerState,
    filling: asyncio.Task[None],
    events: Iterator[Json],
) -> None:
    """Send events, which are made in a thread, as soon as each is there.

    :param filling: reads what the client sends; its end is that of the client.
    :raises WebSocketDisconnect: the client has left.
    """
    loop = asyncio.get_running_loop()
    while True:
        making = loop.run_in_executor(state.live_pool, next, events, None)
        either: list[asyncio.Future[Any]] = [making, filling]
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if filling.done():
            raise WebSocketDisconnect
        event = making.result()
        if event is None:
            return
        await _send(websocket, event)


async def _send(websocket: WebSocket, event: Json) -> None:
    """Send an event.

    :raises WebSocketDisconnect: the client has left, or does not read any more.
    """
    try:
        await asyncio.wait_for(websocket.send_text(dump(event)), STALLED_SECS)
    except (RuntimeError, asyncio.TimeoutError) as ex:
        # The former is uvicorn's, after garbage that closes a websocket.
        raise WebSocketDisconnect from ex
