"""What takes too long is stopped, in the main thread."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def time_limit(secs: float, error: BaseException) -> Iterator[None]:
    """Raise ``error`` within the block once it has lasted ``secs``."""

    def stop(*_: object) -> None:
        raise error

    previous = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, secs)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
