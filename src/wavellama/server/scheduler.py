"""One thread owns the model; pieces of all clients wait in one queue and meet in common batches.

What a scribe makes of a piece does not depend on the others, so texts are those of a client alone.
A client waits for its pieces before it asks for more, so that the queue stays short.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from threading import Condition, Thread
from time import perf_counter
from typing import Any, Final, final

from wavellama.errors import WavellamaError
from wavellama.pipeline.scribes import Scribe, Written
from wavellama.units import samples_to_seconds

LINGER_SECS: Final = 0.005
"""How long the first piece after a rest waits for company."""


class ClientGoneError(WavellamaError):
    """Nobody waits for the work any more, or the server is closing."""


@final
@dataclass(eq=False)
class Client:
    """Somebody whose pieces are recognised: a request, or a live session."""

    kind: str
    """Pieces of clients of one kind can be recognised together, by the scribe of any of them."""

    is_live: bool = False
    """Whether somebody is speaking; such pieces go first."""

    is_gone: bool = False
    """Set by ``Scheduler.drop``."""


@dataclass(frozen=True)
class Batch:
    """What was recognised together."""

    num_rows: int
    audio_secs: float
    work_secs: float
    queue_secs: Sequence[float]
    """How long each row had waited."""


@dataclass(frozen=True, eq=False)
class _Piece:
    client: Client
    scribe: Scribe[Any]
    row: Any
    num_samples: int
    written: Future[Written] = field(default_factory=Future)
    since: float = field(default_factory=perf_counter)


@final
class Scheduler:
    """Shares a model between clients."""

    def __init__(
        self, batch_secs: float, on_batch: Callable[[Batch], None] = lambda batch: None
    ) -> None:
        """
        :param batch_secs: the most audio, padding included, that is recognised together.
        :param on_batch: is told of each batch, by the thread that owns the model.
        """
        self._batch_secs, self._on_batch = batch_secs, on_batch
        self._waiting: OrderedDict[Client, deque[_Piece]] = OrderedDict()
        self._changed = Condition()
        self._is_closing = False
        self._thread = Thread(target=self._work, name="model", daemon=True)
        self._thread.start()

    def write(
        self, client: Client, scribe: Scribe[Any], rows: Sequence[Any], sizes: Sequence[int]
    ) -> list[Written]:
        """Return what a scribe makes of rows, once it is their turn.

        :param sizes: the samples of each row.
        :raises ClientGoneError: the client was dropped, or the scheduler closed.
        """
        pieces = [_Piece(client, scribe, *row) for row in zip(rows, sizes, strict=True)]
        with self._changed:
            if client.is_gone or self._is_closing:
                raise ClientGoneError("The work was given up.")
            self._waiting.setdefault(client, deque()).extend(pieces)
            self._changed.notify_all()
        return [piece.written.result() for piece in pieces]

    def drop(self, client: Client) -> None:
        """Forget a client; whoever waits for its pieces gets an error."""
        with self._changed:
            client.is_gone = True
            self._give_up(self._waiting.pop(client, deque()))

    def close(self) -> None:
        """End the thread after the batch that it works on; all who wait get an error."""
        with self._changed:
            self._is_closing = True
            for pieces in self._waiting.values():
                self._give_up(pieces)
            self._waiting.clear()
            self._changed.notify_all()
        self._thread.join()

    @property
    def num_waiting(self) -> int:
        """How many pieces wait."""
        with self._changed:
            return sum(map(len, self._waiting.values()))

    def _give_up(self, pieces: deque[_Piece]) -> None:
        for piece in pieces:
            piece.written.set_exception(ClientGoneError("The work was given up."))

    def _work(self) -> None:
        while batch := self._next():
            begin = perf_counter()
            try:
                written = batch[0].scribe.write([piece.row for piece in batch])
            except BaseException as ex:  # those who wait must not wait for ever
                for piece in batch:
                    piece.written.set_exception(ex)
                continue
            for piece, result in zip(batch, written, strict=True):
                piece.written.set_result(result)
            secs = samples_to_seconds(sum(piece.num_samples for piece in batch))
            waited = [begin - piece.since for piece in batch]
            self._on_batch(Batch(len(batch), secs, perf_counter() - begin, waited))

    def _next(self) -> list[_Piece]:
        """Wait for pieces, and take some; none once the scheduler is closing."""
        with self._changed:
            while not self._waiting and not self._is_closing:  # all may leave while others linger
                self._changed.wait_for(lambda: self._waiting or self._is_closing)
                if not any(client.is_live for client in self._waiting):
                    self._changed.wait(LINGER_SECS)
            return self._take() if self._waiting else []

    def _take(self) -> list[_Piece]:
        """Take a batch: the client's whose turn it is, and those of others that go well with it."""
        has_live = any(client.is_live for client in self._waiting)
        turn = [client for client in self._waiting if client.is_live or not has_live]
        first = self._waiting[turn[0]][0]
        fitting = [piece for piece in self._in_turn(turn) if piece.client.kind == turn[0].kind]
        fitting.sort(key=lambda piece: abs(piece.num_samples - first.num_samples))  # stable
        batch = self._fill(first, fitting)
        for client in {piece.client: None for piece in batch}:
            left = deque(piece for piece in self._waiting.pop(client) if piece not in batch)
            if left:
                self._waiting[client] = left  # behind all others
        return batch

    def _in_turn(self, clients: Sequence[Client]) -> Iterator[_Piece]:
        """Yield the first piece of each client, then the second ones, and so on."""
        queues = [self._waiting[client] for client in clients]
        for place in range(max(map(len, queues))):
            yield from (queue[place] for queue in queues if place < len(queue))

    def _fill(self, first: _Piece, fitting: Sequence[_Piece]) -> list[_Piece]:
        batch, longest = [first], first.num_samples
        for piece in fitting:
            width = max(longest, piece.num_samples)
            if samples_to_seconds(width) * (len(batch) + 1) > self._batch_secs:
                continue
            if piece is not first:
                batch.append(piece)
                longest = width
        return batch
