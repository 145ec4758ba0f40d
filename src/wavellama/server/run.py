"""From a loaded model to a server that listens."""

from __future__ import annotations

import asyncio
import logging
import resource
import signal
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, final

import h11
import uvicorn
from starlette.applications import Starlette
from uvicorn.protocols.http.h11_impl import H11Protocol

from wavellama.errors import ConfigError

MAX_MESSAGE_BYTES: Final = 16 * 2**20
"""The largest message of a websocket: 15 MiB of audio are allowed by the contract."""

REQUEST_SECS: Final = 30.0
"""How long a client may take for what comes before the body of a request, which has a limit of its
own; and for what it still sends of a body when it has been answered."""

UNREAD_SECS: Final = 60.0
"""How long a client may read nothing of what was sent."""

MAX_CONNECTIONS: Final = min(resource.getrlimit(resource.RLIMIT_NOFILE)[0] % 2**63, 2**16) // 2
"""Half of the files that may be open: the others are uploads, and connections before they are
counted. Where there is no limit, this is one."""


@dataclass(frozen=True, kw_only=True)
class Address:
    """Where a server listens."""

    host: str
    port: int
    ssl_certfile: Path | None = None
    ssl_keyfile: Path | None = None

    def url(self, port: int) -> str:
        """Return the address of the page."""
        scheme = "http" if self.ssl_certfile is None else "https"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{scheme}://{host}:{port}"


def reserve(address: Address) -> socket.socket:
    """Take a port without listening yet; whoever asks before it is ready is refused.

    :raises ConfigError: it cannot be had.
    """
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    taken = socket.socket(family)
    taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux; whoever is accepted inherits it
        taken.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(UNREAD_SECS * 1_000))
    try:
        taken.bind((address.host, address.port))
    except (OSError, OverflowError) as ex:
        taken.close()
        raise ConfigError(
            f"Nothing can listen at {address.host}, port {address.port} ({ex}); choose others with"
            " `--host` and `--port`."
        ) from ex
    return taken


def serve(
    app: Starlette, address: Address, taken: socket.socket, on_ready: Callable[[str], None]
) -> None:
    """Answer requests until a signal comes, and then those that are in work.

    :param on_ready: is told the address once requests are answered.
    :raises ConfigError: the certificate cannot be used.
    """
    config = uvicorn.Config(
        app,
        http=_HttpProtocol,
        backlog=MAX_CONNECTIONS // 4,
        ws="websockets-sansio",
        ws_max_size=MAX_MESSAGE_BYTES,
        log_level="error",  # levels below tell of odd requests, and log keys in addresses
        access_log=False,
        server_header=False,
        ssl_certfile=None if address.ssl_certfile is None else str(address.ssl_certfile),
        ssl_keyfile=None if address.ssl_keyfile is None else str(address.ssl_keyfile),
    )
    # Any client can send a form or a text that is none: the one is logged byte by byte, the other
    # with a stack trace.
    logging.getLogger("python_multipart").setLevel(logging.ERROR)
    logging.getLogger("uvicorn.error").addFilter(lambda record: "UTF-8" not in str(record.msg))
    try:
        config.load()
    except OSError as ex:
        raise ConfigError(f"The certificate or its key cannot be used ({ex}).") from ex
    # uvicorn sends itself the signal once more when it has ended.
    signal.signal(signal.SIGTERM, lambda *_: None)
    signal.signal(signal.SIGINT, lambda *_: None)
    url = address.url(taken.getsockname()[1])
    _Server(config, lambda: on_ready(url)).run(sockets=[taken])


@final
class _HttpProtocol(H11Protocol):
    """Hangs up on clients that owe a request, or the rest of one, for too long, and on those who
    are too many. (What is in work knows its clients itself, and websockets ask for a sign of life.)
    """

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for a request."""
        super().connection_made(transport)
        if len(self.connections) > MAX_CONNECTIONS:
            transport.abort()
        self._watch()

    def data_received(self, data: bytes) -> None:
        """Take what a client sends."""
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing any more."""
        super().connection_lost(exc)
        self._end_watch()

    def _watch(self) -> None:
        """Wait for a while, unless a request is in work; the rest of one that was answered before
        it was whole is owed, too.
        """
        if self.conn.our_state not in (h11.IDLE, h11.DONE):
            self._end_watch()
        elif self._deadline is None:
            self._deadline = self.loop.call_later(REQUEST_SECS, self.transport.abort)

    def _end_watch(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


@final
class _Server(uvicorn.Server):
    """Tells when it is ready."""

    def __init__(self, config: uvicorn.Config, on_ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, and tell so."""
        await super().startup(sockets)
        for each in sockets or ():
            each.listen(2048)  # so many may wait; `backlog` is how many are taken at once
        if self.started:
            self._on_ready()
