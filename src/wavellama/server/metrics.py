"""What the server counts, in Prometheus' words."""

from __future__ import annotations

from time import perf_counter
from typing import Final, final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from wavellama.server.scheduler import Batch
from wavellama.transcript.types import Transcript

SECS: Final = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800)
FACTORS: Final = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)
ROWS: Final = (1, 2, 4, 8, 16, 32, 64)

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


@final
class Metrics:
    """All that is counted."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        by = ("endpoint", "model", "status")
        self.requests = self._counter("requests", "Requests that were answered.", by)
        self.running = self._gauge("requests_running", "Files that are being transcribed.")
        self.waiting = self._gauge("requests_waiting", "Pieces of audio that wait for the model.")
        self.audio_secs = self._counter("audio_seconds", "Audio that was transcribed.", ("model",))
        self.tokens = self._counter("tokens_generated", "Tokens of all texts.", ("model",))
        self.request_secs = self._histogram("request_duration_seconds", SECS, ("endpoint",))
        self.queue_secs = self._histogram("queue_seconds", SECS)
        self.first_text_secs = self._histogram("time_to_first_text_seconds", SECS)
        self.batch_secs = self._histogram("batch_seconds", SECS)
        self.batch_rows = self._histogram("batch_rows", ROWS)
        self.real_time_factor = self._histogram("real_time_factor", FACTORS)
        self.sockets = self._counter("websocket_connections", "Live sessions that were begun.")
        self.sockets_active = self._gauge("websocket_connections_active", "Live sessions.")
        self.socket_secs = self._histogram("websocket_connection_duration_seconds", SECS)

    def on_batch(self, batch: Batch) -> None:
        """Count a batch."""
        self.batch_secs.observe(batch.work_secs)
        self.batch_rows.observe(batch.num_rows)
        for secs in batch.queue_secs:
            self.queue_secs.observe(secs)

    def on_transcript(self, model: str, transcript: Transcript, work_secs: float) -> None:
        """Count a transcript."""
        self.audio_secs.labels(model).inc(transcript.duration)
        self.tokens.labels(model).inc(sum(len(one.tokens) for one in transcript.segments))
        self.real_time_factor.observe(work_secs / max(transcript.duration, 1e-3))

    def text(self) -> bytes:
        """Return all of it as Prometheus reads it."""
        return generate_latest(self.registry)

    def _counter(self, name: str, text: str, labels: tuple[str, ...] = ()) -> Counter:
        return Counter(f"wavellama_{name}", text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str) -> Gauge:
        return Gauge(f"wavellama_{name}", text, registry=self.registry)

    def _histogram(
        self, name: str, buckets: tuple[float, ...], labels: tuple[str, ...] = ()
    ) -> Histogram:
        text = name.replace("_", " ").capitalize() + "."
        return Histogram(f"wavellama_{name}", text, labels, registry=self.registry, buckets=buckets)


@final
class MetricsMiddleware:
    """Counts requests, and how long they took."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and look at what is answered."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begin, status = perf_counter(), 500

        async def look(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, look)
        finally:
            endpoint = getattr(scope.get("route"), "path", "other")
            model = scope.get("state", {}).get("model", "")
            self._metrics.requests.labels(endpoint, model, status).inc()
            self._metrics.request_secs.labels(endpoint).observe(perf_counter() - begin)
