"""A few at a time, those first who have waited longest."""

from __future__ import annotations

from collections import deque
from threading import Event, Lock
from typing import final


@final
class Turns:
    """Lets a few threads at a time do something, in the order in which they asked."""

    def __init__(self, num_free: int) -> None:
        self._num_free, self._waiting, self._lock = num_free, deque[Event](), Lock()

    @property
    def num_waiting(self) -> int:
        """How many wait for a turn."""
        return len(self._waiting)

    def begin(self) -> None:
        """Wait for a turn."""
        with self._lock:
            if self._num_free:
                self._num_free -= 1
                return
            mine = Event()
            self._waiting.append(mine)
        mine.wait()

    def end(self) -> None:
        """End a turn: that of who waits longest begins."""
        with self._lock:
            if self._waiting:
                self._waiting.popleft().set()
            else:
                self._num_free += 1

    def give_way(self) -> None:
        """End a turn, and wait for the next one, if others wait."""
        if self.num_waiting:
            self.end()
            self.begin()
