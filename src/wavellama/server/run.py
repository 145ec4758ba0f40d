"""From a loaded model to a server that listens."""

from __future__ import annotations

import logging
import signal
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, final

import uvicorn
from starlette.applications import Starlette

from wavellama.errors import ConfigError

MAX_MESSAGE_BYTES: Final = 16 * 2**20
"""The largest message of a websocket: 15 MiB of audio are allowed by the contract."""


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
        http="h11",
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
class _Server(uvicorn.Server):
    """Tells when it is ready."""

    def __init__(self, config: uvicorn.Config, on_ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, and tell so."""
        await super().startup(sockets)
        if self.started:
            self._on_ready()
