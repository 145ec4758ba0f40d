"""One thread owns the model; pieces of all clients wait in one queue and are written together.

Pieces are read in batches of like length. Where a scribe writes step by step, they then join those
that are being written, and each leaves when it is done, or when its client has left; otherwise
batch follows batch. What a scribe makes of a piece does not depend on the others, so texts are
those of a client alone. A client waits for its pieces before it asks for more, so that the queue
stays short.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from itertools import chain
from threading import Condition, Thread
from time import perf_counter
from typing import Any, Final, final

from wavellama.errors import WavellamaError
from wavellama.pipeline.scribes import JoinedScribe, Scribe, Writing, Written
from wavellama.units import samples_to_seconds

LINGER_SECS: Final = 0.005
"""How long the first piece after a rest waits for company."""

BATCHES: Final = 4
"""How many batches' audio is being written at a time, at most: the cache of the decoder grows with
it, and what it gains gets less and less."""


class ClientGoneError(WavellamaError):
    """Nobody waits for the work any more, or the server is closing."""

    def __init__(self) -> None:
        super().__init__("The work was given up.")


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
    """Pieces that were read together."""

    num_rows: int
    """How many pieces were being written then, these included."""

    audio_secs: float

    work_secs: float
    """How long it took to read them; where none can join them, to write them."""

    queue_secs: Sequence[float]
    """How long each had waited."""


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
        self._desk = _Desk()
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
                raise ClientGoneError()
            self._waiting.setdefault(client, deque()).extend(pieces)
            self._changed.notify_all()
        return [piece.written.result() for piece in pieces]

    def drop(self, client: Client) -> None:
        """Forget a client; whoever waits for its pieces gets an error."""
        with self._changed:
            client.is_gone = True
            self._give_up(self._waiting.pop(client, deque()))

    def close(self) -> None:
        """End the thread after what is being written; all who wait get an error."""
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
            piece.written.set_exception(ClientGoneError())

    def _work(self) -> None:
        desk = self._desk
        while (batch := self._next()) or desk.pieces:
            if batch:
                begin, num_rows = perf_counter(), len(batch) + len(desk.pieces)
                if desk.take(batch):
                    waited = [begin - piece.since for piece in batch]
                    work_secs = perf_counter() - begin
                    self._on_batch(Batch(num_rows, _secs(batch), work_secs, waited))
            desk.step()

    def _next(self) -> list[_Piece]:
        """Wait for pieces if there is nothing else to do; take some if there is room for them."""
        with self._changed:
            # All may leave while others linger.
            while not (self._waiting or self._desk.pieces or self._is_closing):
                self._changed.wait_for(lambda: self._waiting or self._is_closing)
                if not any(client.is_live for client in self._waiting):
                    self._changed.wait(LINGER_SECS)
            return self._take() if self._waiting else []

    def _take(self) -> list[_Piece]:
        """Take a batch: the client's whose turn it is, and those of others that go well with it."""
        turn = [client for client in self._waiting if client.is_live] or list(self._waiting)
        first = self._waiting[turn[0]][0]
        if not (turn[0].is_live or self._has_room(first)):
            return []
        fitting = [piece for piece in self._in_turn(turn) if piece.client.kind == turn[0].kind]
        fitting.sort(key=lambda piece: abs(piece.num_samples - first.num_samples))  # stable
        batch = self._fill(first, fitting)
        self._remove(batch)
        return batch

    def _remove(self, batch: Sequence[_Piece]) -> None:
        """Let pieces wait no longer; what their clients have left is behind all others."""
        for client in {piece.client: None for piece in batch}:
            left = deque(piece for piece in self._waiting.pop(client) if piece not in batch)
            if left:
                self._waiting[client] = left

    def _has_room(self, first: _Piece) -> bool:
        """Return whether there is room for a batch, or for all that wait."""
        busy_secs = _secs(self._desk.pieces.values())
        waiting_secs = _secs(chain.from_iterable(self._waiting.values()))
        wanted = max(_secs([first]), min(waiting_secs, self._batch_secs))
        return busy_secs == 0 or busy_secs + wanted <= BATCHES * self._batch_secs

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


@final
class _Desk:
    """What the model's thread is writing."""

    def __init__(self) -> None:
        self.pieces: dict[int, _Piece] = {}  # by the identity of their rows
        self._writings: dict[str, Writing[Any]] = {}  # by kind

    def take(self, batch: Sequence[_Piece]) -> bool:
        """Begin with pieces of one kind; write them, if none can join them.

        :returns: whether that went well. Those who wait for the pieces are told otherwise.
        """
        scribe, kind = batch[0].scribe, batch[0].client.kind
        rows = [piece.row for piece in batch]
        self.pieces |= {id(piece.row): piece for piece in batch}
        try:
            new = scribe.start(rows) if isinstance(scribe, JoinedScribe) else None
            if new is None:
                self._hand_out(zip(rows, scribe.write(rows), strict=True))
            elif kind in self._writings:
                self._writings[kind].join(new)
            else:
                self._writings[kind] = new
        except BaseException as ex:  # those who wait must not wait for ever
            self._fail(rows, ex)
            return False
        return True

    def step(self) -> None:
        """Go on by a step with what somebody says now, otherwise with everything."""
        live = {piece.client.kind for piece in self.pieces.values() if piece.client.is_live}
        for kind in live or set(self._writings):
            writing = self._writings[kind]
            rows = writing.clips
            try:
                self._let_go(writing)
                if writing.clips:
                    self._hand_out(writing.step())
            except BaseException as ex:
                self._fail(rows, ex)
            if not any(id(row) in self.pieces for row in rows):
                del self._writings[kind]

    def _let_go(self, writing: Writing[Any]) -> None:
        """Forget the pieces for which nobody waits any more."""
        gone = [row for row in writing.clips if self.pieces[id(row)].client.is_gone]
        if gone:
            writing.leave(gone)
            self._fail(gone, ClientGoneError())

    def _hand_out(self, written: Iterable[tuple[Any, Written]]) -> None:
        for row, result in written:
            self.pieces.pop(id(row)).written.set_result(result)

    def _fail(self, rows: Sequence[Any], ex: BaseException) -> None:
        for piece in [self.pieces.pop(id(row)) for row in rows if id(row) in self.pieces]:
            piece.written.set_exception(ex)


def _secs(pieces: Iterable[_Piece]) -> float:
    return samples_to_seconds(sum(piece.num_samples for piece in pieces))
