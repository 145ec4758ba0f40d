"""``/v1/realtime``: a websocket and its session."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from time import perf_counter
from typing import Any, Final
from urllib.parse import urlsplit

from starlette.websockets import WebSocket, WebSocketDisconnect

from wavellama.audio.arrays import MAX_RATE
from wavellama.server.errors import ApiError, internal, invalid
from wavellama.server.realtime.audio import TELEPHONE_RATE
from wavellama.server.realtime.session import Session, error_event
from wavellama.server.replies import Json, dump
from wavellama.server.state import ServerState, state_of

REFUSED: Final = 1008
BUG: Final = 1011
TRY_LATER: Final = 1013
"""Codes with which a websocket is closed."""

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
        with state.metrics.sockets_active.track_inprogress(), state.listening():
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
    """Answer event by event; a client that does not read is not listened to meanwhile.

    :raises ApiError: there is no such model.
    :raises WebSocketDisconnect: the client has left.
    """
    beta = websocket.headers.get("openai-beta", "") == "realtime=v1"
    beta = beta or BETA_SUBPROTOCOL in websocket.scope.get("subprotocols", [])
    model = websocket.query_params.get("model")
    session = Session(state.find_model, model, _read_rate(websocket, state), beta)
    try:
        await _answer(websocket, state, session.begin())
        while True:
            event = _parse(await websocket.receive())
            if isinstance(event, ApiError):
                await _send(websocket, error_event(event, {}))
            else:
                await _answer(websocket, state, session.handle(event))
    finally:
        session.close()


def _read_rate(websocket: WebSocket, state: ServerState) -> int:
    """Return the rate of PCM where the session does not say it.

    :raises ApiError: it is none.
    """
    text = websocket.query_params.get("rate", str(state.config.realtime_rate))
    if not text.isdecimal() or not TELEPHONE_RATE <= int(text) <= MAX_RATE:
        raise invalid("rate", f"`rate` must be a number of at least {TELEPHONE_RATE}.")
    return int(text)


def _parse(message: Mapping[str, Any]) -> Json | ApiError:
    """Return an event of the client, or what is wrong with it.

    :raises WebSocketDisconnect: it is the end.
    """
    if message["type"] == "websocket.disconnect":
        raise WebSocketDisconnect(message.get("code", 1000))
    try:
        event = json.loads(message.get("text") or "")
    except ValueError:
        return invalid("event", "An event must be JSON, in a message of text.")
    if not isinstance(event, dict):
        return invalid("event", "An event must be an object.")
    return event


async def _answer(websocket: WebSocket, state: ServerState, events: Iterator[Json]) -> None:
    """Send events, which are made in a thread, as soon as each is there."""
    loop = asyncio.get_running_loop()
    while (event := await loop.run_in_executor(state.live_pool, next, events, None)) is not None:
        await _send(websocket, event)


async def _send(websocket: WebSocket, event: Json) -> None:
    """Send an event.

    :raises WebSocketDisconnect: the client has left.
    """
    try:
        await websocket.send_text(dump(event))
    except RuntimeError as ex:  # uvicorn's, after garbage that closes a websocket
        raise WebSocketDisconnect from ex
