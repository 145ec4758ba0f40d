"""Standard input of ``live``, and how Ctrl-C ends it."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from typing import IO

import pytest

from wavellama.cli.live import Microphone, noted_interrupt


@pytest.fixture
def writer(monkeypatch: pytest.MonkeyPatch) -> Iterator[IO[bytes]]:
    """The end of a pipe that is written to; standard input is the other one."""
    read_fd, write_fd = os.pipe()
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    with open(read_fd) as stdin, open(write_fd, "wb", buffering=0) as file:
        monkeypatch.setattr("sys.stdin", stdin)
        yield file
    signal.signal(signal.SIGINT, before)


def test_ctrl_c_is_the_end_of_what_was_said(writer: IO[bytes]) -> None:
    with noted_interrupt() as interrupt_fd:
        microphone = Microphone(interrupt_fd)
        writer.write(b"hello")
        assert microphone.read(99) == b"hello"
        signal.raise_signal(signal.SIGINT)
        assert microphone.read(99) == b""
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_what_was_said_while_the_last_utterance_was_recognised_is_heard(writer: IO[bytes]) -> None:
    """A pipe holds two seconds, which once were dropped."""
    with noted_interrupt() as interrupt_fd:
        microphone = Microphone(interrupt_fd)
        writer.write(b"hello, wor")
        assert microphone.read(5) == b"hello"
        signal.raise_signal(signal.SIGINT)
        assert microphone.read(5) == b", wor"
        writer.write(bytes(65_531))
        assert sum(len(microphone.read(5)) for _ in range(15_000)) == 65_531, "and then it ends"
        writer.write(b"more")
        assert microphone.read(5) == b""


def test_ctrl_c_interrupts_where_nothing_was_said(writer: IO[bytes]) -> None:
    with noted_interrupt() as interrupt_fd:
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            Microphone(interrupt_fd).read(99)
    writer.close()
    with noted_interrupt() as interrupt_fd:
        assert Microphone(interrupt_fd).read(99) == b""


def test_who_ignores_ctrl_c_goes_on(writer: IO[bytes]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with noted_interrupt() as interrupt_fd:
        signal.raise_signal(signal.SIGINT)
        writer.write(b"hello")
        assert Microphone(interrupt_fd).read(99) == b"hello"
