"""Ctrl-C while modules are imported."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def ended_by_interrupt() -> Iterator[None]:
    """Let Ctrl-C end the process at once, for as long as there is nothing to be saved.

    Importing torch and fairseq2 takes seconds. Python would raise ``KeyboardInterrupt`` wherever it
    happens to be; within a finalizer or a callback of the garbage collector the exception is
    printed and lost, and the command goes on.
    """
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield  # ignored, as by nohup, or somebody else's
        return
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
