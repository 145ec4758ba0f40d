"""Who may ask: API keys, in all places where clients put them."""

from __future__ import annotations

import base64
import hmac
from collections.abc import Iterable, Iterator
from typing import Final, final

from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from wavellama.server.errors import bad_key

OPEN_PATHS: Final = frozenset({"/health"})
"""What answers without a key."""

SUBPROTOCOL: Final = "openai-insecure-api-key."
"""What browsers, which cannot set headers of websockets, write before the key."""

POLICY_VIOLATION: Final = 1008
"""The code with which a websocket is closed."""


@final
class AuthMiddleware:
    """Turns those away who have no key; without any keys everybody may ask."""

    def __init__(self, app: ASGIApp, keys: Iterable[str]) -> None:
        self._app, self._keys = app, [key.encode() for key in keys]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        is_asked = scope["type"] in ("http", "websocket") and scope["path"] not in OPEN_PATHS
        if not is_asked or not self._keys or self._knows(HTTPConnection(scope)):
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": POLICY_VIOLATION, "reason": "API key"})
        else:
            # A browser then asks for a user, who is not looked at, and a password: the key.
            headers = {"WWW-Authenticate": 'Basic realm="wavellama", charset="UTF-8"'}
            await JSONResponse(bad_key().record, 401, headers)(scope, receive, send)

    def _knows(self, connection: HTTPConnection) -> bool:
        """Compare what was given with all keys, in a time that tells nothing about them."""
        matches = [
            hmac.compare_digest(given, key)
            for given in _given_keys(connection)
            for key in self._keys
        ]
        return any(matches)


def _given_keys(connection: HTTPConnection) -> Iterator[bytes]:
    scheme, _, value = connection.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        yield _raw(value.strip())
    elif scheme.lower() == "basic":
        yield _password(value)
    yield _raw(connection.headers.get("x-api-key", ""))
    if connection.scope["type"] == "websocket":
        yield connection.query_params.get("api_key", "").encode()
        for name in connection.headers.get("sec-websocket-protocol", "").split(","):
            if name.strip().startswith(SUBPROTOCOL):
                yield _raw(name.strip().removeprefix(SUBPROTOCOL))


def _raw(header: str) -> bytes:
    """Return the bytes of a header, whose characters they are."""
    return header.encode("latin-1")


def _password(value: str) -> bytes:
    try:
        return base64.b64decode(value).partition(b":")[2]
    except ValueError:  # no ASCII, or no base64
        return b""
