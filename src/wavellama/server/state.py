"""What all requests to a server share."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import cast, final

from prometheus_client import Gauge
from starlette.requests import HTTPConnection

from wavellama.errors import ConfigError
from wavellama.server.errors import busy, unknown_model
from wavellama.server.metrics import Metrics
from wavellama.server.models import ServedModel


@dataclass(frozen=True, kw_only=True)
class ServerConfig:
    """How a server behaves."""

    api_keys: tuple[str, ...] = ()
    """Any of them opens it; without any it is open to everybody."""

    max_upload_mb: float = 25.0
    """The largest body of a request, in millions of bytes."""

    max_queue: int = 64
    """How many files are in work or wait at a time, and how many live sessions there are."""

    cors: tuple[str, ...] = ()
    """The origins whose pages may ask; ``*`` for all."""

    realtime_rate: int = 24_000
    """The rate of the PCM of live sessions that do not say it."""

    def __post_init__(self) -> None:
        """:raises ConfigError: a limit is none."""
        if not 0.0 < self.max_upload_mb <= 1e6:
            raise ConfigError(f"`max_upload_mb` must be above 0, but is {self.max_upload_mb:g}.")
        if not 1 <= self.max_queue <= 10_000:
            raise ConfigError(f"`max_queue` must be 1 to 10,000, but is {self.max_queue}.")
        if not 8_000 <= self.realtime_rate <= 192_000:
            raise ConfigError(
                f"`realtime_rate` must be 8,000 to 192,000, but is {self.realtime_rate}."
            )


@final
class Seats:
    """How many may be served at a time; a gauge tells how many are."""

    def __init__(self, num_free: int, gauge: Gauge) -> None:
        self._num_free, self._gauge = num_free, gauge

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Be one of those who are served.

        :raises ApiError: there are too many.
        """
        if self._num_free == 0:
            raise busy()
        self._num_free -= 1
        try:
            with self._gauge.track_inprogress():
                yield
        finally:
            self._num_free += 1


@final
@dataclass
class ServerState:
    """The models, and who is there."""

    config: ServerConfig
    models: Mapping[str, ServedModel]
    metrics: Metrics
    created: int = field(default_factory=lambda: int(time.time()))

    def __post_init__(self) -> None:
        self.files = Seats(self.config.max_queue, self.metrics.running)
        self.sessions = Seats(self.config.max_queue, self.metrics.sockets_active)
        self.live_pool = ThreadPoolExecutor(self.config.max_queue, "live")
        self.pool = ThreadPoolExecutor(self.config.max_queue, "file")
        schedulers = [model.scheduler for model in self.models.values()]
        self.metrics.waiting.set_function(lambda: sum(each.num_waiting for each in schedulers))

    def find_model(self, name: str | None) -> ServedModel:
        """Return a model; the first one where none is named.

        :raises ApiError: there is no such model.
        """
        if name is None:
            return next(iter(self.models.values()))
        if name not in self.models:
            raise unknown_model(name)
        return self.models[name]

    def close(self) -> None:
        """End all threads."""
        for model in self.models.values():
            model.scheduler.close()
        self.pool.shutdown()
        self.live_pool.shutdown()


def state_of(connection: HTTPConnection) -> ServerState:
    """Return what all requests to the server share."""
    return cast("ServerState", connection.app.state.server)
