"""Ctrl-C while a command starts, as a process of its own meets it."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

CLUTTER = """
import os, signal, time
from wavellama.cli.interrupt import ended_by_interrupt

class Finalizer:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.01)  # here Python would raise, and drop what it raised

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background ignores it
{before}
with ended_by_interrupt():
    {during}
{after}
print("went on")
"""


@pytest.mark.parametrize(
    ("before", "during", "after", "code"),
    [
        ("", "Finalizer()", "", -signal.SIGINT),
        ("", "pass", "os.kill(os.getpid(), signal.SIGINT)", -signal.SIGINT),
        ("signal.signal(signal.SIGINT, signal.SIG_IGN)", "Finalizer()", "", 0),
    ],
    ids=["within", "after", "ignored"],
)
def test_an_interrupt_is_never_lost(before: str, during: str, after: str, code: int) -> None:
    source = CLUTTER.format(before=before, during=during, after=after)
    process = subprocess.run(
        [sys.executable, "-c", source], capture_output=True, text=True, timeout=120, check=False
    )
    assert process.returncode == code, process.stderr
    assert ("went on" in process.stdout) == (code == 0)
    assert ("KeyboardInterrupt" in process.stderr) == bool(after), "after it, Python's own way"
